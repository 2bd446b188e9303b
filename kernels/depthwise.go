package kernels

import (
	"math"

	"unirestorer/kernels/abi"
)

// DepthwiseConv is a k×k convolution of each channel by itself, stride 1, zeros outside: act-or-gate(x∗w + bias) +
// residual. Layouts are those of rows: with a gate, X has two parts and Y one.
type DepthwiseConv struct {
	X, Y, Residual        abi.Buffer // fp16
	W                     abi.Buffer // fp32 [K·K][pitch of X], see PackDepthwise
	Bias                  abi.Buffer // fp32 [pitch of X]
	Images, Height, Width int
	K                     int
	Pitch, OutPitch       int // of X and Y
	Act                   Activation
	Gate                  Gate
	// Pool receives partial sums of the result over pixels, fp32 [images][PoolShares][OutPitch]; 3×3 only.
	Pool abi.Buffer
	// SMs is how many multiprocessors the strips of rows are to keep busy.
	SMs int
}

// depthwiseColumns are the columns of a thread.
const depthwiseColumns = 4

// strip is how many rows a block marches: the number for which the multiprocessor that has most to do is done first, by the issue
// of instructions and by the way from row to row of blocks that run at the same time. A march takes three rows at a time, two
// more than it gives, and some time to begin.
func (d *DepthwiseConv) strip() int {
	// Cycles of a row: to issue its instructions, and from row to row; blocks by registers.
	row, trip, resident := 170, 300, 5
	switch {
	case d.Gate == GELUGate:
		row, trip, resident = 400, 640, 3
	case d.Gate == SimpleGate:
		row, trip, resident = 340, 510, 3
	case d.Act == GELU:
		row, trip = 340, 560
	}
	best, least := 4, math.MaxInt
	for rows := 4; rows <= 64; rows += 3 {
		blocks := d.across() * ceilDiv(d.Height, rows) * max(d.Images, 1)
		issue := ceilDiv(blocks, max(d.SMs, 1)) * (rows + 4) * row
		way := ceilDiv(blocks, resident*max(d.SMs, 1)) * (rows + 4) * trip
		if cost := max(issue, way); cost < least {
			best, least = rows, cost
		}
	}
	return best
}

// across is how many blocks stand side by side: tiles of channels and of columns.
func (d *DepthwiseConv) across() int { return ceilDiv(d.OutPitch/4, d.quads()) * d.columnTiles() }

func (d *DepthwiseConv) columnTiles() int {
	return ceilDiv(d.Width, 128/(2*d.quads())*depthwiseColumns)
}

// quads is how many quads of channels a block of 128 threads spans, two threads a quad: the number up to 32 that costs
// least, wide ones first. The cost is the product of what the memory system and the threads do in vain: the sectors that a pixel's groups
// of quads touch over those that its row fills, and the threads of a block over those that have a quad and a column.
func (d *DepthwiseConv) quads() int {
	all := d.OutPitch / 4
	best, least := 1, math.Inf(1)
	for q := min(32, all); q >= 1; q-- {
		used := float64(all) / float64(ceilDiv(all, q)*q) * float64(128/(2*q)*2*q) / 128
		if cost := sectorsOverIdeal(all, q) / used; cost < least-0.01 {
			best, least = q, cost
		}
	}
	return best
}

// sectorsOverIdeal is how many sectors of four quads a row of quads touches when it is read in groups, over a quarter of
// the quads. Groups as wide as the row join those of the next pixel; others share no sector with a request beside them.
func sectorsOverIdeal(row, group int) float64 {
	if group >= row {
		return 1
	}
	sectors := 0
	for pixel := range 4 { // rows begin at one of four places in a sector
		for at := 0; at < row; at += group {
			first := pixel*row + at
			sectors += ceilDiv(first%4+min(group, row-at), 4)
		}
	}
	return float64(sectors) / float64(row)
}

// PoolShares is the number of rows of partial sums that pooling writes for each image.
func (d *DepthwiseConv) PoolShares() int {
	return d.columnTiles() * ceilDiv(d.Height, d.strip())
}

// DepthwiseKernel computes the convolution.
func DepthwiseKernel(d DepthwiseConv) (Launch, error) {
	p := &problems{kernel: "depthwise3"}
	p.positive("images, height, width and pitch", d.Images, d.Height, d.Width, d.Pitch)
	switch {
	case d.K == 3 && d.Gate == SimpleGate:
		p.kernel = "depthwise3_simple_gate"
	case d.K == 3 && d.Gate == GELUGate:
		p.kernel = "depthwise3_gelu_gate"
	case d.K != 3:
		p.kernel = "depthwise_any"
	}
	want := d.OutPitch
	if d.Gate != NoGate {
		want *= 2
	}
	if d.OutPitch <= 0 || d.OutPitch%8 != 0 || d.Pitch != want {
		p.addf("rows of %d values to rows of %d, gate %d", d.Pitch, d.OutPitch, d.Gate)
	}
	if d.K <= 0 || d.K%2 == 0 || d.K > 63 {
		p.addf("kernel of side %d, want an odd one", d.K)
	}
	if d.Act < Identity || d.Act > GELU || d.Gate < NoGate || d.Gate > GELUGate || d.Gate != NoGate && d.Act != Identity {
		p.addf("activation %d with gate %d", d.Act, d.Gate)
	}
	pixels := d.Images * d.Height * d.Width
	p.fits("input", d.X, pixels*d.Pitch, 2)
	p.fits("result", d.Y, pixels*d.OutPitch, 2)
	p.optional("residual", d.Residual, pixels*d.OutPitch, 2)
	p.fits("weight", d.W, d.K*d.K*d.Pitch, 4)
	p.optional("bias", d.Bias, d.Pitch, 4)
	if p.err != nil {
		return p.done(Launch{})
	}
	if !d.Pool.IsZero() {
		if d.K != 3 {
			p.addf("partial sums of a kernel of side %d", d.K)
		}
		p.fits("partial sums", d.Pool, d.Images*d.PoolShares()*d.OutPitch, 4)
	}
	quads, octets := d.quads(), pixels*d.OutPitch/8
	var a abi.Args
	a.Buf(d.X).Buf(d.W).Buf(d.Bias).Buf(d.Residual).Buf(d.Y).Buf(d.Pool).I32(int32(d.Height)).I32(int32(d.Width))
	a.I32(int32(d.Pitch)).I32(int32(d.OutPitch)).I32(int32(2 * quads)).I32(int32(d.strip())).I32(int32(d.K)).I32(int32(d.Act)).I32(int32(d.Gate)).I64(int64(octets))
	l := Launch{Module: "depthwise", Args: structure(&a)}
	if d.K == 3 {
		l.Shape = abi.Shape{Grid: abi.D3(d.across(), ceilDiv(d.Height, d.strip()), d.Images), Block: abi.D1(128)}
	} else {
		l.Shape = p.linear(octets, 256)
	}
	l.Bytes = 2*int64(pixels)*int64(d.Pitch+d.OutPitch) + 4*int64(d.K*d.K*d.Pitch)
	if !d.Residual.IsZero() {
		l.Bytes += 2 * int64(pixels) * int64(d.OutPitch)
	}
	l.Operations = 2 * int64(pixels) * int64(d.Pitch) * int64(d.K*d.K)
	if !d.Pool.IsZero() {
		l.Bytes += 4 * int64(d.Images*d.PoolShares()*d.OutPitch)
	}
	return p.done(l)
}
