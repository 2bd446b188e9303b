package ptxsim

import (
	"fmt"
	"strings"
)

// address fills in the base and offset of [base+off].
func (d *decoder) address(o operand, in *inst) error {
	if o.kind != opdAddress || len(o.list) != 1 {
		return fmt.Errorf("operand is not an address")
	}
	in.x.off = o.off
	row, wide, err := d.base(o)
	in.a, in.x.addr64 = row, wide
	return err
}

// base returns the row of an address's base. Symbols' offsets are left to the address.
func (d *decoder) base(o operand) (row int32, wide bool, err error) {
	b := o.list[0]
	switch b.kind {
	case opdReg:
		r, t := d.reg(b.reg)
		if t != tPred && t.size() == 4 || t.size() == 8 {
			return r, t.size() == 8, nil
		}
		return 0, false, fmt.Errorf("address in a %v register", t)
	case opdImm:
		return d.constant64(b.imm), true, nil
	}
	v, err := d.symbol(b)
	return d.constant64(v), true, err
}

// memIndex gives a memory instruction a place in the caches.
func (d *decoder) memIndex(in *inst) {
	in.mem = int32(d.prog.memInsts)
	d.prog.memInsts++
}

// cacheHints takes modifiers that say how to cache, and reports whether a policy operand follows.
func cacheHints(m *modset) (policy bool) {
	for _, s := range m.list {
		if s == "L2::cache_hint" {
			policy = true
		}
		if strings.HasPrefix(s, "L1::") || strings.HasPrefix(s, "L2::") {
			m.take(s)
		}
	}
	m.one("ca", "cg", "cs", "lu", "cv", "wb", "wt")
	return policy
}

// ordering takes the memory-consistency modifiers.
func ordering(m *modset, in *inst) {
	sem := m.one("weak", "volatile", "relaxed", "acquire", "release", "acq_rel")
	in.x.scope = scopeNamed(m.one("cta", "cluster", "gpu", "sys"))
	in.x.mode = sem
	in.x.strong = sem != "" && sem != "weak"
}

// memCommon decodes what ld and st share, with the place of the address and that of the data among the arguments. It
// returns the element type and the operands of the data.
func (d *decoder) memCommon(s *stmt, m *modset, in *inst, address, data int) (t dtype, list []operand, err error) {
	ordering(m, in)
	in.x.ownBlock = m.ownShared()
	in.x.space = m.space()
	n := 2
	if cacheHints(m) {
		n = 3 // with the policy
	}
	in.x.nc = m.take("nc")
	in.x.vec = 1
	if v := m.one("v2", "v4"); v != "" {
		in.x.vec = int(v[1] - '0')
	}
	if t = m.typ(); t == tNone || t == tPred || t.size() > 8 {
		return t, nil, fmt.Errorf("type %v is not supported", t)
	}
	in.x.elem = t.size()
	if n := in.x.elem * in.x.vec; n > 16 {
		return t, nil, fmt.Errorf("vector of %d bytes", n)
	}
	in.x.signed = t.signed()
	if err := s.argc(n, n); err != nil {
		return t, nil, err
	}
	if err := d.address(s.args[address], in); err != nil {
		return t, nil, err
	}
	list, err = elements(s.args[data], in.x.vec)
	return t, list, err
}

// dsts32 are the rows of the n registers in a list, which are 32 bits wide and written.
func (d *decoder) dsts32(o operand, n int) (rows []int32, err error) {
	list, err := elements(o, n)
	if err != nil {
		return nil, err
	}
	for _, o := range list {
		r, err := d.dst32(o)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// elements lists the operands of a vector, or a single operand.
func elements(o operand, n int) ([]operand, error) {
	list := []operand{o}
	if o.kind == opdVector {
		list = o.list
	}
	if len(list) != n {
		return nil, fmt.Errorf("vector of %d elements, wants %d", len(list), n)
	}
	return list, nil
}

func decLd(d *decoder, s *stmt, m *modset, in *inst) error {
	_, list, err := d.memCommon(s, m, in, 1, 0)
	if err != nil {
		return err
	}
	x := in.x
	x.imm = full
	for i, o := range list {
		if o.kind == opdSink {
			x.data = append(x.data, -1)
			continue
		}
		if o.kind != opdReg {
			return fmt.Errorf("destination is not a register")
		}
		r, t := d.reg(o.reg)
		if t == tPred || t.size() < x.elem || i > 0 && x.wide != (t.size() == 8) {
			return fmt.Errorf("destination is a %v register", t)
		}
		x.wide = t.size() == 8
		if t.size() < 4 {
			x.imm = 1<<(8*t.size()) - 1
		}
		x.data = append(x.data, r)
	}
	in.kind = kExec
	d.memIndex(in)
	switch x.space {
	case spGlobal:
		in.class, in.exec = clGlobalLoad, execLdGlobal
	case spShared:
		in.class, in.exec = clSharedLoad, execLdShared
	case spLocal:
		in.class, in.exec = clLocal, execLdLocal
	case spParam:
		in.class, in.exec = clParam, execLdParam
	case spConst:
		in.class, in.exec = clParam, execLdConst
	default:
		in.class, in.exec = clGlobalLoad, execLdGeneric
	}
	d.ordersBlocks(in)
	return nil
}

func decSt(d *decoder, s *stmt, m *modset, in *inst) error {
	if m.take("async") {
		return d.decStAsync(s, m, in)
	}
	t, list, err := d.memCommon(s, m, in, 0, 1)
	if err != nil {
		return err
	}
	x := in.x
	x.wide = x.elem == 8
	for _, o := range list {
		if o.kind == opdReg {
			_, rt := d.reg(o.reg)
			if rt == tPred || rt.size() < x.elem {
				return fmt.Errorf("source is a %v register", rt)
			}
			x.wide = rt.size() == 8
		}
	}
	for _, o := range list {
		var r int32
		if x.wide {
			r, err = d.src64(o, t)
		} else {
			r, err = d.src32(o, t)
		}
		if err != nil {
			return err
		}
		x.data = append(x.data, r)
	}
	in.kind = kExec
	d.memIndex(in)
	switch x.space {
	case spGlobal:
		in.class, in.exec = clGlobalStore, execStGlobal
	case spShared:
		in.class, in.exec = clSharedStore, execStShared
	case spLocal:
		in.class, in.exec = clLocal, execStLocal
	case spParam:
		in.class, in.exec = clParam, execStParam
	case spConst:
		return fmt.Errorf("constant memory cannot be written")
	default:
		in.class, in.exec = clGlobalStore, execStGeneric
	}
	d.ordersBlocks(in)
	return nil
}

// ordersBlocks notes that a kernel communicates between blocks.
func (d *decoder) ordersBlocks(in *inst) {
	if in.x.strong && (in.x.space == spGlobal || in.x.space == spGeneric) {
		d.prog.ordered = true
	}
	if m := in.x.mode; m == "acquire" || m == "release" || m == "acq_rel" {
		d.prog.hasFence = true
	}
}

// decPrefetch translates hints without effect.
func decPrefetch(d *decoder, s *stmt, m *modset, in *inst) error {
	m.space()
	cacheHints(m)
	m.one("L1", "L2", "tensormap")
	in.class, in.kind, in.exec = clOther, kExec, execNothing
	return nil
}

func decAtom(d *decoder, s *stmt, m *modset, in *inst) error {
	red := s.op == "red"
	if red && m.take("async") {
		return d.decRedAsync(s, m, in)
	}
	ordering(m, in)
	x := in.x
	x.strong = true
	x.ownBlock = m.ownShared()
	x.space = m.space()
	policy := cacheHints(m)
	op := m.one("exch", "cas", "add", "inc", "dec", "min", "max", "and", "or", "xor")
	m.take("noftz")
	t := m.typ()
	if x.space == spLocal || x.space == spParam || x.space == spConst {
		return fmt.Errorf("no atomics on %v memory", x.space)
	}
	args := s.args
	in.d = -1
	if !red {
		if len(args) == 0 {
			return s.argc(3, 3)
		}
		var err error
		if args[0].kind == opdSink {
			in.d = -1
		} else if in.d, err = d.dst(args[0], t); err != nil {
			return err
		}
		args = args[1:]
	}
	n := 2
	if op == "cas" {
		n = 3
	}
	if policy {
		n++
	}
	if len(args) != n {
		return fmt.Errorf("wrong number of operands")
	}
	var err error
	if x.atom, err = atomOp(op, t); err != nil {
		return err
	}
	if err := d.address(args[0], in); err != nil {
		return err
	}
	b, wide, err := d.src(args[1], t)
	if err != nil {
		return err
	}
	if x.cas = op == "cas"; x.cas {
		if in.c, _, err = d.src(args[2], t); err != nil {
			return err
		}
	}
	x.elem, x.vec, x.wide, x.data = t.size(), 1, wide, []int32{b}
	in.class, in.kind, in.exec = clAtomic, kExec, execAtom
	d.memIndex(in)
	d.ordersBlocks(in)
	return nil
}

// decCp translates cp.async.
func decCp(d *decoder, s *stmt, m *modset, in *inst) error {
	reduce := m.take("reduce")
	if !m.take("async") {
		return fmt.Errorf("unsupported copy")
	}
	in.class, in.kind = clAsyncCopy, kExec
	switch {
	case m.take("bulk"):
		return d.decBulk(s, m, in, reduce)
	case reduce:
		return fmt.Errorf("unsupported copy")
	case m.take("mbarrier"):
		return d.decCpMbarrier(s, m, in)
	case m.take("commit_group"):
		in.exec = execCpAsyncCommit
		return s.argc(0, 0)
	case m.take("wait_all"):
		in.exec, in.x.n = execCpAsyncWait, -1
		return s.argc(0, 0)
	case m.take("wait_group"):
		in.exec = execCpAsyncWait
		if err := s.argc(1, 1); err != nil {
			return err
		}
		if s.args[0].kind != opdImm || s.args[0].imm > 1<<16 {
			return fmt.Errorf("number of groups is not a small constant")
		}
		in.x.n = int(s.args[0].imm)
		return nil
	}
	level := m.one("ca", "cg")
	if level == "" {
		return fmt.Errorf("unsupported copy")
	}
	policy := cacheHints(m)
	if m.one("shared", "shared::cta") == "" || !m.take("global") {
		return fmt.Errorf("copies must go from global to shared memory")
	}
	args := s.args
	if policy && len(args) > 0 {
		args = args[:len(args)-1]
	}
	if len(args) < 3 || len(args) > 4 {
		return fmt.Errorf("wrong number of operands")
	}
	x := in.x
	if args[0].kind != opdAddress || args[1].kind != opdAddress {
		return fmt.Errorf("operand is not an address")
	}
	var err error
	if in.d, x.addr64, err = d.base(args[0]); err != nil {
		return err
	}
	x.off, x.space = args[0].off, spShared
	var wide bool
	if in.a, wide, err = d.base(args[1]); err != nil {
		return err
	}
	if !wide {
		return fmt.Errorf("global address in a 32-bit register")
	}
	x.m = int(args[1].off)
	if args[2].kind != opdImm {
		return fmt.Errorf("size is not a constant")
	}
	x.n = int(args[2].imm)
	if x.n != 16 && (level == "cg" || x.n != 4 && x.n != 8) {
		return fmt.Errorf("size %d is not allowed", x.n)
	}
	x.elem, x.vec = x.n, 1
	in.c = -1
	if len(args) == 4 {
		o := args[3]
		if o.kind == opdReg && d.fn.regs[o.reg] == tPred {
			if in.c, _, err = d.pred(o); err != nil {
				return err
			}
			if o.neg {
				return fmt.Errorf("negated predicate")
			}
		} else if in.b, err = d.src32(o, tU32); err != nil {
			return err
		}
	}
	in.exec = execCpAsync
	d.memIndex(in)
	return nil
}
