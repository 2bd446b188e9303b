package kernels

import (
	"math"

	"unirestorer/kernels/abi"
)

// maxGramHead is the widest head that depthwise and Gram matrix share a kernel for.
const maxGramHead = 96

// GramFits reports whether DepthwiseGram takes heads of d channels in plain layout. Otherwise the depthwise convolution
// runs by itself and q and k are copied to the layout that GramPartial wants.
func GramFits(d int) bool { return d > 0 && d%8 == 0 && d <= maxGramHead }

// GramSize is the number of floats of one partial result for heads of d channels: the matrix of padded d, and the squared
// norms of q and k.
func GramSize(d int) int { return PadC(d)*PadC(d) + 2*PadC(d) }

// GramSplits chooses how many partial results each head of GramPartial is summed in: enough blocks to fill the device
// three times over, no more than the tiles of 64 pixels.
func GramSplits(pixels, heads, images, sms int) int {
	return max(1, min(ceilDiv(3*sms, heads*images), ceilDiv(pixels, 64)))
}

// gramGroups is how many groups of four columns a block of depthwise_gram has for heads of d channels.
func gramGroups(d int) int {
	if d > 80 {
		return 3
	}
	return 4
}

// gramColumns are the columns of a tile of depthwise_gram.
func gramColumns(d int) int { return 4 * gramGroups(d) }

// gramBlock is a block of depthwise_gram: a thread for two channels of four columns, and how many 16×16 parts of the matrix
// belong to each warp.
func gramBlock(d int) (threads, parts int) {
	warps, across := ceilDiv(3*d/2*gramGroups(d), 32), ceilDiv(d, 16)
	for parts = 1; parts < 3 && across*ceilDiv(across, parts) > warps; parts++ {
	}
	return 32 * max(warps, across*ceilDiv(across, parts)), parts
}

// DepthwiseGramTiling divides an image of h×w pixels into tiles of so many rows, and a head's tiles between so many
// blocks, which all run at once: the way that takes fewest rows one after the other.
func DepthwiseGramTiling(h, w, d, heads, images, sms int) (strip, splits int) {
	threads, _ := gramBlock(d)
	most := max(1, sms*max(1, 512/threads)/(heads*images))
	least := math.MaxInt
	for rows := 4; rows <= 64; rows += 3 { // a march takes three rows at a time, two more than it gives
		tiles := ceilDiv(w, gramColumns(d)) * ceilDiv(h, rows)
		n := min(tiles, most)
		if cost := ceilDiv(tiles, n) * (rows + 6); cost < least {
			least, strip, splits = cost, rows, n
		}
	}
	return strip, splits
}

// DepthwiseGramConv is a 3×3 depthwise convolution of q, k and v that ends in Gram matrices of q and k and stores v.
type DepthwiseGramConv struct {
	X                     abi.Buffer // fp16 rows of Pitch: q, k and v, Heads·Head channels each
	W, Bias               abi.Buffer // as DepthwiseConv
	V                     abi.Buffer // fp16 rows of Heads·Head values rounded up to 8
	Partial               abi.Buffer // fp32 [images][Heads][Splits][GramSize(Head)]
	Images, Height, Width int
	Head, Heads           int
	Pitch                 int
	Strip, Splits         int // see DepthwiseGramTiling
	Act                   Activation
}

// DepthwiseGram computes v and partial Gram matrices.
func DepthwiseGram(d DepthwiseGramConv) (Launch, error) {
	p := &problems{kernel: "depthwise_gram"}
	p.positive("images, height, width, heads, strip and splits", d.Images, d.Height, d.Width, d.Heads, d.Strip, d.Splits)
	if !GramFits(d.Head) {
		p.addf("heads of %d channels: want a multiple of 8 up to %d", d.Head, maxGramHead)
	}
	c := d.Head * d.Heads
	if d.Pitch < 3*c || d.Pitch%8 != 0 {
		p.addf("rows of %d values do not hold three times %d channels", d.Pitch, c)
	}
	if d.Strip > 0 && d.Splits > ceilDiv(d.Height, d.Strip)*ceilDiv(d.Width, gramColumns(d.Head)) {
		p.addf("%d splits of %dx%d pixels", d.Splits, d.Height, d.Width)
	}
	pixels := d.Images * d.Height * d.Width
	p.fits("input", d.X, pixels*d.Pitch, 2)
	p.fits("values", d.V, pixels*PadC(c), 2)
	p.fits("weight", d.W, 9*d.Pitch, 4)
	p.optional("bias", d.Bias, d.Pitch, 4)
	p.fits("partial Gram matrices", d.Partial, d.Images*d.Heads*d.Splits*GramSize(max(d.Head, 1)), 4)
	threads, parts := gramBlock(d.Head)
	var a abi.Args
	a.Buf(d.X).Buf(d.W).Buf(d.Bias).Buf(d.V).Buf(d.Partial).I32(int32(d.Height)).I32(int32(d.Width))
	a.I32(int32(d.Pitch)).I32(int32(PadC(c))).I32(int32(d.Head)).I32(int32(d.Heads)).I32(int32(d.Act)).I32(int32(d.Strip))
	a.I32(int32(gramGroups(d.Head))).I32(int32(parts))
	l := Launch{Module: "gram", Args: structure(&a)}
	l.Shape = abi.Shape{Grid: abi.D3(max(d.Splits, 1), d.Heads, max(d.Images, 1)), Block: abi.D1(max(threads, 32))}
	l.Bytes = 2*int64(pixels)*int64(4*c) + 4*int64(d.Images*d.Heads*d.Splits*GramSize(max(d.Head, 1)))
	l.Operations = int64(pixels) * int64(c) * (54 + 2*int64(d.Head))
	return p.done(l)
}

// GramProduct sums q·kᵀ from memory.
type GramProduct struct {
	QK             abi.Buffer // fp16 rows in Layout{2·Heads·Head, 2·Heads}
	Partial        abi.Buffer // fp32 [images][Heads][Splits][GramSize(Head)]
	Images, Pixels int        // pixels of an image
	Head, Heads    int
	Splits         int
}

// GramPartial computes partial Gram matrices.
func GramPartial(g GramProduct) (Launch, error) {
	p := &problems{kernel: "gram"}
	p.positive("images, pixels, head, heads and splits", g.Images, g.Pixels, g.Head, g.Heads, g.Splits)
	d := PadC(g.Head)
	p.fits("q and k", g.QK, g.Images*g.Pixels*2*g.Heads*d, 2)
	p.fits("partial Gram matrices", g.Partial, g.Images*g.Heads*g.Splits*GramSize(g.Head), 4)
	if g.Splits > ceilDiv(g.Pixels, 64) {
		p.addf("%d splits of %d pixels", g.Splits, g.Pixels)
	}
	var a abi.Args
	a.Buf(g.QK).Buf(g.Partial).I32(int32(g.Pixels)).I32(int32(d)).I32(int32(g.Heads))
	across := ceilDiv(d, 64)
	l := Launch{Module: "gram", Args: structure(&a)}
	l.Shape = abi.Shape{Grid: abi.D3(max(g.Splits, 1), g.Heads*across*across, max(g.Images, 1)), Block: abi.D1(128)}
	l.Bytes = 4*int64(g.Images)*int64(g.Pixels)*int64(g.Heads*d) + 4*int64(g.Images*g.Heads*g.Splits)*int64(GramSize(g.Head))
	l.Operations = 2 * int64(g.Images) * int64(g.Pixels) * int64(g.Heads) * int64(d) * int64(d)
	return p.done(l)
}

// GramNormalise writes normalised Gram matrices, fp32 [n][head][PadC(head)].
func GramNormalise(partial, out abi.Buffer, n, splits, head int) (Launch, error) {
	p := &problems{kernel: "gram_normalise"}
	p.positive("matrices, splits and head", n, splits, head)
	d := PadC(head)
	p.fits("partial Gram matrices", partial, n*splits*GramSize(head), 4)
	p.fits("Gram matrices", out, n*head*d, 4)
	l := Launch{Module: "gram", Shape: abi.Shape{Grid: abi.D2(ceilDiv(head*d, 256), max(n, 1)), Block: abi.D1(256)}}
	l.Args.Buf(partial).Buf(out).I32(int32(splits)).I32(int32(d)).I32(int32(head))
	l.Bytes, l.Operations = 4*int64(n)*int64(splits*GramSize(head)+head*d), int64(n)*int64(head*d)*int64(3*splits)
	return p.done(l)
}
