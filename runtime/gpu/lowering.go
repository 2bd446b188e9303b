package gpu

import (
	"fmt"
	"iter"

	"unirestorer/graph"
	"unirestorer/kernels"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/device"
)

// Lowering is what a graph becomes on a device: kernel launches and a memory
// plan, without weights read or memory reserved. It tells what a network takes
// on a device that is not at hand.
type Lowering struct{ lowered *lowered }

// Lower makes the launches of a graph for a device with the limits of info.
func Lower(g *graph.Graph, info device.Info) (*Lowering, error) {
	l, err := lower(g, info)
	if err != nil {
		return nil, err
	}
	return &Lowering{l}, nil
}

// Memory is what a program of the graph holds.
func (l *Lowering) Memory() backend.Memory { return l.lowered.memory() }

// WeightSpace is the size in bytes of the memory that Launches takes for
// constants: the largest one, and the counters.
func (l *Lowering) WeightSpace() int64 {
	_, size := l.places()
	return size
}

// places puts the constants that kernels only read on top of each other, and
// behind them, apart, the counters that kernels write. Its second result is
// the size of it all.
func (l *Lowering) places() (counters map[*weight]int64, size int64) {
	counters = map[*weight]int64{}
	for w := range l.constants() {
		if !w.counts() {
			size = max(size, w.bytes())
		}
	}
	byKey := map[weightKey]int64{}
	for w := range l.constants() {
		if !w.counts() {
			continue
		}
		at, placed := byKey[w.key]
		if !placed || w.own {
			at = size
			byKey[w.key] = at
			size += w.bytes()
		}
		counters[w] = at
	}
	return counters, size
}

// constants are those of every step; steps may share some.
func (l *Lowering) constants() iter.Seq[*weight] {
	return func(yield func(*weight) bool) {
		for _, s := range l.lowered.steps {
			for _, w := range s.weights {
				if !yield(w) {
					return
				}
			}
		}
	}
}

// Launches lists the kernels of a run, by node. The intermediate results lie
// in arena, of Memory().Arena bytes; the constants share weights, of
// WeightSpace() bytes, so that launches may be timed and counted before any
// weight is read, though they compute nothing of use. Kernels that meet at
// counters need weights to be zero.
func (l *Lowering) Launches(arena, weights device.Buffer) ([][]*kernels.Launch, error) {
	counters, size := l.places()
	if _, err := weights.Slice(0, size); err != nil {
		return nil, fmt.Errorf("constants: %w", err)
	}
	commands, err := l.lowered.bind(arena, func(w *weight) device.Buffer {
		if at, ok := counters[w]; ok {
			weights, _ := weights.Slice(at, w.bytes()) // inside, as above
			return weights
		}
		return weights
	})
	if err != nil {
		return nil, err
	}
	all := make([][]*kernels.Launch, len(commands))
	for i, cs := range commands {
		for _, c := range cs {
			if c.launch != nil {
				all[i] = append(all[i], c.launch)
			}
		}
	}
	return all, nil
}
