package cpu

import (
	"fmt"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
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

// prepared is a constant in the form a kernel reads: one of the first three
// fields.
type prepared struct {
	values    []float32
	packed    []*simd.Packed
	depthwise *simd.DepthwiseWeights
	slab      *slab // what packed lies in, nil for Go's heap
}

// weight is a constant of a step. Equal ones share what is prepared.
type weight struct {
	key    weightKey
	floats int // size when prepared
	from   []*graph.Param
	// prepare makes the constant from the parameters' values, which it may change
	// but must not keep, in memory that the loader gives.
	prepare func(from [][]float32, l *loader) prepared
	// bases are those of low-rank adapters among the parameters, as they are; nil
	// for other parameters.
	bases []*weight

	prepared       // set by the store
	stored   int64 // bytes of an equal weight that is loaded, 0 if unknown
}

// newWeight describes a weight. how must identify prepare among all weights
// made from the same parameters; nil parameters are left out.
func newWeight(how any, floats int, prepare func(from [][]float32, l *loader) prepared, from ...*graph.Param) *weight {
	w := &weight{key: weightKey{how: how}, floats: floats, prepare: prepare}
	for i, p := range from {
		if p == nil {
			continue
		}
		w.from = append(w.from, p)
		w.bases = append(w.bases, base(p))
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
	return newWeight("plain", p.Elems(), func(from [][]float32, l *loader) prepared {
		values := l.aligned(p.Elems())
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

// Holding is the weight as what the program holds.
func (w *weight) Holding() backend.Holding { return backend.Holding{Key: w.key, Bytes: w.bytes()} }

// bytes is what the weight takes; the most it may take if that is not known.
func (w *weight) bytes() int64 {
	switch {
	case w.slab != nil:
		return int64(len(w.slab.data))
	case w.stored != 0:
		return w.stored
	}
	return int64(w.floats) * floatBytes
}

// loader loads weights one after the other and uses its memory again.
type loader struct {
	values [maxWeightParams][]float32
	extra  []float32
	merger merger
	// old is what the weight's place holds, to be written over; next is its first
	// matrix that has not been.
	old  prepared
	next int
}

// load makes a weight in new memory.
func (l *loader) load(w *weight) (prepared, error) { return l.loadOver(prepared{}, w) }

// loadOver makes a weight in the memory of an equally made one, or in new
// memory for a zero one.
func (l *loader) loadOver(old prepared, w *weight) (prepared, error) {
	l.old, l.next = old, 0
	defer func() { l.old = prepared{} }()
	from := make([][]float32, len(w.from))
	for i, p := range w.from {
		from[i] = grow(&l.values[i], p.Elems())
		if err := l.read(from[i], p, w.bases[i]); err != nil {
			return prepared{}, err
		}
	}
	return w.prepare(from, l), nil
}

// rows gives memory until the weight is made.
func (l *loader) rows(n int) []float32 { return grow(&l.extra, n) }

// aligned gives the memory of a weight that is n plain values.
func (l *loader) aligned(n int) []float32 {
	if l.old.values != nil {
		return l.old.values[:n]
	}
	return simd.Aligned(n)
}

// pack is simd.Kernels.Pack for the next matrix of a weight.
func (l *loader) pack(k *simd.Kernels, m simd.Mat, inner, columns int) *simd.Packed {
	if l.old.packed == nil {
		return k.Pack(m, inner, columns)
	}
	p := l.old.packed[l.next]
	l.next++
	k.Repack(p, m, inner, columns)
	return p
}

// packDepthwise is simd.Kernels.PackDepthwise for a weight.
func (l *loader) packDepthwise(k *simd.Kernels, w, bias []float32, side, channels int) *simd.DepthwiseWeights {
	if l.old.depthwise == nil {
		return k.PackDepthwise(w, bias, side, channels)
	}
	k.RepackDepthwise(l.old.depthwise, w, bias, side, channels)
	return l.old.depthwise
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
	backend.Shared[weightKey, storedWeight]
}

type storedWeight struct {
	floats int
	prepared
}

// acquire sets w.prepared, which l loads unless another program has.
func (s *weightStore) acquire(w *weight, l *loader) error {
	stored, err := s.Acquire(w.key, w.bytes(), func() (storedWeight, int64, error) {
		made := *w
		var err error
		if made.prepared, err = l.load(w); err != nil {
			return storedWeight{}, 0, err
		}
		return storedWeight{w.floats, made.prepared}, made.bytes(), nil
	})
	if err != nil {
		return err
	}
	if stored.floats != w.floats {
		s.release(w)
		return fmt.Errorf("parameter %q: prepared as %d values elsewhere, need %d: its key is not unique", w.from[0].Name, stored.floats, w.floats)
	}
	w.prepared = stored.prepared
	return nil
}

// look tells weights what equal ones take.
func (s *weightStore) look(ws []*weight) {
	for _, w := range ws {
		if n := s.Bytes(w.key); n != 0 {
			w.stored = n
		}
	}
}

// release gives back what acquire took.
func (s *weightStore) release(w *weight) {
	w.prepared = prepared{}
	if stored, last := s.Release(w.key); last {
		stored.slab.free()
	}
}
