package main

import "strings"

// Several vectors go at a time, so that a loop's own instructions are few.
const neonUnroll = 4

func (n *neon) add() {
	n.mapRows("a b", "", neonUnroll, func(x []vec, _ vec) { n.arith(fadd, x[0], x[1], x[0]) })
}

func (n *neon) mul() {
	n.mapRows("a b", "", neonUnroll, func(x []vec, _ vec) { n.arith(fmul, x[0], x[1], x[0]) })
}

func (n *neon) mulAdd() {
	n.mapRows("a b c", "", neonUnroll, func(x []vec, _ vec) {
		n.arith(fmla, x[0], x[1], x[2])
		x[0] = x[2]
	})
}

func (n *neon) scale() {
	n.mapRows("a", "s", neonUnroll, func(x []vec, s vec) { n.arith(fmul, s, x[0], x[0]) })
}

func (n *neon) addScaled() {
	n.mapRows("a b", "s", neonUnroll, func(x []vec, s vec) { n.arith(fmla, s, x[1], x[0]) })
}

func (n *neon) relu() {
	n.mapRows("a", "", neonUnroll, func(x []vec, _ vec) { n.arith(fmax, x[0], n.all(0), x[0]) })
}

func (n *neon) leakyReLU() {
	n.mapRows("a", "s", neonUnroll, func(x []vec, s vec) {
		t := n.vec()
		n.arith(fmul, s, x[0], t)
		n.arith(fmax, x[0], t, x[0])
	})
}

func (n *neon) gelu() {
	n.mapRows("a", "", 2, func(x []vec, _ vec) { x[0] = n.geluOf(x[0]) })
}

func (n *neon) geluGate() {
	n.mapRows("a b", "", 2, func(x []vec, _ vec) {
		x[0] = n.geluOf(x[0])
		n.arith(fmul, x[0], x[1], x[0])
	})
}

// mapRows emits a kernel that loads the named operands, applies formula, which
// leaves its result in the first, and stores it. scalar names a float32
// argument, or none.
func (n *neon) mapRows(operands, scalar string, several int, formula func(x []vec, s vec)) {
	names := strings.Fields(operands)
	dst := n.sliceArg("dst")
	from := make([]gp, len(names))
	for i, o := range names {
		from[i] = n.sliceArg(o)
	}
	var s vec
	if scalar != "" {
		s = n.broadcastArg(scalar)
	}
	rows, off := n.intArg("rows"), n.gp()
	c := n.splitChannels(n.intArg("n"))
	n.times(rows, func() {
		n.eachPart(c, off, several, func(p part) {
			loaded := make([][]vec, len(names))
			for i := range loaded {
				loaded[i] = n.read(from[i], off, p)
			}
			results := make([]vec, p.count)
			for j := range results {
				x := make([]vec, len(names))
				for i := range x {
					x[i] = loaded[i][j]
				}
				formula(x, s)
				results[j] = x[0]
			}
			n.write(results, dst, off, p)
		})
		n.nextRow(dst, "ldst")
		for i, o := range names {
			n.nextRow(from[i], "ld"+o)
		}
	})
	n.finish()
}

// geluOf is the formula of isa.gelu.
func (n *neon) geluOf(x vec) vec {
	z, t := n.vec(), n.vec()
	n.arith(fmin, x, n.all(geluClamp), z)
	n.arith(fmax, z, n.all(-geluClamp), z)
	n.arith(fmul, z, z, t)
	p, q := n.horner(t, geluP), n.horner(t, geluQ)
	n.arith(fmul, z, p, p)
	n.arith(fdiv, p, q, p)
	n.arith(fmin, p, n.all(1), p)
	n.arith(fmax, p, n.all(-1), p)
	half := n.vec()
	n.arith(fmul, x, n.all(0.5), half)
	return n.multiplyAdd(half, p, half)
}

// horner is the polynomial in t with coefficients in rising powers.
func (n *neon) horner(t vec, c []float32) vec {
	last := len(c) - 1
	p := n.all(c[last])
	for i := last - 1; i >= 0; i-- {
		p = n.multiplyAdd(p, t, n.all(c[i]))
	}
	return p
}
