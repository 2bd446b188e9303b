package backend

import (
	"context"

	"unirestorer/graph"
)

// Switcher is a Program whose adapters can be replaced by those of another
// graph of the same structure: bases and everything else that both share stay
// resident, only merges run. Programs of graphs with adapted parameters
// (graph.Adapter) are Switchers.
type Switcher interface {
	Program
	// Switch makes the program compute g, which must pass graph.CheckSwitch
	// against the program's graph; it waits for a run under way. Graph stays as
	// it is. After an error that left some adapters replaced, runs report it
	// until a later Switch succeeds; after any other the program is as before.
	Switch(ctx context.Context, g *graph.Graph) error
}

// Holding is a part of what a program holds on the device.
type Holding struct {
	// Key identifies parts that programs of one backend share: those with equal
	// keys are held once. It is of a comparable type; nil marks a part that the
	// program has for itself.
	Key any
	// Bytes is the part's size.
	Bytes int64
}

// Holdings are the parts that a program has for itself and its weights, equal ones once.
func Holdings[W interface{ Holding() Holding }](own []Holding, weights []W) []Holding {
	seen := map[any]bool{}
	for _, w := range weights {
		if h := w.Holding(); !seen[h.Key] {
			seen[h.Key] = true
			own = append(own, h)
		}
	}
	return own
}

// MemoryOf adds up a program's holdings beside its need of the arena.
func MemoryOf(arena int64, parts []Holding) Memory {
	m := Memory{Arena: arena}
	for _, h := range parts {
		m.Weights += h.Bytes
	}
	return m
}
