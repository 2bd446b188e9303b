package main

import "math"

// layerNorm takes the sum, then the centred squares, then scales, as the form
// for amd64 does.
func (n *neon) layerNorm(centred bool) {
	dst, x, w := n.sliceArg("dst"), n.sliceArg("x"), n.sliceArg("w")
	var b gp
	if centred {
		b = n.sliceArg("b")
	}
	eps, count := n.broadcastArg("eps"), n.vec()
	rows, off, channels := n.intArg("rows"), n.gp(), n.intArg("n")
	n.op(regs(count), regs(channels), "SCVTFS %s, %s", channels, scalar(count))
	n.spread(count)
	c := n.withMask(n.splitChannels(channels))

	n.times(rows, func() {
		sums := n.accumulators(nil)
		n.eachPart(c, off, neonUnroll, func(p part) {
			for i, t := range n.read(x, off, p) {
				n.arith(fadd, t, sums[i], sums[i])
			}
		})
		mean := n.combine(sums, fadd)
		n.fold(mean, faddp)
		n.arith(fdiv, mean, count, mean)
		squares := n.accumulators(nil)
		n.eachPart(c, off, neonUnroll, func(p part) {
			for i, t := range n.read(x, off, p) {
				n.arith(fsub, t, mean, t)
				n.keep(t, p)
				n.arith(fmla, t, t, squares[i])
			}
		})
		scale := n.combine(squares, fadd)
		n.fold(scale, faddp)
		n.arith(fdiv, scale, count, scale)
		n.arith(fadd, scale, eps, scale)
		n.unary(fsqrt, scale, scale)
		n.arith(fdiv, n.all(1), scale, scale)
		n.eachPart(c, off, neonUnroll, func(p part) {
			t, wv := n.read(x, off, p), n.read(w, off, p)
			var bv []vec
			if centred {
				bv = n.read(b, off, p)
			}
			for i := range t {
				if centred {
					n.arith(fsub, t[i], mean, t[i])
				}
				n.arith(fmul, t[i], scale, t[i])
				if centred {
					n.arith(fmla, wv[i], t[i], bv[i])
					t[i] = bv[i]
				} else {
					n.arith(fmul, t[i], wv[i], t[i])
				}
			}
			n.write(t, dst, off, p)
		})
		n.nextRow(dst, "ldst")
		n.nextRow(x, "ldx")
	})
	n.finish()
}

// accumulators are several vectors that begin as start, or as zeros.
func (n *neon) accumulators(start *vec) []vec {
	r := n.vecs(neonUnroll)
	for _, a := range r {
		if start != nil {
			n.moveVec(*start, a)
		} else {
			n.clear(a)
		}
	}
	return r
}

// combine leaves all accumulators in the first.
func (n *neon) combine(r []vec, op three) vec {
	n.arith(op, r[0], r[1], r[0])
	n.arith(op, r[2], r[3], r[2])
	n.arith(op, r[0], r[2], r[0])
	return r[0]
}

// softmax subtracts the row's maximum before the exponential.
func (n *neon) softmax() {
	dst, x := n.sliceArg("dst"), n.sliceArg("x")
	rows, off := n.intArg("rows"), n.gp()
	c := n.withMask(n.splitChannels(n.intArg("n")))
	lowest := n.all(float32(math.Inf(-1)))
	n.times(rows, func() {
		tops := n.accumulators(&lowest)
		n.eachPart(c, off, neonUnroll, func(p part) {
			for i, t := range n.read(x, off, p) {
				if !p.whole {
					r := n.copyOf(lowest)
					n.insert(t, p.mask, r)
					t = r
				}
				n.arith(fmax, t, tops[i], tops[i])
			}
		})
		top := n.combine(tops, fmax)
		n.fold(top, fmaxp)
		sums := n.accumulators(nil)
		n.eachPart(c, off, 2, func(p part) {
			t := n.read(x, off, p)
			for i := range t {
				n.arith(fsub, t[i], top, t[i])
				t[i] = n.exp(t[i])
				n.keep(t[i], p)
				n.arith(fadd, t[i], sums[i], sums[i])
			}
			n.write(t, dst, off, p)
		})
		sum := n.combine(sums, fadd)
		n.fold(sum, faddp)
		n.arith(fdiv, n.all(1), sum, sum)
		n.eachPart(c, off, neonUnroll, func(p part) {
			t := n.read(dst, off, p)
			for i := range t {
				n.arith(fmul, sum, t[i], t[i])
			}
			n.write(t, dst, off, p)
		})
		n.nextRow(dst, "ldst")
		n.nextRow(x, "ldx")
	})
	n.finish()
}

// exp is the formula of isa.exp, for x ≤ 0.
func (n *neon) exp(x vec) vec {
	e, r, low := n.vec(), n.vec(), n.all(expLowest)
	n.arith(fmax, x, low, r)
	n.arith(fmul, r, n.all(math.Log2E), e)
	n.unary(frintn, e, e)
	n.arith(fmls, e, n.all(ln2High), r)
	n.arith(fmls, e, n.all(ln2Low), r)
	p := n.horner(r, expH)
	p = n.multiplyAdd(p, r, n.all(1))
	p = n.multiplyAdd(p, r, n.all(1))
	n.unary(fcvtns, e, e)
	n.shiftLanes(e, 23, e)
	n.op(regs(p), regs(p, e), "VADD %s.S4, %s.S4, %s.S4", e, p, p)
	n.arith(fcmgt, low, x, e) // false for NaN, which stays
	n.insert(n.all(0), e, p)
	return p
}
