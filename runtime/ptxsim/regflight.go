package ptxsim

import (
	"slices"
	"strings"
)

// Registers of asynchronous matrix products (PTX ISA 8.4, section 9.7.14.5 "wgmma.mma_async"): from the instruction to the
// wait for its group nobody may touch the sums, nor change a left operand that lies in registers, but for products of the
// same shape that add to the same sums. And between a register's last ordinary write and the product that takes it, as
// between the beginning of the kernel and its first product, there must be a wgmma.fence (section 9.7.14.7.1).
//
// Notes in front of the instructions that touch such registers look for that. Moves from register to register only hand on
// what holds of their source, as compilers tie operands by moves that an assembler takes out again.

// flight is what a register takes part in.
type flight struct {
	group uint32 // plus one; 0: nothing
	sum   bool   // else a left operand
	shape string
	line  int32
}

// registerFlights is a warp's state.
type registerFlights struct {
	of      []flight // by register of the program
	written []bool   // since the last wgmma.fence, by an instruction that is no move
	by      []int32  // at which line
	fenced  bool
	waited  uint32 // groups that are complete
}

func (f *registerFlights) reset() {
	clear(f.of)
	clear(f.written)
	f.fenced, f.waited = false, 0
}

// active returns the flight of a register, nil if it takes part in none.
func (f *registerFlights) active(r int32) *flight {
	if v := &f.of[r]; v.group > f.waited {
		return v
	}
	return nil
}

// isProduct reports whether an instruction is wgmma.mma_async.
func (x *extra) isProduct() bool { return strings.HasPrefix(x.text, "wgmma.mma_async.") }

// isMove reports whether it copies one register, or a constant, to another.
func (x *extra) isMove() bool {
	return strings.HasPrefix(x.text, "mov.") && len(x.defs) == 1 && len(x.uses) <= 1
}

// flightNotes instruments a function with products and returns its code.
func (d *decoder) flightNotes(code []inst) []inst {
	touched := map[int32]bool{}
	products := 0
	for i := range code {
		if x := code[i].x; code[i].kind != kNote && x.isProduct() {
			products++
			for _, r := range append(slices.Clone(x.sums), x.left...) {
				touched[r] = true
			}
		}
	}
	if products == 0 {
		return code
	}
	for changed := true; changed; {
		changed = false
		for i := range code {
			x := code[i].x
			if code[i].kind == kNote || !x.isMove() || len(x.uses) == 0 || touched[x.defs[0]] == touched[x.uses[0]] {
				continue
			}
			touched[x.defs[0]], touched[x.uses[0]], changed = true, true, true
		}
	}
	d.prog.flights = true
	var out []inst
	at := make([]int32, len(code))
	for i, in := range code {
		at[i] = int32(len(out))
		x := in.x
		is := func(r int32) bool { return touched[r] }
		if in.kind != kNote && (slices.ContainsFunc(x.defs, is) || slices.ContainsFunc(x.uses, is)) {
			out = append(out, inst{kind: kNote, class: clOther, guard: in.guard, guardFlip: in.guardFlip, mem: -1, line: in.line, x: x, exec: noteFlight})
		}
		out = append(out, in)
	}
	retarget(out, at)
	return out
}

// retarget adapts branches to code into which instructions were inserted: at says where each went.
func retarget(code []inst, at []int32) {
	for i := range code {
		in := &code[i]
		if in.blocks() && in.target >= 0 {
			in.target = at[in.target]
		}
		if in.kind != kBra {
			continue
		}
		if in.x.rows == nil {
			in.target = at[in.target]
			continue
		}
		x := *in.x
		x.rows = slices.Clone(x.rows)
		for j, t := range x.rows {
			x.rows[j] = at[t]
		}
		in.x = &x
	}
}

// noteFlight looks at the registers that the next instruction touches.
func noteFlight(w *warp, in *inst) {
	if !w.blk.launch.check {
		return
	}
	f, x := &w.flights, in.x
	switch {
	case x.isProduct():
		w.noteProduct(in)
		return
	case x.isMove():
		to := x.defs[0]
		var from flight
		var written bool
		if len(x.uses) == 1 {
			from, written, f.by[to] = f.of[x.uses[0]], f.written[x.uses[0]], f.by[x.uses[0]]
			if !from.sum {
				from = flight{} // a left operand may be read
			}
		}
		if old := f.active(to); old != nil && from != *old && (len(x.uses) == 1 || old.sum) {
			w.inFlight(in, old, "writes")
		}
		f.of[to], f.written[to] = from, written
		return
	}
	for _, r := range x.uses {
		if v := f.active(r); v != nil && v.sum {
			w.inFlight(in, v, "reads")
			f.of[r] = flight{}
		}
	}
	for _, r := range x.defs {
		if v := f.active(r); v != nil {
			w.inFlight(in, v, "writes")
		}
		f.of[r], f.written[r], f.by[r] = flight{}, true, in.line
	}
}

func (w *warp) inFlight(in *inst, v *flight, does string) {
	what := "an operand"
	if v.sum {
		what = "the sum"
	}
	w.report(in, lowest(w.mask), RegisterHazard, spGeneric, 0, "%s a register of %s of the wgmma.mma_async of line %d, whose group was not waited for (wgmma.wait_group)",
		does, what, v.line)
}

// noteProduct looks at the registers of a product, and has them take part in it.
func (w *warp) noteProduct(in *inst) {
	f, x := &w.flights, in.x
	if !f.fenced {
		f.fenced = true // once is enough
		w.report(in, lowest(w.mask), RegisterHazard, spGeneric, 0, "the kernel's first product comes before any wgmma.fence")
	}
	shape := shapeOf(x.text)
	check := func(r int32, sum bool) {
		if v := f.active(r); v != nil && (sum != v.sum || sum && v.shape != shape) {
			w.inFlight(in, v, "takes")
		}
		if f.written[r] {
			f.written[r] = false
			w.report(in, lowest(w.mask), RegisterHazard, spGeneric, 0, "takes a register that line %d wrote, with no wgmma.fence in between", f.by[r])
		}
		f.of[r] = flight{w.wgmmaGroups + 1, sum, shape, in.line}
	}
	for _, r := range x.sums {
		check(r, true)
	}
	for _, r := range x.left {
		check(r, false)
	}
}

// shapeOf is the part of a product's name that says its shape and the type of its sums.
func shapeOf(text string) string {
	parts := strings.Split(text, ".")
	for i, p := range parts {
		if strings.HasPrefix(p, "m64") && i+1 < len(parts) {
			return p[:strings.LastIndexByte(p, 'k')] + "." + parts[i+1]
		}
	}
	return ""
}
