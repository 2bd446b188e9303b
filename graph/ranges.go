package graph

import (
	"fmt"
)

// Ranges say how large what flows in a network becomes: the largest magnitudes seen on calibration pictures. Names are
// those of a graph's tensors and nodes, which do not depend on its size.
type Ranges struct {
	// Tensors holds one value a tensor; one for each part where Parts gives several.
	Tensors map[string][]float32 `json:"tensors"`
	// Weights holds, by node, one value for a convolution's weights with the factors of the normalisation in front; one for
	// each half in front of a gate, and three for q, k and the rest where a Gram matrix is made or attention follows.
	Weights map[string][]float32 `json:"weights,omitempty"`
}

// NewRanges makes ranges that know nothing.
func NewRanges() *Ranges {
	return &Ranges{Tensors: map[string][]float32{}, Weights: map[string][]float32{}}
}

// known reports whether anything is known.
func (r *Ranges) known() bool { return r != nil && len(r.Tensors) > 0 }

// Merge takes the larger of both, as for experts that share weights; the receiver changes.
func (r *Ranges) Merge(o *Ranges) {
	if o == nil {
		return
	}
	widest := func(to, from map[string][]float32) {
		for name, v := range from {
			have := to[name]
			if len(have) != len(v) {
				to[name] = v
				continue
			}
			all := make([]float32, len(v))
			for i := range v {
				all[i] = max(have[i], v[i])
			}
			to[name] = all
		}
	}
	widest(r.Tensors, o.Tensors)
	widest(r.Weights, o.Weights)
}

// Segments are runs of a tensor's channels that may have scales of their own: the sizes add up to its channels.
// ConvSegments gives those of a convolution's filters: the halves in front of a gate, or q, k and the rest.
func convSegments(filters int, gate Gate, gram *Gram) []int {
	switch {
	case gate != NoGate:
		return []int{filters / 2, filters / 2}
	case gram != nil:
		return []int{gram.C, gram.C, filters - 2*gram.C}
	}
	return []int{filters}
}

// Segments gives, for every node that is a convolution, dense or depthwise, the runs of its filters for which Ranges hold
// a value each; nil for other nodes.
func (g *Graph) Segments() map[*Node][]int {
	all := map[*Node][]int{}
	parts := g.Parts()
	for _, n := range g.Nodes {
		switch op := firstOp(n.Op).(type) {
		case *Conv:
			if all[n] = parts[n.Outputs[0]]; all[n] == nil {
				all[n] = convSegments(op.COut(), op.Gate, op.Gram)
			}
		case *Depthwise:
			all[n] = convSegments(op.X.Shape.C, op.Gate, op.Gram)
		}
	}
	return all
}

// firstOp is the operation, or that of the first image.
func firstOp(op Op) Op {
	if e, ok := op.(*EachImage); ok && len(e.Ops) > 0 {
		return e.Ops[0]
	}
	return op
}

// parted finds the tensors whose runs of channels may have powers of their own: a convolution made them which scales with
// its weights, channel by channel, and the one node that reads them takes runs apart. That is attention, of q, k and v; or
// a depthwise convolution in front of a gate or a Gram matrix.
func (g *Graph) parted() map[*Tensor]*Node {
	readers := map[*Tensor][]*Node{}
	for _, n := range g.Nodes {
		for _, t := range n.Op.Inputs() {
			readers[t] = append(readers[t], n)
		}
	}
	all := map[*Tensor]*Node{}
	for _, n := range g.Nodes {
		var x *Tensor
		switch op := firstOp(n.Op).(type) {
		case *Attention:
			x = op.QKV
		case *WindowAttention:
			x = op.QKV
		case *Depthwise:
			if op.Gate != NoGate || op.Gram != nil {
				x = op.X
			}
		}
		if x == nil || len(readers[x]) != 1 {
			continue
		}
		c, ok := firstOp(x.Producer.Op).(*Conv)
		if ok && c.Act == Identity && c.Gate == NoGate && c.Gram == nil && c.Dynamic == nil && c.Residual == nil &&
			c.Scale == nil && c.OutAffine == nil && c.Shuffle == 0 {
			all[x] = n
		}
	}
	return all
}

// Parts gives the runs of channels, of the tensors that have several, for which Ranges hold a value each.
func (g *Graph) Parts() map[*Tensor][]int {
	all := map[*Tensor][]int{}
	for t, n := range g.parted() {
		if op, ok := firstOp(n.Op).(*Depthwise); ok {
			all[t] = convSegments(t.Shape.C, op.Gate, op.Gram)
		} else {
			all[t] = []int{t.Shape.C / 3, t.Shape.C / 3, t.Shape.C / 3}
		}
	}
	return all
}

// Observed gives a graph that also has an output for each of some tensors, in the order of names, in the host's NHWC
// order, so that a backend shows what flows inside. A name may be that of a tensor or a [GramRange].
func (g *Graph) Observed(names []string) (*Graph, error) {
	wanted := map[string]int{}
	for i, n := range names {
		wanted[n] = i
	}
	o := *g
	o.Nodes, o.Tensors, o.Ranges = nil, nil, nil
	o.Outputs = append([]Port{}, g.Outputs...)
	first := len(o.Outputs)
	o.Outputs = append(o.Outputs, make([]Port, len(names))...)
	seen := make([]bool, len(names))
	tensors := map[int]*Tensor{}
	place := func(t *Tensor) *Tensor { return tensors[t.ID] }
	add := func(name string, op Op, cost Cost, outs []*Tensor) {
		n := &Node{ID: len(o.Nodes), Name: name, Op: op, Cost: cost}
		for _, t := range outs {
			t.ID, t.Producer = len(o.Tensors), n
			o.Tensors = append(o.Tensors, t)
			n.Outputs = append(n.Outputs, t)
		}
		o.Nodes = append(o.Nodes, n)
	}
	show := func(name string, t *Tensor) {
		i, ok := wanted[name]
		if !ok || seen[i] {
			return
		}
		seen[i] = true
		o.Outputs[first+i] = Port{Name: "observed " + name, Shape: t.Shape, Layout: NHWC}
		add("observe "+name, &Export{X: t, Port: first + i, Layout: NHWC}, Cost{}, nil)
	}
	for _, n := range g.Nodes {
		var op Op
		if e, ok := n.Op.(*EachImage); ok {
			each := &EachImage{}
			for _, one := range e.Ops {
				each.Ops = append(each.Ops, withTensors(one, place))
			}
			op = each
		} else {
			op = withTensors(n.Op, place)
		}
		var outs []*Tensor
		for _, t := range n.Outputs {
			c := *t
			tensors[t.ID] = &c
			outs = append(outs, &c)
		}
		add(n.Name, op, n.Cost, outs)
		for _, t := range outs {
			show(t.Name, t)
		}
		if _, ok := wanted[GramRange(n)]; ok {
			if whole := withoutGram(op); whole != nil {
				s := outs[0].Shape
				s.C = wholeChannels(whole)
				t := &Tensor{Name: GramRange(n), Shape: s}
				add(GramRange(n), whole, Cost{}, []*Tensor{t})
				show(GramRange(n), t)
			}
		}
	}
	for i, ok := range seen {
		if !ok {
			return nil, fmt.Errorf("observe %s: no tensor %q", g.Name, names[i])
		}
	}
	return &o, nil
}

// withoutGram is an operation that writes the channels which the given one makes a Gram matrix of.
func withoutGram(op Op) Op {
	switch op := op.(type) {
	case *Conv:
		c := *op
		c.Gram = nil
		return &c
	case *Depthwise:
		c := *op
		c.Gram = nil
		return &c
	case *EachImage:
		each := &EachImage{}
		for _, one := range op.Ops {
			whole := withoutGram(one)
			if whole == nil {
				return nil
			}
			each.Ops = append(each.Ops, whole)
		}
		return each
	}
	return nil
}

func wholeChannels(op Op) int {
	switch op := firstOp(op).(type) {
	case *Conv:
		return op.COut()
	case *Depthwise:
		return op.X.Shape.C
	}
	return 0
}

// Gram gives the segments of what a node makes a Gram matrix of: q, k and the rest; nil for nodes that make none.
func (n *Node) Gram() []int {
	switch op := firstOp(n.Op).(type) {
	case *Conv:
		if op.Gram != nil {
			return convSegments(op.COut(), NoGate, op.Gram)
		}
	case *Depthwise:
		if op.Gram != nil {
			return convSegments(op.X.Shape.C, NoGate, op.Gram)
		}
	}
	return nil
}
