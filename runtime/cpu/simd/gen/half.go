package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
)

// widen emits the conversion of half precision to single: dst[i] = src[i] for
// i < n, a multiple of the vector's width.
func (v isa) widen() {
	dst, src, n := sliceArg("dst"), sliceArg("src"), intArg("n")
	four, one, done := label("four"), label("one"), label("done")
	several := func(vectors int) {
		for i := range vectors {
			x := v.reg()
			VCVTPH2PS(operand.Mem{Base: src, Disp: i * v.bytes / 2}, x)
			VMOVUPS(x, operand.Mem{Base: dst, Disp: i * v.bytes})
		}
		ADDQ(operand.I32(vectors*v.bytes/2), src)
		ADDQ(operand.I32(vectors*v.bytes), dst)
		SUBQ(operand.I32(vectors*v.width()), n)
	}
	Label(four)
	CMPQ(n, operand.I32(4*v.width()))
	JLT(operand.LabelRef(one))
	several(4)
	JMP(operand.LabelRef(four))
	Label(one)
	TESTQ(n, n)
	JLE(operand.LabelRef(done))
	several(1)
	JMP(operand.LabelRef(one))
	Label(done)
	v.finish()
}
