package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func (v isa) colSum() {
	v.columns("", VADDPS, nil, func(acc, a, _, _ reg.VecVirtual) { VADDPS(a, acc, acc) })
}

func (v isa) colSumSq() {
	v.columns("s", VADDPS, nil, func(acc, a, _, s reg.VecVirtual) {
		VSUBPS(s, a, a)
		VFMADD231PS(a, a, acc)
	})
}

func (v isa) colDot() {
	v.columns("b", VADDPS, nil, func(acc, a, b, _ reg.VecVirtual) { VFMADD231PS(a, b, acc) })
}

// columns emits a kernel that folds rows × n values into n accumulators, four
// rows at a time to overlap the additions' latencies. with is "b" for a second
// matrix, "s" for a scalar; start is what accumulators begin with, nil for 0.
func (v isa) columns(with string, combine func(...operand.Op), start *operand.Mem, fold func(acc, a, b, s reg.VecVirtual)) {
	acc, a, lda, n, off := sliceArg("acc"), sliceArg("a"), strideArg("lda"), intArg("n"), GP64()
	var b, ldb reg.GPVirtual
	var s reg.VecVirtual
	switch with {
	case "b":
		b, ldb = sliceArg("b"), strideArg("ldb")
	case "s":
		s = v.broadcastArg("s")
	}
	c := v.splitChannels(n)
	v.channels(c, off, func(sel *lanes) {
		sums := v.regs(4)
		v.load(at(acc, off), sums[0], sel)
		for _, r := range sums[1:] {
			if start != nil {
				VMOVUPS(*start, r)
			} else {
				v.clear(r)
			}
		}
		p, rows := GP64(), intArg("rows")
		LEAQ(at(a, off), p)
		var q reg.GPVirtual
		if with == "b" {
			q = GP64()
			LEAQ(at(b, off), q)
		}
		row := func(to reg.VecVirtual) {
			x, y := v.reg(), v.reg()
			v.load(operand.Mem{Base: p}, x, sel)
			ADDQ(lda, p)
			if with == "b" {
				v.load(operand.Mem{Base: q}, y, sel)
				ADDQ(ldb, q)
			}
			fold(to, x, y, s)
		}
		four, one, end := label("four"), label("one"), label("folded")
		SUBQ(operand.I32(4), rows)
		JL(operand.LabelRef(one))
		Label(four)
		for _, r := range sums {
			row(r)
		}
		SUBQ(operand.I32(4), rows)
		JGE(operand.LabelRef(four))
		Label(one)
		ADDQ(operand.I32(4), rows)
		JZ(operand.LabelRef(end))
		rest := label("rest")
		Label(rest)
		row(sums[0])
		DECQ(rows)
		JNZ(operand.LabelRef(rest))
		Label(end)
		combine(sums[1], sums[0], sums[0])
		combine(sums[3], sums[2], sums[2])
		combine(sums[2], sums[0], sums[0])
		v.store(sums[0], at(acc, off), sel)
	})
	v.finish()
}

// box keeps a running sum of k rows for each column.
func (v isa) box() {
	dst, ldst, a, lda := sliceArg("dst"), strideArg("ldst"), sliceArg("a"), strideArg("lda")
	s, off := v.broadcastArg("s"), GP64()
	c := v.splitChannels(intArg("n"))
	v.channels(c, off, func(sel *lanes) {
		sum, x, y := v.zero(), v.reg(), v.reg()
		oldest, newest, to := GP64(), GP64(), GP64()
		LEAQ(at(a, off), oldest)
		LEAQ(at(a, off), newest)
		LEAQ(at(dst, off), to)
		times(intArg("k"), func() {
			v.load(operand.Mem{Base: newest}, x, sel)
			VADDPS(x, sum, sum)
			ADDQ(lda, newest)
		})
		rows, end := intArg("rows"), label("slid")
		top := label("slide")
		Label(top)
		out := v.reg()
		VMULPS(s, sum, out)
		v.store(out, operand.Mem{Base: to}, sel)
		DECQ(rows)
		JZ(operand.LabelRef(end))
		v.load(operand.Mem{Base: newest}, x, sel)
		v.load(operand.Mem{Base: oldest}, y, sel)
		VSUBPS(y, x, x)
		VADDPS(x, sum, sum)
		ADDQ(ldst, to)
		ADDQ(lda, newest)
		ADDQ(lda, oldest)
		JMP(operand.LabelRef(top))
		Label(end)
	})
	v.finish()
}

// peak runs 12 independent chains of multiply-adds.
func (v isa) peak() {
	x, n := v.broadcastArg("x"), intArg("n")
	sums := v.regs(12)
	for _, r := range sums {
		v.clear(r)
	}
	times(n, func() {
		for _, r := range sums {
			VFMADD231PS(x, x, r)
		}
	})
	for _, r := range sums[1:] {
		VADDPS(r, sums[0], sums[0])
	}
	v.fold(sums[0], addOf)
	VZEROUPPER()
	Store(sums[0].AsX(), ReturnIndex(0))
	RET()
}
