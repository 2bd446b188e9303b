package main

// neonRows is how many rows of a panel keep their sums in registers: 18 sums,
// six values of a and three of b fill 27 of the 32.
const neonRows = 6

// neonPanel is isa.panel for vectors of four columns. There are no masks: where
// the last vector is not full it lies further left, over columns that the one
// before has too, which gives these the same values twice. Only a panel of less
// than four columns in all takes fewer lanes.
type neonPanel struct {
	*neon
	width, rows int

	c, a, init, left, ahead gp
	last                    gp   // bytes from the start of a row to the last vector
	rest                    gp   // columns where they are fewer than four
	narrow                  bool // they are
	sums                    [][]vec
}

func (n *neon) gemm(width int) {
	p := &neonPanel{neon: n, width: width}
	p.c, p.a, p.init, p.left, p.ahead = n.sliceArg("c"), n.sliceArg("a"), n.sliceArg("init"), n.intArg("m"), n.intArg("ahead")
	p.last, p.rest = n.gp(), n.intArg("n")
	n.op(regs(p.last), regs(p.rest), "SUB $%d, %s, %s", neonWidth, p.rest, p.last)
	n.shiftLeft(p.last, 2)
	end := n.newLabel("end")
	if width == 1 {
		whole := n.newLabel("whole")
		n.jumpIfConst(p.rest, "GE", neonWidth, whole)
		p.narrow = true
		p.blocks(end)
		n.label(whole)
		p.narrow = false
	}
	p.blocks(end)
	n.label(end)
	n.finish()
}

// blocks computes all rows, whole blocks of them and then one of at most half
// as many, and goes to end.
func (p *neonPanel) blocks(end string) {
	block, tail := p.newLabel("block"), p.newLabel("tail")
	p.label(block)
	p.jumpIfConst(p.left, "LE", neonRows/2, tail)
	p.rows = neonRows
	p.block()
	p.step(p.left, -neonRows)
	p.jumpIfConst(p.left, "LE", 0, end)
	p.nextBlock(p.a, "rs")
	p.nextBlock(p.c, "ldc")
	p.jumpIfConst(p.init, "EQ", 0, block)
	p.nextBlock(p.init, "ldi")
	p.jump(block)
	p.label(tail)
	p.rows = neonRows / 2
	p.block()
	p.jump(end)
}

func (p *neonPanel) block() {
	p.start()
	p.multiply()
	c, ldc := p.gp(), p.strideArg("ldc")
	p.move(p.c, c)
	for i, row := range p.sums {
		p.stepTo(i, c, ldc)
		p.putRow(row, c)
	}
}

// start sets the sums to bias + init.
func (p *neonPanel) start() {
	p.sums = make([][]vec, p.rows)
	for i := range p.sums {
		p.sums[i] = p.vecs(p.width)
	}
	noBias, biased, started := p.newLabel("nobias"), p.newLabel("biased"), p.newLabel("started")
	bias := p.sliceArg("bias")
	p.jumpIfConst(bias, "EQ", 0, noBias)
	p.getRow(bias, p.sums[0])
	p.jump(biased)
	p.label(noBias)
	for _, r := range p.sums[0] {
		p.clear(r)
	}
	p.label(biased)
	for _, row := range p.sums[1:] {
		for j, r := range row {
			p.moveVec(p.sums[0][j], r)
		}
	}
	p.jumpIfConst(p.init, "EQ", 0, started)
	init, ldi := p.gp(), p.strideArg("ldi")
	p.move(p.init, init)
	for i, row := range p.sums {
		p.stepTo(i, init, ldi)
		x := p.vecs(p.width)
		p.getRow(init, x)
		for j, r := range row {
			p.arith(fadd, x[j], r, r)
		}
	}
	p.label(started)
}

// multiply adds the products of all k, four at a time where the values of a row
// of a follow one another.
func (p *neonPanel) multiply() {
	rows, rs := make([]gp, p.rows), p.strideArg("rs")
	for i := range rows {
		rows[i] = p.gp()
		if i == 0 {
			p.move(p.a, rows[i])
			continue
		}
		p.move(rows[i-1], rows[i])
		p.stepTo(i, rows[i], rs)
	}
	b, k, off := p.sliceArg("b"), p.intArg("k"), p.gp()
	ks, bs, step := p.strideArg("ks"), p.strideArg("bs"), p.intArg("step")
	p.set(0, off)
	end, single, four := p.newLabel("kdone"), p.newLabel("single"), p.newLabel("four")
	if p.narrow {
		// A last row that is not padded must not be read as a whole vector.
		partial := p.newLabel("partial")
		need := p.gp()
		p.op(regs(need), regs(k), "SUB $1, %s, %s", k, need)
		p.op(regs(need), regs(need, bs), "MUL %s, %s, %s", bs, need, need)
		p.step(need, neonBytes)
		have := p.load("b_len")
		p.shiftLeft(have, 2)
		p.jumpIf(have, "LT", need, partial)
		p.wholes(rows, b, k, off, ks, bs, step, four, single, end)
		p.label(partial)
		p.singles(rows, b, k, off, ks, bs, step, true, end)
		p.label(end)
		return
	}
	p.wholes(rows, b, k, off, ks, bs, step, four, single, end)
	p.label(end)
}

// wholes reads whole vectors of b, and goes to end.
func (p *neonPanel) wholes(rows []gp, b, k, off, ks, bs, step gp, four, single, end string) {
	// Four lines at a time are fetched as one, four steps apart.
	p.jumpIfConst(ks, "NE", 4, single)
	p.step(k, -4)
	over := p.newLabel("over")
	p.jumpIfConst(k, "LT", 0, over)
	p.label(four)
	p.fetch()
	p.op(regs(p.ahead), regs(p.ahead, step), "ADD %s<<2, %s, %s", step, p.ahead, p.ahead)
	left := p.vecs(p.rows)
	for i, row := range rows {
		p.loadVec(row, off, left[i])
	}
	for lane := range 4 {
		right := p.vecs(p.width)
		p.getRowOfB(b, right)
		p.addInt(b, bs, b)
		for i := range rows {
			for j, r := range p.sums[i] {
				p.multiplyLane(right[j], left[i], lane, r)
			}
		}
	}
	p.step(off, neonBytes)
	p.op(regs(k), regs(k), "SUBS $4, %s, %s", k, k)
	p.op(nil, nil, "BGE "+four).jump = four
	p.label(over)
	p.step(k, 4)
	p.label(single)
	p.singles(rows, b, k, off, ks, bs, step, false, end)
}

// singles takes one k at a time, and goes to end.
func (p *neonPanel) singles(rows []gp, b, k, off, ks, bs, step gp, partial bool, end string) {
	p.jumpIfConst(k, "EQ", 0, end)
	p.times(k, func() {
		p.fetch()
		p.addInt(p.ahead, step, p.ahead)
		right := p.vecs(p.width)
		if partial {
			p.readRest(b, p.rest, right[0])
		} else {
			p.getRowOfB(b, right)
		}
		p.addInt(b, bs, b)
		for i, row := range rows {
			left := p.vec()
			p.op(regs(left), regs(row, off), "FMOVS (%s)(%s), %s", row, off, scalar(left))
			for j, r := range p.sums[i] {
				p.multiplyLane(right[j], left, 0, r)
			}
		}
		p.addInt(off, ks, off)
	})
	p.jump(end)
}

func (p *neonPanel) fetch() { p.op(nil, regs(p.ahead), "PRFM (%s), PLDL2KEEP", p.ahead) }

// getRowOfB loads whole vectors of a row of b.
func (p *neonPanel) getRowOfB(at gp, to []vec) {
	if p.narrow {
		p.readAt(at, 0, to)
		return
	}
	p.getRow(at, to)
}

// getRow loads the vectors of a row of c, init, bias or b.
func (p *neonPanel) getRow(at gp, to []vec) {
	if p.narrow {
		p.readRest(at, p.rest, to[0])
		return
	}
	whole := p.width - 1
	p.readAt(at, 0, to[:whole])
	p.loadVec(at, p.last, to[whole])
}

// putRow stores a row of sums.
func (p *neonPanel) putRow(x []vec, at gp) {
	if p.narrow {
		p.writeRest(x[0], at, p.rest)
		return
	}
	whole := p.width - 1
	p.writeAt(x[:whole], at, 0)
	p.storeVec(x[whole], at, p.last)
}

// stepTo moves an address from the row before to row i, or leaves it where row
// i is beyond m.
func (p *neonPanel) stepTo(i int, address, stride gp) {
	if i == 0 {
		return
	}
	by := p.gp()
	p.op(nil, regs(p.left), "CMP $%d, %s", i, p.left)
	p.op(regs(by), regs(stride), "CSEL GT, %s, ZR, %s", stride, by)
	p.addInt(address, by, address)
}

// nextBlock moves an address on by a block of rows.
func (p *neonPanel) nextBlock(address gp, stride string) {
	by, factor := p.load(stride), p.gp()
	p.set(4*neonRows, factor)
	p.op(regs(address), regs(address, by, factor), "MADD %s, %s, %s, %s", by, address, factor, address)
}
