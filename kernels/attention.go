package kernels

import (
	"math"

	"unirestorer/kernels/abi"
)

// maxHeadDim is the most channels a head may have.
const maxHeadDim = 256

// AttentionBiasPitch is the number of values of a row of the bias of WindowAttention.
func AttentionBiasPitch(window int) int { return PadC(window * window) }

// Attention computes y = softmax(q·kᵀ/√d)·v over the pixels of each image of qkv, N×1×T×3C, with q, k and v one after the
// other and head h at channels [h·d, (h+1)·d) of each. A head may have up to 256 channels. overflow is the
// flag of [OverflowBytes].
func Attention(qkv, y Tensor, heads int, overflow abi.Buffer) (Launch, error) {
	p := &problems{}
	return p.attention(qkv, y, abi.Buffer{}, overflow, heads, 0, 0)
}

// WindowAttention computes y = softmax(q·kᵀ/√d + bias[h])·v within square windows of an image, which is padded by
// reflection and cropped back. With m = -size mod window, the padding of each axis is 0 before and m after, or with a
// shift s it is s before and (window-s+m) mod window after. bias is fp16 [heads][window²][AttentionBiasPitch(window)].
// overflow is the flag of [OverflowBytes].
func WindowAttention(qkv, y Tensor, bias abi.Buffer, heads, window, shift int, overflow abi.Buffer) (Launch, error) {
	p := &problems{}
	if window <= 0 || window > 64 || shift < 0 || shift >= window {
		p.kernel = "attention"
		p.addf("window %d with shift %d", window, shift)
		return p.done(Launch{})
	}
	return p.attention(qkv, y, bias, overflow, heads, window, shift)
}

func (p *problems) attention(qkv, y Tensor, bias, overflow abi.Buffer, heads, window, shift int) (Launch, error) {
	p.kernel = "attention_any"
	p.tensor("qkv", qkv, 2)
	p.tensor("y", y, 2)
	p.plain(qkv, y)
	p.positive("heads", heads)
	p.fits("overflow flag", overflow, 1, OverflowBytes)
	c := y.Layout.Channels
	if qkv.N != y.N || qkv.H != y.H || qkv.W != y.W || qkv.Layout.Channels != 3*c {
		p.addf("q, k and v are %s, the result %s", qkv.describe(), y.describe())
	}
	if p.err != nil {
		return p.done(Launch{})
	}
	d := c / heads
	if c%heads != 0 || d > maxHeadDim {
		p.addf("%d channels in %d heads", c, heads)
		return p.done(Launch{})
	}
	tokens, windows, across := y.H*y.W, 1, 0
	beforeY, beforeX := 0, 0
	biasBytes := 0
	if window > 0 {
		tokens = window * window
		var down int
		beforeY, down = p.windows(y.H, window, shift)
		beforeX, across = p.windows(y.W, window, shift)
		windows = down * across
		biasBytes = 2 * heads * tokens * PadC(tokens)
		p.fits("bias", bias, biasBytes, 1)
	}
	shape := abi.Shape{Grid: abi.D3(windows*ceilDiv(tokens, 64), heads, y.N), Block: abi.D1(128)}
	switch {
	case d <= 32:
		p.kernel = "attention_32"
	case d <= 64:
		p.kernel = "attention_64"
	default:
		shape.Grid.X = uint32(ceilDiv(windows*tokens, 4))
	}
	var f abi.Args
	f.Buf(qkv.Buffer).Buf(bias).Buf(y.Buffer).Buf(overflow).I32(int32(y.H)).I32(int32(y.W))
	f.I32(int32(c)).I32(int32(d)).I32(int32(heads)).I32(int32(qkv.Layout.Pitch())).I32(int32(y.Layout.Pitch()))
	f.I32(int32(tokens)).I32(int32(PadC(tokens))).I32(int32(window)).I32(int32(beforeY)).I32(int32(beforeX))
	f.I32(int32(across)).I32(int32(windows)).F32(float32(1 / math.Sqrt(float64(d))))
	return p.done(Launch{
		Module: "attention", Shape: shape, Args: structure(&f),
		Bytes:      2*int64(qkv.Values()+y.Values()) + int64(biasBytes),
		Operations: 4 * int64(y.N) * int64(windows) * int64(tokens) * int64(tokens) * int64(c),
	})
}

// windows gives the padding before a side and the number of windows that cover it.
func (p *problems) windows(side, window, shift int) (before, count int) {
	m := (window - side%window) % window
	after := m
	if shift > 0 {
		before, after = shift, (window-shift+m)%window
	}
	if max(before, after) >= side {
		p.addf("reflection by %d,%d pixels needs a side longer than that, have %d", before, after, side)
	}
	return before, (side + before + after) / window
}
