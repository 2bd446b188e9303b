package main

func (n *neon) colSum() {
	n.columns("", fadd, nil, func(acc, a, _, _ vec) { n.arith(fadd, a, acc, acc) })
}

func (n *neon) colSumSq() {
	n.columns("s", fadd, nil, func(acc, a, _, s vec) {
		n.arith(fsub, a, s, a)
		n.arith(fmla, a, a, acc)
	})
}

func (n *neon) colDot() {
	n.columns("b", fadd, nil, func(acc, a, b, _ vec) { n.arith(fmla, a, b, acc) })
}

// columns emits a kernel that folds rows × n values into n accumulators. Two
// rows at a time overlap the additions' latencies. with is "b" for a second
// matrix, "s" for a scalar; start is what accumulators begin with, nil for 0.
func (n *neon) columns(with string, combine three, start *vec, fold func(acc, a, b, s vec)) {
	acc, a, lda, off := n.sliceArg("acc"), n.sliceArg("a"), n.strideArg("lda"), n.gp()
	var b, ldb gp
	var s vec
	switch with {
	case "b":
		b, ldb = n.sliceArg("b"), n.strideArg("ldb")
	case "s":
		s = n.broadcastArg("s")
	}
	c := n.splitChannels(n.intArg("n"))
	n.eachPart(c, off, neonUnroll, func(part part) {
		even, odd := n.read(acc, off, part), n.vecs(part.count)
		for _, r := range odd {
			if start != nil {
				n.moveVec(*start, r)
			} else {
				n.clear(r)
			}
		}
		p, q, zero, rows := n.gp(), n.gp(), n.gp(), n.intArg("rows")
		n.set(0, zero)
		n.addInt(a, off, p)
		if with == "b" {
			n.addInt(b, off, q)
		}
		row := func(to []vec) {
			x := n.read(p, zero, part)
			n.addInt(p, lda, p)
			y := make([]vec, len(x))
			if with == "b" {
				y = n.read(q, zero, part)
				n.addInt(q, ldb, q)
			}
			for i := range x {
				fold(to[i], x[i], y[i], s)
			}
		}
		two, one, end := n.newLabel("two"), n.newLabel("last"), n.newLabel("folded")
		n.step(rows, -2)
		n.jumpIfConst(rows, "LT", 0, one)
		n.label(two)
		row(even)
		row(odd)
		n.step(rows, -2)
		n.jumpIfConst(rows, "GE", 0, two)
		n.label(one)
		n.step(rows, 2)
		n.jumpIfConst(rows, "EQ", 0, end)
		row(even)
		n.label(end)
		for i := range even {
			n.arith(combine, even[i], odd[i], even[i])
		}
		n.write(even, acc, off, part)
	})
	n.finish()
}

// box keeps a running sum of k rows for each column.
func (n *neon) box() {
	dst, ldst, a, lda := n.sliceArg("dst"), n.strideArg("ldst"), n.sliceArg("a"), n.strideArg("lda")
	s, off, zero := n.broadcastArg("s"), n.gp(), n.gp()
	n.set(0, zero)
	c := n.splitChannels(n.intArg("n"))
	n.eachPart(c, off, neonUnroll, func(part part) {
		sums := n.vecs(part.count)
		for _, r := range sums {
			n.clear(r)
		}
		oldest, newest, to := n.gp(), n.gp(), n.gp()
		n.addInt(a, off, oldest)
		n.addInt(a, off, newest)
		n.addInt(dst, off, to)
		n.times(n.intArg("k"), func() {
			for i, x := range n.read(newest, zero, part) {
				n.arith(fadd, x, sums[i], sums[i])
			}
			n.addInt(newest, lda, newest)
		})
		rows, top, end := n.intArg("rows"), n.newLabel("slide"), n.newLabel("slid")
		n.label(top)
		out := n.vecs(part.count)
		for i, r := range sums {
			n.arith(fmul, s, r, out[i])
		}
		n.write(out, to, zero, part)
		n.step(rows, -1)
		n.jumpIfConst(rows, "EQ", 0, end)
		x, y := n.read(newest, zero, part), n.read(oldest, zero, part)
		for i, r := range sums {
			n.arith(fsub, x[i], y[i], x[i])
			n.arith(fadd, x[i], r, r)
		}
		n.addInt(to, ldst, to)
		n.addInt(newest, lda, newest)
		n.addInt(oldest, lda, oldest)
		n.jump(top)
		n.label(end)
	})
	n.finish()
}

// peak runs 24 independent chains of multiply-adds, as four pipes with a latency
// of four or more cycles need, or 12 where half a round is left.
func (n *neon) peak() {
	const chains = 12
	x, count := n.broadcastArg("x"), n.intArg("n")
	sums := n.vecs(2 * chains)
	for _, r := range sums {
		n.clear(r)
	}
	pairs, half, end := n.gp(), n.newLabel("half"), n.newLabel("done")
	n.op(regs(pairs), regs(count), "LSR $1, %s, %s", count, pairs)
	n.jumpIfConst(pairs, "EQ", 0, half)
	n.times(pairs, func() {
		for _, r := range sums {
			n.arith(fmla, x, x, r)
		}
	})
	n.label(half)
	n.jumpIfClear(count, 0, end)
	for _, r := range sums[:chains] {
		n.arith(fmla, x, x, r)
	}
	n.label(end)
	for _, r := range sums[1:] {
		n.arith(fadd, r, sums[0], sums[0])
	}
	n.fold(sums[0], faddp)
	n.op(nil, regs(sums[0]), "FMOVS %s, ret+%d(FP)", scalar(sums[0]), n.offset("ret"))
	n.finish()
}
