package kernels

import "unirestorer/kernels/abi"

// DeformTaps is the number of taps of a deformable convolution.
const DeformTaps = 9

const (
	deformPixels  = 32 // of a block
	deformFilters = 64
)

// DeformPadded is how many rows and columns the filters of each tap have in memory.
func DeformPadded(filters, channels int) (rows, columns int) {
	return ceilDiv(filters, deformFilters) * deformFilters, ceilDiv(channels, 16) * 16
}

// DeformConv is the modulated deformable 3×3 convolution of x with offsets N×H×W×27: dy and dx of tap k, and behind them
// the masks before their sigmoid. filters are fp16 [tap][row][column], see DeformPadded.
// overflow is the flag of [OverflowBytes].
func DeformConv(x, offsets Tensor, filters abi.Buffer, y Tensor, overflow abi.Buffer) (Launch, error) {
	p := &problems{kernel: "deform_conv"}
	p.tensor("x", x, 2)
	p.tensor("offsets", offsets, 2)
	p.tensor("y", y, 2)
	for name, t := range map[string]Tensor{"offsets": offsets, "y": y} {
		if t.N != x.N || t.H != x.H || t.W != x.W {
			p.addf("%s is %s, x %s: sizes must agree", name, t.describe(), x.describe())
		}
	}
	if offsets.Layout.Channels != 3*DeformTaps {
		p.addf("offsets are %s, want %d channels", offsets.describe(), 3*DeformTaps)
	}
	p.plain(x, offsets, y)
	if p.err != nil {
		return p.done(Launch{})
	}
	rows, columns := DeformPadded(y.Layout.Channels, x.Layout.Channels)
	p.fits("overflow flag", overflow, 1, OverflowBytes)
	p.fits("filters", filters, DeformTaps*rows*columns, 2)
	shared := 4*deformPixels*deformFilters + 2*deformPixels*(columns+8)
	if shared > defaultShared || y.N > maxGridYZ || x.H*x.W > maxCount-deformPixels {
		p.addf("x is %s: too large", x.describe())
	}
	var a abi.Args
	a.Buf(x.Buffer).Buf(offsets.Buffer).Buf(filters).Buf(y.Buffer).Buf(overflow).I32(int32(x.H)).I32(int32(x.W))
	a.I32(int32(x.Layout.Pitch())).I32(int32(y.Layout.Pitch())).I32(int32(rows)).I32(int32(columns))
	grid := abi.D3(ceilDiv(x.H*x.W, deformPixels), rows/deformFilters, x.N)
	return p.done(Launch{
		Module: "deform", Shape: abi.Shape{Grid: grid, Block: abi.D1(128), Shared: shared}, Args: a,
		Bytes:      2 * int64(x.Values()+offsets.Values()+y.Values()+DeformTaps*rows*columns),
		Operations: 2 * DeformTaps * int64(x.Layout.Channels) * int64(y.Pixels()) * int64(y.Layout.Channels),
	})
}
