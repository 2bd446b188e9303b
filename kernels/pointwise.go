package kernels

import (
	"fmt"

	"unirestorer/kernels/abi"
)

// PointwiseProduct is a 1×1 convolution or linear layer. At most one of norm, input scale, squeezed factors and input
// affine map goes in front of it.
type PointwiseProduct struct {
	Product
	Rows int // pixels of an image

	Norm     NormKind
	NormSum  abi.Buffer // fp32, one a column
	Channels int        // that the norm averages
	Eps      float32

	// InScale multiplies the input: fp16 [images][ScaleHeight][ScaleWidth][Pitch], see graph.Conv.InScale.
	InScale                 abi.Buffer
	ScaleHeight, ScaleWidth int
	Height, Width           int // of the input, with InScale
	// InSqueeze multiplies the channels of an image by factors that a depthwise convolution left in shares.
	InSqueeze InSqueeze
	// InAffine is fp32 [images][2][Pitch].
	InAffine abi.Buffer
}

// InSqueeze are the factors of a channel attention: for each channel the sum of its shares and its bias, rounded to fp16.
type InSqueeze struct {
	Shares abi.Buffer // fp32 [images][Groups][Pitch], see Squeeze
	Groups int
	Bias   abi.Buffer // fp32 [Pitch], or zero for none
}

// maxSqueezed are the bytes of shared memory that remain for factors beside the kernel's own 24 KiB.
const maxSqueezed = defaultShared - 24<<10

// Pointwise computes y = epilogue(prologue(x)·Wᵀ). Images need their own rows in the grid only where something differs by
// image; with nothing of the kind, pass one image with all pixels.
func Pointwise(q PointwiseProduct) (Launch, error) {
	r := prepared{
		rows: q.Rows, depth: q.Pitch + q.Pitch2, depth1: q.Pitch, norm: q.Norm, channels: q.Channels, eps: q.Eps, normSum: q.NormSum,
		inScale: q.InScale, inAffine: q.InAffine, height: q.Height, width: q.Width, scaleH: q.ScaleHeight, scaleW: q.ScaleWidth,
		squeezed: q.InSqueeze,
	}
	prologues, name := 0, ""
	if q.Norm != NoNorm {
		prologues, name = prologues+1, "_norm"
	}
	if !q.InScale.IsZero() {
		prologues, name = prologues+1, "_scale"
	}
	if !q.InAffine.IsZero() {
		prologues, name = prologues+1, "_affine"
	}
	squeezed := !q.InSqueeze.Shares.IsZero()
	if squeezed {
		prologues, name = prologues+1, "_squeeze"
	}
	if q.LowRank.Rank != 0 {
		name += "_lora"
	}
	p := &problems{kernel: fmt.Sprintf("pointwise%s_%d", name, q.Tiling.Rows)}
	if prologues > 1 || prologues > 0 && q.Pitch2 > 0 {
		p.addf("normalisation, input scale, squeezed factors, input affine map and second input exclude each other")
	}
	if (squeezed || !q.InScale.IsZero() || !q.InAffine.IsZero()) && (q.Tiling.Rows != 64 || q.LowRank.Rank != 0) {
		p.addf("input factors or an affine map need tiles of 64 rows and no low-rank branch")
	}
	q.resolve(p, &r)
	p.fits("input", q.X, q.Images*q.Rows*q.Pitch, 2)
	p.optional("second input", q.X2, q.Images*q.Rows*q.Pitch2, 2)
	if q.Norm != NoNorm {
		if q.Channels <= 0 || PadC(q.Channels) != q.Pitch || !(q.Eps > 0) {
			p.addf("normalisation of %d channels in rows of %d, epsilon %g", q.Channels, q.Pitch, q.Eps)
		}
		if q.Partial.IsZero() {
			p.fits("normalisation sums", q.NormSum, q.Epilogue.Columns, 4)
		}
	}
	if !q.InScale.IsZero() {
		if q.Height*q.Width != q.Rows || q.ScaleHeight <= 0 || q.ScaleWidth <= 0 || q.ScaleHeight > q.Height || q.ScaleWidth > q.Width {
			p.addf("input scale %dx%d for %dx%d pixels, %d rows", q.ScaleHeight, q.ScaleWidth, q.Height, q.Width, q.Rows)
		}
		p.fits("input scale", q.InScale, q.Images*q.ScaleHeight*q.ScaleWidth*q.Pitch, 2)
	}
	p.optional("input affine map", q.InAffine, q.Images*2*q.Pitch, 4)
	shared := 0
	if squeezed {
		p.positive("groups of shares", q.InSqueeze.Groups)
		p.fits("shares of the factors", q.InSqueeze.Shares, q.Images*q.InSqueeze.Groups*q.Pitch, 4)
		p.optional("bias of the factors", q.InSqueeze.Bias, q.Pitch, 4)
		if shared = 2 * tileDepth * ceilDiv(q.Pitch, tileDepth); shared > maxSqueezed {
			p.addf("factors of %d channels", q.Pitch)
		}
	}
	l, err := q.launch(p, "pointwise", &r, structure(q.arguments(&r)))
	if err != nil {
		return l, err
	}
	l.Shape.Shared = shared
	l.Bytes += 2*int64(q.Images)*int64(q.Rows)*int64(r.depth) + 4*int64(q.Images)*int64(q.InSqueeze.Groups)*int64(q.Pitch)
	return l, nil
}
