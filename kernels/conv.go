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

// extent is the height and width of the result before a shuffle.
func (c ConvProduct) extent() (h, w int) {
	return (c.Height+2*c.Pad-c.KernelH)/max(c.Stride, 1) + 1, (c.Width+2*c.Pad-c.KernelW)/max(c.Stride, 1) + 1
}

// Conv computes y = epilogue(x ∗ W).
func Conv(c ConvProduct) (Launch, error) {
	module, name := "conv", fmt.Sprintf("conv_%d", c.Tiling.Rows)
	switch {
	case c.Tiling.Columns > 0:
		module, name = "conv3", fmt.Sprintf("conv3_%dx%d", c.Tiling.Rows/4, c.Tiling.Columns)
	case c.LowRank.Rank != 0:
		name = fmt.Sprintf("conv_lora_%d", c.Tiling.Rows)
	}
	p := &problems{kernel: name}
	h, w := c.check(p)
	c.Epilogue.Height, c.Epilogue.Width = h, w
	r := prepared{
		rows: h * w, depth: c.KernelH * c.KernelW * (c.Pitch + c.Pitch2), depth1: c.Pitch, height: c.Height, width: c.Width,
		quads: c.Epilogue.Shuffle == -2 && h%2 == 0 && w%2 == 0 && c.Partial.IsZero(),
	}
	c.resolve(p, &r)
	p.fits("input", c.X, c.Images*c.Height*c.Width*c.Pitch, 2)
	p.optional("second input", c.X2, c.Images*c.Height*c.Width*c.Pitch2, 2)
	args := structure(c.arguments(&r))
	tilesX := ceilDiv(w, conv3Width)
	if module == "conv3" {
		args.Struct(4, words(h, w, int(c.PadMode), tilesX))
	} else {
		args.Struct(4, words(c.KernelH, c.KernelW, c.Stride, c.Pad, int(c.PadMode), h, w))
	}
	l, err := c.launch(p, module, &r, args)
	if err != nil {
		return l, err
	}
	if module == "conv3" {
		l.Shape.Grid.X = uint32(tilesX * ceilDiv(h, c.Tiling.Rows/conv3Width) * ceilDiv(c.Epilogue.Columns, c.Tiling.Columns))
		l.Shape.Shared = conv3Shared(c.Tiling.Rows, c.Tiling.Columns, c.Pitch+c.Pitch2)
	}
	l.Bytes += 2 * int64(c.Images) * int64(c.Height) * int64(c.Width) * int64(c.Pitch+c.Pitch2)
	return l, nil
}

// check is of the shapes; it returns the extent of the result.
func (c *ConvProduct) check(p *problems) (h, w int) {
	p.positive("images, input, kernel and stride", c.Images, c.Height, c.Width, c.KernelH, c.KernelW, c.Stride)
	h, w = c.extent()
	c.checkTiling(p)
	if c.Pad < 0 || c.Height+2*c.Pad < c.KernelH || c.Width+2*c.Pad < c.KernelW {
		p.addf("a %dx%d window does not fit %dx%d pixels padded by %d", c.KernelH, c.KernelW, c.Height, c.Width, c.Pad)
	}
	if c.PadMode < Zero || c.PadMode > Replicate || c.PadMode == Reflect && (c.Pad >= c.Height || c.Pad >= c.Width) {
		p.addf("%dx%d pixels cannot be padded by %d in mode %d", c.Height, c.Width, c.Pad, c.PadMode)
	}
	if p.err == nil && c.Images*max(c.Height*c.Width, h*w) > maxCount-256 {
		p.addf("%d images of %dx%d pixels are too many for one launch", c.Images, c.Height, c.Width)
	}
	return h, w
}

func (c *ConvProduct) checkTiling(p *problems) {
	switch t := c.Tiling; {
	case t.Columns == 0:
		if t.Rows != 64 && t.Rows != 128 {
			p.addf("tile of %d rows, want 64 or 128", t.Rows)
		}
	case t.Rows != 128 && t.Rows != 256 || t.Columns != 32 && t.Columns != 48 && t.Columns != 64:
		p.addf("tile of %d pixels by %d columns", t.Rows, t.Columns)
	case !c.Is3() || c.Epilogue.Gate != NoGate || c.LowRank.Rank != 0 || !c.Partial.IsZero():
		p.addf("tiles of pixels are for 3x3 convolutions padded by 1, without gate, low-rank branch and splits")
	}
}

// Is3 tells that the window is 3×3, moves by 1 and is padded by 1.
func (c *ConvProduct) Is3() bool {
	return c.KernelH == 3 && c.KernelW == 3 && c.Stride == 1 && c.Pad == 1
}

const conv3Width = 16 // pixels across a tile

// conv3Shared is the shared memory of a block, see conv3.cu.
func conv3Shared(pixels, columns, channels int) int {
	octets := channels / 8
	halo := (conv3Width + 2) * (pixels/conv3Width + 2) * 16 * (octets | 1)
	return max(halo+432*columns+4*roundUp(9*octets, 8), 4*pixels*(columns+8))
}

// TileConv3 chooses a tiling of the convolutions of [ConvProduct.Is3] without gate, low-rank branch and split depth, by what a
// block's tensor-core instructions, its passes over shared memory, the bytes it reads from L2 and its dependent steps take on a card of compute capability 9.0;
// on others the order of the choices is much the same. ok is false where no tile fits a block's shared memory, or where tiles
// are so few that a split depth is quicker.
func TileConv3(images, height, width, columns, channels, sms, shared int, splittable bool) (best Tiling, ok bool) {
	const interval, overhead, bytesACycle = 6.4, 5500, 3100
	least := 0.0
	steps := 4 * float64(ceilDiv(9*channels, 64))
	for _, pixels := range []int{256, 128} {
		for _, tile := range []int{64, 48, 32} {
			need := conv3Shared(pixels, tile, channels)
			if need > shared {
				continue
			}
			blocks := images * ceilDiv(height, pixels/conv3Width) * ceilDiv(width, conv3Width) * ceilDiv(columns, tile)
			if splittable && blocks < sms/4 {
				continue
			}
			resident := min(max((shared+1024)/(need+1024), 1), 2*256/pixels)
			multiply := float64(pixels/64*tile/8) * interval
			passes := float64(4 * (pixels/16 + tile/4)) // over shared memory, of all warps
			waves := float64(ceilDiv(blocks, sms*resident))
			bytes := float64(blocks * (2*9*channels*tile + need))
			cost := max(float64(ceilDiv(blocks, sms))*steps*max(multiply, passes), waves*(steps*(multiply+30)+overhead), bytes/bytesACycle)
			if !ok || cost < least {
				best, least, ok = Tiling{Rows: pixels, Splits: 1, Columns: tile}, cost, true
			}
		}
	}
	return best, ok
}
