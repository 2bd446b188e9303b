package graph

import (
	"fmt"
	"reflect"
	"slices"
)

// EachImage computes a batch image by image, each with parameters of its own:
// image i of the results is what Ops[i] makes of image i of the tensors it
// reads. The operations are of one type, read the same tensors and give results
// of the same shapes; they name the tensors of the whole batch.
//
// Backends compute [EachImage.Image] of every image as they would compute a
// node for a batch of one. Weights that operations have in common are shared by
// their keys, as between programs.
type EachImage struct {
	Ops []Op
}

// Kind implements Op: that of the operations.
func (e *EachImage) Kind() string {
	if len(e.Ops) == 0 {
		return "each-image"
	}
	return e.Ops[0].Kind()
}

// Inputs implements Op.
func (e *EachImage) Inputs() []*Tensor {
	if len(e.Ops) == 0 {
		return nil
	}
	return e.Ops[0].Inputs()
}

// Params implements Op.
func (e *EachImage) Params() []*Param {
	var all []*Param
	seen := map[*Param]bool{}
	for _, op := range e.Ops {
		for _, p := range op.Params() {
			if !seen[p] {
				seen[p] = true
				all = append(all, p)
			}
		}
	}
	return all
}

func (e *EachImage) shapes() ([]Shape, error) {
	if len(e.Ops) == 0 {
		return nil, fmt.Errorf("no images")
	}
	var first []Shape
	for i, op := range e.Ops {
		if reflect.TypeOf(op) != reflect.TypeOf(e.Ops[0]) {
			return nil, fmt.Errorf("image %d: %T beside %T", i, op, e.Ops[0])
		}
		switch op.(type) {
		case *Import, *Export, *EachImage:
			return nil, fmt.Errorf("image %d: %T cannot be split by image", i, op)
		}
		for _, t := range op.Inputs() {
			if t.Shape.N != len(e.Ops) {
				return nil, fmt.Errorf("image %d: tensor %q has %d images, there are %d operations", i, t.Name, t.Shape.N, len(e.Ops))
			}
		}
		if !slices.Equal(op.Inputs(), e.Inputs()) {
			return nil, fmt.Errorf("image %d reads other tensors than image 0", i)
		}
		s, err := op.shapes()
		if err != nil {
			return nil, fmt.Errorf("image %d: %w", i, err)
		}
		if i == 0 {
			first = s
		}
		if !slices.Equal(s, first) {
			return nil, fmt.Errorf("image %d gives %v, image 0 %v", i, s, first)
		}
	}
	for _, s := range first {
		if s.N != len(e.Ops) {
			return nil, fmt.Errorf("a result of %v for %d images", s, len(e.Ops))
		}
	}
	return first, nil
}

// cost is the mean of what each operation would cost for the whole batch.
func (e *EachImage) cost(out []Shape) Cost {
	var sum Cost
	for _, op := range e.Ops {
		sum = sum.Add(op.cost(out))
	}
	n := int64(len(e.Ops))
	return Cost{sum.MACs / n, sum.AttentionMACs / n, sum.Executed / n}
}

// Image is the node that computes image i of n, whose operation is e: its
// operation reads, and its outputs are, views of one image of n's tensors.
func (e *EachImage) Image(n *Node, i int) *Node {
	views := map[*Tensor]*Tensor{}
	view := func(t *Tensor) *Tensor {
		if views[t] == nil {
			v := *t
			v.Shape.N, v.image = 1, i
			views[t] = &v
		}
		return views[t]
	}
	one := &Node{ID: n.ID, Name: fmt.Sprintf("%s[%d]", n.Name, i), Op: withTensors(e.Ops[i], view)}
	k := int64(len(e.Ops))
	one.Cost = Cost{n.Cost.MACs / k, n.Cost.AttentionMACs / k, n.Cost.Executed / k}
	for _, t := range n.Outputs {
		one.Outputs = append(one.Outputs, view(t))
	}
	return one
}

// Image is which image of the tensor of the same ID a view is; 0 for tensors of
// a graph, which are whole. The views of a tensor lie one after the other in
// memory, as images of a batch do.
func (t *Tensor) Image() int { return t.image }

// withTensors copies an operation with other tensors in the places of its own.
func withTensors(op Op, to func(*Tensor) *Tensor) Op {
	from := reflect.ValueOf(op).Elem()
	changed := reflect.New(from.Type())
	changed.Elem().Set(from)
	for i := range from.NumField() {
		f := changed.Elem().Field(i)
		if !f.CanSet() {
			continue
		}
		if t, ok := f.Interface().(*Tensor); ok && t != nil {
			f.Set(reflect.ValueOf(to(t)))
		}
	}
	return changed.Interface().(Op)
}
