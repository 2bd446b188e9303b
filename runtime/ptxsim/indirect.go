package ptxsim

import (
	"fmt"
	"slices"
)

// Calls of functions by their address (PTX ISA 8.4, 9.7.12.5 call). What a call may reach are the functions that its
// .calltargets list names, or all of the module whose address is taken and whose parameters are those of its .callprototype.
// Variables of a function have one place a lane, so that a function cannot be entered again before it returns.

// prototype is what a .callprototype says (PTX ISA 8.4, 11.7.3).
type prototype struct{ rets, params []*variable }

// prototype parses what follows .callprototype: (results) _ (parameters);
func (p *parser) prototype(name string) (err error) {
	if err := p.advance(); err != nil {
		return err
	}
	proto := &prototype{}
	if p.tok.is("(") {
		if proto.rets, err = p.params(); err != nil {
			return err
		}
	}
	if mark, err := p.ident(); err != nil || mark != "_" {
		return p.errorf("expected %q in a prototype", "_")
	}
	if p.tok.is("(") {
		if proto.params, err = p.params(); err != nil {
			return err
		}
	}
	if p.tok.text == ".noreturn" {
		if err := p.advance(); err != nil {
			return err
		}
	}
	p.scope.labels[name].proto = proto
	return p.expect(";")
}

// indirect reports whether a call goes to an address in a register.
func (s *stmt) indirect() bool {
	list := s.args
	if len(list) > 0 && list[0].kind == opdList {
		list = list[1:]
	}
	return len(list) > 0 && list[0].kind == opdReg
}

// callee is a function that an indirect call may reach, with what is copied on the way there and back.
type callee struct {
	fn           *funcInfo
	copies, back []paramCopy
}

// placeFunctions gives the functions of a module addresses and finds those whose address is taken.
func (m *module) placeFunctions(mem *memory) {
	m.code = mem.code
	mem.code += 16 * uint64(len(m.file.funcs))
	taken := map[string]bool{}
	var mark func(o *operand)
	mark = func(o *operand) {
		if o.kind == opdSymbol {
			taken[o.name] = true
		}
		for i := range o.list {
			mark(&o.list[i])
		}
	}
	for _, fn := range m.file.funcs {
		for i := range fn.body {
			if s := &fn.body[i]; s.op != "call" {
				for j := range s.args {
					mark(&s.args[j])
				}
			}
		}
	}
	for _, v := range m.file.vars {
		for _, iv := range v.init {
			taken[iv.symbol] = true
		}
	}
	for _, fn := range m.file.funcs {
		if taken[fn.name] && !fn.entry && fn.defined && fn.refused == nil {
			m.taken = append(m.taken, fn)
		}
	}
}

// codeAddress is the address of a function.
func (m *module) codeAddress(fn *function) uint64 {
	return m.code + 16*uint64(slices.Index(m.file.funcs, fn))
}

// fits reports whether a function has the parameters and results of a prototype.
func (fn *function) fits(p *prototype) bool {
	same := func(a, b []*variable) bool {
		return slices.EqualFunc(a, b, func(x, y *variable) bool { return x.reg == 0 && y.reg == 0 && x.size() == y.size() })
	}
	return same(fn.rets, p.rets) && same(fn.params, p.params)
}

// targetsOf lists the functions that an indirect call may reach, and its operands.
func (d *decoder) targetsOf(s *stmt) (fns []*function, rets, args []operand, err error) {
	list := s.args
	if list[0].kind == opdList {
		rets, list = list[0].list, list[1:]
	}
	list = list[1:] // the address
	if len(list) == 2 && list[0].kind == opdList {
		args, list = list[0].list, list[1:]
	}
	if len(list) != 1 || list[0].kind != opdSymbol {
		return nil, nil, nil, fmt.Errorf("has no prototype and no list of targets")
	}
	l := lookupLabel(list[0].name, s.scope)
	switch {
	case l != nil && l.proto != nil:
		if len(l.proto.rets) != len(rets) || len(l.proto.params) != len(args) {
			return nil, nil, nil, fmt.Errorf("has other operands than its prototype %s", l.name)
		}
		for _, fn := range d.mod.taken {
			if fn.fits(l.proto) {
				fns = append(fns, fn)
			}
		}
	case l != nil && l.targets != nil:
		for _, name := range l.targets {
			fn := d.mod.function(name)
			if fn == nil || fn.entry || !fn.defined && fn.refused == nil {
				return nil, nil, nil, fmt.Errorf("unknown function %s", name)
			}
			if slices.ContainsFunc(slices.Concat(fn.params, fn.rets), func(v *variable) bool { return v.reg > 0 }) {
				return nil, nil, nil, fmt.Errorf("function %s: parameters in registers are not supported in indirect calls", name)
			}
			fns = append(fns, fn)
		}
	default:
		return nil, nil, nil, fmt.Errorf("unknown prototype or list of targets %s", list[0].name)
	}
	return fns, rets, args, nil
}

// collectTargets collects what an indirect call may reach. Functions that are being collected are left out: that they are
// entered again shows when it happens.
func (d *decoder) collectTargets(s *stmt, depth int) error {
	d.prog.indirect = true
	fns, _, _, err := d.targetsOf(s)
	if err != nil {
		return err
	}
	for _, fn := range fns {
		if err := d.collect(fn, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) decIndirectCall(s *stmt, in *inst) error {
	fns, rets, args, err := d.targetsOf(s)
	if err != nil {
		return err
	}
	at := s.args[0]
	if at.kind == opdList {
		at = s.args[1]
	}
	in.class, in.kind, in.x.callees = clControl, kCall, map[uint64]*callee{}
	if in.a, err = d.src64(at, tU64); err != nil {
		return err
	}
	for _, fn := range fns {
		c := &callee{fn: d.infos[fn]}
		if c.copies, err = d.paramCopies(s, args, fn.params, false); err != nil {
			return err
		}
		if c.back, err = d.paramCopies(s, rets, fn.rets, true); err != nil {
			return err
		}
		in.x.callees[c.fn.address] = c
	}
	return nil
}

// enter sends lanes into a function.
func (w *warp) enter(in *inst, fn *funcInfo, copies []paramCopy, mask uint32) bool {
	if w.inside != nil {
		if again := w.inside[fn.id] & mask; again != 0 {
			w.fatal(in, lowest(again), InvalidCall, "function %s calls itself, which is not simulated", fn.fn.name)
			return false
		}
		w.inside[fn.id] |= mask
	}
	w.copyParams(copies, mask)
	ret := &w.r32[fn.retRow]
	for m := mask; m != 0; m &= m - 1 {
		ret[lowest(m)] = uint32(w.pc + 1)
	}
	w.splits = append(w.splits, split{fn.start, mask, false})
	return true
}

// callByAddress sends every lane into the function that its address means.
func (w *warp) callByAddress(in *inst, mask uint32) bool {
	addr := &w.r64[in.a]
	for m := mask; m != 0; {
		first := lowest(m)
		group := uint32(0)
		for k := m; k != 0; k &= k - 1 {
			if l := lowest(k); addr[l] == addr[first] {
				group |= 1 << l
			}
		}
		m &^= group
		c := in.x.callees[addr[first]]
		if c == nil {
			w.fatal(in, first, InvalidCall, "0x%x is not the address of a function with the parameters of the call", addr[first])
			return false
		}
		if !w.enter(in, c.fn, c.copies, group) {
			return false
		}
	}
	return true
}

// returnFrom sends lanes back to where their function was called.
func (w *warp) returnFrom(in *inst, mask uint32) {
	if stay := w.active &^ mask; stay != 0 {
		w.splits = append(w.splits, split{w.pc + 1, stay, false})
	}
	if w.inside != nil {
		w.inside[in.x.fn.id] &^= mask
	}
	ret := &w.r32[in.a]
	for m := mask; m != 0; m &= m - 1 {
		l := lowest(m)
		call := &w.prog.code[ret[l]-1]
		back := call.x.back
		if call.x.callees != nil {
			back = call.x.callees[in.x.fn.address].back
		}
		w.copyParams(back, 1<<l)
		w.copyRegs(call.x.regsBack, 1<<l)
		w.splits = append(w.splits, split{int32(ret[l]), 1 << l, false})
	}
	w.active = 0
}
