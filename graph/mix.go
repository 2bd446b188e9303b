package graph

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// Mix makes one graph of several for batches whose images need different
// parameters: image i is computed as graphs[choice[i]] would. The graphs are of
// one network for len(choice) images; they may differ in parameters, and in the
// ranks of low-rank branches.
//
// Nodes whose parameters are known to be equal, by their keys, stay one node
// for the whole batch; so do convolutions that differ in their low-rank branch
// alone, which is then chosen by image. The others become [EachImage].
func Mix(name string, graphs []*Graph, choice []int) (*Graph, error) {
	m := &mixer{graphs: graphs, choice: choice}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("mix %s: %w", name, err)
	}
	first := graphs[0]
	b := NewBuilder(name, nil)
	m.tensors = map[*Tensor]*Tensor{}
	for i, n := range first.Nodes {
		op, err := m.node(i)
		if err != nil {
			return nil, fmt.Errorf("mix %s: %s (%s): %w", name, n.Name, n.Op.Kind(), err)
		}
		for j, t := range b.Add(n.Name, op)[:len(n.Outputs)] {
			m.tensors[n.Outputs[j]] = t
		}
		if b.Err() != nil {
			break
		}
		// What the network's definition counts, where builders said so.
		added := b.g.Nodes[len(b.g.Nodes)-1]
		added.Cost.MACs, added.Cost.AttentionMACs = n.Cost.MACs, n.Cost.AttentionMACs
	}
	b.g.Inputs, b.g.Outputs = slices.Clone(first.Inputs), slices.Clone(first.Outputs)
	for i, g := range graphs {
		if g.Ranges.known() && slices.Contains(choice, i) {
			if b.g.Ranges == nil {
				b.g.Ranges = NewRanges()
			}
			b.g.Ranges.Merge(g.Ranges)
		}
	}
	return b.Build()
}

type mixer struct {
	graphs  []*Graph
	choice  []int
	tensors map[*Tensor]*Tensor // of the first graph to those of the result
}

// check reports graphs that are not of one network.
func (m *mixer) check() error {
	if len(m.graphs) == 0 || len(m.choice) == 0 {
		return errors.New("no graphs or no images")
	}
	for i, c := range m.choice {
		if c < 0 || c >= len(m.graphs) {
			return fmt.Errorf("image %d: graph %d is not one of %d", i, c, len(m.graphs))
		}
	}
	first := m.graphs[0]
	for _, p := range slices.Concat(first.Inputs, first.Outputs) {
		if p.Shape.N != len(m.choice) {
			return fmt.Errorf("port %q is for %d images, %d are given", p.Name, p.Shape.N, len(m.choice))
		}
	}
	for i, g := range m.graphs {
		if g.Adapted() {
			return fmt.Errorf("graph %d (%s) has adapters to be switched", i, g.Name)
		}
	}
	for i, g := range m.graphs[1:] {
		if !slices.Equal(g.Inputs, first.Inputs) || !slices.Equal(g.Outputs, first.Outputs) || len(g.Nodes) != len(first.Nodes) {
			return fmt.Errorf("graph %d (%s) is of another network than graph 0 (%s)", i+1, g.Name, first.Name)
		}
		for j, n := range g.Nodes {
			want := first.Nodes[j]
			if reflect.TypeOf(n.Op) != reflect.TypeOf(want.Op) || !slices.EqualFunc(n.Op.Inputs(), want.Op.Inputs(), sameTensor) ||
				!slices.EqualFunc(n.Outputs, want.Outputs, sameTensor) {
				return fmt.Errorf("graph %d: node %q is not of the form of %q in graph 0", i+1, n.Name, want.Name)
			}
		}
	}
	return nil
}

func sameTensor(a, b *Tensor) bool { return a.ID == b.ID && a.Shape == b.Shape }

// node makes the operation of node i.
func (m *mixer) node(i int) (Op, error) {
	place := func(t *Tensor) *Tensor { return m.tensors[m.graphs[0].Tensors[t.ID]] }
	ops := make([]Op, len(m.graphs))
	for g, from := range m.graphs {
		ops[g] = withTensors(from.Nodes[i].Op, place)
	}
	shared := true
	for _, c := range m.choice {
		shared = shared && differ(reflect.ValueOf(ops[c]), reflect.ValueOf(ops[m.choice[0]])) == nil
	}
	if shared {
		return ops[m.choice[0]], nil
	}
	switch ops[0].(type) {
	case *Import, *Export:
		return nil, errors.New("the ports differ")
	case *Conv:
		if c := m.branched(ops); c != nil {
			return c, nil
		}
	}
	each := &EachImage{}
	for _, c := range m.choice {
		each.Ops = append(each.Ops, ops[c])
	}
	return each, nil
}

// branched makes one convolution of those that differ in the low-rank branch
// alone; nil if they differ in more.
func (m *mixer) branched(ops []Op) Op {
	var plain *Conv
	branches := make([]*LowRank, len(m.choice))
	for i, g := range m.choice {
		c := *ops[g].(*Conv)
		if c.LowRanks != nil {
			return nil
		}
		branches[i], c.LowRank = c.LowRank, nil
		if plain == nil {
			plain = &c
		}
		if differ(reflect.ValueOf(&c), reflect.ValueOf(plain)) != nil {
			return nil
		}
	}
	plain.LowRanks = branches
	return plain
}
