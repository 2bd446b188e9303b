package main

// widen converts dst[i] = src[i] for i < n, a multiple of the vector's width.
func (n *neon) widen() {
	dst, src, count := n.sliceArg("dst"), n.sliceArg("src"), n.intArg("n")
	four, one, done := n.newLabel("four"), n.newLabel("one"), n.newLabel("done")
	n.label(four)
	n.jumpIfConst(count, "LT", 16, one)
	h, x := n.vecs(2), n.vecs(4)
	n.readAt(src, 0, h)
	for i := range h {
		n.unary(fcvtl, h[i], x[2*i])
		n.unary(fcvtl2, h[i], x[2*i+1])
	}
	n.writeAt(x, dst, 0)
	n.step(src, 32)
	n.step(dst, 64)
	n.step(count, -16)
	n.jump(four)
	n.label(one)
	n.jumpIfConst(count, "LE", 0, done)
	last := n.vec()
	n.op(regs(last), regs(src), "FMOVD (%s), %s", src, scalar(last))
	n.unary(fcvtl, last, last)
	n.writeAt([]vec{last}, dst, 0)
	n.step(src, 8)
	n.step(dst, 16)
	n.step(count, -4)
	n.jump(one)
	n.label(done)
	n.finish()
}
