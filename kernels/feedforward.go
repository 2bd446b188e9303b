package kernels

import (
	"fmt"
	"math"

	"unirestorer/kernels/abi"
	"unirestorer/weights/half"
)

// FeedForward is the gated feed-forward network of transposed-attention transformers as one kernel: y = x + Out·(gelu(a)·b) +
// Bias, a and b the halves of the 3×3 depthwise convolution, zeros outside, of In·norm(x) + InBias.
type FeedForward struct {
	X, Y                  abi.Buffer // fp16 rows of Pitch values
	Images, Height, Width int
	Pitch, Channels       int        // of x and y; the channels that the norm averages
	Hidden                int        // channels of a and of b, padded to a multiple of 8
	In                    abi.Buffer // fp16 [2·Hidden][Pitch], the factors of the norm folded in
	InBias                abi.Buffer // fp32 [2·Hidden] or zero
	Taps                  abi.Buffer // see PackTaps
	Out                   abi.Buffer // fp16 [Pitch][Hidden]
	Bias                  abi.Buffer // fp32 [Pitch] or zero
	Norm                  NormKind
	Eps                   float32
	// Partial, with splits, takes the sums instead of Y: fp32 [Splits][pixels][Pitch], for [Finish], which adds X and Bias.
	Partial abi.Buffer
	Tiling  FeedForwardTiling
}

// FeedForwardTiling is how a feed-forward network is divided between blocks: tiles of Height by 16 pixels, and Splits of the hidden
// channels.
type FeedForwardTiling struct{ Height, Splits int }

const (
	tileWidth         = 16 // pixels across a tile, see tile.cuh
	feedForwardHidden = 32 // channels of each half at a time
	tapWords          = 12 // of a channel, see PackTaps
)

// feedForwardColumns is the number of columns, in tiles of eight, that the kernel for so many has; 0 if there is none.
func feedForwardColumns(pitch, height int) int {
	for _, tiles := range []int{6, 12, 24} {
		if pitch <= 8*tiles && (tiles < 24 || height == 8) {
			return tiles
		}
	}
	return 0
}

// feedForwardShared is the shared memory of a block in bytes: its pixels and those around them, their hidden channels, those behind
// the gate, and the weights of two stages.
func feedForwardShared(height, pitch int) int {
	rows, row := roundUp((tileWidth+2)*(height+2), 16), 16*(2*ceilDiv(pitch, 16)|1)
	stage := 2*feedForwardHidden*(row+4*tapWords+4) + 8*feedForwardColumns(pitch, height)*80
	return rows*(row+144) + height*tileWidth*80 + 4*tapWords + 2*stage
}

// TileFeedForward chooses a tiling by what a block's passes over shared memory, its instructions and its dependent steps take on
// a card of compute capability 9.0. ok is false where no tile fits the shared memory of a block, and where three kernels, one for
// each operation, are quicker by the same estimate.
func TileFeedForward(images, height, width, pitch, hidden, sms, shared int) (best FeedForwardTiling, ok bool) {
	// Cycles, but for the bytes a cycle and multiprocessor from L2.
	const finish, launch, bytes, apart = 1000, 800, 24.0, 6000
	chunks, steps, pixels := ceilDiv(hidden, feedForwardHidden), float64(ceilDiv(pitch, 16)), float64(images*height*width)
	// A kernel each takes about a cycle for a pixel and channel between them, and its start.
	least := pixels*float64(hidden)/float64(sms) + 3*apart
	for _, h := range []int{16, 8} {
		tiles := feedForwardColumns(pitch, h)
		if tiles == 0 || feedForwardShared(h, pitch) > shared {
			continue
		}
		rows, high, columns := float64(ceilDiv((tileWidth+2)*(h+2), 16)), float64(h), float64(tiles)
		grid := images * ceilDiv(height, h) * ceilDiv(width, tileWidth)
		// For 32 hidden channels: products of a warp one after the other and the way from phase to phase; passes over shared memory.
		path := 6.4*(math.Ceil(rows/4)*4*steps+5*high+high/4*columns) + 600 + 125*high + 30*steps
		passes := 1.12 * (8*rows*steps + 64*steps + 32*columns + 96*(high/2+2) + 24*rows + 20*high)
		for splits := 1; splits <= min(chunks, 8); splits++ {
			block := 1700 + 51*rows*steps + float64(ceilDiv(chunks, splits))*max(path, passes)
			cost := math.Ceil(float64(grid*splits)/float64(sms))*block + launch
			if splits > 1 {
				cost += launch + finish + 4*float64(splits)*pixels*float64(pitch)/float64(sms)/bytes
			}
			if cost < least {
				best, least, ok = FeedForwardTiling{h, splits}, cost, true
			}
		}
	}
	return best, ok
}

// TapBytes is the size of what [PackTaps] makes.
func TapBytes(l Layout) int64 { return 4 * tapWords * int64(l.Pitch()) }

// FeedForwardKernel computes the network.
func FeedForwardKernel(f FeedForward) (Launch, error) {
	tiles := feedForwardColumns(f.Pitch, f.Tiling.Height)
	p := &problems{kernel: fmt.Sprintf("feedforward_%dx%d", f.Tiling.Height, tiles)}
	p.positive("images, height and width", f.Images, f.Height, f.Width)
	p.positive("channels, hidden channels and splits", f.Pitch, f.Hidden, f.Tiling.Splits)
	if h := f.Tiling.Height; h != 8 && h != 16 || tiles == 0 {
		p.addf("tiles of %d rows for rows of %d values", h, f.Pitch)
	}
	if f.Channels <= 0 || PadC(f.Channels) != f.Pitch || f.Hidden%8 != 0 || !(f.Eps > 0) || f.Norm == NoNorm {
		p.addf("normalisation %d of %d channels in rows of %d, epsilon %g, to twice %d", f.Norm, f.Channels, f.Pitch, f.Eps, f.Hidden)
	}
	if f.Tiling.Splits > ceilDiv(f.Hidden, feedForwardHidden) || f.Tiling.Splits > 1 && f.Partial.IsZero() {
		p.addf("%d splits of %d hidden channels", f.Tiling.Splits, f.Hidden)
	}
	pixels := f.Images * f.Height * f.Width
	if pixels > maxCount/16 {
		p.addf("%d pixels are too many for one launch", pixels)
	}
	p.fits("input", f.X, pixels*f.Pitch, 2)
	p.fits("weight", f.In, 2*f.Hidden*f.Pitch, 2)
	p.optional("bias", f.InBias, 2*f.Hidden, 4)
	p.fits("taps", f.Taps, 2*f.Hidden*tapWords, 4)
	p.fits("second weight", f.Out, f.Pitch*f.Hidden, 2)
	p.optional("second bias", f.Bias, f.Pitch, 4)
	if f.Partial.IsZero() {
		p.fits("result", f.Y, pixels*f.Pitch, 2)
	} else {
		p.fits("partial sums", f.Partial, f.Tiling.Splits*pixels*f.Pitch, 4)
	}
	across := ceilDiv(f.Width, tileWidth)
	var a abi.Args
	a.Buf(f.X).Buf(f.In).Buf(f.InBias).Buf(f.Taps).Buf(f.Out).Buf(f.Bias).Buf(f.Y).Buf(f.Partial)
	a.I32(int32(f.Height)).I32(int32(f.Width)).I32(int32(across)).I32(int32(f.Pitch)).I32(int32(f.Channels)).I32(int32(f.Hidden)).I32(int32(f.Pitch))
	a.I32(flag(f.Norm == BiasFree)).F32(f.Eps)
	l := Launch{Module: "feedforward", Args: structure(&a)}
	if p.err == nil {
		l.Shape = abi.Shape{Grid: abi.D3(across*ceilDiv(f.Height, f.Tiling.Height), f.Tiling.Splits, f.Images), Block: abi.D1(256), Shared: feedForwardShared(f.Tiling.Height, f.Pitch)}
	}
	n, c, hidden := int64(pixels), int64(f.Pitch), int64(f.Hidden)
	l.Bytes = 2*n*c + 2*3*hidden*c + 8*hidden*tapWords
	if f.Partial.IsZero() {
		l.Bytes += 4 * n * c
	} else {
		l.Bytes += 4 * n * c * int64(f.Tiling.Splits)
	}
	l.Operations = 2 * n * hidden * (3*c + 18)
	return p.done(l)
}

// PackTaps makes 3×3 depthwise filters [channels][9] and their bias [channels], which may be nil, what FeedForward reads: for each
// of the layout's channels tapWords 32-bit words, nine with the weights in fp16, in the low half for even channels and in the high one for odd ones,
// zero, and in fp32 a factor and the bias. The weights are multiplied by the power of two that brings the largest near 1, whose
// inverse the factor is.
func PackTaps(weight, bias []float32, l Layout) ([]uint32, error) {
	if !l.valid() || len(weight) != 9*l.Channels || bias != nil && len(bias) != l.Channels {
		return nil, fmt.Errorf("pack taps: %d values and %d biases for %d channels in %d parts", len(weight), len(bias), l.Channels, l.parts())
	}
	words := make([]uint32, l.Pitch()*tapWords)
	scaled, packed := make([]float32, 9), make([]uint16, 9)
	for c := range l.Channels {
		most := float32(0)
		for _, v := range weight[9*c:][:9] {
			most = max(most, float32(math.Abs(float64(v))))
		}
		exp := 0
		if most > 0 && !math.IsInf(float64(most), 0) {
			_, exp = math.Frexp(float64(most))
		}
		exp = min(max(exp, -100), 100)
		for t, v := range weight[9*c:][:9] {
			scaled[t] = float32(math.Ldexp(float64(v), -exp))
		}
		half.F32ToF16(packed, scaled)
		at := l.At(c)
		to := words[at*tapWords:][:tapWords]
		for t, v := range packed {
			to[t] = uint32(v) << (16 * (at % 2))
		}
		to[10] = math.Float32bits(float32(math.Ldexp(1, exp)))
		if bias != nil {
			to[11] = math.Float32bits(bias[c])
		}
	}
	return words, nil
}
