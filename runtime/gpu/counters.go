package gpu

// zeros identifies the counters of one step. No two steps share them: a kernel
// that runs leaves them at zero, and programs may run at the same time.
type zeros struct{ step *step }

// counters are n counters of the step at which blocks meet, zero before the
// first run.
func (e *emitter) counters(n int) operand {
	size := 4 * int64(n)
	return e.use(newWeight(zeros{e.step}, []int64{size}, func([][]float32) ([][]byte, error) {
		return [][]byte{make([]byte, size)}, nil
	})).at(0)
}
