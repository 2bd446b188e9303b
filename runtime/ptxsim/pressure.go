package ptxsim

import "math/bits"

// bitset is a set of registers.
type bitset []uint64

func (b bitset) add(i int32)    { b[i>>6] |= 1 << (i & 63) }
func (b bitset) remove(i int32) { b[i>>6] &^= 1 << (i & 63) }

// resultless lists the instructions whose first operand is not a destination.
var resultless = map[string]bool{
	"st": true, "red": true, "bra": true, "bar": true, "barrier": true, "membar": true, "fence": true, "cp": true,
	"prefetch": true, "prefetchu": true, "applypriority": true, "discard": true, "stmatrix": true, "call": true, "sust": true, "sured": true,
	"ret": true, "exit": true, "trap": true, "brkpt": true, "nanosleep": true, "pmevent": true, "griddepcontrol": true, "wgmma": true,
}

// registersOf calls f for every register an operand names.
func registersOf(o *operand, f func(int32)) {
	if o.kind == opdReg {
		f(o.reg)
	}
	for i := range o.list {
		registersOf(&o.list[i], f)
	}
}

// step updates the live registers from after a statement to before it.
func (s *stmt) step(live bitset) {
	first := 0
	if len(s.args) > 0 && (!resultless[s.op] || (s.op == "bar" || s.op == "barrier") && len(s.mods) > 0 && s.mods[0] == "red") {
		first = 1
		if s.guard < 0 { // a guarded write leaves the old value in some lanes
			registersOf(&s.args[0], live.remove)
		}
	}
	for i := first; i < len(s.args); i++ {
		registersOf(&s.args[i], live.add)
	}
	if s.guard >= 0 {
		live.add(s.guard)
	}
}

// pressure returns the greatest number of 32-bit registers that are live together in a function. code holds one
// instruction for each statement, and one more.
func pressure(fn *function, code []inst) int {
	f := blocksOf(code)
	words := (len(fn.regs) + 63) / 64
	in := make([]bitset, len(f.first))
	for b := range in {
		in[b] = make(bitset, words)
	}
	live := make(bitset, words)
	leave := func(b int) {
		clear(live)
		for _, s := range f.succ[b] {
			for i, w := range in[s] {
				live[i] |= w
			}
		}
	}
	// Blocks wait in a queue until nothing changes any more.
	queued := make([]bool, len(in))
	var queue []int
	push := func(b int) {
		if !queued[b] {
			queued[b] = true
			queue = append(queue, b)
		}
	}
	for b := range in {
		push(b)
	}
	for len(queue) > 0 {
		b := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		queued[b] = false
		leave(b)
		for i := min(f.last[b], len(fn.body)) - 1; i >= f.first[b]; i-- {
			fn.body[i].step(live)
		}
		changed := false
		for i, w := range live {
			changed = changed || in[b][i] != w
		}
		if changed {
			copy(in[b], live)
			for _, p := range f.pred[b] {
				push(p)
			}
		}
	}
	weight := func() (n int) {
		for i, w := range live {
			for ; w != 0; w &= w - 1 {
				switch t := fn.regs[64*i+bits.TrailingZeros64(w)]; {
				case t == tPred:
				case t.size() == 8:
					n += 2
				default:
					n++
				}
			}
		}
		return n
	}
	most := 0
	for b := range in {
		leave(b)
		most = max(most, weight())
		for i := min(f.last[b], len(fn.body)) - 1; i >= f.first[b]; i-- {
			fn.body[i].step(live)
			most = max(most, weight())
		}
	}
	return most
}

// estimateRegisters turns the pressure of a kernel and of the functions it calls into what an assembler would
// allocate, roughly: a few registers more for addresses and temporaries, in multiples of eight.
func estimateRegisters(kernel *function, most int) int {
	n := (most + 2 + 7) / 8 * 8
	n = min(max(n, 16), 255)
	if kernel.maxnreg > 0 {
		n = min(n, kernel.maxnreg)
	}
	return n
}
