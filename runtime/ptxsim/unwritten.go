package ptxsim

import "slices"

// Reads of registers that nobody wrote are found in two steps. When a function is decoded, a flow analysis finds the
// reads that some path reaches without a write of the register; most functions have none. The registers concerned get a
// mask of lanes that have written them, kept by notes beside the instructions that write and read them. Arithmetic only
// hands on what it finds, since compilers compute ahead what a branch then discards; what reaches memory, a guard, a
// tensor core or another thread is reported.

// unwrittenReads instruments a function's code, one instruction a statement and one more, and returns it.
func (d *decoder) unwrittenReads(fn *function, code []inst) []inst {
	u := &unwritten{d: d, fn: fn, flow: blocksOf(code), suspects: map[int32]int32{}, reads: map[int][]int32{}}
	for u.analyse() {
	}
	if len(u.reads) == 0 {
		return code
	}
	return u.instrument(code)
}

type unwritten struct {
	d        *decoder
	fn       *function
	flow     *flow
	names    map[int32]string // of registers, when they are needed
	suspects map[int32]int32  // registers to watch, and the index of their mask
	reads    map[int][]int32  // by statement: registers that it may read unwritten
}

// uses lists the instructions that do something with what they read, beyond computing a register from it.
var uses = map[string]bool{
	"ld": true, "ldu": true, "st": true, "atom": true, "red": true, "cp": true, "ldmatrix": true, "stmatrix": true,
	"mma": true, "wmma": true, "wgmma": true, "bar": true, "barrier": true, "vote": true, "match": true, "redux": true,
	"call": true, "bra": true, "brx": true, "mbarrier": true, "clusterlaunchcontrol": true,
	"tex": true, "tld4": true, "txq": true, "suld": true, "sust": true, "suq": true,
}

// handsOn reports whether a statement only computes registers.
func (s *stmt) handsOn() bool { return !uses[s.op] }

// split returns a statement's destination and source operands. Some operands are both.
func (s *stmt) split() (dst, src []operand) {
	sub := ""
	if len(s.mods) > 0 {
		sub = s.mods[0]
	}
	switch {
	case len(s.args) == 0:
		return nil, nil
	case s.op == "call" && s.args[0].kind == opdList && len(s.args) > 1:
		return s.args[:1], s.args[1:] // results in registers
	case s.op == "wgmma" && sub == "mma_async":
		return nil, s.args // the sum is read and written later
	case s.op == "bar" || s.op == "barrier":
		if slices.Contains(s.mods, "red") {
			return s.args[:1], s.args[1:]
		}
		return nil, s.args
	case resultless[s.op], s.op == "wmma" && sub == "store", s.op == "mbarrier" && s.args[0].kind == opdAddress:
		return nil, s.args
	}
	return s.args[:1], s.args[1:]
}

// step finds the reads of a statement that are not in written, and adds what it writes for certain.
func (u *unwritten) step(i int, written bitset, note func(r int32)) {
	s := &u.fn.body[i]
	dst, src := s.split()
	missing := false
	read := func(r int32) {
		if written[r>>6]>>(r&63)&1 == 0 {
			missing = true
			note(r)
		}
	}
	if s.guard >= 0 {
		read(s.guard)
	}
	for j := range src {
		registersOf(&src[j], read)
	}
	if s.guard >= 0 || missing && s.handsOn() {
		return
	}
	for j := range dst {
		registersOf(&dst[j], written.add)
	}
}

// analyse finds the reads that may come before a write. It returns true if it must be done again.
func (u *unwritten) analyse() (again bool) {
	f := u.flow
	words := (len(u.fn.regs) + 63) / 64
	out := make([]bitset, len(f.first)) // registers written for certain at a block's end; nil: not reached yet
	enter := func(b int) bitset {
		in := make(bitset, words)
		first := b != 0
		if first {
			for i := range in {
				in[i] = ^uint64(0)
			}
		}
		for _, p := range f.pred[b] {
			if out[p] == nil {
				continue
			}
			for i := range in {
				in[i] &= out[p][i]
			}
		}
		if b == 0 {
			clear(in)
			for _, r := range u.fn.regParams {
				in.add(r)
			}
		}
		return in
	}
	for changed := true; changed; {
		changed = false
		for b := range f.first {
			reached := b == 0
			for _, p := range f.pred[b] {
				reached = reached || out[p] != nil
			}
			if !reached {
				continue
			}
			w := enter(b)
			for i := f.first[b]; i < min(f.last[b], len(u.fn.body)); i++ {
				u.step(i, w, func(int32) {})
			}
			if out[b] == nil || !slices.Equal(out[b], w) {
				out[b], changed = w, true
			}
		}
	}
	before := len(u.suspects)
	clear(u.reads)
	for b := range f.first {
		if out[b] == nil {
			continue
		}
		w := enter(b)
		for i := f.first[b]; i < min(f.last[b], len(u.fn.body)); i++ {
			u.step(i, w, func(r int32) {
				u.reads[i] = append(u.reads[i], r)
				u.suspect(r)
			})
			if s := &u.fn.body[i]; s.handsOn() && len(u.reads[i]) > 0 {
				dst, _ := s.split()
				for j := range dst {
					registersOf(&dst[j], u.suspect)
				}
			}
		}
	}
	return len(u.suspects) != before
}

func (u *unwritten) suspect(r int32) {
	if _, ok := u.suspects[r]; !ok {
		u.suspects[r] = int32(u.d.prog.watched)
		u.d.prog.watched++
	}
}

// instrument puts notes before and behind the statements that read and write watched registers.
func (u *unwritten) instrument(code []inst) []inst {
	var out []inst
	at := make([]int32, len(code))
	for i, in := range code {
		at[i] = int32(len(out))
		if i < len(u.fn.body) {
			s := &u.fn.body[i]
			note := func(like inst, exec func(*warp, *inst)) inst {
				return inst{kind: kNote, class: clOther, guard: like.guard, guardFlip: like.guardFlip, mem: -1, line: like.line, x: like.x, exec: exec}
			}
			if s.guard >= 0 {
				if k, ok := u.suspects[s.guard]; ok && slices.Contains(u.reads[i], s.guard) {
					n := note(in, checkWritten(k, u.regName(s.guard)))
					n.guard = -1
					out = append(out, n)
				}
			}
			dst, _ := s.split()
			var marks []inst
			if s.handsOn() && len(u.reads[i]) > 0 {
				marks = append(marks, note(in, u.handOn(s)))
			} else {
				for _, r := range u.reads[i] {
					if r != s.guard {
						out = append(out, note(in, checkWritten(u.suspects[r], u.regName(r))))
					}
				}
				for j := range dst {
					registersOf(&dst[j], func(r int32) {
						if k, ok := u.suspects[r]; ok {
							marks = append(marks, note(in, func(w *warp, _ *inst) { w.writtenBy[k] |= w.mask }))
						}
					})
				}
			}
			// What is handed on is looked at before it is overwritten.
			if s.handsOn() {
				out = append(append(out, marks...), in)
			} else {
				out = append(append(out, in), marks...)
			}
			continue
		}
		out = append(out, in)
	}
	retarget(out, at)
	return out
}

// regName is a register as the function names it.
func (u *unwritten) regName(r int32) string {
	if u.names == nil {
		u.names = map[int32]string{}
		seen := map[*scope]bool{}
		for i := range u.fn.body {
			for s := u.fn.body[i].scope; s != nil && !seen[s]; s = s.parent {
				seen[s] = true
				for name, v := range s.regs {
					u.names[v] = name
				}
			}
		}
	}
	return u.names[r]
}

// checkWritten reports lanes that read a watched register without having written it.
func checkWritten(k int32, name string) func(*warp, *inst) {
	return func(w *warp, in *inst) {
		if m := w.mask &^ w.writtenBy[k]; m != 0 {
			w.report(in, lowest(m), UnwrittenRegister, spGeneric, 0, "lanes 0x%08x read %s, which they never wrote", m, name)
			w.writtenBy[k] |= m // once is enough
		}
	}
}

// handOn gives the destination of a computation the state of what it is made of.
func (u *unwritten) handOn(s *stmt) func(*warp, *inst) {
	dst, src := s.split()
	watched := func(list []operand) (ks []int32) {
		for i := range list {
			registersOf(&list[i], func(r int32) {
				if k, ok := u.suspects[r]; ok {
					ks = append(ks, k)
				}
			})
		}
		return ks
	}
	to := watched(dst)
	if s.op == "selp" && len(src) == 3 && src[2].kind == opdReg {
		a, b, p := watched(src[:1]), watched(src[1:2]), watched(src[2:])
		pred, _ := u.d.reg(src[2].reg)
		return func(w *warp, _ *inst) {
			chosen := w.pred[pred]
			w.setWritten(to, (chosen&w.allWritten(a)|^chosen&w.allWritten(b))&w.allWritten(p))
		}
	}
	from := watched(src)
	return func(w *warp, _ *inst) { w.setWritten(to, w.allWritten(from)) }
}

// allWritten returns the lanes that have written all of some watched registers.
func (w *warp) allWritten(ks []int32) uint32 {
	m := full
	for _, k := range ks {
		m &= w.writtenBy[k]
	}
	return m
}

// setWritten sets the state of watched registers in the lanes that run.
func (w *warp) setWritten(ks []int32, m uint32) {
	for _, k := range ks {
		w.writtenBy[k] = w.writtenBy[k]&^w.mask | m&w.mask
	}
}
