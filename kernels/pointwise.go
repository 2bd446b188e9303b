package kernels

import (
	"fmt"

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
	across, along := pointwiseWarps(q.Tiling.Rows)
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
	l.Shape.Block = abi.D1(q.Tiling.Rows * across * along)
	tiles := ceilDiv(q.Epilogue.Columns, 64*across)
	l.Shape.Shared = pointwiseShared(q.Tiling.Rows, r.depth, q.Tiling.Splits, ceilDiv(tiles, q.Tiling.ColumnBlocks))
	l.Bytes += 2 * int64(q.Images) * int64(q.Rows) * int64(r.depth)
	return l, nil
}
