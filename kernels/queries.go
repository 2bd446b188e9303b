package kernels

import (
	"fmt"
	"math"

	"unirestorer/kernels/abi"
)

// Queries is the beginning of transposed attention as one kernel: queries, keys and values, the 3×3 depthwise convolution, zeros
// outside, of W·norm(x) + Bias; values V, and partial Gram matrices of queries and keys.
type Queries struct {
	X                     abi.Buffer // fp16 rows of Pitch values
	Images, Height, Width int
	Pitch, Channels       int        // of x; the channels that the norm averages
	W                     abi.Buffer // fp16 [3·Heads·Head][Pitch], the factors of the norm folded in
	Bias                  abi.Buffer // fp32 [3·Heads·Head] or zero
	Taps                  abi.Buffer // see PackTaps
	V                     abi.Buffer // fp16 rows of Heads·Head values
	Partial               abi.Buffer // fp32 [images][Heads][Splits][GramSize(Head)]
	Head, Heads           int
	Norm                  NormKind
	Eps                   float32
	Tiling                QueriesTiling
}

// QueriesTiling is how the pixels of a head are divided: tiles of Height by 16 pixels, which so many blocks take by turns.
type QueriesTiling struct{ Height, Splits int }

const (
	queriesChannels = 48  // of a step
	queriesMost     = 192 // channels of a pixel
)

// queriesHead is the widest head that the kernel for heads of d channels takes.
func queriesHead(d int) int {
	if d <= 48 {
		return 48
	}
	return 96
}

// queriesShared is the shared memory of a block in bytes: its pixels and those around them, a step's channels of them, queries and keys,
// a step's weights and two steps' taps, and sums of squares.
func queriesShared(height, pitch, d int) int {
	rows, row, head := roundUp((tileWidth+2)*(height+2), 16), 16*(2*ceilDiv(pitch, 16)|1), queriesHead(d)
	return rows*(row+112) + height*tileWidth*16*(head/4|1) + 4*tapWords + queriesChannels*(row+4+2*4*tapWords) + 4*8*head
}

// TileQueries chooses a tiling by what a block's passes over shared memory and its dependent steps take on a card of compute capability
// 9.0. ok is false where no tile fits the shared memory of a block, and where two kernels are quicker by the same estimate.
func TileQueries(images, height, width, pitch, d, heads, sms, shared int) (best QueriesTiling, ok bool) {
	if !GramFits(d) || pitch > queriesMost {
		return best, false
	}
	const fixed, apart, launch = 4000, 5000, 800
	steps, each, pixels := float64(ceilDiv(pitch, 16)), float64(3*ceilDiv(d, queriesChannels)), float64(images*height*width)
	least := 0.45*pixels*float64(3*d*heads)/float64(sms) + 2*apart
	for _, h := range []int{16, 8} {
		if queriesShared(h, pitch, d) > shared {
			continue
		}
		tiles := ceilDiv(height, h) * ceilDiv(width, tileWidth)
		splits := max(1, min(tiles, sms/(heads*images)))
		rows := math.Ceil(float64(roundUp((tileWidth+2)*(h+2), 16)) / 192)
		step := rows*6*6.4*steps + 60*steps + float64(h)*70 + 900
		cost := math.Ceil(float64(splits*heads*images)/float64(sms))*(fixed+float64(ceilDiv(tiles, splits))*(1500+1000*rows+each*step)) + launch
		if cost < least {
			best, least, ok = QueriesTiling{h, splits}, cost, true
		}
	}
	return best, ok
}

// QueriesKernel computes values and partial Gram matrices.
func QueriesKernel(q Queries) (Launch, error) {
	p := &problems{kernel: fmt.Sprintf("queries_%dx%d", q.Tiling.Height, queriesHead(q.Head))}
	p.positive("images, height and width", q.Images, q.Height, q.Width)
	p.positive("channels, heads and splits", q.Pitch, q.Heads, q.Tiling.Splits)
	if !GramFits(q.Head) {
		p.addf("heads of %d channels: want a multiple of 8 up to %d", q.Head, maxGramHead)
	}
	if h := q.Tiling.Height; h != 8 && h != 16 {
		p.addf("tiles of %d rows", h)
	}
	if q.Pitch > queriesMost {
		p.addf("rows of %d values, at most %d", q.Pitch, queriesMost)
	}
	if q.Channels <= 0 || PadC(q.Channels) != q.Pitch || !(q.Eps > 0) || q.Norm == NoNorm {
		p.addf("normalisation %d of %d channels in rows of %d, epsilon %g", q.Norm, q.Channels, q.Pitch, q.Eps)
	}
	if p.err != nil {
		return Launch{}, p.err
	}
	across, c, pixels := ceilDiv(q.Width, tileWidth), q.Heads*q.Head, q.Images*q.Height*q.Width
	tiles := across * ceilDiv(q.Height, q.Tiling.Height)
	if q.Tiling.Splits > tiles {
		p.addf("%d splits of %d tiles", q.Tiling.Splits, tiles)
	}
	if pixels > maxCount/16 || 32*q.Width*c > maxCount {
		p.addf("%d pixels in rows of %d are too many for one launch", pixels, q.Width)
	}
	p.fits("input", q.X, pixels*q.Pitch, 2)
	p.fits("weight", q.W, 3*c*q.Pitch, 2)
	p.optional("bias", q.Bias, 3*c, 4)
	p.fits("taps", q.Taps, 3*c*tapWords, 4)
	p.fits("values", q.V, pixels*c, 2)
	p.fits("partial Gram matrices", q.Partial, q.Images*q.Heads*q.Tiling.Splits*GramSize(q.Head), 4)
	var a abi.Args
	a.Buf(q.X).Buf(q.W).Buf(q.Bias).Buf(q.Taps).Buf(q.V).Buf(q.Partial)
	a.I32(int32(q.Height)).I32(int32(q.Width)).I32(int32(across)).I32(int32(tiles)).I32(int32(q.Pitch)).I32(int32(q.Channels))
	a.I32(int32(q.Head)).I32(int32(q.Heads)).I32(flag(q.Norm == BiasFree)).F32(q.Eps)
	l := Launch{Module: "queries", Args: structure(&a)}
	l.Shape = abi.Shape{Grid: abi.D3(q.Tiling.Splits, q.Heads, q.Images), Block: abi.D1(384), Shared: queriesShared(q.Tiling.Height, q.Pitch, q.Head)}
	n := int64(pixels)
	l.Bytes = 2*n*int64(q.Pitch+c) + int64(3*c)*int64(2*q.Pitch+4*tapWords) + 4*int64(q.Images*q.Heads*q.Tiling.Splits*GramSize(q.Head))
	l.Operations = n * int64(c) * int64(6*q.Pitch+54+2*q.Head)
	return p.done(l)
}
