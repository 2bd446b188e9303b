package main

import (
	"fmt"
	"math/bits"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// depthwise emits one output row of a depthwise k×k convolution over
// channels-last pixels. The weights are packed [channels/width][k·k+1][width],
// the bias last.
func (v isa) depthwise(k int) {
	// Neighbouring outputs share their loads, as many as registers allow.
	share := 4
	if v.wide() && k == 3 {
		share = 8
	}
	s := strideArg("ldx")
	input := pixelAddresses(s, share+k-1)
	d := strideArg("ldst")
	output := pixelAddresses(d, share)
	rows := make([]reg.GPVirtual, k)
	for i := range rows {
		rows[i] = GP64()
	}
	dst, w := GP64(), GP64()
	// Registers are short: the counters live on the stack.
	pixels, vectors, full, hasRest := AllocLocal(8), AllocLocal(8), AllocLocal(8), AllocLocal(8)
	inputAt, outputAt := AllocLocal(8), AllocLocal(8) // bytes from the start of a row
	MOVQ(intArg("pixels"), pixels)
	MOVQ(operand.I32(0), inputAt)
	MOVQ(operand.I32(0), outputAt)

	n := intArg("n")
	rest := GP64()
	MOVQ(n, rest)
	ANDQ(operand.I32(v.width()-1), rest)
	MOVQ(rest, hasRest)
	SUBQ(rest, n)
	SHRQ(operand.U8(bits.TrailingZeros(uint(v.width()))), n)
	MOVQ(n, full)
	sel := v.first(rest)

	// taps computes one vector of channels of count pixels and moves on.
	taps := func(count int, sel *lanes) {
		sums, wv, x := v.regs(count), v.regs(k), v.reg()
		VMOVUPS(operand.Mem{Base: w, Disp: k * k * v.bytes}, sums[0])
		for _, r := range sums[1:] {
			VMOVAPS(sums[0], r)
		}
		for i, row := range rows {
			for j := range wv {
				VMOVUPS(operand.Mem{Base: w, Disp: (i*k + j) * v.bytes}, wv[j])
			}
			for p := range count + k - 1 {
				v.load(input(row, p), x, sel)
				for j := range wv {
					o := p - j
					if o < 0 || o >= count {
						continue
					}
					VFMADD231PS(x, wv[j], sums[o])
				}
			}
		}
		for p, r := range sums {
			v.store(r, output(dst, p), sel)
		}
		for _, r := range append([]reg.GPVirtual{dst}, rows...) {
			ADDQ(operand.I32(v.bytes), r)
		}
		ADDQ(operand.I32((k*k+1)*v.bytes), w)
	}
	// block computes all channels of count pixels, as long as that many are left.
	block := func(count int) {
		top, end := label("pixels"), label("pixelsdone")
		Label(top)
		CMPQ(pixels, operand.I32(count))
		JL(operand.LabelRef(end))
		SUBQ(operand.I32(count), pixels)
		t := GP64()
		MOVQ(inputAt, t)
		for i, row := range rows {
			Load(Param(fmt.Sprintf("r%d", i)).Base(), row)
			ADDQ(t, row)
		}
		LEAQ(input(t, count), t)
		MOVQ(t, inputAt)
		MOVQ(outputAt, t)
		Load(Param("dst").Base(), dst)
		ADDQ(t, dst)
		LEAQ(output(t, count), t)
		MOVQ(t, outputAt)
		Load(Param("w").Base(), w)
		MOVQ(full, t)
		MOVQ(t, vectors)
		next, tail, done := label("vector"), label("tail"), label("done")
		CMPQ(vectors, operand.I32(0))
		JE(operand.LabelRef(tail))
		Label(next)
		taps(count, nil)
		DECQ(vectors)
		JNZ(operand.LabelRef(next))
		Label(tail)
		CMPQ(hasRest, operand.I32(0))
		JE(operand.LabelRef(done))
		taps(count, sel)
		Label(done)
		JMP(operand.LabelRef(top))
		Label(end)
	}
	block(share)
	block(1)
	v.finish()
}

// pixelAddresses returns the address of pixel p, 0 ≤ p ≤ count, at a given
// stride in bytes. It keeps the odd multiples of the stride that x86 addresses
// lack in registers.
func pixelAddresses(stride reg.GPVirtual, count int) func(base reg.GPVirtual, p int) operand.Mem {
	odd := map[int]reg.GPVirtual{1: stride}
	for m := 3; m < count; m += 2 {
		odd[m] = GP64()
		LEAQ(operand.Mem{Base: odd[m-2], Index: stride, Scale: 2}, odd[m])
	}
	return func(base reg.GPVirtual, p int) operand.Mem {
		if p == 0 {
			return operand.Mem{Base: base}
		}
		scale := uint8(1)
		for p%2 == 0 {
			p /= 2
			scale *= 2
		}
		return operand.Mem{Base: base, Index: odd[p], Scale: scale}
	}
}
