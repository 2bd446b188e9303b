package weights

import (
	"fmt"

	"unirestorer/weights/internal/blob"
)

// Map is a Source in memory, for tests and for weights that are computed.
type Map struct{ table table }

// NewMap returns a Source with the given tensors. A later tensor replaces an earlier one of the same name.
func NewMap(tensors ...*Tensor) *Map {
	m := &Map{*newTable("", len(tensors))}
	for _, t := range tensors {
		m.Set(t)
	}
	return m
}

// Set adds a tensor, or replaces the one with its name.
func (m *Map) Set(t *Tensor) {
	if _, ok := m.table.byName[t.Name]; !ok {
		m.table.names = append(m.table.names, t.Name)
	}
	m.table.byName[t.Name] = t
}

// Names lists the tensors in the order they were added.
func (m *Map) Names() []string { return m.table.Names() }

// Tensor returns the tensor called name, or a *MissingError.
func (m *Map) Tensor(name string) (*Tensor, error) { return m.table.Tensor(name) }

// NewTensor returns a tensor over little-endian bytes in row-major order, which must not change afterwards.
func NewTensor(name string, d DType, shape []int, data []byte) (*Tensor, error) {
	c := &contiguous{blob.FromBytes("memory", data), 0, int64(len(data)), d}
	t, err := newTensor(name, d, append([]int{}, shape...), c)
	if err != nil {
		return nil, fmt.Errorf("tensor %q: %w", name, err)
	}
	if t.NumBytes() != int64(len(data)) {
		return nil, t.wrap(fmt.Errorf("%s of shape %v takes %d bytes, not %d", d, shape, t.NumBytes(), len(data)))
	}
	return t, nil
}

// FromFloat32 returns an F32 tensor with a copy of values in row-major order.
func FromFloat32(name string, shape []int, values []float32) (*Tensor, error) {
	data := make([]byte, 4*len(values))
	copyToLittleEndian(data, values)
	return NewTensor(name, F32, shape, data)
}
