package gpu

import (
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

// LargestWeight is the size in bytes of the largest constant of a step.
func (l *Lowering) LargestWeight() int64 {
	var most int64
	for _, s := range l.lowered.steps {
		for _, w := range s.weights {
			most = max(most, w.bytes())
		}
	}
	return most
}

// Launches lists the kernels of a run, by node. The intermediate results lie
// in arena, of Memory().Arena bytes; every constant lies at the start of
// weights, of LargestWeight() bytes, so that launches may be timed and counted
// before any weight is read, though they compute nothing of use.
func (l *Lowering) Launches(arena, weights device.Buffer) ([][]*kernels.Launch, error) {
	commands, err := l.lowered.bind(arena, func(*weight) device.Buffer { return weights })
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
