package gpu

import "unirestorer/kernels"

// guardHow is the state of a guard, which is zero between runs.
type guardHow struct{}

func (guardHow) pack([][]float32) ([][]byte, error) {
	return [][]byte{make([]byte, kernels.GuardStateBytes)}, nil
}

// guard counts the values of an output, fp32 as they leave for the host, that
// are not finite.
func (e *emitter) guard(raw operand, values, port int) {
	w := newWeight(guardHow{}, []int64{kernels.GuardStateBytes}, guardHow{}.pack)
	w.own = true
	state, overflow, count := e.use(w).at(0), e.overflowFlag(), e.scratch(4)
	e.launch(func(at resolver) (kernels.Launch, error) {
		return kernels.CountNonFinite(at(raw), values, true, at(state), at(overflow), at(count))
	})
	e.step.work = append(e.step.work, work{border: count, port: port, guard: true})
}

// overflowHow is the flag of a program's kernels that need not show what they
// read, see kernels.OverflowBytes.
type overflowHow struct{}

func (overflowHow) pack([][]float32) ([][]byte, error) {
	return [][]byte{make([]byte, kernels.OverflowBytes)}, nil
}

func newOverflowFlag() *weight {
	w := newWeight(overflowHow{}, []int64{kernels.OverflowBytes}, overflowHow{}.pack)
	w.own = true
	return w
}

// overflowFlag is the program's flag, the same for all of its nodes.
func (e *emitter) overflowFlag() operand { return e.use(e.flag).at(0) }

// counts tells a weight that kernels write: a guard's state, a flag, or counters
// that blocks meet at.
func (w *weight) counts() bool {
	_, meet := w.key.how.(zeros)
	return meet || w.own
}

// resetCounters clears what a run that was interrupted left in guards and in
// the counters that blocks meet at: kernels that end leave them at zero. The
// next run's work comes after it on the stream.
func (p *Program) resetCounters() error {
	if !p.interrupted {
		return nil
	}
	for _, s := range p.lowered.steps {
		for _, w := range s.weights {
			if !w.counts() {
				continue
			}
			if err := p.stream.Memset(p.memoryOf(w), 0); err != nil {
				return err
			}
		}
	}
	p.interrupted = false
	return nil
}
