package kernels

import "unirestorer/kernels/abi"

// GuardStateBytes is the size of the state of CountNonFinite.
const GuardStateBytes = 16

// OverflowBytes is the size of the flag that kernels raise when a value that is not finite goes into a softmax, a sigmoid or a
// position, which need not show it. It is zero before a run; [CountNonFinite] reads and clears it.
const OverflowBytes = 4

// CountNonFinite writes to result, an unsigned 32-bit integer, how many of the n values of x are infinite or NaN; single
// says that they are fp32, not fp16, and overflow, unless zero, is the flag that kernels raise over what they hide: it counts as
// one more and is cleared. state, GuardStateBytes of memory that were zero before the first use and belong to
// one stream, is zero again afterwards.
func CountNonFinite(x abi.Buffer, n int, single bool, state, overflow, result abi.Buffer) (Launch, error) {
	p := &problems{kernel: "guard_f16"}
	elem := 2
	if single {
		p.kernel, elem = "guard_f32", 4
	}
	p.positive("count", n)
	if n > 1<<32-1 {
		p.addf("%d values are too many to count", n)
	}
	p.fits("x", x, n, elem)
	p.fits("state", state, 1, GuardStateBytes)
	p.optional("overflow flag", overflow, 1, OverflowBytes)
	p.fits("result", result, 1, 4)
	const atOnce = 264 // two blocks on each of an H200's processors
	var a abi.Args
	a.Buf(x).I64(int64(n) * int64(elem)).Buf(state).Buf(overflow).Buf(result)
	return p.done(Launch{
		Module: "guard", Shape: abi.Shape{Grid: abi.D1(min(max(ceilDiv(n*elem, 16*256), 1), atOnce)), Block: abi.D1(256)},
		Args: a, Bytes: int64(n)*int64(elem) + 4, Operations: int64(n),
	})
}
