package graph

import (
	"fmt"
	"reflect"
	"slices"
)

// Adapter says how an adapted parameter came about, so that a backend can
// replace it by that of another adapter and leave what both share where it is.
// The parameter itself reads as the final values; the Adapter is one way to
// get there.
type Adapter struct {
	// Base is the parameter without the adapter, of the same dimensions. It is
	// nil for a parameter that every adapter has for itself, as the factors of a
	// normalisation beside adapted convolutions; A and B are then nil as well.
	Base *Param
	// A [inner, columns] and B [rows, inner] are low-rank factors: Scale·B·A, read
	// row by row as the parameter's dimensions, is what the adapter adds to Base
	// (loralib's ConvLoRA, after Hu et al., arXiv:2106.09685).
	A, B  *Param
	Scale float32
}

// LowRank reports whether the parameter is its adapter's base and a product.
func (a *Adapter) LowRank() bool { return a != nil && a.Base != nil }

// check reports an adapter that does not fit its parameter.
func (a *Adapter) check(p *Param) error {
	switch {
	case a == nil || a.Base == nil && a.A == nil && a.B == nil:
		return nil
	case a.Base == nil || a.A == nil || a.B == nil:
		return fmt.Errorf("parameter %q: a low-rank adapter needs a base and two factors", p.Name)
	case !slices.Equal(a.Base.Dims, p.Dims):
		return fmt.Errorf("parameter %q %v: its base is %v", p.Name, p.Dims, a.Base.Dims)
	case len(a.A.Dims) != 2 || len(a.B.Dims) != 2 || a.A.Dims[0] != a.B.Dims[1] || a.B.Dims[0]*a.A.Dims[1] != p.Elems():
		return fmt.Errorf("parameter %q %v: factors %v and %v do not fit", p.Name, p.Dims, a.A.Dims, a.B.Dims)
	}
	return nil
}

// Adapted reports whether some parameter of the graph has an Adapter.
func (g *Graph) Adapted() bool {
	return slices.ContainsFunc(g.Params(), func(p *Param) bool { return p.Adapter != nil })
}

// CheckSwitch reports, as an error, the first thing besides the values of
// adapters in which two graphs differ: a node, an option, a tensor's shape, the
// dimensions of a factor, or a parameter or base that is not known by its key
// to have the same values in both. Names do not matter.
func CheckSwitch(from, to *Graph) error {
	if len(from.Nodes) != len(to.Nodes) {
		return fmt.Errorf("%d nodes and %d", len(from.Nodes), len(to.Nodes))
	}
	if !slices.Equal(from.Inputs, to.Inputs) || !slices.Equal(from.Outputs, to.Outputs) {
		return fmt.Errorf("the ports differ")
	}
	for i, n := range from.Nodes {
		m := to.Nodes[i]
		if err := differ(reflect.ValueOf(n.Op), reflect.ValueOf(m.Op)); err != nil {
			return fmt.Errorf("node %q: %w", n.Name, err)
		}
		if !slices.EqualFunc(n.Outputs, m.Outputs, func(a, b *Tensor) bool { return a.Shape == b.Shape }) {
			return fmt.Errorf("node %q: the shapes of its results differ", n.Name)
		}
	}
	return nil
}

// differ compares two values of an operation by what they mean.
func differ(a, b reflect.Value) error {
	if a.Type() != b.Type() {
		return fmt.Errorf("%v and %v", a.Type(), b.Type())
	}
	switch a.Kind() {
	case reflect.Interface, reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			if a.IsNil() != b.IsNil() {
				return fmt.Errorf("one is absent")
			}
			return nil
		}
		if a.CanInterface() {
			switch v := a.Interface().(type) {
			case *Tensor:
				if w := b.Interface().(*Tensor); v.ID != w.ID {
					return fmt.Errorf("tensor %q and %q", v.Name, w.Name)
				}
				return nil
			case *Param:
				return v.differ(b.Interface().(*Param))
			}
		}
		return differ(a.Elem(), b.Elem())
	case reflect.Struct:
		for i := range a.NumField() {
			if err := differ(a.Field(i), b.Field(i)); err != nil {
				return fmt.Errorf("%s: %w", a.Type().Field(i).Name, err)
			}
		}
		return nil
	case reflect.Slice, reflect.Array:
		if a.Len() != b.Len() {
			return fmt.Errorf("%d and %d", a.Len(), b.Len())
		}
		for i := range a.Len() {
			if err := differ(a.Index(i), b.Index(i)); err != nil {
				return fmt.Errorf("%d: %w", i, err)
			}
		}
		return nil
	}
	if !a.Equal(b) {
		return fmt.Errorf("%v and %v", a, b)
	}
	return nil
}

// differ compares two parameters in the same place of two graphs.
func (p *Param) differ(q *Param) error {
	if !slices.Equal(p.Dims, q.Dims) {
		return fmt.Errorf("%q %v and %q %v", p.Name, p.Dims, q.Name, q.Dims)
	}
	a, b := p.Adapter, q.Adapter
	switch {
	case (a == nil) != (b == nil) || a.LowRank() != b.LowRank():
		return fmt.Errorf("%q and %q: only one is adapted", p.Name, q.Name)
	case a == nil:
		return p.same(q)
	case !a.LowRank():
		return nil
	case !slices.Equal(a.A.Dims, b.A.Dims) || !slices.Equal(a.B.Dims, b.B.Dims):
		return fmt.Errorf("%q: factors %v, %v and %v, %v", p.Name, a.A.Dims, a.B.Dims, b.A.Dims, b.B.Dims)
	}
	return a.Base.same(b.Base)
}

// same reports, as an error, that two parameters may have different values.
func (p *Param) same(q *Param) error {
	if p == q || p.Key != nil && p.Key == q.Key {
		return nil
	}
	return fmt.Errorf("%q may have other values than %q", p.Name, q.Name)
}
