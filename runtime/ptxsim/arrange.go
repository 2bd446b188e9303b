package ptxsim

import "slices"

// maxLoopDepth bounds the nesting that arrange looks into.
const maxLoopDepth = 256

// flow is the control-flow graph of one function.
type flow struct {
	first []int   // first instruction of each block
	last  []int   // one past its last
	succ  [][]int // successors, fall-through first
	pred  [][]int
	fall  []int // block entered by falling through, -1 without
}

// arrange lays out a function's code so that the interpreter can reconverge by comparing positions: every block
// comes after all blocks that lead to it except around a loop, and a loop's blocks come before all blocks that the
// loop leads to. Diverged lanes then run in order of position, and those that wait are joined at the latest at the
// immediate post-dominator of the branch that split them (earlier where early returns leave the post-dominator at
// the function's end). Targets are statement indices on entry and positions counted from base on return.
// Unreachable code is dropped.
func arrange(code []inst, base int32) []inst {
	f := blocksOf(code)
	order := f.order()
	pos := make([]int32, len(f.first))
	at := base
	for i, b := range order {
		pos[b] = at
		at += int32(f.last[b] - f.first[b])
		if f.fall[b] >= 0 && (i+1 == len(order) || order[i+1] != f.fall[b]) {
			at++ // a jump follows
		}
	}
	blockAt := map[int]int{}
	for b, i := range f.first {
		blockAt[i] = b
	}
	out := make([]inst, 0, int(at-base))
	for i, b := range order {
		for _, in := range code[f.first[b]:f.last[b]] {
			if in.blocks() && in.target >= 0 {
				in.target = pos[blockAt[int(in.target)]]
			}
			if in.kind == kBra {
				in.target = pos[blockAt[int(in.target)]]
				if in.x.rows != nil {
					x := *in.x
					x.rows = slices.Clone(x.rows)
					for j, t := range x.rows {
						x.rows[j] = pos[blockAt[int(t)]]
					}
					in.x = &x
				}
			}
			out = append(out, in)
		}
		if f.fall[b] >= 0 && (i+1 == len(order) || order[i+1] != f.fall[b]) {
			prev := out[len(out)-1]
			out = append(out, inst{kind: kJump, guard: -1, mem: -1, target: pos[f.fall[b]], line: prev.line, x: prev.x})
		}
	}
	return out
}

// targets returns the statement indices a branch leads to.
func (in *inst) targets() []int {
	if len(in.x.rows) == 0 {
		return []int{int(in.target)}
	}
	out := make([]int, len(in.x.rows))
	for i, t := range in.x.rows {
		out[i] = int(t)
	}
	return out
}

// blocksOf finds the basic blocks of a function. Its last instruction never falls through.
func blocksOf(code []inst) *flow {
	leader := make([]bool, len(code)+1)
	leader[0], leader[len(code)] = true, true
	for i := range code {
		switch code[i].kind {
		case kBra:
			for _, t := range code[i].targets() {
				leader[t] = true
			}
			leader[i+1] = true
		case kExit, kRet, kTrap:
			leader[i+1] = true
		}
	}
	f := &flow{}
	blockAt := make([]int, len(code)+1)
	for i := range code {
		if leader[i] {
			f.first = append(f.first, i)
			f.last = append(f.last, i)
		}
		blockAt[i] = len(f.first) - 1
		f.last[len(f.last)-1] = i + 1
	}
	f.succ = make([][]int, len(f.first))
	f.fall = make([]int, len(f.first))
	for b := range f.first {
		in := &code[f.last[b]-1]
		f.fall[b] = -1
		ends := in.kind == kBra || in.kind == kExit || in.kind == kRet || in.kind == kTrap
		if (!ends || in.guard >= 0) && f.last[b] < len(code) {
			f.fall[b] = b + 1
			f.succ[b] = append(f.succ[b], b+1)
		}
		if in.kind == kBra {
			for _, t := range in.targets() {
				f.succ[b] = append(f.succ[b], blockAt[t])
			}
		}
	}
	f.pred = make([][]int, len(f.first))
	for b, ss := range f.succ {
		for _, s := range ss {
			f.pred[s] = append(f.pred[s], b)
		}
	}
	return f
}

// blocks reports whether an instruction is a barrier at which a whole warp waits.
func (in *inst) blocks() bool { return in.kind == kBarrier || in.kind == kClusterWait }

// markBypasses gives every barrier as its target the place where lanes that did not come to it would meet those that did:
// the first instruction of the nearest block through which all ways from the barrier lead, -1 if that is only the end. Lanes
// that are there while others wait at the barrier have passed it by; lanes that end elsewhere have not.
func markBypasses(code []inst) {
	some := false
	for i := range code {
		if code[i].blocks() {
			code[i].target, some = -1, true
		}
	}
	if !some {
		return
	}
	f := blocksOf(code)
	after := f.postDominators()
	for b := range f.first {
		to := after[b]
		if to < 0 || code[f.first[to]].kind == kExit && code[f.first[to]].guard < 0 {
			continue
		}
		for i := f.first[b]; i < f.last[b]; i++ {
			if code[i].blocks() {
				code[i].target = int32(f.first[to])
			}
		}
	}
}

// postDominators returns for every block the nearest other one through which all ways from it to the function's end lead, -1 if
// there is none (Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm", 2001, on the reversed graph).
func (f *flow) postDominators() []int {
	n := len(f.first)
	end := n // where all ways end
	number := make([]int, n+1)
	order := f.fromTheEnd(number)
	to := make([]int, n+1)
	for b := range to {
		to[b] = -1
	}
	to[end] = end
	meet := func(a, b int) int {
		for a != b {
			for number[a] < number[b] {
				a = to[a]
			}
			for number[b] < number[a] {
				b = to[b]
			}
		}
		return a
	}
	for changed := true; changed; {
		changed = false
		for _, b := range order {
			nearest := -1
			if len(f.succ[b]) == 0 {
				nearest = end
			}
			for _, s := range f.succ[b] {
				switch {
				case to[s] < 0:
				case nearest < 0:
					nearest = s
				default:
					nearest = meet(nearest, s)
				}
			}
			if nearest != to[b] {
				to[b], changed = nearest, true
			}
		}
	}
	for b := range n {
		if to[b] == end {
			to[b] = -1
		}
	}
	return to[:n]
}

// fromTheEnd lists the blocks that lead to the function's end, each after one that it leads to, and numbers them: the end has
// the highest number.
func (f *flow) fromTheEnd(number []int) (order []int) {
	type visit struct{ b, edge int }
	n := len(f.first)
	seen := make([]bool, n)
	var done []int
	for last := range n {
		if len(f.succ[last]) > 0 || seen[last] {
			continue
		}
		seen[last] = true
		for stack := []visit{{last, 0}}; len(stack) > 0; {
			v := &stack[len(stack)-1]
			if v.edge < len(f.pred[v.b]) {
				p := f.pred[v.b][v.edge]
				v.edge++
				if !seen[p] {
					seen[p] = true
					stack = append(stack, visit{p, 0})
				}
				continue
			}
			done = append(done, v.b)
			stack = stack[:len(stack)-1]
		}
	}
	for i, b := range done {
		number[b] = i
	}
	number[n] = n
	slices.Reverse(done)
	return done
}

// order returns the reachable blocks in layout order.
func (f *flow) order() []int {
	n := len(f.first)
	seen := make([]bool, n)
	todo := []int{0}
	seen[0] = true
	for len(todo) > 0 {
		b := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, s := range f.succ[b] {
			if !seen[s] {
				seen[s] = true
				todo = append(todo, s)
			}
		}
	}
	var nodes []int
	for b := range n {
		if seen[b] {
			nodes = append(nodes, b)
		}
	}
	o := &orderer{flow: f, group: make([]int, n)}
	return o.sort(nodes, -1, 0)
}

// orderer sorts blocks by strongly connected components, recursively inside loops.
type orderer struct {
	flow  *flow
	group []int // present subgraph of each block; 0 outside all
	next  int
}

// sort orders the blocks of one subgraph, ignoring edges to header.
func (o *orderer) sort(nodes []int, header, depth int) []int {
	if len(nodes) == 1 || depth > maxLoopDepth {
		return nodes
	}
	o.next++
	group := o.next
	for _, b := range nodes {
		o.group[b] = group
	}
	var out []int
	for _, c := range o.components(nodes, header, group) {
		if len(c) == 1 {
			out = append(out, c[0])
			continue
		}
		slices.Sort(c)
		out = append(out, o.sort(c, o.entry(c), depth+1)...)
	}
	return out
}

// entry returns the loop header among the blocks of a component: its first block that is entered from outside.
func (o *orderer) entry(c []int) int {
	in := map[int]bool{}
	for _, b := range c {
		in[b] = true
	}
	for _, b := range c {
		for _, p := range o.flow.pred[b] {
			if !in[p] {
				return b
			}
		}
	}
	return c[0]
}

// components returns the strongly connected components of a subgraph in topological order (Tarjan's algorithm,
// without recursion). Among unordered components the one written first comes first.
func (o *orderer) components(nodes []int, header, group int) [][]int {
	type frame struct{ b, edge int }
	index := make(map[int]int, len(nodes))
	low := make(map[int]int, len(nodes))
	onStack := make(map[int]bool, len(nodes))
	var stack []int
	var out [][]int
	var calls []frame
	visit := func(b int) {
		index[b] = len(index) + 1
		low[b] = index[b]
		stack = append(stack, b)
		onStack[b] = true
		calls = append(calls, frame{b, 0})
	}
	for i := len(nodes) - 1; i >= 0; i-- {
		if index[nodes[i]] != 0 {
			continue
		}
		visit(nodes[i])
		for len(calls) > 0 {
			fr := &calls[len(calls)-1]
			succ := o.flow.succ[fr.b]
			if fr.edge < len(succ) {
				// Later targets first: what is visited first ends up last.
				s := succ[fr.edge]
				if len(succ) == 2 && succ[0] < succ[1] {
					s = succ[1-fr.edge]
				}
				fr.edge++
				switch {
				case s == header || o.group[s] != group:
				case index[s] == 0:
					visit(s)
				case onStack[s]:
					low[fr.b] = min(low[fr.b], index[s])
				}
				continue
			}
			b := fr.b
			calls = calls[:len(calls)-1]
			if len(calls) > 0 {
				up := calls[len(calls)-1].b
				low[up] = min(low[up], low[b])
			}
			if low[b] == index[b] {
				var c []int
				for {
					t := stack[len(stack)-1]
					stack = stack[:len(stack)-1]
					onStack[t] = false
					c = append(c, t)
					if t == b {
						break
					}
				}
				out = append(out, c)
			}
		}
	}
	slices.Reverse(out)
	return out
}
