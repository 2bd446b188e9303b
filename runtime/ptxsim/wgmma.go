package ptxsim

import (
	"fmt"
	"math"
)

// Matrix products of four warps (PTX ISA 8.4, 9.7.14): each warp computes its 16 of the 64 rows, with a from registers or
// shared memory and b from shared memory. The sums are written when the instruction is issued. Shared memory counts as
// read twice, then and when the warp waits for the group, so that writes in between are races; both by the asynchronous
// proxy, so that ordinary stores need a fence before.

// wgmma is one such instruction.
type wgmma struct {
	n, k           int
	d, a           fragment // a.rows is nil if a lies in shared memory
	descA, descB   int32    // 64-bit rows
	elemA, elemB   elemKind
	transA, transB bool
	scaleD         int32 // predicate
	flipD          uint32
	negA, negB     bool
	saturate       bool
}

// wgmmaRead is what a product in flight reads.
type wgmmaRead struct {
	in    *inst
	group uint32
	at    []uint32 // chunks of 16 bytes
}

// matrixDescriptor is the place of a matrix in shared memory (PTX ISA 8.4, 9.7.14.5.1.2.2).
type matrixDescriptor struct {
	start, lead, stride uint32
	swizzle             uint32 // bytes of a swizzled row: 128, 64, 32, or 16 for none
}

func parseDescriptor(v uint64) matrixDescriptor {
	field := func(at int) uint32 { return uint32(v>>at&0x3fff) << 4 }
	return matrixDescriptor{field(0), field(16), field(32), [4]uint32{16, 128, 64, 32}[v>>62]}
}

// at returns the address of an element: index i along m or n, k along k, of size bytes; trans says that the elements along
// m or n, not along k, follow each other.
func (d matrixDescriptor) at(i, k, size int, trans bool) uint32 {
	line, byteInLine := uint32(i), uint32(k*size) // lines of 8 make an atom
	if trans {
		line, byteInLine = uint32(k), uint32(i*size)
	}
	var off uint32
	switch {
	case d.swizzle == 16 && trans: // atoms of 16 bytes by 8 lines; stride leads along m or n, lead along k
		off = line/8*d.lead + byteInLine/16*d.stride + line%8*16 + byteInLine%16
	case d.swizzle == 16:
		off = line/8*d.stride + byteInLine/16*d.lead + line%8*16 + byteInLine%16
	case trans:
		off = line/8*d.stride + byteInLine/d.swizzle*d.lead + line%8*d.swizzle + byteInLine%d.swizzle
	default: // a line is within the swizzled row
		off = line/8*d.stride + line%8*d.swizzle + byteInLine
	}
	addr := d.start + off
	return addr ^ addr>>7&(d.swizzle/16-1)<<4
}

// read returns an element of shared memory.
func (e elemKind) read(p []byte) float64 { return e.value(loadSmall(p, e.bits/8), 0) }

// matrix reads rows by k elements of a matrix in shared memory, beginning with row first. It returns nil after a finding.
func (p *wgmma) matrix(w *warp, in *inst, desc int32, e elemKind, trans bool, first, rows int, chunks *[]uint32) []float64 {
	d := parseDescriptor(w.r64[desc][0])
	size := e.bits / 8
	out := make([]float64, rows*p.k)
	b := w.blk
	for i := range rows {
		for k := range p.k {
			at := d.at(first+i, k, size, trans)
			if !(uint64(at) >= uint64(w.prog.dynShared) && int(at)+size <= len(b.shared)) && !w.prog.inStatic(uint64(at), uint64(size)) {
				w.fatal(in, 0, OutOfBounds, "the descriptor leads to shared address 0x%x: %s", at, w.prog.explainShared(uint64(at), len(b.shared)))
				return nil
			}
			if at%16 == 0 {
				*chunks = append(*chunks, at)
			}
			out[i*p.k+k] = e.read(b.shared[at:])
		}
	}
	return out
}

func (p *wgmma) exec(w *warp, in *inst) {
	if !w.wholeWarp(in) {
		return
	}
	read := wgmmaRead{in: in, group: w.wgmmaGroups}
	a := make([]float64, 16*p.k)
	if p.a.rows != nil {
		p.a.get(w, a, p.k)
	} else if a = p.matrix(w, in, p.descA, p.elemA, p.transA, w.id%4*16, 16, &read.at); a == nil {
		return
	}
	b := p.matrix(w, in, p.descB, p.elemB, p.transB, 0, p.n, &read.at)
	if b == nil {
		return
	}
	sums := make([]float64, 16*p.n)
	if (w.pred[p.scaleD]^p.flipD)&1 != 0 {
		p.d.get(w, sums, p.n)
	}
	sign := 1.0
	if p.negA != p.negB {
		sign = -1
	}
	for i := range 16 {
		for n := range p.n {
			sums[i*p.n+n] = p.sum(sums[i*p.n+n], a[i*p.k:][:p.k], b[n*p.k:][:p.k], sign)
		}
	}
	p.d.put(w, sums, p.n)
	w.blk.ctr.TensorMACs += uint64(16 * p.n * p.k)
	w.readAsync(&read)
	w.wgmmas = append(w.wgmmas, read)
}

// sum adds a product of two lines; sums of floats are rounded after each step, as in tensor_ops.go.
func (p *wgmma) sum(s float64, a, b []float64, sign float64) float64 {
	for k, x := range a {
		if p.elemA.integer() {
			s += x * b[k]
		} else {
			s = float64(fma32(float32(sign*x), float32(b[k]), float32(s)))
		}
	}
	switch {
	case !p.elemA.integer():
		return s
	case p.saturate:
		return min(max(s, math.MinInt32), math.MaxInt32)
	}
	return float64(int32(int64(s)))
}

// readAsync records what a product reads.
func (w *warp) readAsync(r *wgmmaRead) {
	if !w.blk.launch.check {
		return
	}
	acc := access{w: w, in: r.in, proxy: true, lane: accManyLanes}
	for _, at := range r.at {
		w.blk.shadow.touch(&acc, at, 16)
	}
}

// execWgmmaFence orders the registers' writes before the products that take them; see regflight.go.
func execWgmmaFence(w *warp, _ *inst) {
	w.flights.fenced = true
	clear(w.flights.written)
}

func execWgmmaCommit(w *warp, _ *inst) { w.wgmmaGroups++ }

func execWgmmaWait(w *warp, in *inst) {
	w.flights.waited = max(w.flights.waited, w.wgmmaGroups-min(w.wgmmaGroups, uint32(in.x.n)))
	kept := w.wgmmas[:0]
	for i := range w.wgmmas {
		r := &w.wgmmas[i]
		if int64(r.group) >= int64(w.wgmmaGroups)-int64(in.x.n) {
			kept = append(kept, *r)
			continue
		}
		w.readAsync(r)
	}
	w.wgmmas = kept
}

// wgmmaK is how many elements along k each type has.
var wgmmaK = map[string]int{"f16": 16, "bf16": 16, "tf32": 8, "e4m3": 32, "e5m2": 32, "s8": 32, "u8": 32}

func decWgmma(d *decoder, s *stmt, m *modset, in *inst) error {
	op := m.one("mma_async", "fence", "commit_group", "wait_group")
	if !m.take("sync") || !m.take("aligned") {
		return fmt.Errorf("needs .sync.aligned")
	}
	d.prog.usesProxy = true
	in.class = clTensor
	switch op {
	case "fence", "commit_group":
		if in.exec = execWgmmaFence; op == "commit_group" {
			in.exec = execWgmmaCommit
		}
		if err := s.argc(0, 0); err != nil {
			return err
		}
		return d.sync(in, nil)
	case "wait_group":
		if err := s.argc(1, 1); err != nil {
			return err
		}
		if s.args[0].kind != opdImm || s.args[0].imm > 1<<16 {
			return fmt.Errorf("number of groups is not a small constant")
		}
		in.exec, in.x.n = execWgmmaWait, int(s.args[0].imm)
		return d.sync(in, nil)
	case "mma_async":
		return d.wgmma(s, m, in)
	}
	return fmt.Errorf("unsupported form of wgmma")
}

func (d *decoder) wgmma(s *stmt, m *modset, in *inst) error {
	h, ok := m.shape()
	p := &wgmma{n: h.n, k: h.k, saturate: m.take("satfinite")}
	p.d.elem, p.elemA, p.elemB = m.elem(), m.elem(), m.elem()
	if !ok || !p.typesFit() || h.m != 64 || h.n%8 != 0 || h.n < 8 || h.n > 256 || h.k != wgmmaK[p.elemA.name] {
		return fmt.Errorf("shape and types are not supported")
	}
	args := s.args
	if len(args) < 4 {
		return fmt.Errorf("has %d operands", len(args))
	}
	flags := 3 // scale-d, and the signs of floats
	switch fromMemory := args[1].kind != opdVector; {
	case p.elemA.integer():
		flags = 1
	case p.elemA.bits == 16 && fromMemory:
		flags = 5
	case p.elemA.bits == 16:
		flags = 4
	}
	if len(args) != 3+flags {
		return fmt.Errorf("has %d operands, wants %d", len(args), 3+flags)
	}
	per := p.d.elem.per()
	p.d.at = func(l, i, j int) (int, int) { return l/4 + 8*(i*per/2%2), i*per/4*8 + l%4*2 + (i*per+j)%2 }
	if err := d.fragment(args[0], &p.d, 16*h.n/lanes/per, true); err != nil {
		return err
	}
	if err := d.wgmmaSources(args, p); err != nil {
		return err
	}
	var err error
	if p.scaleD, p.flipD, err = d.pred(args[3]); err != nil {
		return err
	}
	if err := p.flags(args[4:]); err != nil {
		return err
	}
	in.exec = p.exec
	return d.sync(in, nil)
}

// typesFit reports whether there is a product of the types.
func (p *wgmma) typesFit() bool {
	integer := p.elemA.integer()
	want := map[bool]string{true: "s32", false: "f32"}[integer]
	return p.elemA.bits == p.elemB.bits && integer == p.elemB.integer() &&
		(p.d.elem.name == want || p.d.elem.name == "f16" && (p.elemA.name == "f16" || p.elemA.bits == 8 && !integer))
}

// flags reads the constants behind the operands: signs, and which matrices are transposed.
func (p *wgmma) flags(list []operand) error {
	for i, o := range list {
		if o.kind != opdImm {
			return fmt.Errorf("operand %d is not a constant", 4+i)
		}
		switch v := int64(o.imm); {
		case i < 2 && v != 1 && v != -1, i >= 2 && v != 0 && v != 1:
			return fmt.Errorf("operand %d is %d", 4+i, v)
		case i == 0:
			p.negA = v < 0
		case i == 1:
			p.negB = v < 0
		case i == 2 && len(list) == 4:
			p.transA = v == 1
		default:
			p.transB = v == 1
		}
	}
	return nil
}

// wgmmaSources fills in a and b.
func (d *decoder) wgmmaSources(args []operand, p *wgmma) (err error) {
	if args[1].kind == opdVector {
		per := 32 / p.elemA.bits
		p.a.elem = p.elemA
		p.a.at = func(l, i, j int) (int, int) { return l/4 + 8*(i%2), l%4*per + j + 4*per*(i/2) }
		err = d.fragment(args[1], &p.a, 4, false)
	} else {
		p.descA, err = d.src64(args[1], tB64)
	}
	if err != nil {
		return err
	}
	p.descB, err = d.src64(args[2], tB64)
	return err
}
