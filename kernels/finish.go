package kernels

import "unirestorer/kernels/abi"

// FinishProduct is the second half of a product whose depth was split.
type FinishProduct struct {
	Partial      abi.Buffer // fp32 [Splits][images·rows][columns]
	Splits       int
	Images, Rows int
	Norm         NormKind
	X            abi.Buffer // with a norm: the product's input, rows of Pitch values
	Pitch        int
	Channels     int
	NormSum      abi.Buffer
	Eps          float32
	Epilogue     Epilogue
}

// Finish adds partial sums and applies norm and epilogue.
func Finish(f FinishProduct) (Launch, error) {
	p := &problems{kernel: "product_finish"}
	p.positive("splits, images and rows", f.Splits, f.Images, f.Rows)
	f.Epilogue.resolve(p, f.Images, f.Rows)
	rows := f.Images * f.Rows
	p.fits("partial sums", f.Partial, f.Splits*rows*f.Epilogue.Columns, 4)
	x := abi.Buffer{}
	if f.Norm != NoNorm {
		x = f.X
		p.fits("input", f.X, rows*f.Pitch, 2)
		p.fits("normalisation sums", f.NormSum, f.Epilogue.Columns, 4)
		if f.Channels <= 0 || PadC(f.Channels) != f.Pitch || !(f.Eps > 0) {
			p.addf("normalisation of %d channels in rows of %d, epsilon %g", f.Channels, f.Pitch, f.Eps)
		}
	}
	var a abi.Args
	a.Buf(f.Partial).Buf(x).Buf(f.NormSum).I32(int32(f.Rows)).I32(int32(f.Images)).I32(int32(f.Splits))
	a.I32(int32(f.Pitch)).I32(int32(f.Channels)).I32(flag(f.Norm == BiasFree)).F32(f.Eps)
	f.Epilogue.append(&a, abi.Buffer{}, false)
	l := Launch{Module: "finish", Shape: p.linear(rows, 4), Args: structure(&a)}
	across := 32 * 8 // columns of a warp
	if f.Epilogue.Gate != NoGate {
		across *= 2
	}
	l.Shape.Block, l.Shape.Grid.Y = abi.D1(128), uint32(max(1, ceilDiv(f.Epilogue.Columns, across)))
	l.Bytes = 4*int64(f.Splits)*int64(rows)*int64(f.Epilogue.Columns) + f.Epilogue.bytes(rows)
	l.Operations = int64(f.Splits) * int64(rows) * int64(f.Epilogue.Columns)
	return p.done(l)
}

// NaturalProduct applies an epilogue to sums whose columns stand in the order of the filters.
type NaturalProduct struct {
	Sums          abi.Buffer // fp32 [images·height·width][Columns]
	Columns       int
	Images        int
	Height, Width int
	Filters       int
	Bias          abi.Buffer // fp32 [Filters]
	Act           Activation
	Gate          Gate
	Scale         abi.Buffer // fp32 [channels after the gate]
	Affine        abi.Buffer // fp32 [images][2][pitch of the channels after the gate]
	Shuffle       int
	Residual, Y   abi.Buffer // fp16, plain layout
}

// NaturalFinish applies any epilogue, slowly.
func NaturalFinish(f NaturalProduct) (Launch, error) {
	p := &problems{kernel: "natural_finish"}
	p.positive("images and pixels", f.Images, f.Height, f.Width)
	p.positive("filters", f.Filters)
	if f.Columns < f.Filters {
		p.addf("%d columns hold no %d filters", f.Columns, f.Filters)
	}
	channels := f.Filters
	if f.Gate != NoGate {
		if f.Filters%2 != 0 || f.Act != Identity {
			p.addf("gate of %d filters with activation %d", f.Filters, f.Act)
		}
		channels /= 2
	}
	out, h, w := channels, f.Height, f.Width
	switch r := f.Shuffle; {
	case r > 1:
		if channels%(r*r) != 0 {
			p.addf("pixel shuffle by %d of %d channels", r, channels)
		}
		out, h, w = channels/(r*r), h*r, w*r
	case r < -1:
		if h%-r != 0 || w%-r != 0 {
			p.addf("pixel unshuffle by %d of %dx%d pixels", -r, h, w)
		}
		out, h, w = channels*r*r, h/-r, w/-r
	}
	n := f.Images * h * w * PadC(out)
	p.fits("sums", f.Sums, f.Images*f.Height*f.Width*f.Columns, 4)
	p.fits("result", f.Y, n, 2)
	p.optional("residual", f.Residual, n, 2)
	p.optional("bias", f.Bias, f.Filters, 4)
	p.optional("scale", f.Scale, channels, 4)
	p.optional("output affine map", f.Affine, f.Images*2*PadC(channels), 4)
	var a abi.Args
	a.Buf(f.Sums).Buf(f.Residual).Buf(f.Bias).Buf(f.Scale).Buf(f.Affine).Buf(f.Y)
	a.I32(int32(f.Height * f.Width)).I32(int32(f.Images)).I32(int32(f.Columns)).I32(int32(channels))
	a.I32(int32(f.Act)).I32(int32(f.Gate)).I32(int32(f.Shuffle)).I32(int32(f.Height)).I32(int32(f.Width)).I32(int32(out)).I32(int32(PadC(out)))
	l := Launch{Module: "finish", Shape: p.linear(n, 256), Args: structure(&a)}
	l.Bytes = 4*int64(f.Images)*int64(f.Height)*int64(f.Width)*int64(f.Columns) + 2*int64(n)
	l.Operations = int64(n)
	return p.done(l)
}
