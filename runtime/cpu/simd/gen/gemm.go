package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// gemm emits, for a width of 1, 2 or 3 vectors,
//
//	c[i][j] = bias[j] + init[i][j] + Σ_p a[i·rs + p·ks] · b[p·bs + j]
//
// for i < m and j < n, where n fills all but the last vector. bias and init
// may be nil. Rows go in blocks that keep their sums in registers for all p; last
// blocks of at most a half and a quarter as many rows have code of their own. With every p
// the cache line at ahead is fetched, and ahead moves on by step bytes.
func (v isa) gemm(width int) {
	p := &panel{isa: v, width: width, rows: v.rows()}
	p.emit()
}

// rows is how many rows a panel keeps sums of.
func (v isa) rows() int {
	if v.wide() {
		return 8
	}
	return 4 // 12 sums, 3 values of b and one of a fill the 16 registers
}

// panel is one kernel: a block of rows × width vectors.
type panel struct {
	isa
	width, rows int

	last *lanes // columns in the last vector
	sums [][]reg.VecVirtual

	// What the current block starts from lives on the stack: the registers are
	// needed for the rows' addresses.
	left, a, c, init, ahead operand.Mem
}

func (p *panel) emit() {
	inLast, full := intArg("n"), GP64()
	SUBQ(operand.I32((p.width-1)*p.isa.width()), inLast)
	MOVQ(inLast, full)
	p.last = p.first(inLast)

	for _, local := range []struct {
		at   *operand.Mem
		from reg.GPVirtual
	}{{&p.left, intArg("m")}, {&p.a, sliceArg("a")}, {&p.c, sliceArg("c")}, {&p.init, sliceArg("init")}, {&p.ahead, intArg("ahead")}} {
		*local.at = AllocLocal(8)
		MOVQ(local.from, *local.at)
	}

	block, tail, quarter, done := label("block"), label("tail"), label("quarter"), label("end")
	whole := p.rows
	Label(block)
	CMPQ(p.left, operand.I32(whole/2))
	JLE(operand.LabelRef(tail))
	p.block(full)
	SUBQ(operand.I32(whole), p.left)
	JLE(operand.LabelRef(done))
	p.nextBlock(p.a, "rs")
	p.nextBlock(p.c, "ldc")
	CMPQ(p.init, operand.I32(0))
	JE(operand.LabelRef(block))
	p.nextBlock(p.init, "ldi")
	JMP(operand.LabelRef(block))
	Label(tail)
	CMPQ(p.left, operand.I32(whole/4))
	JLE(operand.LabelRef(quarter))
	p.rows = whole / 2
	p.block(full)
	JMP(operand.LabelRef(done))
	Label(quarter)
	p.rows = whole / 4
	p.block(full)
	Label(done)
	p.finish()
}

// block computes p.rows rows; full is the number of columns in the last vector.
func (p *panel) block(full reg.GPVirtual) {
	p.start()
	rows := p.rowAddresses()
	if p.wide() {
		p.multiply(rows, p.last)
		p.write(p.last)
		return
	}
	// Masked moves are not free here, so whole panels go without.
	masked, written := label("masked"), label("written")
	CMPQ(full, operand.I32(p.isa.width()))
	JNE(operand.LabelRef(masked))
	p.multiply(rows, nil)
	p.write(nil)
	JMP(operand.LabelRef(written))
	Label(masked)
	p.multiply(rows, p.last)
	p.write(p.last)
	Label(written)
}

// start sets the sums to bias + init.
func (p *panel) start() {
	p.sums = make([][]reg.VecVirtual, p.rows)
	for i := range p.sums {
		p.sums[i] = p.regs(p.width)
	}
	noBias, biased, started := label("nobias"), label("biased"), label("started")
	bias := sliceArg("bias")
	TESTQ(bias, bias)
	JZ(operand.LabelRef(noBias))
	p.eachVector(bias, p.last, func(j int, at operand.Mem, sel *lanes) {
		p.load(at, p.sums[0][j], sel)
	})
	JMP(operand.LabelRef(biased))
	Label(noBias)
	for _, r := range p.sums[0] {
		p.clear(r)
	}
	Label(biased)
	for _, row := range p.sums[1:] {
		for j, r := range row {
			VMOVAPS(p.sums[0][j], r)
		}
	}
	init := GP64()
	MOVQ(p.init, init)
	TESTQ(init, init)
	JZ(operand.LabelRef(started))
	ldi, x := strideArg("ldi"), p.reg()
	for i, row := range p.sums {
		p.stepTo(i, init, ldi)
		p.eachVector(init, p.last, func(j int, at operand.Mem, sel *lanes) {
			p.load(at, x, sel)
			VADDPS(x, row[j], row[j])
		})
	}
	Label(started)
}

// rowAddresses returns where each row of a starts.
func (p *panel) rowAddresses() []reg.GPVirtual {
	rs := strideArg("rs")
	rows := make([]reg.GPVirtual, p.rows)
	for i := range rows {
		rows[i] = GP64()
		if i == 0 {
			MOVQ(p.a, rows[i])
		} else {
			MOVQ(rows[i-1], rows[i])
		}
		p.stepTo(i, rows[i], rs)
	}
	return rows
}

// multiply adds the products of all k.
func (p *panel) multiply(rows []reg.GPVirtual, last *lanes) {
	b, k, off := sliceArg("b"), intArg("k"), GP64()
	ks, bs, step := strideArg("ks"), strideArg("bs"), intArg("step")
	XORQ(off, off)
	ahead := GP64()
	MOVQ(p.ahead, ahead)
	top, end := label("k"), label("kdone")
	TESTQ(k, k)
	JZ(operand.LabelRef(end))
	Label(top)
	PREFETCHT1(operand.Mem{Base: ahead})
	ADDQ(step, ahead)
	right, left := p.regs(p.width), p.reg()
	p.eachVector(b, last, func(j int, at operand.Mem, sel *lanes) {
		p.load(at, right[j], sel)
	})
	for i, row := range rows {
		VBROADCASTSS(at(row, off), left)
		for j, r := range p.sums[i] {
			VFMADD231PS(left, right[j], r)
		}
	}
	ADDQ(ks, off)
	ADDQ(bs, b)
	DECQ(k)
	JNZ(operand.LabelRef(top))
	Label(end)
	MOVQ(ahead, p.ahead)
}

func (p *panel) write(last *lanes) {
	c, ldc := GP64(), strideArg("ldc")
	MOVQ(p.c, c)
	for i, row := range p.sums {
		p.stepTo(i, c, ldc)
		p.eachVector(c, last, func(j int, at operand.Mem, sel *lanes) {
			p.store(row[j], at, sel)
		})
	}
}

// eachVector calls f with the vectors of the row at base.
func (p *panel) eachVector(base reg.GPVirtual, last *lanes, f func(j int, at operand.Mem, sel *lanes)) {
	for j := range p.width {
		at := operand.Mem{Base: base, Disp: j * p.bytes}
		if j == p.width-1 {
			f(j, at, last)
		} else {
			f(j, at, nil)
		}
	}
}

// stepTo moves an address from the row before to row i, or leaves it where row
// i is beyond m: what is left of the last block computes and stores the last
// row again and again.
func (p *panel) stepTo(i int, address, stride reg.GPVirtual) {
	if i == 0 {
		return
	}
	by := GP64()
	XORL(by.As32(), by.As32())
	CMPQ(p.left, operand.I32(i))
	CMOVQGT(stride, by)
	ADDQ(by, address)
}

// nextBlock moves an address on by a block of rows.
func (p *panel) nextBlock(address operand.Mem, stride string) {
	by := GP64()
	Load(Param(stride), by)
	IMUL3Q(operand.I32(4*p.rows), by, by)
	ADDQ(by, address)
}
