package main

import "math"

// Integer code.

func (n *neon) move(from, to gp) { n.op(regs(to), regs(from), "MOVD %s, %s", from, to) }

func (n *neon) set(value int, to gp) { n.op(regs(to), nil, "MOVD $%d, %s", value, to) }

// addInt computes to = a + b, subInt to = a - b.
func (n *neon) addInt(a, b, to gp) { n.op(regs(to), regs(a, b), "ADD %s, %s, %s", a, b, to) }

func (n *neon) subInt(a, b, to gp) { n.op(regs(to), regs(a, b), "SUB %s, %s, %s", b, a, to) }

// step adds a constant to r.
func (n *neon) step(r gp, by int) {
	if by < 0 {
		n.op(regs(r), regs(r), "SUB $%d, %s, %s", -by, r, r)
		return
	}
	n.op(regs(r), regs(r), "ADD $%d, %s, %s", by, r, r)
}

func (n *neon) shiftLeft(r gp, by int) { n.op(regs(r), regs(r), "LSL $%d, %s, %s", by, r, r) }

func (n *neon) shiftRight(r gp, by int) { n.op(regs(r), regs(r), "LSR $%d, %s, %s", by, r, r) }

// jump goes to a label.
func (n *neon) jump(to string) {
	i := n.op(nil, nil, "JMP "+to)
	i.jump, i.ends = to, true
}

// jumpIf goes to a label if a compares with b as the condition says: EQ, NE,
// LT, LE, GT or GE.
func (n *neon) jumpIf(a gp, condition string, b gp, to string) {
	n.op(nil, regs(a, b), "CMP %s, %s", b, a)
	n.op(nil, nil, "B"+condition+" "+to).jump = to
}

// jumpIfConst is jumpIf with a constant.
func (n *neon) jumpIfConst(a gp, condition string, b int, to string) {
	if b == 0 && (condition == "EQ" || condition == "NE") {
		op := map[string]string{"EQ": "CBZ", "NE": "CBNZ"}[condition]
		n.op(nil, regs(a), op+" %s, "+to, a).jump = to
		return
	}
	n.op(nil, regs(a), "CMP $%d, %s", b, a)
	n.op(nil, nil, "B"+condition+" "+to).jump = to
}

// jumpIfClear goes to a label if a bit of r is clear.
func (n *neon) jumpIfClear(r gp, bit int, to string) {
	n.op(nil, regs(r), "TBZ $%d, %s, "+to, bit, r).jump = to
}

// times emits body count times; count is clobbered and must be positive.
func (n *neon) times(count gp, body func()) {
	top := n.newLabel("row")
	n.label(top)
	body()
	n.op(regs(count), regs(count), "SUBS $1, %s, %s", count, count)
	n.op(nil, nil, "BNE "+top).jump = top
}

// Arguments.

func (n *neon) load(name string) gp {
	r := n.gp()
	n.op(regs(r), nil, "MOVD %s+%d(FP), %s", name, n.offset(name), r)
	return r
}

func (n *neon) offset(name string) int {
	at, ok := n.frame[name]
	if !ok {
		panic("gen: " + n.kernel.name + " has no argument " + name)
	}
	return at
}

// intArg is an integer argument, sliceArg the address of a slice's first
// element, strideArg a stride given in floats, in bytes.
func (n *neon) intArg(name string) gp   { return n.load(name) }
func (n *neon) sliceArg(name string) gp { return n.load(name + "_base") }
func (n *neon) strideArg(name string) gp {
	r := n.load(name)
	n.shiftLeft(r, 2)
	return r
}

// broadcastArg returns a vector whose lanes all are the float32 argument.
func (n *neon) broadcastArg(name string) vec {
	r := n.vec()
	n.op(regs(r), nil, "FMOVS %s+%d(FP), %s", name, n.offset(name), scalar(r))
	n.spread(r)
	return r
}

// Vectors.

// spread copies the first lane of r to all.
func (n *neon) spread(r vec) { n.op(regs(r), regs(r), "VDUP %s.S[0], %s.S4", r, r) }

// clear sets r to zeros.
func (n *neon) clear(r vec) { n.op(regs(r), nil, "VEOR %s.B16, %s.B16, %s.B16", r, r, r) }

func (n *neon) moveVec(from, to vec) {
	n.op(regs(to), regs(from), "VMOV %s.B16, %s.B16", from, to)
}

// copyOf returns a register holding x.
func (n *neon) copyOf(x vec) vec {
	r := n.vec()
	n.moveVec(x, r)
	return r
}

// all returns a vector whose lanes are all x, which is set where the function
// starts.
func (n *neon) all(x float32) vec {
	bits := math.Float32bits(x)
	if r, ok := n.constants[bits]; ok {
		return r
	}
	body := n.body
	n.body = n.hoisted
	r, t := n.vec(), n.gp()
	n.op(regs(t), nil, "MOVD $0x%08x, %s", bits, t)
	n.op(regs(r), regs(t), "VDUP %s, %s.S4", t, r)
	n.hoisted, n.body = n.body, body
	n.constants[bits] = r
	return r
}

// arith computes to = a op b; multiply-adds add to what to holds.
func (n *neon) arith(i three, a, b, to vec) {
	reads := regs(a, b)
	if i == fmla || i == fmls {
		reads = regs(a, b, to)
	}
	n.word(regs(to), reads, func(reg func(int) int) (uint32, string) {
		return i.encode(reg(int(to)), reg(int(a)), reg(int(b)))
	})
}

func (n *neon) unary(i two, a, to vec) {
	n.word(regs(to), regs(a), func(reg func(int) int) (uint32, string) {
		return i.encode(reg(int(to)), reg(int(a)))
	})
}

// multiplyLane adds a·b[lane] to to.
func (n *neon) multiplyLane(a, b vec, lane int, to vec) {
	n.word(regs(to), regs(a, b, to), func(reg func(int) int) (uint32, string) {
		return encodeFMLAByLane(reg(int(to)), reg(int(a)), reg(int(b)), lane)
	})
}

// loadVec and storeVec move a whole vector from and to base + off.
func (n *neon) loadVec(base, off gp, to vec) {
	n.word(regs(to), regs(base, off), func(reg func(int) int) (uint32, string) {
		return encodeLDR(reg(int(to)), reg(int(base)), reg(int(off)))
	})
}

func (n *neon) storeVec(from vec, base, off gp) {
	n.word(nil, regs(from, base, off), func(reg func(int) int) (uint32, string) {
		return encodeSTR(reg(int(from)), reg(int(base)), reg(int(off)))
	})
}

func (n *neon) shiftLanes(a vec, by int, to vec) {
	n.word(regs(to), regs(a), func(reg func(int) int) (uint32, string) {
		return encodeSHL(reg(int(to)), reg(int(a)), by)
	})
}

// insert copies the lanes of x that the mask selects.
func (n *neon) insert(x, mask, to vec) {
	n.op(regs(to), regs(x, mask, to), "VBIT %s.B16, %s.B16, %s.B16", mask, x, to)
}

// multiplyAdd computes x·y + z in z, which is set anew: z itself stays.
func (n *neon) multiplyAdd(x, y, z vec) vec {
	r := n.copyOf(z)
	n.arith(fmla, x, y, r)
	return r
}

// fold combines all lanes of r with a pairwise instruction, in all lanes.
func (n *neon) fold(r vec, pairs three) {
	n.arith(pairs, r, r, r)
	n.arith(pairs, r, r, r)
}

// Rows of floats.

// neonSplit is a row of floats as whole vectors and a rest.
type neonSplit struct {
	full gp // bytes in whole vectors
	rest gp // floats after them, 0 to 3
	mask vec
}

// splitChannels splits a row of count floats; count stays.
func (n *neon) splitChannels(count gp) neonSplit {
	full, rest := n.gp(), n.gp()
	n.op(regs(rest), regs(count), "AND $3, %s, %s", count, rest)
	n.subInt(count, rest, full)
	n.shiftLeft(full, 2)
	return neonSplit{full: full, rest: rest}
}

// withMask reads which lanes the rest fills.
func (n *neon) withMask(s neonSplit) neonSplit {
	at, by := n.gp(), n.gp()
	s.mask = n.vec()
	n.op(regs(at), nil, "MOVD $%s(SB), %s", firstLanes, at)
	n.op(regs(by), regs(s.rest), "LSL $2, %s, %s", s.rest, by)
	n.op(regs(at), regs(at, by), "SUB %s, %s, %s", by, at, at)
	n.op(regs(s.mask), regs(at), "FMOVQ 16(%s), %s", at, scalar(s.mask))
	return s
}

// part is some vectors of a row: count whole ones, or one of which only the
// rest is there.
type part struct {
	count int
	rest  gp // unless whole
	whole bool
	mask  vec
}

// eachPart emits body for the vectors of a row at byte offset off: for several
// at once, for one, and for the rest.
func (n *neon) eachPart(s neonSplit, off gp, several int, body func(p part)) {
	many, one, tail, done := n.newLabel("several"), n.newLabel("one"), n.newLabel("tail"), n.newLabel("done")
	n.set(0, off)
	if several > 1 {
		next, last := n.newLabel("next"), n.gp()
		n.op(regs(last), regs(s.full), "SUB $%d, %s, %s", several*neonBytes, s.full, last)
		n.jumpIf(off, "GT", last, one)
		n.label(next)
		body(part{count: several, whole: true})
		n.step(off, several*neonBytes)
		n.jumpIf(off, "LE", last, next)
		n.label(one)
	}
	n.jumpIf(off, "GE", s.full, tail)
	n.label(many)
	body(part{count: 1, whole: true})
	n.step(off, neonBytes)
	n.jumpIf(off, "LT", s.full, many)
	n.label(tail)
	n.jumpIfConst(s.rest, "EQ", 0, done)
	body(part{count: 1, rest: s.rest, mask: s.mask})
	n.label(done)
}

// read loads the vectors of a part at base + off, zeros where nothing is.
func (n *neon) read(base, off gp, p part) []vec {
	if p.whole {
		return n.readWhole(base, off, p.count)
	}
	at, r := n.gp(), n.vec()
	n.addInt(base, off, at)
	n.readRest(at, p.rest, r)
	return []vec{r}
}

func (n *neon) readWhole(base, off gp, count int) []vec {
	r := n.vecs(count)
	if count == 1 {
		n.loadVec(base, off, r[0])
		return r
	}
	at := n.gp()
	n.addInt(base, off, at)
	n.readAt(at, 0, r)
	return r
}

// readAt loads consecutive vectors from at + disp bytes.
func (n *neon) readAt(at gp, disp int, to []vec) {
	for ; len(to) > 1; to = to[2:] {
		n.op(regs(to[0], to[1]), regs(at), "FLDPQ %d(%s), (%s, %s)", disp, at, scalar(to[0]), scalar(to[1]))
		disp += 2 * neonBytes
	}
	if len(to) > 0 {
		n.op(regs(to[0]), regs(at), "FMOVQ %d(%s), %s", disp, at, scalar(to[0]))
	}
}

// readRest loads 1 to 3 floats and zeros after them.
func (n *neon) readRest(at, rest gp, to vec) {
	one, done, third := n.newLabel("one"), n.newLabel("done"), n.gp()
	n.jumpIfClear(rest, 1, one)
	n.op(regs(to), regs(at), "FMOVD (%s), %s", at, scalar(to))
	n.jumpIfClear(rest, 0, done)
	n.op(regs(third), regs(at), "ADD $8, %s, %s", at, third)
	n.op(regs(to), regs(third, to), "VLD1 (%s), %s.S[2]", third, to)
	n.jump(done)
	n.label(one)
	n.op(regs(to), regs(at), "FMOVS (%s), %s", at, scalar(to))
	n.label(done)
}

// write stores the vectors of a part.
func (n *neon) write(x []vec, base, off gp, p part) {
	if p.whole && p.count == 1 {
		n.storeVec(x[0], base, off)
		return
	}
	at := n.gp()
	n.addInt(base, off, at)
	if p.whole {
		n.writeAt(x, at, 0)
		return
	}
	n.writeRest(x[0], at, p.rest)
}

func (n *neon) writeAt(x []vec, at gp, disp int) {
	for ; len(x) > 1; x = x[2:] {
		n.op(nil, regs(x[0], x[1], at), "FSTPQ (%s, %s), %d(%s)", scalar(x[0]), scalar(x[1]), disp, at)
		disp += 2 * neonBytes
	}
	if len(x) > 0 {
		n.op(nil, regs(x[0], at), "FMOVQ %s, %d(%s)", scalar(x[0]), disp, at)
	}
}

// writeRest stores the first 1 to 3 floats of x.
func (n *neon) writeRest(x vec, at, rest gp) {
	one, done, third := n.newLabel("one"), n.newLabel("done"), n.gp()
	n.jumpIfClear(rest, 1, one)
	n.op(nil, regs(at, x), "FMOVD %s, (%s)", scalar(x), at)
	n.jumpIfClear(rest, 0, done)
	n.op(regs(third), regs(at), "ADD $8, %s, %s", at, third)
	n.op(nil, regs(third, x), "VST1 %s.S[2], (%s)", x, third)
	n.jump(done)
	n.label(one)
	n.op(nil, regs(at, x), "FMOVS %s, (%s)", scalar(x), at)
	n.label(done)
}

// keep zeroes the lanes of a rest that are not there.
func (n *neon) keep(x vec, p part) {
	if !p.whole {
		n.op(regs(x), regs(x, p.mask), "VAND %s.B16, %s.B16, %s.B16", p.mask, x, x)
	}
}

// nextRow moves an address on by the named stride, which is in floats.
func (n *neon) nextRow(r gp, stride string) {
	by := n.load(stride)
	n.op(regs(r), regs(r, by), "ADD %s<<2, %s, %s", by, r, r)
}
