package gpu

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/device"
)

// maxWeightParams bounds what one prepared weight is made from.
const maxWeightParams = 7

// alignment is that of every tensor and every section of a weight, in bytes.
const alignment = 256

func aligned(n int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }

// weightKey identifies a prepared weight: the parameters' keys and what is
// done to them.
type weightKey struct {
	how  any
	from [maxWeightParams]any
}

// weight is a constant of a step: one stretch of device memory cut into
// sections. Equal ones share what is uploaded.
type weight struct {
	key      weightKey
	sections []int64 // sizes in bytes, 0 for an absent one
	from     []*graph.Param
	// prepare makes the sections from the values of the parameters; absent
	// parameters have none.
	prepare func(values [][]float32) ([][]byte, error)
	// merge, unless nil, is how an adapted weight is made on the device.
	merge *deviceMerge
	// own marks a weight that a program does not share, whatever its key.
	own bool

	buffer device.Buffer // set by the store
}

// newWeight describes a weight. how must identify prepare and the sections
// among all weights made from the same parameters; parameters may be nil.
func newWeight(how any, sections []int64, prepare func([][]float32) ([][]byte, error), from ...*graph.Param) *weight {
	w := &weight{key: weightKey{how: how}, sections: sections, prepare: prepare, from: from}
	for i, p := range from {
		switch {
		case p == nil:
		case p.Key != nil:
			w.key.from[i] = p.Key
		default:
			w.key.from[i] = p // its own identity
		}
	}
	return w
}

// at is a section as an operand, the zero operand where it is absent.
func (w *weight) at(section int) operand {
	if w.sections[section] == 0 {
		return operand{}
	}
	var offset int64
	for _, n := range w.sections[:section] {
		offset += aligned(n)
	}
	return operand{weight: w, offset: offset, size: w.sections[section]}
}

// Holding is the weight as what the program holds.
func (w *weight) Holding() backend.Holding { return backend.Holding{Key: w.key, Bytes: w.bytes()} }

func (w *weight) bytes() int64 {
	var n int64
	for _, s := range w.sections {
		n += aligned(s)
	}
	return n
}

// name is what errors call the weight.
func (w *weight) name() string {
	for _, p := range w.from {
		if p != nil {
			return p.Name
		}
	}
	return "constant"
}

// image reads the parameters and lays the sections out one after the other.
func (w *weight) image() ([]byte, error) {
	values := make([][]float32, len(w.from))
	for i, p := range w.from {
		if p == nil {
			continue
		}
		values[i] = make([]float32, p.Elems())
		if err := p.Read(values[i]); err != nil {
			return nil, err
		}
	}
	parts, err := w.prepare(values)
	if err != nil {
		return nil, fmt.Errorf("parameter %q: %w", w.name(), err)
	}
	if len(parts) != len(w.sections) {
		return nil, fmt.Errorf("parameter %q: packed as %d sections, planned %d", w.name(), len(parts), len(w.sections))
	}
	image := make([]byte, w.bytes())
	at := image
	for i, s := range w.sections {
		if int64(len(parts[i])) != s {
			return nil, fmt.Errorf("parameter %q: section %d packed as %d bytes, planned %d", w.name(), i, len(parts[i]), s)
		}
		copy(at, parts[i])
		at = at[aligned(s):]
	}
	return image, nil
}

// weightStore keeps the weights of all programs of a backend, equal ones once.
type weightStore struct {
	backend.Shared[weightKey, device.Buffer]
	dev device.Device

	upload sync.Mutex // guards stream
	stream device.Stream
}

func newWeightStore(dev device.Device) (*weightStore, error) {
	s, err := dev.NewStream()
	if err != nil {
		return nil, err
	}
	return &weightStore{dev: dev, stream: s}, nil
}

// acquire sets w.buffer, loading the weight unless another program has.
func (s *weightStore) acquire(ctx context.Context, w *weight) (err error) {
	w.buffer, err = s.Acquire(w.key, 0, func() (device.Buffer, int64, error) {
		b, err := s.load(ctx, w)
		return b, b.Size, err
	})
	return err
}

// load packs a weight and uploads it.
func (s *weightStore) load(ctx context.Context, w *weight) (device.Buffer, error) {
	image, err := w.image()
	if err != nil {
		return device.Buffer{}, err
	}
	s.upload.Lock()
	defer s.upload.Unlock()
	b, err := s.dev.Alloc(w.bytes())
	if err != nil {
		return device.Buffer{}, fmt.Errorf("upload %s: %w", w.name(), err)
	}
	err = s.stream.CopyHtoD(b, image)
	// The copy reads image until the stream is idle, cancelled or not.
	if err = errors.Join(err, s.stream.Synchronize(context.WithoutCancel(ctx))); err != nil {
		return device.Buffer{}, errors.Join(fmt.Errorf("upload %s: %w", w.name(), err), s.dev.Free(b))
	}
	return b, nil
}

// release gives back what acquire took.
func (s *weightStore) release(w *weight) error {
	w.buffer = device.Buffer{}
	b, last := s.Release(w.key)
	if !last {
		return nil
	}
	return s.dev.Free(b)
}

func (s *weightStore) close() error { return s.stream.Close() }

// singles are fp32 values as the device reads them.
func singles(v []float32) []byte {
	b := make([]byte, 0, 4*len(v))
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return b
}

// halves are fp16 bit patterns as the device reads them.
func halves(v []uint16) []byte {
	b := make([]byte, 0, 2*len(v))
	for _, h := range v {
		b = binary.LittleEndian.AppendUint16(b, h)
	}
	return b
}
