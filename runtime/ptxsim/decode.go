package ptxsim

import (
	"fmt"
	"slices"
	"strings"
)

// decoder translates the functions a kernel needs into a program.
type decoder struct {
	mod   *module
	prog  *program
	infos map[*function]*funcInfo // nil while the functions that it calls are collected
	order []*function             // callees before callers

	fn       *function
	scope    *scope  // of the statement being decoded
	regRow   []int32 // row of each register of fn, -1 if unused so far
	const32  map[uint32]int32
	const64  map[uint64]int32
	special  map[string]int32
	varOff   map[*variable]int64 // local and param variables: place per lane
	pressure int                 // registers live together, summed over functions
	sink32   int32
	reserved *variable // the system's shared memory; nil if the kernel does not use it
	sink64   int32
}

// modset is an instruction's modifiers; what no one takes is an error.
type modset struct {
	list []string
}

// take removes a modifier and reports whether it was there.
func (m *modset) take(name string) bool {
	for i, s := range m.list {
		if s == name {
			m.list = append(append([]string{}, m.list[:i]...), m.list[i+1:]...)
			return true
		}
	}
	return false
}

// one removes and returns the first modifier that is among names, or "".
func (m *modset) one(names ...string) string {
	for _, s := range m.list {
		for _, n := range names {
			if s == n {
				m.take(n)
				return n
			}
		}
	}
	return ""
}

// typ removes and returns the first type, or tNone.
func (m *modset) typ() dtype {
	for _, s := range m.list {
		if t := typeNames[s]; t != tNone {
			m.take(s)
			return t
		}
	}
	return tNone
}

// ownShared reports whether the space named is the block's own shared memory, not that of the cluster.
func (m *modset) ownShared() bool {
	return slices.Contains(m.list, "shared") || slices.Contains(m.list, "shared::cta")
}

// space removes and returns the state space; generic if none is named.
func (m *modset) space() space {
	for _, s := range m.list {
		if sp, ok := spaceNames[s]; ok {
			m.take(s)
			return sp
		}
	}
	return spGeneric
}

// round removes and returns a rounding mode; ok is false if none is named.
func (m *modset) round() (mode rounding, ok bool) {
	switch m.one("rn", "rz", "rm", "rp", "rna") {
	case "rn":
		return rn, true
	case "rz":
		return rz, true
	case "rm":
		return rm, true
	case "rp":
		return rp, true
	case "rna":
		return rna, true
	}
	return rn, false
}

// decodeFunc translates one instruction. It fills in what the statement's common part left open.
type decodeFunc func(d *decoder, s *stmt, m *modset, in *inst) error

// decodeKernel builds the program of a kernel.
func decodeKernel(mod *module, kernel *function) (*program, error) {
	d := &decoder{
		mod: mod, prog: &program{kernel: kernel, mod: mod},
		infos: map[*function]*funcInfo{}, const32: map[uint32]int32{}, const64: map[uint64]int32{},
		special: map[string]int32{}, varOff: map[*variable]int64{},
	}
	// Row 0 of each file is a scratch row for operands an instruction does not have.
	d.sink32, d.sink64 = d.newRow32(), d.newRow64()
	d.newPred()
	if err := d.collect(kernel, 0); err != nil {
		return nil, err
	}
	if err := d.layoutMemory(kernel); err != nil {
		return nil, err
	}
	for _, fn := range d.order {
		if err := d.function(fn); err != nil {
			return nil, fmt.Errorf("function %s: %w", fn.name, err)
		}
	}
	d.prog.start, d.prog.functions = d.infos[kernel].start, len(d.order)
	d.prog.registers = estimateRegisters(kernel, d.pressure)
	return d.prog, nil
}

// collect lists fn and the functions it calls or may call, callees first, and refuses recursion as far as calls name their
// functions.
func (d *decoder) collect(fn *function, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("function %s: calls are nested too deeply or recursive", fn.name)
	}
	if _, seen := d.infos[fn]; seen {
		return nil
	}
	d.infos[fn] = nil
	for i := range fn.body {
		s := &fn.body[i]
		if s.op != "call" {
			continue
		}
		if s.indirect() {
			if err := d.collectTargets(s, depth); err != nil {
				return fmt.Errorf("line %d: %w", s.line, err)
			}
			continue
		}
		callee, _, _, err := d.callee(s)
		if err != nil {
			return fmt.Errorf("line %d: %w", s.line, err)
		}
		if !callee.defined && callee.refused == nil {
			continue // the system's
		}
		if info, seen := d.infos[callee]; seen && info == nil {
			return fmt.Errorf("line %d: recursion is not supported", s.line)
		}
		if err := d.collect(callee, depth+1); err != nil {
			return err
		}
	}
	d.infos[fn] = &funcInfo{fn: fn, id: len(d.order), address: d.mod.codeAddress(fn), retRow: d.newRow32()}
	d.order = append(d.order, fn)
	return nil
}

func align(v, a int64) int64 { return (v + a - 1) &^ (a - 1) }

// redZone is the number of bytes between static shared variables (and between them and dynamic shared memory) in
// the simulator's layout. It is a multiple of all banks, so that it changes no bank conflict.
const redZone = 128

// layoutMemory places the variables of all functions.
func (d *decoder) layoutMemory(kernel *function) error {
	p := d.prog
	var paramEnd, local, shared, packed int64
	for _, v := range kernel.params {
		d.varOff[v] = v.off
		paramEnd = max(paramEnd, v.off+v.size())
	}
	p.paramBytes = int(paramEnd)
	frame := align(paramEnd, 16)
	place := func(v *variable, at *int64) {
		*at = align(*at, int64(v.align))
		d.varOff[v] = *at
		*at += v.size()
	}
	var sharedVars []*variable
	for _, fn := range d.order {
		if fn != kernel {
			for _, v := range append(append([]*variable{}, fn.params...), fn.rets...) {
				if v.reg == 0 {
					place(v, &frame)
				}
			}
		}
		for _, v := range fn.vars {
			switch v.space {
			case spParam:
				place(v, &frame)
			case spLocal:
				place(v, &local)
			case spShared:
				sharedVars = append(sharedVars, v)
			}
		}
	}
	sharedVars = append(sharedVars, d.mod.sharedUsed(d.order)...)
	p.dynAlign = 16
	if usesReserved(d.order) {
		d.reserved = &variable{name: "the system's reserved memory", space: spShared, typ: tB8, align: 128, count: 1024}
	}
	for _, v := range sharedVars {
		if v.flex || v.extern {
			p.dynAlign = max(p.dynAlign, v.align)
			continue
		}
		packed = align(packed, int64(v.align)) + v.size()
		shared = align(shared, int64(max(v.align, redZone)))
		d.varOff[v] = shared
		shared += v.size() + redZone
		p.sharedVars = append(p.sharedVars, v)
		v.off = d.varOff[v]
	}
	if v := d.reserved; v != nil {
		shared = align(shared, redZone)
		d.varOff[v], v.off = shared, shared
		shared += v.size() + redZone
		p.sharedVars = append(p.sharedVars, v)
		p.reserved = v
	}
	dyn := align(shared, int64(max(p.dynAlign, redZone)))
	for _, v := range sharedVars {
		if v.flex || v.extern {
			d.varOff[v] = dyn
		}
	}
	p.frameBytes, p.localBytes = int(align(frame, 16)), int(align(local, 16))
	p.staticShared, p.dynShared = int(packed), int(dyn)
	if packed > 1<<20 || local > 512<<10 || frame > 64<<10 {
		return fmt.Errorf("function %s: its variables are too large", kernel.name)
	}
	return nil
}

// usesReserved reports whether functions ask where the system's shared memory is.
func usesReserved(list []*function) bool {
	for _, fn := range list {
		for i := range fn.body {
			for _, o := range fn.body[i].args {
				if o.kind == opdSymbol && strings.HasPrefix(o.name, "%reserved_smem_offset_") {
					return true
				}
			}
		}
	}
	return false
}

func (d *decoder) newRow32() int32 { d.prog.rows32++; return int32(d.prog.rows32 - 1) }
func (d *decoder) newRow64() int32 { d.prog.rows64++; return int32(d.prog.rows64 - 1) }
func (d *decoder) newPred() int32  { d.prog.preds++; return int32(d.prog.preds - 1) }

// constant32 returns a row that holds v in all lanes.
func (d *decoder) constant32(v uint32) int32 {
	return constant(d.const32, &d.prog.const32, v, d.newRow32)
}

func (d *decoder) constant64(v uint64) int32 {
	return constant(d.const64, &d.prog.const64, v, d.newRow64)
}

func constant[T word](known map[T]int32, rows *[]constRow[T], v T, fresh func() int32) int32 {
	r, ok := known[v]
	if !ok {
		r = fresh()
		known[v] = r
		*rows = append(*rows, constRow[T]{r, v})
	}
	return r
}

// reg returns the row of a register and the type it was declared with.
func (d *decoder) reg(r int32) (int32, dtype) {
	t := d.fn.regs[r]
	if d.regRow[r] < 0 {
		switch {
		case t == tPred:
			d.regRow[r] = d.newPred()
		case t.size() == 8:
			d.regRow[r] = d.newRow64()
		default:
			d.regRow[r] = d.newRow32()
		}
	}
	return d.regRow[r], t
}

// function decodes the body of fn and appends it to the program.
func (d *decoder) function(fn *function) error {
	if fn.refused != nil {
		return fn.refused
	}
	if !fn.defined {
		return fmt.Errorf("has no body")
	}
	d.fn = fn
	d.regRow = make([]int32, len(fn.regs))
	for i := range d.regRow {
		d.regRow[i] = -1
	}
	d.registerParams(fn)
	code := make([]inst, 0, len(fn.body)+1)
	from := d.followOrigins(fn)
	for i := range fn.body {
		s := &fn.body[i]
		in, err := d.instruction(s)
		if err != nil {
			return fmt.Errorf("line %d: %s: %w", s.line, s.text(), err)
		}
		operandsOf(s, int32(d.prog.timed), in.x)
		from.noteOrigins(s, &in)
		code = append(code, in)
	}
	d.prog.timed += len(fn.regs)
	end := inst{kind: kExit, class: clControl, guard: -1, mem: -1, line: int32(fn.line), x: &extra{text: "end of function"}}
	if !fn.entry {
		end.kind = kRet
		end.a, end.x.fn = d.infos[fn].retRow, d.infos[fn]
	}
	code = append(code, end)
	d.pressure += pressure(fn, code)
	markBypasses(code)
	code = d.flightNotes(d.unwrittenReads(fn, code))
	d.infos[fn].start = int32(len(d.prog.code))
	d.prog.code = append(d.prog.code, arrange(code, int32(len(d.prog.code)))...)
	return nil
}

// text returns the opcode as written.
func (s *stmt) text() string { return strings.Join(append([]string{s.op}, s.mods...), ".") }

// instruction decodes one statement.
func (d *decoder) instruction(s *stmt) (inst, error) {
	d.scope = s.scope
	in := inst{guard: -1, mem: -1, line: int32(s.line)}
	in.x = &extra{text: s.text(), src: s.src, p: -1, q: -1, scope: scopeDevice}
	if s.guard >= 0 {
		in.guard, _ = d.reg(s.guard)
		if s.guardNot {
			in.guardFlip = full
		}
	}
	f := decoders[s.op]
	if f == nil && !otherOpcodes[s.op] {
		return in, errNoOpcode
	}
	if f == nil {
		return in, fmt.Errorf("unsupported instruction")
	}
	m := &modset{list: s.mods}
	if err := f(d, s, m, &in); err != nil {
		return in, err
	}
	if len(m.list) != 0 {
		return in, fmt.Errorf("unsupported modifier .%s", m.list[0])
	}
	return in, nil
}

// args checks the number of operands.
func (s *stmt) argc(lo, hi int) error {
	if n := len(s.args); n < lo || n > hi {
		if lo == hi {
			return fmt.Errorf("has %d operands, wants %d", n, lo)
		}
		return fmt.Errorf("has %d operands, wants %d to %d", n, lo, hi)
	}
	return nil
}

// src32 returns the 32-bit row of a source operand of type t, which has at most four bytes.
func (d *decoder) src32(o operand, t dtype) (int32, error) {
	switch o.kind {
	case opdReg:
		r, rt := d.reg(o.reg)
		if rt == tPred || rt.size() > 4 {
			return 0, fmt.Errorf("operand is a %v register, wanted %v", rt, t)
		}
		return r, nil
	case opdImm, opdFloat:
		return d.constant32(uint32(constantBits(o, t, false))), nil
	case opdSymbol:
		if isSpecial(o.name) {
			return d.specialReg(o.name, false)
		}
		v, err := d.symbol(o)
		if err != nil {
			return 0, err
		}
		return d.constant32(uint32(v)), nil
	}
	return 0, fmt.Errorf("unexpected kind of operand")
}

// src64 returns the 64-bit row of a source operand.
func (d *decoder) src64(o operand, t dtype) (int32, error) {
	switch o.kind {
	case opdReg:
		r, rt := d.reg(o.reg)
		if rt.size() != 8 {
			return 0, fmt.Errorf("operand is a %v register, wanted %v", rt, t)
		}
		return r, nil
	case opdImm, opdFloat:
		return d.constant64(constantBits(o, t, false)), nil
	case opdSymbol:
		if isSpecial(o.name) {
			return d.specialReg(o.name, true)
		}
		v, err := d.symbol(o)
		if err != nil {
			return 0, err
		}
		return d.constant64(v), nil
	}
	return 0, fmt.Errorf("unexpected kind of operand")
}

// src returns the row of a source of any type and whether it is a 64-bit row.
func (d *decoder) src(o operand, t dtype) (row int32, wide bool, err error) {
	if t.size() == 8 {
		row, err = d.src64(o, t)
		return row, true, err
	}
	row, err = d.src32(o, t)
	return row, false, err
}

func (d *decoder) dst32(o operand) (int32, error) {
	if o.kind == opdSink {
		return d.sink32, nil
	}
	if o.kind != opdReg {
		return 0, fmt.Errorf("destination is not a register")
	}
	r, t := d.reg(o.reg)
	if t == tPred || t.size() > 4 {
		return 0, fmt.Errorf("destination is a %v register", t)
	}
	return r, nil
}

func (d *decoder) dst64(o operand) (int32, error) {
	if o.kind == opdSink {
		return d.sink64, nil
	}
	if o.kind != opdReg {
		return 0, fmt.Errorf("destination is not a register")
	}
	r, t := d.reg(o.reg)
	if t.size() != 8 {
		return 0, fmt.Errorf("destination is a %v register", t)
	}
	return r, nil
}

// pred returns a predicate operand and the mask that negates it.
func (d *decoder) pred(o operand) (row int32, flip uint32, err error) {
	if o.kind != opdReg {
		return 0, 0, fmt.Errorf("operand is not a predicate")
	}
	r, t := d.reg(o.reg)
	if t != tPred {
		return 0, 0, fmt.Errorf("operand is a %v register, wanted a predicate", t)
	}
	if o.neg {
		flip = full
	}
	return r, flip, nil
}

func (d *decoder) dstPred(o operand) (int32, error) {
	if o.kind == opdSink {
		return -1, nil
	}
	r, _, err := d.pred(o)
	return r, err
}

// lookupVar finds a variable from the statement's scope outwards.
func (d *decoder) lookupVar(name string, s *scope) *variable {
	for ; s != nil; s = s.parent {
		if v := s.vars[name]; v != nil {
			return v
		}
	}
	return d.mod.vars[name]
}

// symbol returns the address of a variable in its own space.
func (d *decoder) symbol(o operand) (uint64, error) {
	v := d.lookupVar(o.name, d.scope)
	if v == nil {
		if fn := d.mod.function(o.name); fn != nil && !fn.entry {
			return d.mod.codeAddress(fn) + uint64(o.off), nil
		}
		return 0, fmt.Errorf("unknown name %s", o.name)
	}
	base, err := d.varAddr(v)
	return base + uint64(o.off), err
}

func (d *decoder) varAddr(v *variable) (uint64, error) {
	if off, ok := d.varOff[v]; ok {
		return uint64(off), nil
	}
	if a := d.mod.globals[v.name]; a != nil {
		return a.base, nil
	}
	return 0, fmt.Errorf("variable %s has no memory", v.name)
}
