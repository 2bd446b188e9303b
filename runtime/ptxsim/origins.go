package ptxsim

import (
	"encoding/binary"
	"slices"
)

// Where addresses come from is followed through the registers of a program, without regard to the order of its
// instructions: an address is derived from the parameters and variables whose addresses flow into it. Two checks rest on
// it. Accesses through an address that is derived from certain shared variables must stay inside them, however near the
// next variable is; and what a launch can write is known before it runs, so that accesses to other memory need no record.

// origin is a set of the places that an address can be derived from: bits index origins.list. originOther stands for
// everything that cannot be followed: memory, calls, more places than there are bits.
type origin uint64

const originOther origin = 1 << 63

// place is a kernel parameter, by its offset, or a variable.
type place struct {
	param int64 // -1 for variables
	v     *variable
}

// origins is the analysis of one function.
type origins struct {
	d     *decoder
	fn    *function
	list  []place
	regs  []origin
	index map[place]origin
}

func (o *origins) of(p place) origin {
	if b, ok := o.index[p]; ok {
		return b
	}
	b := originOther
	if len(o.list) < 63 {
		b = 1 << len(o.list)
		o.list = append(o.list, p)
	}
	o.index[p] = b
	return b
}

// derives lists the operations whose result can be an address derived from their sources.
var derives = map[string]bool{
	"mov": true, "add": true, "sub": true, "mad": true, "cvta": true, "cvt": true, "selp": true, "and": true, "or": true, "xor": true,
	"lop3": true, "min": true, "max": true, "slct": true, "shfl": true, "mapa": true, "prmt": true, "bfi": true, "fma": true, "shl": true, "shr": true,
}

// followOrigins analyses a function.
func (d *decoder) followOrigins(fn *function) *origins {
	o := &origins{d: d, fn: fn, regs: make([]origin, len(fn.regs)), index: map[place]origin{}}
	for changed := true; changed; {
		changed = false
		for i := range fn.body {
			s := &fn.body[i]
			if len(s.args) == 0 || resultless[s.op] {
				continue
			}
			var from origin
			switch {
			case s.op == "ld" || s.op == "ldu":
				from = o.loaded(s)
			case s.op == "atom" || s.op == "call" || s.op == "tex" || s.op == "tld4" || s.op == "suld":
				from = originOther
			case derives[s.op]:
				for _, a := range s.args[1:] {
					from |= o.operand(a, s.scope)
				}
			default:
				continue
			}
			registersOf(&s.args[0], func(r int32) {
				if o.regs[r]|from != o.regs[r] {
					o.regs[r] |= from
					changed = true
				}
			})
		}
	}
	return o
}

// loaded is what a load can give. Narrow values count as indices: addresses of shared memory that went through memory are
// of unknown origin anyway, as nothing else flows in.
func (o *origins) loaded(s *stmt) origin {
	if len(s.args) < 2 || s.args[1].kind != opdAddress {
		return originOther
	}
	for _, m := range s.mods {
		if t := typeNames[m]; t != tNone && t.size() < 8 {
			return 0
		}
	}
	if !slices.Contains(s.mods, "param") || !o.fn.entry {
		return originOther
	}
	b := s.args[1].list[0]
	if b.kind != opdSymbol {
		return originOther
	}
	v := o.d.lookupVar(b.name, s.scope)
	if v == nil || !slices.Contains(o.fn.params, v) {
		return originOther
	}
	var from origin
	size := int64(8)
	for i := range max(1, len(s.args[0].list)) {
		from |= o.of(place{param: v.off + s.args[1].off + int64(i)*size})
	}
	return from
}

// operand is what an operand can be derived from.
func (o *origins) operand(a operand, s *scope) origin {
	switch a.kind {
	case opdReg:
		return o.regs[a.reg]
	case opdSymbol:
		if isSpecial(a.name) {
			return 0
		}
		v := o.d.lookupVar(a.name, s)
		if v == nil {
			return 0
		}
		if v.space == spParam {
			return originOther
		}
		return o.of(place{-1, v})
	}
	var from origin
	for _, e := range a.list {
		from |= o.operand(e, s)
	}
	return from
}

// address is what the address operand of a memory instruction is derived from.
func (o *origins) address(a operand, s *scope) origin {
	if a.kind != opdAddress {
		return originOther
	}
	if from := o.operand(a.list[0], s); from != 0 {
		return from
	}
	return originOther
}

// extent is a range of shared memory.
type extent struct{ lo, hi uint64 }

// within returns the shared variables that an address can point into, nil if it may be others.
func (o *origins) within(from origin) []extent {
	var out []extent
	for i, p := range o.list {
		if from>>i&1 == 0 {
			continue
		}
		if p.v == nil || p.v.space != spShared || p.v.flex || p.v.extern {
			return nil
		}
		at := uint64(o.d.varOff[p.v])
		out = append(out, extent{at, at + uint64(p.v.size())})
	}
	if from&originOther != 0 {
		return nil
	}
	return out
}

// writes adds what can be written through an address to the program's list.
func (o *origins) writes(from origin) {
	p := o.d.prog
	if from&originOther != 0 {
		p.writesAnything = true
	}
	for i, q := range o.list {
		if from>>i&1 == 0 {
			continue
		}
		if q.v == nil {
			p.writesParam = appendNew(p.writesParam, q.param)
		} else if q.v.space == spGlobal {
			p.writesVar = appendNew(p.writesVar, q.v.name)
		}
	}
}

func appendNew[T comparable](list []T, v T) []T {
	if slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// noteOrigins draws the conclusions for one memory instruction.
func (o *origins) noteOrigins(s *stmt, in *inst) {
	if in.mem < 0 {
		return
	}
	var dst, src *operand // address operands
	for i := range s.args {
		if s.args[i].kind != opdAddress {
			continue
		}
		if dst == nil {
			dst = &s.args[i]
		} else if src == nil {
			src = &s.args[i]
		}
	}
	if dst == nil {
		return
	}
	from := o.address(*dst, s.scope)
	if in.x.space == spShared || in.x.space == spGeneric {
		in.x.within = o.within(from)
	}
	if (s.op == "st" || s.op == "atom" || s.op == "red") && (in.x.space == spGlobal || in.x.space == spGeneric) {
		if in.x.within == nil {
			o.writes(from)
		}
	}
	if in.x.bulk && in.x.space == spGlobal {
		o.writes(from)
	}
}

// markWritten finds the allocations that a launch can write.
func (l *launch) markWritten() {
	p := l.prog
	if l.writesAll = p.writesAnything; l.writesAll {
		return
	}
	l.writesTo = map[*allocation]bool{}
	for _, off := range p.writesParam {
		if off < 0 || off+8 > int64(len(l.params)) {
			continue
		}
		if a := l.mem.near(binary.LittleEndian.Uint64(l.params[off:])); a != nil && !a.freed {
			l.writesTo[a] = true
		}
	}
	for _, name := range p.writesVar {
		if a := p.mod.globals[name]; a != nil {
			l.writesTo[a] = true
		}
	}
}

// written reports whether the launch can write an allocation.
func (l *launch) written(a *allocation) bool { return l.writesAll || l.writesTo[a] }
