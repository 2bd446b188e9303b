package kernels

import "unirestorer/kernels/abi"

// MulAdd computes y = a·b + c elementwise, and a + c where b is the zero Tensor.
func MulAdd(a, b, c, y Tensor) (Launch, error) {
	p := &problems{kernel: "mul_add"}
	p.tensor("y", y, 2)
	p.same(y, "a", a)
	p.same(y, "c", c)
	bytes, ops := 6*int64(y.Values()), int64(y.Values())
	if !b.Buffer.IsZero() {
		p.same(y, "b", b)
		bytes, ops = 8*int64(y.Values()), 2*ops
	}
	var args abi.Args
	args.Buf(a.Buffer).Buf(b.Buffer).Buf(c.Buffer).Buf(y.Buffer).U32(uint32(y.octets()))
	return p.done(Launch{Module: "blend", Shape: p.linear(y.octets(), 256), Args: args, Bytes: bytes, Operations: ops})
}

// SoftReconstruction computes y = K·x - B + x with K the first channel of kb and B the others.
func SoftReconstruction(x, kb, y Tensor) (Launch, error) {
	p := &problems{kernel: "soft_reconstruction"}
	p.tensor("y", y, 2)
	p.same(y, "x", x)
	p.tensor("kb", kb, 2)
	if kb.N != x.N || kb.H != x.H || kb.W != x.W || kb.Layout.Channels != x.Layout.Channels+1 {
		p.addf("kb is %s, want one channel more than x, %s", kb.describe(), x.describe())
	}
	p.plain(x, kb)
	var args abi.Args
	args.Buf(x.Buffer).Buf(kb.Buffer).Buf(y.Buffer).U32(uint32(y.octets()))
	args.I32(int32(x.Layout.Pitch() / 8)).I32(int32(x.Layout.Channels)).I32(int32(kb.Layout.Pitch()))
	return p.done(Launch{
		Module: "blend", Shape: p.linear(y.octets(), 256), Args: args,
		Bytes: 2 * int64(x.Values()+kb.Values()+y.Values()), Operations: 3 * int64(y.Values()),
	})
}

// Sigmoid computes y = 1/(1+exp(-x)); channels that pad a pixel become 0. overflow is the flag of
// [OverflowBytes].
func Sigmoid(x, y Tensor, overflow abi.Buffer) (Launch, error) {
	p := &problems{kernel: "sigmoid"}
	p.tensor("y", y, 2)
	p.same(y, "x", x)
	p.plain(y)
	p.fits("overflow flag", overflow, 1, OverflowBytes)
	if p.err != nil {
		return p.done(Launch{})
	}
	var args abi.Args
	args.Buf(x.Buffer).Buf(y.Buffer).Buf(overflow).U32(uint32(y.octets())).I32(int32(y.Layout.Pitch() / 8)).I32(int32(y.Layout.Channels))
	return p.done(Launch{
		Module: "blend", Shape: p.linear(y.octets(), 256), Args: args,
		Bytes: 4 * int64(y.Values()), Operations: 3 * int64(y.Values()),
	})
}

// SelectiveKernel computes y = p·a + (1-p)·b + residual, with p the softmax weight of logit c against logit C+c in
// logits, N×1×1×2C. residual may be the zero Tensor. overflow is the flag of [OverflowBytes].
func SelectiveKernel(a, b, logits, residual, y Tensor, overflow abi.Buffer) (Launch, error) {
	p := &problems{kernel: "selective_kernel"}
	p.tensor("y", y, 2)
	p.same(y, "a", a)
	p.same(y, "b", b)
	p.tensor("logits", logits, 2)
	if logits.N != y.N || logits.H != 1 || logits.W != 1 || logits.Layout.Channels != 2*y.Layout.Channels {
		p.addf("logits are %s, want %dx1x1x%d", logits.describe(), y.N, 2*y.Layout.Channels)
	}
	p.fits("overflow flag", overflow, 1, OverflowBytes)
	bytes := 6 * int64(y.Values())
	if !residual.Buffer.IsZero() {
		p.same(y, "residual", residual)
		bytes += 2 * int64(y.Values())
	}
	p.plain(y, logits)
	shared := 4 * y.Layout.Pitch()
	if shared > defaultShared {
		p.addf("%d channels are too many", y.Layout.Channels)
	}
	if p.err != nil {
		return p.done(Launch{})
	}
	octets := y.octets() / y.N
	var args abi.Args
	args.Buf(a.Buffer).Buf(b.Buffer).Buf(logits.Buffer).Buf(residual.Buffer).Buf(y.Buffer).Buf(overflow).U32(uint32(octets))
	args.I32(int32(y.Layout.Pitch() / 8)).I32(int32(y.Layout.Channels)).I32(int32(logits.Layout.Pitch()))
	// A block makes all weights, so it should have enough to do with them: four octets a thread.
	return p.done(Launch{
		Module: "blend",
		Shape:  abi.Shape{Grid: abi.D2(ceilDiv(octets, 4*256), y.N), Block: abi.D1(256), Shared: shared},
		Args:   args, Bytes: bytes, Operations: 4 * int64(y.Values()),
	})
}

// plain checks that tensors whose channels a kernel names have them in one part.
func (p *problems) plain(ts ...Tensor) {
	for _, t := range ts {
		if t.Layout.parts() != 1 {
			p.addf("%s has its channels in %d parts, want one", t.describe(), t.Layout.parts())
		}
	}
}
