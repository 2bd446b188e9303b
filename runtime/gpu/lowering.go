package gpu

import (
	"fmt"

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
// constants: the counters, and the largest of the others.
func (l *Lowering) WeightSpace() int64 {
	_, shared, largest := l.places()
	return shared + largest
}

// places puts the counters that kernels write apart from each other, and the
// constants that kernels only read behind them, at shared, on top of each
// other.
func (l *Lowering) places() (counters map[*weight]int64, shared, largest int64) {
	counters = map[*weight]int64{}
	for _, s := range l.lowered.steps {
		for _, w := range s.weights {
			_, placed := counters[w]
			switch {
			case !w.counts():
				largest = max(largest, w.bytes())
			case !placed:
				counters[w] = shared
				shared += w.bytes()
			}
		}
	}
	return counters, shared, largest
}

// Launches lists the kernels of a run, by node. The intermediate results lie
// in arena, of Memory().Arena bytes; the constants share weights, of
// WeightSpace() bytes, so that launches may be timed and counted before any
// weight is read, though they compute nothing of use. Kernels that meet at
// counters need weights to be zero.
func (l *Lowering) Launches(arena, weights device.Buffer) ([][]*kernels.Launch, error) {
	counters, shared, largest := l.places()
	if _, err := weights.Slice(0, shared+largest); err != nil {
		return nil, fmt.Errorf("constants: %w", err)
	}
	commands, err := l.lowered.bind(arena, func(w *weight) device.Buffer {
		at, ok := counters[w]
		if !ok {
			at = shared
		}
		place, _ := weights.Slice(at, w.bytes()) // inside, as above
		return place
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
