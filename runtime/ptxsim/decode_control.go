package ptxsim

import "fmt"

// lookupLabel finds a label from the statement's scope outwards.
func lookupLabel(name string, s *scope) *label {
	for ; s != nil; s = s.parent {
		if l := s.labels[name]; l != nil {
			return l
		}
	}
	return nil
}

func decBra(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(1, 1); err != nil {
		return err
	}
	m.take("uni")
	in.class, in.kind = clControl, kBra
	if s.args[0].kind != opdSymbol {
		return fmt.Errorf("target is not a label")
	}
	l := lookupLabel(s.args[0].name, s.scope)
	if l == nil {
		return fmt.Errorf("unknown label %s", s.args[0].name)
	}
	in.target = int32(l.pos)
	return nil
}

// decBrx translates brx.idx, a branch by an index into a list of labels.
func decBrx(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(2, 2); err != nil {
		return err
	}
	m.take("uni")
	if !m.take("idx") || s.args[1].kind != opdSymbol {
		return fmt.Errorf("needs .idx and a list of targets")
	}
	list := lookupLabel(s.args[1].name, s.scope)
	if list == nil || list.targets == nil {
		return fmt.Errorf("unknown list of targets %s", s.args[1].name)
	}
	for _, name := range list.targets {
		l := lookupLabel(name, s.scope)
		if l == nil {
			return fmt.Errorf("unknown label %s", name)
		}
		in.x.rows = append(in.x.rows, int32(l.pos))
	}
	in.class, in.kind = clControl, kBra
	var err error
	in.a, err = d.src32(s.args[0], tU32)
	return err
}

// callee returns the function a call means, with the operands for results and arguments.
func (d *decoder) callee(s *stmt) (fn *function, rets, args []operand, err error) {
	list := s.args
	if len(list) > 0 && list[0].kind == opdList {
		rets, list = list[0].list, list[1:]
	}
	if len(list) == 0 || len(list) > 2 || list[0].kind != opdSymbol {
		return nil, nil, nil, fmt.Errorf("has other operands than results, a function and arguments")
	}
	if len(list) == 2 {
		if list[1].kind != opdList {
			return nil, nil, nil, fmt.Errorf("has other operands than results, a function and arguments")
		}
		args = list[1].list
	}
	name := list[0].name
	if of := d.mod.file.aliases[name]; of != "" {
		name = of
	}
	for _, f := range d.mod.file.funcs {
		if f.name == name && !f.entry {
			if !f.defined && systemCalls[f.name] == nil {
				return nil, nil, nil, fmt.Errorf("function %s is not defined in this module", f.name)
			}
			return f, rets, args, nil
		}
	}
	return nil, nil, nil, fmt.Errorf("unknown function %s", list[0].name)
}

func decCall(d *decoder, s *stmt, m *modset, in *inst) error {
	m.take("uni")
	if s.indirect() {
		return d.decIndirectCall(s, in)
	}
	fn, rets, args, err := d.callee(s)
	if err != nil {
		return err
	}
	if !fn.defined {
		return d.decSystemCall(s, in, fn, rets, args)
	}
	info := d.infos[fn]
	in.class, in.kind, in.target = clControl, kCall, info.start
	in.x.fn = info
	if in.x.copies, err = d.paramCopies(s, args, fn.params, false); err != nil {
		return err
	}
	if in.x.back, err = d.paramCopies(s, rets, fn.rets, true); err != nil {
		return err
	}
	for i, r := range info.paramRows {
		if r.row < 0 {
			continue
		}
		src, wide, err := d.src(args[i], r.typ)
		if err != nil {
			return err
		}
		in.x.regsIn = append(in.x.regsIn, regCopy{r.row, src, wide})
	}
	for i, r := range info.resultRows {
		if r.row < 0 {
			continue
		}
		dst, err := d.dst(rets[i], r.typ)
		if err != nil {
			return err
		}
		in.x.regsBack = append(in.x.regsBack, regCopy{dst, r.row, r.typ.size() == 8})
	}
	return nil
}

// registerParams gives rows to the parameters and results of a function that are registers.
func (d *decoder) registerParams(fn *function) {
	rows := func(list []*variable) (out []regRow) {
		for _, v := range list {
			r := regRow{row: -1}
			if v.reg > 0 {
				r.row, r.typ = d.reg(v.reg - 1)
			}
			out = append(out, r)
		}
		return out
	}
	info := d.infos[fn]
	info.paramRows, info.resultRows = rows(fn.params), rows(fn.rets)
}

// paramCopies pairs the variables of a call with those of the function.
func (d *decoder) paramCopies(s *stmt, ops []operand, formals []*variable, back bool) ([]paramCopy, error) {
	if len(ops) != len(formals) {
		return nil, fmt.Errorf("call with %d operands for %d", len(ops), len(formals))
	}
	var out []paramCopy
	for i, o := range ops {
		if formals[i].reg > 0 {
			continue
		}
		if o.kind != opdSymbol {
			return nil, fmt.Errorf("only variables can be passed to functions")
		}
		v := d.lookupVar(o.name, s.scope)
		if v == nil || v.space != spParam {
			return nil, fmt.Errorf("unknown variable %s", o.name)
		}
		f := formals[i]
		c := paramCopy{int32(d.varOff[f]), int32(d.varOff[v]), int32(min(f.size(), v.size()))}
		if back {
			c.dst, c.src = c.src, c.dst
		}
		out = append(out, c)
	}
	return out, nil
}

func decExit(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(0, 0); err != nil {
		return err
	}
	m.take("uni")
	in.class, in.kind = clControl, kExit
	if s.op == "ret" && !d.fn.entry {
		in.kind = kRet
		in.a, in.x.fn = d.infos[d.fn].retRow, d.infos[d.fn]
	}
	return nil
}

func decTrap(d *decoder, s *stmt, m *modset, in *inst) error {
	in.class, in.kind = clControl, kTrap
	return s.argc(0, 0)
}

// decNop translates instructions that have no effect on results.
func decNop(d *decoder, s *stmt, m *modset, in *inst) error {
	m.typ()
	in.class, in.kind, in.exec = clOther, kExec, execNothing
	return nil
}

// decSetmaxnreg translates setmaxnreg, which moves registers between warps and changes no value (PTX ISA 8.4, 9.7.17.5).
func decSetmaxnreg(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(1, 1); err != nil {
		return err
	}
	if m.one("inc", "dec") == "" || !m.take("sync") || !m.take("aligned") || m.typ() != tU32 {
		return fmt.Errorf("needs .inc or .dec, and .sync.aligned.u32")
	}
	if o := s.args[0]; o.kind != opdImm || o.imm < 24 || o.imm > 256 || o.imm%8 != 0 {
		return fmt.Errorf("the number of registers is not a constant from 24 to 256 that 8 divides")
	}
	in.class, in.exec = clOther, func(w *warp, in *inst) { w.wholeWarp(in) }
	return d.sync(in, nil)
}
