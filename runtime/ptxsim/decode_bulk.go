package ptxsim

import (
	"fmt"
	"slices"
)

// semantics takes the order and scope of an mbarrier instruction.
func semantics(m *modset) string {
	sem := m.one("release", "acquire", "relaxed")
	m.one("cta", "cluster")
	return sem
}

// sharedSpace takes the space of an operand in the block's shared memory.
func sharedSpace(m *modset) { m.one("shared", "shared::cta", "shared::cluster") }

// decMbarrier translates the mbarrier instructions (PTX ISA 8.4, 9.7.12.15).
func decMbarrier(d *decoder, s *stmt, m *modset, in *inst) error {
	op := m.one("init", "inval", "arrive", "arrive_drop", "expect_tx", "complete_tx", "test_wait", "try_wait", "pending_count")
	tx := op == "expect_tx" || op == "complete_tx" || (op == "arrive" || op == "arrive_drop") && m.take("expect_tx")
	in.class, in.kind, in.b, in.c, in.d = clBarrier, kExec, -1, -1, -1
	sem := semantics(m)
	in.x.ownBlock = slices.Contains(m.list, "shared::cta")
	sharedSpace(m)
	x := in.x
	x.space, x.elem, x.vec = spShared, 8, 1
	d.prog.usesProxy = true
	d.memIndex(in)
	switch op {
	case "init":
		in.exec = execMbarrierInit
		return d.mbarrierOperands(s, m, in, "ab")
	case "inval":
		in.exec = execMbarrierInval
		return d.mbarrierOperands(s, m, in, "a")
	case "expect_tx", "complete_tx":
		x.mode = op
		in.exec = execMbarrierArrive
		return d.mbarrierOperands(s, m, in, "ac")
	case "arrive", "arrive_drop":
		in.exec = execMbarrierArrive
		in.b = d.constant32(1)
		if op == "arrive_drop" {
			x.mode = "drop"
		} else if m.take("noComplete") {
			x.mode = "noComplete"
		}
		switch {
		case tx:
			return d.mbarrierOperands(s, m, in, "dac")
		case len(s.args) == 3:
			return d.mbarrierOperands(s, m, in, "dab")
		}
		return d.mbarrierOperands(s, m, in, "da")
	case "test_wait", "try_wait":
		in.exec, x.mode = execMbarrierWait, sem
		list := "paB"
		if m.take("parity") {
			list = "pac"
		}
		if op == "try_wait" && len(s.args) == 4 {
			list += "-"
		}
		return d.mbarrierOperands(s, m, in, list)
	case "pending_count":
		return d.pendingCount(s, m, in)
	}
	return fmt.Errorf("unsupported form of mbarrier")
}

// mbarrierOperands fills in operands, a letter each: a the address, b and c 32-bit rows, B a 64-bit row b, d a 64-bit
// destination, p a predicate, - what has no effect.
func (d *decoder) mbarrierOperands(s *stmt, m *modset, in *inst, list string) (err error) {
	if !m.take("b64") {
		return fmt.Errorf("needs .b64")
	}
	if err := s.argc(len(list), len(list)); err != nil {
		return err
	}
	for i, o := range s.args {
		switch list[i] {
		case 'a':
			err = d.address(o, in)
		case 'b':
			in.b, err = d.src32(o, tU32)
		case 'c':
			in.c, err = d.src32(o, tU32)
		case 'B':
			in.b, err = d.src64(o, tB64)
		case 'd':
			if o.kind != opdSink {
				in.d, err = d.dst64(o)
			}
		case 'p':
			in.x.p, err = d.dstPred(o)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) pendingCount(s *stmt, m *modset, in *inst) (err error) {
	if err := s.argc(2, 2); err != nil {
		return err
	}
	if !m.take("b64") {
		return fmt.Errorf("needs .b64")
	}
	if in.d, err = d.dst32(s.args[0]); err != nil {
		return err
	}
	in.mem = -1
	in.kind, in.b, in.c = k32x, 0, 0
	in.op32x = func(d *row32, a *row64, _, _ *row32) {
		for i := range d {
			d[i] = uint32(a[i] & maxArrivals)
		}
	}
	in.a, err = d.src64(s.args[1], tB64)
	return err
}

// decCpMbarrier translates cp.async.mbarrier.arrive.
func (d *decoder) decCpMbarrier(s *stmt, m *modset, in *inst) error {
	if !m.take("arrive") {
		return fmt.Errorf("needs .arrive")
	}
	in.class, in.kind, in.exec = clBarrier, kExec, execMbarrierCopies
	if m.take("noinc") {
		in.x.mode = "noinc"
	}
	sharedSpace(m)
	in.x.space, in.x.elem, in.x.vec = spShared, 8, 1
	d.prog.usesProxy = true
	d.memIndex(in)
	return d.mbarrierOperands(s, m, in, "a")
}

// decBulk translates cp.async.bulk without tensor maps (PTX ISA 8.4, 9.7.8.24.5 to .8).
func (d *decoder) decBulk(s *stmt, m *modset, in *inst, reduce bool) (err error) {
	in.class, in.kind = clAsyncCopy, kExec
	d.prog.usesProxy = true
	x := in.x
	switch {
	case m.take("commit_group"):
		in.exec = execBulkCommit
		return s.argc(0, 0)
	case m.take("wait_group"):
		in.exec = execBulkWait
		if m.take("read") {
			x.mode = "read"
		}
		if err := s.argc(1, 1); err != nil {
			return err
		}
		if s.args[0].kind != opdImm || s.args[0].imm > 1<<16 {
			return fmt.Errorf("number of groups is not a small constant")
		}
		x.n = int(s.args[0].imm)
		return nil
	case m.take("prefetch") && m.take("tensor"):
		m.one("1d", "2d", "3d", "4d", "5d")
		m.one("tile", "im2col", "im2col_no_offs")
		m.take("L2")
		m.take("global")
		cacheHints(m)
		in.class, in.exec = clOther, execNothing
		return nil
	case m.take("tensor"):
		op := ""
		if reduce {
			if op = m.one("add", "min", "max", "inc", "dec", "and", "or", "xor"); op == "" {
				return fmt.Errorf("needs an operation")
			}
		}
		d.prog.ordered = d.prog.ordered || reduce // sums of blocks must not meet
		return d.decTensor(s, m, in, op)
	case slices.Contains(s.mods, "prefetch"):
		m.take("L2")
		m.take("global")
		cacheHints(m)
		in.class, in.exec = clOther, execNothing
		return nil
	}
	args := s.args
	if cacheHints(m) && len(args) > 0 {
		args = args[:len(args)-1]
	}
	x.bulk, x.elem, x.vec = true, 1, 1
	d.memIndex(in)
	if reduce {
		d.prog.ordered = true
		m.take("noftz")
		x.mode, x.typ = m.one("add", "min", "max", "inc", "dec", "and", "or", "xor"), m.typ()
		if x.atom, err = atomOp(x.mode, x.typ); err != nil {
			return err
		}
	}
	first := m.one("shared::cluster", "global")
	load := !reduce && first == "shared::cluster" && (m.take("global") || m.take("shared::cta")) && m.take("mbarrier::complete_tx::bytes")
	store := first == "global" && m.take("shared::cta") && m.take("bulk_group")
	if load && slices.Contains(s.mods, "shared::cta") {
		x.mode = "shared"
	}
	want := 4
	if m.take("multicast::cluster") {
		x.multicast, want = true, 5
		d.prog.distributed = true
	}
	switch {
	case load && len(args) == want:
		return d.bulkLoad(args, in)
	case store && len(args) == 3:
		return d.bulkStore(args, in)
	}
	return fmt.Errorf("unsupported form of bulk copy")
}

func (d *decoder) bulkLoad(args []operand, in *inst) (err error) {
	x := in.x
	in.exec, x.space = execBulkLoad, spShared
	if args[0].kind != opdAddress || args[1].kind != opdAddress || args[3].kind != opdAddress {
		return fmt.Errorf("operand is not an address")
	}
	if err := d.address(args[0], in); err != nil {
		return err
	}
	var wide bool
	if in.b, wide, err = d.base(args[1]); err != nil || !wide && x.mode != "shared" {
		return fmt.Errorf("source is not a 64-bit address")
	}
	x.srcWide = wide
	x.m = int(args[1].off)
	if in.c, err = d.src32(args[2], tU32); err != nil {
		return err
	}
	return d.completion(args[3:], x)
}

// completion decodes the barrier that a copy completes at, and behind it the blocks that a multicast goes to.
func (d *decoder) completion(args []operand, x *extra) error {
	row, wide, err := d.base(args[0])
	if err != nil {
		return err
	}
	x.rows, x.wide = []int32{row, int32(args[0].off)}, wide
	if x.multicast {
		row, err = d.src32(args[1], tU16)
		x.rows = append(x.rows, row)
	}
	return err
}

func (d *decoder) bulkStore(args []operand, in *inst) (err error) {
	x := in.x
	in.exec, x.space = execBulkStore, spGlobal
	if args[0].kind != opdAddress || args[1].kind != opdAddress {
		return fmt.Errorf("operand is not an address")
	}
	if err := d.address(args[0], in); err != nil {
		return err
	}
	if !x.addr64 {
		return fmt.Errorf("destination is not a 64-bit address")
	}
	if in.b, x.wide, err = d.base(args[1]); err != nil {
		return err
	}
	x.m = int(args[1].off)
	in.c, err = d.src32(args[2], tU32)
	return err
}
