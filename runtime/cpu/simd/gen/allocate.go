package main

import (
	"fmt"
	"slices"
)

// Registers that a function without calls may use: Go keeps R18 and R27 to R30,
// and the assembler may use R27.
var (
	integerRegisters = append(seq(0, 18), seq(19, 27)...)
	vectorRegisters  = seq(0, 32)
)

func seq(from, to int) (r []int) {
	for i := from; i < to; i++ {
		r = append(r, i)
	}
	return r
}

// allocate gives every virtual register a real one that no other register holds
// while both are alive.
func (n *neon) allocate() func(r int) int {
	n.liveness()
	vector := n.vectors
	conflicts := make([]map[int]bool, len(vector))
	for r := range conflicts {
		conflicts[r] = map[int]bool{}
	}
	for _, i := range n.body {
		for _, d := range i.def {
			for r := range i.live {
				if r != d && vector[r] == vector[d] {
					conflicts[r][d], conflicts[d][r] = true, true
				}
			}
			for _, e := range i.def {
				if e != d && vector[e] == vector[d] {
					conflicts[e][d], conflicts[d][e] = true, true
				}
			}
		}
	}
	given := make([]int, len(vector))
	for r := range given {
		given[r] = -1
	}
	for _, i := range n.body {
		for _, r := range slices.Concat(i.use, i.def) {
			if given[r] < 0 {
				given[r] = free(conflicts[r], given, vector[r])
			}
			if given[r] < 0 {
				panic(fmt.Sprintf("gen: %s for arm64 needs more registers than there are", n.kernel.name))
			}
		}
	}
	return func(r int) int { return given[r] }
}

// free is the first register that no conflict has, -1 without one.
func free(conflicts map[int]bool, given []int, vector bool) int {
	from := integerRegisters
	if vector {
		from = vectorRegisters
	}
	for _, candidate := range from {
		taken := false
		for c := range conflicts {
			taken = taken || given[c] == candidate
		}
		if !taken {
			return candidate
		}
	}
	return -1
}

// liveness finds which registers are read after each instruction before they
// are set anew.
func (n *neon) liveness() {
	at := map[string]int{}
	for p, i := range n.body {
		i.live, i.successors = map[int]bool{}, nil
		if i.label != "" {
			at[i.label] = p
		}
	}
	for p, i := range n.body {
		if !i.ends && p+1 < len(n.body) {
			i.successors = append(i.successors, p+1)
		}
		if i.jump != "" {
			to, ok := at[i.jump]
			if !ok {
				panic("gen: no label " + i.jump)
			}
			i.successors = append(i.successors, to)
		}
	}
	for changed := true; changed; {
		changed = false
		for _, i := range slices.Backward(n.body) {
			for _, s := range i.successors {
				next := n.body[s]
				for r := range next.live {
					if !slices.Contains(next.def, r) || slices.Contains(next.use, r) {
						changed = changed || !i.live[r]
						i.live[r] = true
					}
				}
				for _, r := range next.use {
					changed = changed || !i.live[r]
					i.live[r] = true
				}
			}
		}
	}
}
