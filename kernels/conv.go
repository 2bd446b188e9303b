package kernels

import "fmt"

// ConvProduct is a dense convolution. Rows of the product are pixels of the result; Width and Height of the epilogue are
// filled in.
type ConvProduct struct {
	Product
	Height, Width    int // of the input
	KernelH, KernelW int
	Stride           int
	Pad              int
	PadMode          PadMode
}

// Extent is the height and width of the result before a shuffle.
func (c ConvProduct) Extent() (h, w int) {
	return (c.Height+2*c.Pad-c.KernelH)/max(c.Stride, 1) + 1, (c.Width+2*c.Pad-c.KernelW)/max(c.Stride, 1) + 1
}

// Conv computes y = epilogue(x ∗ W).
func Conv(c ConvProduct) (Launch, error) {
	name := ""
	if c.LowRank.Rank != 0 {
		name = "_lora"
	}
	p := &problems{kernel: fmt.Sprintf("conv%s_%d", name, c.Tiling.Rows)}
	p.positive("images, input, kernel and stride", c.Images, c.Height, c.Width, c.KernelH, c.KernelW, c.Stride)
	if c.Tiling.Rows != 64 && c.Tiling.Rows != 128 {
		p.addf("tile of %d rows, want 64 or 128", c.Tiling.Rows)
	}
	h, w := c.Extent()
	if c.Pad < 0 || c.Height+2*c.Pad < c.KernelH || c.Width+2*c.Pad < c.KernelW {
		p.addf("a %dx%d window does not fit %dx%d pixels padded by %d", c.KernelH, c.KernelW, c.Height, c.Width, c.Pad)
	}
	if c.PadMode < Zero || c.PadMode > Replicate || c.PadMode == Reflect && (c.Pad >= c.Height || c.Pad >= c.Width) {
		p.addf("%dx%d pixels cannot be padded by %d in mode %d", c.Height, c.Width, c.Pad, c.PadMode)
	}
	if p.err == nil && c.Images*max(c.Height*c.Width, h*w) > maxCount-128 {
		p.addf("%d images of %dx%d pixels are too many for one launch", c.Images, c.Height, c.Width)
	}
	c.Epilogue.Height, c.Epilogue.Width = h, w
	r := prepared{
		rows: h * w, depth: c.KernelH * c.KernelW * (c.Pitch + c.Pitch2), depth1: c.Pitch, height: c.Height, width: c.Width,
		quads: c.Epilogue.Shuffle == -2 && h%2 == 0 && w%2 == 0 && c.Partial.IsZero(),
	}
	c.resolve(p, &r)
	p.fits("input", c.X, c.Images*c.Height*c.Width*c.Pitch, 2)
	p.optional("second input", c.X2, c.Images*c.Height*c.Width*c.Pitch2, 2)
	args := structure(c.arguments(&r))
	args.Struct(4, words(c.KernelH, c.KernelW, c.Stride, c.Pad, int(c.PadMode), h, w))
	l, err := c.launch(p, "conv", &r, args)
	l.Bytes += 2 * int64(c.Images) * int64(c.Height) * int64(c.Width) * int64(c.Pitch+c.Pitch2)
	return l, err
}
