package graph

import (
	"fmt"
	"slices"
)

// Param is a constant of the network: a name, dimensions and a way to read the
// values. Values are read when a backend compiles the graph, not before.
type Param struct {
	// Name is the name errors and profiles use.
	Name string
	// Dims are the dimensions, outermost first; values are row-major.
	Dims []int
	// Key identifies the values: parameters with equal keys other than nil hold
	// equal values and equal dimensions, so a backend keeps them once. It is of
	// a comparable type.
	Key any
	// Adapter, unless nil, says what the values are made from, so that they can
	// be replaced while a base stays; reading gives the final values as always.
	Adapter *Adapter

	read func(dst []float32) error
}

// NewParam makes a parameter whose values read fills in. read gets a slice of
// exactly the product of dims and may be called more than once, also
// concurrently.
func NewParam(name string, dims []int, key any, read func(dst []float32) error) *Param {
	return &Param{Name: name, Dims: slices.Clone(dims), Key: key, read: read}
}

// Const makes a parameter of known values, which must not change afterwards.
func Const(name string, dims []int, values []float32) (*Param, error) {
	p := &Param{Name: name, Dims: slices.Clone(dims)}
	if p.Elems() != len(values) {
		return nil, fmt.Errorf("parameter %q: %d values for dimensions %v", name, len(values), dims)
	}
	p.read = func(dst []float32) error { copy(dst, values); return nil }
	return p, nil
}

// Elems is the number of values.
func (p *Param) Elems() int {
	n := 1
	for _, d := range p.Dims {
		n *= d
	}
	return n
}

// Read fills dst, which must hold exactly Elems values.
func (p *Param) Read(dst []float32) error {
	if len(dst) != p.Elems() {
		return fmt.Errorf("parameter %q %v: destination holds %d values", p.Name, p.Dims, len(dst))
	}
	if p.read == nil {
		return fmt.Errorf("parameter %q %v has no values", p.Name, p.Dims)
	}
	if err := p.read(dst); err != nil {
		return fmt.Errorf("parameter %q: %w", p.Name, err)
	}
	return nil
}

// Values reads the parameter into a new slice.
func (p *Param) Values() ([]float32, error) {
	v := make([]float32, p.Elems())
	return v, p.Read(v)
}

// is reports whether the parameter has the given dimensions; trailing ones are
// ignored, so that a 1×1 convolution may be stored as a matrix.
func (p *Param) is(dims ...int) bool {
	return slices.Equal(trimOnes(p.Dims), trimOnes(dims))
}

func trimOnes(d []int) []int {
	for len(d) > 0 && d[len(d)-1] == 1 {
		d = d[:len(d)-1]
	}
	return d
}

// holds reports whether a vector parameter has n values, however many unit
// dimensions surround them.
func (p *Param) holds(n int) bool { return p.Elems() == n }
