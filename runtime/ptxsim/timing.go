package ptxsim

// Latencies are the cycles from an instruction's issue to its result, for the critical path of a block that has a
// multiprocessor to itself. They differ little between architectures; a card's own are measured by microbenchmarks.
type Latencies struct {
	Arithmetic float32 `json:"arithmetic"` // integer, fp32, fp16, moves, predicates
	Convert    float32 `json:"convert"`
	Special    float32 `json:"special"` // exponential, reciprocal, square root
	Shared     float32 `json:"shared"`  // loads from shared memory and matrix loads
	Global     float32 `json:"global"`  // loads and asynchronous copies that L2 serves
	Atomic     float32 `json:"atomic"`  // a round trip to L2
	Fence      float32 `json:"fence"`   // from a store until a fence lets go
	Tensor     float32 `json:"tensor"`
	Shuffle    float32 `json:"shuffle"`
	Barrier    float32 `json:"barrier"`
	// TensorInterval and SpecialInterval are the cycles for which one such instruction of a warp holds its pipe.
	TensorInterval  float32 `json:"tensor_interval"`
	SpecialInterval float32 `json:"special_interval"`
}

// DefaultLatencies are those published for Ampere and Hopper by microbenchmarks, rounded.
func DefaultLatencies() Latencies {
	return Latencies{
		Arithmetic: 4.5, Convert: 6, Special: 23, Shared: 30, Global: 290, Atomic: 400, Fence: 400, Tensor: 33, Shuffle: 24, Barrier: 20,
		TensorInterval: 8, SpecialInterval: 8,
	}
}

// timeline is when a warp's registers are ready. An instruction starts when its operands are. Within a straight piece of
// code the order is the assembler's to choose, at one instruction a cycle; the branch or barrier that ends the piece
// waits until all of it was issued.
type timeline struct {
	ready   []float32 // by register
	floor   float32   // the present piece of code began
	issued  float32   // instructions of it so far
	latest  float32   // the last issue so far
	end     float32   // the latest result
	tensor  float32   // the tensor core is free again
	special float32   // so is the unit for special functions
	copies  []float32 // when each group of copies in flight is complete
	open    float32   // when the copies of the open group are
	placed  float32   // the last store to global memory, which a fence waits for
}

func (t *timeline) reset() {
	clear(t.ready)
	t.floor, t.issued, t.latest, t.end, t.tensor, t.special, t.open = 0, 0, 0, 0, 0, 0, 0
	t.copies, t.placed = t.copies[:0], -1e6
}

// enter begins a piece of code no earlier than at, and than all before it was issued.
func (t *timeline) enter(at float32) {
	t.floor = max(t.floor+t.issued, t.latest, at)
	t.issued = 0
	t.end = max(t.end, t.floor)
}

// advance takes an instruction into account before it is executed.
func (t *timeline) advance(w *warp, in *inst, l *Latencies) {
	start := t.floor + t.issued
	t.issued++
	if w.mask != 0 || in.kind == kBra {
		for _, r := range in.x.uses {
			start = max(start, t.ready[r])
		}
	}
	latency := l.Arithmetic
	switch in.class {
	case clParam:
		latency = 0
	case clConvert:
		latency = l.Convert
	case clSpecial:
		start = max(start, t.special)
		t.special = start + l.SpecialInterval
		latency = l.Special
	case clSharedLoad, clMatrixMove:
		latency = l.Shared
	case clGlobalLoad:
		latency = l.Global
	case clAtomic:
		latency = l.Atomic
	case clShuffle:
		latency = l.Shuffle
	case clTensor:
		start = max(start, t.tensor)
		t.tensor = start + l.TensorInterval
		latency = l.Tensor
	}
	t.latest = max(t.latest, start)
	switch {
	case in.kind == kBra || in.kind == kExit:
		t.enter(start)
		return
	case in.x.fence:
		t.enter(max(start, t.placed+l.Fence))
		t.placed = -1e6
		return
	case in.class == clGlobalStore:
		t.placed = max(t.placed, start)
	case in.class == clBarrier: // the others decide, see wake
		t.enter(start)
		return
	case in.x.async == asyncIssue:
		t.open = max(t.open, start+l.Global)
		return
	case in.x.async == asyncCommit:
		t.copies = append(t.copies, t.open)
		t.open = 0
		return
	case in.x.async == asyncWait:
		var at float32
		for _, c := range t.copies[:max(0, len(t.copies)-max(in.x.n, 0))] {
			at = max(at, c)
		}
		if in.x.n < 0 {
			at = max(at, t.open)
		}
		t.enter(at)
		return
	}
	done := start + latency
	if w.mask != 0 {
		for _, r := range in.x.defs {
			t.ready[r] = done
		}
	}
	t.end = max(t.end, done)
}

// asyncKind tells the instructions of asynchronous copies apart.
type asyncKind uint8

const (
	asyncNone asyncKind = iota
	asyncIssue
	asyncCommit
	asyncWait
)

// operandsOf fills in which registers a statement reads and writes. base is where the function's registers begin.
func operandsOf(s *stmt, base int32, x *extra) {
	use := func(r int32) { x.uses = append(x.uses, base+r) }
	first := 0
	if len(s.args) > 0 && !resultless[s.op] {
		first = 1
		result := s.args[0]
		registersOf(&result, func(r int32) { x.defs = append(x.defs, base+r) })
	}
	for i := first; i < len(s.args); i++ {
		registersOf(&s.args[i], use)
	}
	if s.guard >= 0 {
		use(s.guard)
	}
	if s.op == "wgmma" && len(s.args) > 1 {
		registersOf(&s.args[0], func(r int32) { x.sums = append(x.sums, base+r) })
		if s.args[1].kind == opdVector {
			registersOf(&s.args[1], func(r int32) { x.left = append(x.left, base+r) })
		}
	}
	switch s.op {
	case "membar", "fence":
		x.fence = true
	case "cp":
		x.async = asyncIssue
		for _, m := range s.mods {
			switch m {
			case "commit_group":
				x.async = asyncCommit
			case "wait_group", "wait_all":
				x.async = asyncWait
			}
		}
	}
}
