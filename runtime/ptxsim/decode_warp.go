package ptxsim

import "fmt"

// sync marks an instruction that waits for the lanes named in a member mask (all of them if o is nil).
func (d *decoder) sync(in *inst, o *operand) (err error) {
	in.kind, in.x.member = kSync, -1
	if o != nil {
		in.x.member, err = d.src32(*o, tB32)
	}
	return err
}

// dstAndPred decodes a destination d or d|p.
func (d *decoder) dstAndPred(o operand, in *inst) (err error) {
	if o.kind == opdPair {
		if in.x.p, err = d.dstPred(o.list[1]); err != nil {
			return err
		}
		o = o.list[0]
	}
	in.d, err = d.dst32(o)
	return err
}

func decShfl(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(5, 5); err != nil {
		return err
	}
	if !m.take("sync") {
		return fmt.Errorf("only .sync shuffles are supported")
	}
	mode := m.one("up", "down", "bfly", "idx")
	if mode == "" || m.typ() != tB32 {
		return fmt.Errorf("needs a mode and .b32")
	}
	in.x.n = map[string]int{"up": shflUp, "down": shflDown, "bfly": shflBfly, "idx": shflIdx}[mode]
	err := d.dstAndPred(s.args[0], in)
	if err != nil {
		return err
	}
	for i, p := range []*int32{&in.a, &in.b, &in.c} {
		if *p, err = d.src32(s.args[i+1], tB32); err != nil {
			return err
		}
	}
	in.class, in.exec = clShuffle, execShfl
	return d.sync(in, &s.args[4])
}

func decVote(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(3, 3); err != nil {
		return err
	}
	mode := m.one("all", "any", "uni", "ballot")
	if !m.take("sync") || mode == "" {
		return fmt.Errorf("needs .sync and a mode")
	}
	in.x.mode = mode
	t := m.typ()
	var err error
	if mode == "ballot" {
		if t != tB32 {
			return fmt.Errorf("needs .b32")
		}
		in.d, err = d.dst32(s.args[0])
	} else {
		if t != tPred {
			return fmt.Errorf("needs .pred")
		}
		in.x.p, err = d.dstPred(s.args[0])
	}
	if err != nil {
		return err
	}
	a, flip, err := d.pred(s.args[1])
	if err != nil {
		return err
	}
	in.a, in.x.cNeg = a, flip != 0
	in.class, in.exec = clShuffle, execVote
	return d.sync(in, &s.args[2])
}

func decMatch(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(3, 3); err != nil {
		return err
	}
	mode := m.one("any", "all")
	if !m.take("sync") || mode == "" {
		return fmt.Errorf("needs .sync and a mode")
	}
	t := m.typ()
	if t != tB32 && t != tB64 {
		return fmt.Errorf("needs .b32 or .b64")
	}
	in.x.mode = mode
	err := d.dstAndPred(s.args[0], in)
	if err != nil {
		return err
	}
	if in.a, in.x.wide, err = d.src(s.args[1], t); err != nil {
		return err
	}
	in.class, in.exec = clShuffle, execMatch
	return d.sync(in, &s.args[2])
}

func decRedux(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(3, 3); err != nil {
		return err
	}
	op := m.one("add", "min", "max", "and", "or", "xor")
	t := m.typ()
	if !m.take("sync") || op == "" || t.size() != 4 || t.float() {
		return fmt.Errorf("needs .sync, an operation and a 32-bit integer type")
	}
	var err error
	if in.x.atom, err = atomOp(op, t); err != nil {
		return err
	}
	if in.d, err = d.dst32(s.args[0]); err != nil {
		return err
	}
	if in.a, err = d.src32(s.args[1], t); err != nil {
		return err
	}
	in.class, in.exec = clShuffle, execRedux
	return d.sync(in, &s.args[2])
}

func decElect(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(2, 2); err != nil {
		return err
	}
	dst := s.args[0]
	if !m.take("sync") || dst.kind != opdPair {
		return fmt.Errorf("needs .sync and d|p")
	}
	var err error
	if in.d, err = d.dst32(dst.list[0]); err != nil {
		return err
	}
	if in.x.p, err = d.dstPred(dst.list[1]); err != nil {
		return err
	}
	in.class, in.exec = clShuffle, execElect
	return d.sync(in, &s.args[1])
}

func decActivemask(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(1, 1); err != nil {
		return err
	}
	if m.typ() != tB32 {
		return fmt.Errorf("needs .b32")
	}
	var err error
	in.d, err = d.dst32(s.args[0])
	in.class, in.kind = clShuffle, kExec
	in.exec = func(w *warp, in *inst) {
		for m := w.mask; m != 0; m &= m - 1 {
			w.r32[in.d][lowest(m)] = w.mask
		}
	}
	return err
}

func decBar(d *decoder, s *stmt, m *modset, in *inst) error {
	in.class = clBarrier
	if m.take("warp") {
		if err := s.argc(1, 1); err != nil {
			return err
		}
		if !m.take("sync") {
			return fmt.Errorf("unsupported barrier")
		}
		in.exec = execNothing
		return d.sync(in, &s.args[0])
	}
	if m.take("cluster") {
		return d.clusterBarrier(s, m, in)
	}
	m.take("cta")
	m.take("aligned")
	in.kind = kBarrier
	op := m.one("sync", "arrive", "red")
	args := s.args
	var err error
	switch op {
	case "sync":
		in.x.n = barSync
	case "arrive":
		in.x.n = barArrive
		if len(args) != 2 {
			return s.argc(2, 2)
		}
	case "red":
		in.x.n = barRed
		in.x.mode = m.one("popc", "and", "or")
		t := m.typ()
		if in.x.mode == "" || (t == tPred) == (in.x.mode == "popc") {
			return fmt.Errorf("unsupported reduction")
		}
		if err := s.argc(3, 4); err != nil {
			return err
		}
		if in.x.mode == "popc" {
			in.d, err = d.dst32(args[0])
		} else {
			in.x.p, err = d.dstPred(args[0])
		}
		if err != nil {
			return err
		}
		c, flip, err := d.pred(args[len(args)-1])
		if err != nil {
			return err
		}
		in.c, in.x.cNeg = c, flip != 0
		args = args[1 : len(args)-1]
	default:
		return fmt.Errorf("unsupported barrier")
	}
	if len(args) < 1 || len(args) > 2 {
		return fmt.Errorf("wrong number of operands")
	}
	if in.a, err = d.src32(args[0], tU32); err != nil {
		return err
	}
	if len(args) == 2 {
		in.b, err = d.src32(args[1], tU32)
	}
	return err
}

func decFence(d *decoder, s *stmt, m *modset, in *inst) error {
	if err := s.argc(0, 0); err != nil {
		return err
	}
	switch in.class, in.kind = clBarrier, kExec; {
	case m.take("proxy"):
		kind := m.one("async", "alias")
		m.one("global", "shared::cta", "shared::cluster")
		if in.exec = execNothing; kind == "async" {
			d.prog.usesProxy, in.exec = true, fenceProxy
		} else if kind == "" {
			return fmt.Errorf("unsupported proxy")
		}
		return nil
	case m.take("mbarrier_init"):
		m.take("release")
		m.take("cluster")
		in.exec = execNothing
		return nil
	}
	m.one("sc", "acq_rel")
	scope := m.one("cta", "gl", "gpu", "sys", "cluster")
	if scope == "" {
		return fmt.Errorf("needs a scope")
	}
	in.class, in.kind, in.exec = clBarrier, kExec, execFence
	in.x.scope = scopeNamed(scope)
	d.prog.hasFence = true
	return nil
}
