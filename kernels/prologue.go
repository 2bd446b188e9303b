package kernels

import "unirestorer/kernels/abi"

// PrologueMap multiplies by an input scale and applies an affine map, for convolutions whose kernel does not.
type PrologueMap struct {
	X, Y                    abi.Buffer // fp16 [images][Height][Width][Pitch]
	Images, Height, Width   int
	Pitch                   int
	Scale                   abi.Buffer // fp16 [images][ScaleHeight][ScaleWidth][Pitch], or zero
	ScaleHeight, ScaleWidth int
	Affine                  abi.Buffer // fp32 [images][2][Pitch], or zero
}

// Prologue computes y = affine(x·scale).
func Prologue(m PrologueMap) (Launch, error) {
	p := &problems{kernel: "prologue"}
	p.positive("images, height, width and pitch", m.Images, m.Height, m.Width, m.Pitch)
	n := m.Images * m.Height * m.Width * m.Pitch
	if m.Pitch%8 != 0 {
		p.addf("rows of %d values", m.Pitch)
	}
	p.fits("input", m.X, n, 2)
	p.fits("result", m.Y, n, 2)
	if !m.Scale.IsZero() {
		if m.ScaleHeight <= 0 || m.ScaleWidth <= 0 || m.ScaleHeight > m.Height || m.ScaleWidth > m.Width {
			p.addf("input scale %dx%d for %dx%d pixels", m.ScaleHeight, m.ScaleWidth, m.Height, m.Width)
		}
		p.fits("input scale", m.Scale, m.Images*m.ScaleHeight*m.ScaleWidth*m.Pitch, 2)
	}
	p.optional("input affine map", m.Affine, m.Images*2*m.Pitch, 4)
	var a abi.Args
	a.Buf(m.X).Buf(m.Scale).Buf(m.Affine).Buf(m.Y).I32(int32(m.Images)).I32(int32(m.Height)).I32(int32(m.Width)).I32(int32(m.Pitch))
	a.I32(int32(m.ScaleHeight)).I32(int32(m.ScaleWidth))
	l := Launch{Module: "prologue", Shape: p.linear(n/8, 256), Args: structure(&a), Bytes: 4 * int64(n), Operations: 2 * int64(n)}
	return p.done(l)
}
