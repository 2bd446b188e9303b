package cpu

import (
	"fmt"
	"sync"

	"unirestorer/graph"
	"unirestorer/runtime/cpu/simd"
)

// maxWeightParams bounds what one prepared weight is made from.
const maxWeightParams = 3

// weightKey identifies a prepared weight: the parameters' keys and what is
// done to them.
type weightKey struct {
	how  any
	from [maxWeightParams]any
}

// prepared is a constant in the form a kernel reads: one of the fields.
type prepared struct {
	values    []float32
	packed    []*simd.Packed
	depthwise *simd.DepthwiseWeights
}

// weight is a constant of a step. Equal ones share what is prepared.
type weight struct {
	key    weightKey
	floats int // size when prepared
	from   []*graph.Param
	// prepare makes the constant from the parameters' values, which it must not
	// keep; rows gives memory that is as short-lived.
	prepare func(from [][]float32, rows func(n int) []float32) prepared

	prepared // set by the store
}

// newWeight describes a weight. how must identify prepare among all weights
// made from the same parameters; nil parameters are left out.
func newWeight(how any, floats int, prepare func(from [][]float32, rows func(n int) []float32) prepared, from ...*graph.Param) *weight {
	w := &weight{key: weightKey{how: how}, floats: floats, prepare: prepare}
	for i, p := range from {
		if p == nil {
			continue
		}
		w.from = append(w.from, p)
		if p.Key != nil {
			w.key.from[i] = p.Key
		} else {
			w.key.from[i] = p // its own identity
		}
	}
	return w
}

// plain is the parameter's values as they are; nil for nil.
func plain(p *graph.Param) *weight {
	if p == nil {
		return nil
	}
	return newWeight("plain", p.Elems(), func(from [][]float32, _ func(int) []float32) prepared {
		values := simd.Aligned(p.Elems())
		copy(values, from[0])
		return prepared{values: values}
	}, p)
}

// data is the weight's values, nil for a missing weight.
func (w *weight) data() []float32 {
	if w == nil {
		return nil
	}
	return w.values
}

func (w *weight) bytes() int64 { return int64(w.floats) * floatBytes }

// loader loads weights one after the other and uses its memory again.
type loader struct {
	values [maxWeightParams][]float32
	extra  []float32
}

func (l *loader) load(w *weight) (prepared, error) {
	from := make([][]float32, len(w.from))
	for i, p := range w.from {
		from[i] = grow(&l.values[i], p.Elems())
		if err := p.Read(from[i]); err != nil {
			return prepared{}, err
		}
	}
	return w.prepare(from, func(n int) []float32 { return grow(&l.extra, n) }), nil
}

// grow returns n floats of a buffer that is made larger if need be.
func grow(buffer *[]float32, n int) []float32 {
	if cap(*buffer) < n {
		*buffer = make([]float32, n)
	}
	return (*buffer)[:n]
}

// weightStore keeps the weights of all programs of a backend, equal ones once.
type weightStore struct {
	mu      sync.Mutex
	entries map[weightKey]*storedWeight
}

type storedWeight struct {
	users    int // guarded by the store
	floats   int
	once     sync.Once
	prepared prepared
	err      error
}

func newWeightStore() *weightStore { return &weightStore{entries: map[weightKey]*storedWeight{}} }

// acquire sets w.prepared, which l loads unless another program has.
func (s *weightStore) acquire(w *weight, l *loader) error {
	s.mu.Lock()
	e := s.entries[w.key]
	if e == nil {
		e = &storedWeight{floats: w.floats}
		s.entries[w.key] = e
	}
	e.users++
	s.mu.Unlock()

	e.once.Do(func() { e.prepared, e.err = l.load(w) })
	err := e.err
	if err == nil && e.floats != w.floats {
		err = fmt.Errorf("parameter %q: prepared as %d values elsewhere, need %d: its key is not unique", w.from[0].Name, e.floats, w.floats)
	}
	if err != nil {
		s.release(w)
		return err
	}
	w.prepared = e.prepared
	return nil
}

// release gives back what acquire took.
func (s *weightStore) release(w *weight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.prepared = prepared{}
	e := s.entries[w.key]
	if e.users--; e.users == 0 {
		delete(s.entries, w.key)
	}
}

// bytes is what all entries hold.
func (s *weightStore) bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int64
	for _, e := range s.entries {
		n += int64(e.floats) * floatBytes
	}
	return n
}
