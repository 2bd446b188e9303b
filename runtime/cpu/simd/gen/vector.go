package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa is a vector width with the instructions that differ between widths.
type isa struct {
	name  string // suffix of function names
	bytes int    // size of a vector
}

var (
	avx2   = isa{"AVX2", 32}
	avx512 = isa{"AVX512", 64}
)

func (v isa) wide() bool { return v.bytes == 64 }

// width is the number of floats in a vector.
func (v isa) width() int { return v.bytes / 4 }

// begin starts the function of a kernel.
func (v isa) begin(k kernel) {
	TEXT(k.name+v.name, attr.NOSPLIT, "func"+k.args)
	Pragma("noescape")
	Doc(k.comment(v.name, v.width(), v.rows()))
}

// finish ends a function.
func (v isa) finish() {
	VZEROUPPER()
	RET()
}

func (v isa) reg() reg.VecVirtual {
	if v.wide() {
		return ZMM()
	}
	return YMM()
}

func (v isa) regs(n int) []reg.VecVirtual {
	r := make([]reg.VecVirtual, n)
	for i := range r {
		r[i] = v.reg()
	}
	return r
}

// zero returns a register holding zeros.
func (v isa) zero() reg.VecVirtual {
	r := v.reg()
	v.clear(r)
	return r
}

func (v isa) clear(r reg.VecVirtual) {
	if v.wide() {
		VPXORD(r, r, r)
	} else {
		VXORPS(r, r, r)
	}
}

// lanes selects the first lanes of a vector; nil selects all.
type lanes struct {
	k  reg.OpmaskVirtual // AVX-512
	at operand.Mem       // AVX2: where the mask is read from
}

// first selects the first n lanes, n in [0, lanes]. It clobbers n.
func (v isa) first(n reg.GPVirtual) *lanes {
	if v.wide() {
		ones := GP32()
		MOVL(operand.I32(-1), ones)
		BZHIL(n.As32(), ones, ones)
		k := K()
		KMOVW(ones, k)
		return &lanes{k: k}
	}
	// Eight set lanes, then eight clear ones, read from 8-n on.
	table := constant("firstLanes", func(i int) uint32 {
		if i < 8 {
			return math.MaxUint32
		}
		return 0
	})
	at := GP64()
	LEAQ(table.Offset(32), at)
	SHLQ(operand.U8(2), n)
	SUBQ(n, at)
	return &lanes{at: operand.Mem{Base: at}}
}

// load reads the selected lanes of a vector and zeros for the others.
func (v isa) load(from operand.Mem, to reg.VecVirtual, sel *lanes) {
	switch {
	case sel == nil:
		VMOVUPS(from, to)
	case v.wide():
		VMOVUPS_Z(from, sel.k, to)
	default:
		VMOVUPS(sel.at, to)
		VMASKMOVPS(from, to, to)
	}
}

// loadOr is load with the other lanes read from the vector at other.
func (v isa) loadOr(other, from operand.Mem, to reg.VecVirtual, sel *lanes) {
	switch {
	case sel == nil:
		VMOVUPS(from, to)
	case v.wide():
		VMOVUPS(other, to)
		VMOVUPS(from, sel.k, to)
	default:
		m, o := YMM(), YMM()
		VMOVUPS(sel.at, m)
		VMOVUPS(other, o)
		VMASKMOVPS(from, m, to)
		VBLENDVPS(m, to, o, to)
	}
}

// store writes the selected lanes of a vector.
func (v isa) store(from reg.VecVirtual, to operand.Mem, sel *lanes) {
	switch {
	case sel == nil:
		VMOVUPS(from, to)
	case v.wide():
		VMOVUPS(from, sel.k, to)
	default:
		m := YMM()
		VMOVUPS(sel.at, m)
		VMASKMOVPS(from, m, to)
	}
}

// keep zeroes the lanes that are not selected.
func (v isa) keep(r reg.VecVirtual, sel *lanes) {
	switch {
	case sel == nil:
	case v.wide():
		VMOVAPS_Z(r, sel.k, r)
	default:
		VANDPS(sel.at, r, r)
	}
}

// constants of the file being written, so that both widths share them.
var constants = map[string]operand.Mem{}

// constant returns a read-only vector of 16 values (64 bytes).
func constant(name string, value func(lane int) uint32) operand.Mem {
	if m, ok := constants[name]; ok {
		return m
	}
	m := GLOBL(name, attr.RODATA|attr.NOPTR)
	for i := range 16 {
		DATA(4*i, operand.U32(value(i)))
	}
	constants[name] = m
	return m
}

// all returns a read-only vector whose lanes are all x.
func all(x float32) operand.Mem {
	bits := math.Float32bits(x)
	return constant(fmt.Sprintf("f%08x", bits), func(int) uint32 { return bits })
}

// scalarArg returns a vector whose first lane is the named float32 argument.
func (v isa) scalarArg(name string) reg.VecVirtual {
	r := v.reg()
	Load(Param(name), r.AsX())
	return r
}

// broadcastArg returns a vector whose lanes all are the named float32 argument.
func (v isa) broadcastArg(name string) reg.VecVirtual {
	r := v.scalarArg(name)
	spread(r)
	return r
}

// fold combines all lanes of r with op and leaves the result in the first.
func (v isa) fold(r reg.VecVirtual, op func(a, b, to operand.Op)) {
	y := r.AsY()
	if v.wide() {
		high := YMM()
		VEXTRACTF64X4(operand.U8(1), r, high)
		op(high, y, y)
	}
	x, t := r.AsX(), XMM()
	VEXTRACTF128(operand.U8(1), y, t)
	op(t, x, x)
	VMOVHLPS(x, x, t)
	op(t, x, x)
	VMOVSHDUP(x, t)
	op(t, x, x)
}

// spread copies the first lane of r to all.
func spread(r reg.VecVirtual) { VBROADCASTSS(r.AsX(), r) }

func addOf(a, b, to operand.Op) { VADDPS(a, b, to) }
func maxOf(a, b, to operand.Op) { VMAXPS(a, b, to) }

// counter numbers labels.
var counter int

// label returns a name no other label of the file has.
func label(name string) string {
	counter++
	return fmt.Sprintf("%s%d", name, counter)
}

// strideArg loads a stride given in floats and returns it in bytes.
func strideArg(name string) reg.GPVirtual {
	r := GP64()
	Load(Param(name), r)
	SHLQ(operand.U8(2), r)
	return r
}

// sliceArg loads the address of a slice's first element.
func sliceArg(name string) reg.GPVirtual {
	r := GP64()
	Load(Param(name).Base(), r)
	return r
}

func intArg(name string) reg.GPVirtual {
	r := GP64()
	Load(Param(name), r)
	return r
}

// at is the memory at base + offset bytes.
func at(base, offset reg.GPVirtual) operand.Mem {
	return operand.Mem{Base: base, Index: offset, Scale: 1}
}

// channels emits body for each vector of n floats at byte offset off, the last
// one with a mask where n is no multiple of the vector. setup holds what
// splitChannels made of n.
func (v isa) channels(c split, off reg.GPVirtual, body func(sel *lanes)) {
	next, tail, done := label("vector"), label("tail"), label("done")
	XORQ(off, off)
	CMPQ(off, c.full)
	JGE(operand.LabelRef(tail))
	Label(next)
	body(nil)
	ADDQ(operand.I32(v.bytes), off)
	CMPQ(off, c.full)
	JLT(operand.LabelRef(next))
	Label(tail)
	CMPQ(off, c.bytes)
	JGE(operand.LabelRef(done))
	body(c.rest)
	Label(done)
}

// split is a row of floats as whole vectors and a rest.
type split struct {
	full  operand.Op // bytes in whole vectors
	bytes operand.Op // bytes in all
	rest  *lanes     // those after them
}

// splitChannels splits a row of n floats; n is clobbered.
func (v isa) splitChannels(n reg.GPVirtual) split {
	full, rest, bytes := GP64(), GP64(), n
	MOVQ(n, rest)
	ANDQ(operand.I32(v.width()-1), rest)
	MOVQ(n, full)
	SUBQ(rest, full)
	SHLQ(operand.U8(2), full)
	sel := v.first(rest)
	SHLQ(operand.U8(2), bytes)
	return split{full, bytes, sel}
}

// times emits body count times; count is clobbered and must be positive.
func times(count reg.GPVirtual, body func()) {
	top := label("row")
	Label(top)
	body()
	DECQ(count)
	JNZ(operand.LabelRef(top))
}

// nextRow moves p on by the named stride, which is in floats.
func nextRow(p reg.GPVirtual, stride string) {
	by := GP64()
	Load(Param(stride), by)
	LEAQ(operand.Mem{Base: p, Index: by, Scale: 4}, p)
}
