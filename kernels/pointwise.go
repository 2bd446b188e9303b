package kernels

import (
	"fmt"
	"math"

	"unirestorer/kernels/abi"
)

// PointwiseProduct is a 1×1 convolution or linear layer. At most one of norm, input scale and input affine map goes in front of it.
type PointwiseProduct struct {
	Product
	Rows int // pixels of an image

	Norm     NormKind
	Channels int // that the norm averages
	Eps      float32

	// InScale multiplies the input: fp16 [images][ScaleHeight][ScaleWidth][Pitch], see graph.Conv.InScale.
	InScale                 abi.Buffer
	ScaleHeight, ScaleWidth int
	Height, Width           int // of the input, with InScale
	// InAffine is fp32 [images][2][Pitch].
	InAffine abi.Buffer
}

// pointwiseBlock is what a block of so many rows has: warps across the columns, 64 each, and the depth of a stage of W.
func pointwiseBlock(rows int) (across, depth int) {
	switch rows {
	case 128:
		return 1, 64
	case 64:
		return 2, 64
	}
	return 2, 32
}

// pointwiseShared is the shared memory of a block in bytes: its rows for a split's part of the depth, three stages of W,
// factors of channels, and bias and scale of its tiles of columns.
func pointwiseShared(rows, depth, splits, tiles int) int {
	steps := ceilDiv(ceilDiv(depth, 16), splits)
	across, stage := pointwiseBlock(rows)
	return 16*rows*(2*steps|1) + 3*64*across*(2*stage+16) + 32*steps + 8*64*across*tiles
}

// TilePointwise chooses how a product of pixels is divided between blocks of a device with so many multiprocessors and
// bytes of shared memory a block: rows of a block, blocks that share its columns, and splits of the depth where the product
// can be split. It takes the way that is fastest by counts of instructions, dependent steps and bytes from L2. A depth that
// does not fit shared memory even so gives Splits 0.
func TilePointwise(images, rows, columns, depth, sms, shared int, splittable bool) Tiling {
	const (
		fixed      = 1800 // cycles of a block until its rows are there
		resident   = 3    // blocks of four warps by registers
		l2         = 24   // bytes a cycle and multiprocessor
		launch     = 2300 // cycles between kernels
		perStep    = 26   // instructions of a warp for 16 deep, 32×64
		perTile    = 260  // for the epilogue of 32×64
		pathStep   = 150  // cycles of dependent steps
		pathTile   = 900
		mostSplits = 16
	)
	best, least := Tiling{Rows: 32}, math.Inf(1)
	for _, tile := range []int{128, 64, 32} {
		across, _ := pointwiseBlock(tile)
		tiles := ceilDiv(columns, 64*across)
		for splits := 1; splits <= mostSplits && (splits == 1 || splittable); splits++ {
			steps := ceilDiv(ceilDiv(depth, 16), splits)
			if splits > 1 && steps < 8 {
				continue
			}
			warps := tile / 32 * across
			for blocks := 1; blocks <= tiles; blocks++ {
				each := ceilDiv(tiles, blocks)
				bytes := pointwiseShared(tile, depth, splits, each)
				if bytes > shared || blocks > 1 && ceilDiv(tiles, blocks-1) == each {
					continue
				}
				held := max(1, min(resident*4/warps, (shared+1024)/(bytes+1024)))
				grid := images * ceilDiv(rows, tile) * blocks * splits
				issue := float64(ceilDiv(grid, sms)*warps) / 4 * float64(each*(steps*perStep+perTile)+4*steps+200)
				path := float64(ceilDiv(grid, sms*held)) * float64(fixed+80*steps*tile/(32*warps)+each*(steps*pathStep+pathTile))
				traffic := float64(grid) * float64(32*steps*(tile+each*64*across)) / float64(sms*l2)
				cost := max(issue, path, traffic)
				if splits > 1 {
					cost += launch + 2000 + 8*float64(splits*images*rows*columns)/float64(sms*l2)
				}
				if cost < 0.99*least {
					best, least = Tiling{Rows: tile, Splits: splits, ColumnBlocks: blocks}, cost
				}
			}
		}
	}
	return best
}

// Pointwise computes y = epilogue(prologue(x)·Wᵀ). Images need their own rows in the grid only where something differs by
// image; with nothing of the kind, pass one image with all pixels.
func Pointwise(q PointwiseProduct) (Launch, error) {
	r := prepared{
		rows: q.Rows, depth: q.Pitch + q.Pitch2, depth1: q.Pitch, norm: q.Norm, channels: q.Channels, eps: q.Eps,
		inScale: q.InScale, inAffine: q.InAffine, height: q.Height, width: q.Width, scaleH: q.ScaleHeight, scaleW: q.ScaleWidth,
	}
	prologues := 0
	for _, has := range []bool{q.Norm != NoNorm, !q.InScale.IsZero(), !q.InAffine.IsZero()} {
		if has {
			prologues++
		}
	}
	// Only the norm and the low-rank branch have kernels of their own.
	name := ""
	if q.Norm != NoNorm {
		name = "_norm"
	}
	if q.LowRank.Rank != 0 {
		name += "_lora"
	}
	p := &problems{kernel: fmt.Sprintf("pointwise%s_%d", name, q.Tiling.Rows)}
	if prologues > 1 || prologues > 0 && q.Pitch2 > 0 {
		p.addf("normalisation, input scale, input affine map and second input exclude each other")
	}
	if (!q.InScale.IsZero() || !q.InAffine.IsZero()) && q.LowRank.Rank != 0 {
		p.addf("input factors or an affine map go with no low-rank branch")
	}
	if t := q.Tiling.Rows; t != 128 && t != 64 && t != 32 {
		p.addf("tile of %d rows, want 128, 64 or 32", t)
	}
	across, _ := pointwiseBlock(q.Tiling.Rows)
	q.Tiling.ColumnBlocks = max(q.Tiling.ColumnBlocks, 1)
	if tiles := ceilDiv(q.Epilogue.Columns, 64*across); q.Tiling.ColumnBlocks > max(tiles, 1) {
		p.addf("%d blocks for %d tiles of columns", q.Tiling.ColumnBlocks, tiles)
	}
	if q.Tiling.Splits > ceilDiv(r.depth, 16) {
		p.addf("%d splits of a depth of %d", q.Tiling.Splits, r.depth)
	}
	q.resolve(p, &r)
	p.fits("input", q.X, q.Images*q.Rows*q.Pitch, 2)
	p.optional("second input", q.X2, q.Images*q.Rows*q.Pitch2, 2)
	if q.Norm != NoNorm {
		if q.Channels <= 0 || PadC(q.Channels) != q.Pitch || !(q.Eps > 0) {
			p.addf("normalisation of %d channels in rows of %d, epsilon %g", q.Channels, q.Pitch, q.Eps)
		}
	}
	if !q.InScale.IsZero() {
		if q.Height*q.Width != q.Rows || q.ScaleHeight <= 0 || q.ScaleWidth <= 0 || q.ScaleHeight > q.Height || q.ScaleWidth > q.Width {
			p.addf("input scale %dx%d for %dx%d pixels, %d rows", q.ScaleHeight, q.ScaleWidth, q.Height, q.Width, q.Rows)
		}
		p.fits("input scale", q.InScale, q.Images*q.ScaleHeight*q.ScaleWidth*q.Pitch, 2)
	}
	p.optional("input affine map", q.InAffine, q.Images*2*q.Pitch, 4)
	l, err := q.launch(p, "pointwise", &r, structure(q.arguments(&r)))
	if err != nil {
		return l, err
	}
	l.Shape.Grid.X = uint32(ceilDiv(q.Rows, q.Tiling.Rows) * q.Tiling.ColumnBlocks)
	l.Shape.Block = abi.D1(q.Tiling.Rows * across)
	tiles := ceilDiv(q.Epilogue.Columns, 64*across)
	l.Shape.Shared = pointwiseShared(q.Tiling.Rows, r.depth, q.Tiling.Splits, ceilDiv(tiles, q.Tiling.ColumnBlocks))
	l.Bytes += 2 * int64(q.Images) * int64(q.Rows) * int64(r.depth)
	return l, nil
}
