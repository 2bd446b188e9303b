package weights

import "fmt"

// NewComputed returns an F32 tensor whose values fill computes whenever they are read: fill writes the len(dst) values
// from the first on, in row-major order, and must give the same ones every time, also when called from several
// goroutines. key is of a comparable type; tensors with equal keys must have equal values.
func NewComputed(name string, shape []int, key any, fill func(dst []float32, first int) error) (*Tensor, error) {
	t, err := newTensor(name, F32, append([]int{}, shape...), &computed{key, fill})
	if err != nil {
		return nil, fmt.Errorf("tensor %q: %w", name, err)
	}
	return t, nil
}

// computed is the content of a tensor that is stored nowhere.
type computed struct {
	id   any
	fill func(dst []float32, first int) error
}

type computedKey struct{ id any }

func (c *computed) key() StorageKey { return StorageKey{owner: computedKey{c.id}, dtype: F32} }

func (c *computed) view() ([]byte, func(), bool, error) { return nil, nil, false, nil }

func (c *computed) span(first, n int, scratch *[]byte, fn func([]byte) error) error {
	values := make([]float32, n)
	if err := c.fill(values, first); err != nil {
		return err
	}
	data := grow(scratch, n*F32.Size())
	copyToLittleEndian(data, values)
	return fn(data)
}
