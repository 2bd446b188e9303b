package graph

import "fmt"

// Tensor is the result of a node, or an input of the graph.
type Tensor struct {
	// ID counts a graph's tensors from 0 in order of creation.
	ID int
	// Name is unique within a graph and used in errors and traces.
	Name string
	// Shape is the tensor's extent.
	Shape Shape
	// Producer is the node that writes the tensor.
	Producer *Node

	image int // of a view, see EachImage
}

// Op is what a node computes: one of the pointer types of this package, such
// as *Conv or *WindowAttention. Backends switch on the type.
type Op interface {
	// Kind is a short lower-case name of the operation for profiles.
	Kind() string
	// Inputs lists the tensors read, without nils.
	Inputs() []*Tensor
	// Params lists the constants read, without nils.
	Params() []*Param

	// shapes checks the operation and gives the extents of its results.
	shapes() ([]Shape, error)
	// cost counts the work, given the extents of the results.
	cost(out []Shape) Cost
}

// Node is one step of a graph.
type Node struct {
	// ID is the node's place in execution order.
	ID int
	// Name says what the node is in the network, after upstream's modules where
	// there is one: "encoder_level1.0.attn.qkv".
	Name string
	// Op is the computation.
	Op Op
	// Outputs are the results, at least one except for an Export.
	Outputs []*Tensor
	// Cost is the work of the node.
	Cost Cost
}

// Layout is the order of a host tensor's elements.
type Layout uint8

const (
	// NHWC keeps channels contiguous.
	NHWC Layout = iota
	// NCHW keeps each channel's plane contiguous, as PyTorch does.
	NCHW
)

func (l Layout) String() string { return [...]string{"NHWC", "NCHW"}[l] }

// Port is where a graph meets host memory.
type Port struct {
	// Name is unique among the inputs, or among the outputs.
	Name string
	// Shape is the tensor's extent; Layout is how the host holds it.
	Shape  Shape
	Layout Layout
}

// Graph is a network for one batch and one size.
type Graph struct {
	// Name says what the graph computes.
	Name string
	// Nodes are in execution order.
	Nodes []*Node
	// Tensors are indexed by their ID.
	Tensors []*Tensor
	// Inputs and Outputs are the ports in the order a program takes them.
	Inputs, Outputs []Port
	// Ranges, unless nil, say how large its tensors become; see Scaled.
	Ranges *Ranges
}

// input finds an input port's index by name.
func (g *Graph) input(name string) (int, error) { return findPort(g.Inputs, "input", name) }

// Output finds an output port's index by name.
func (g *Graph) Output(name string) (int, error) { return findPort(g.Outputs, "output", name) }

func findPort(ports []Port, kind, name string) (int, error) {
	for i, p := range ports {
		if p.Name == name {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no %s %q", kind, name)
}

// Params lists the distinct parameters of the graph in order of first use.
func (g *Graph) Params() []*Param {
	seen := map[*Param]bool{}
	var all []*Param
	for _, n := range g.Nodes {
		for _, p := range n.Op.Params() {
			if !seen[p] {
				seen[p] = true
				all = append(all, p)
			}
		}
	}
	return all
}

// Cost is the sum over all nodes.
func (g *Graph) Cost() Cost {
	var c Cost
	for _, n := range g.Nodes {
		c = c.Add(n.Cost)
	}
	return c
}

// CheckRun reports whether host slices fit the graph's ports.
func (g *Graph) CheckRun(inputs, outputs [][]float32) error {
	if err := CheckHost("input", g.Inputs, inputs); err != nil {
		return err
	}
	return CheckHost("output", g.Outputs, outputs)
}

// CheckHost reports whether host slices fit the ports, naming the first that
// does not.
func CheckHost(kind string, ports []Port, data [][]float32) error {
	if len(data) != len(ports) {
		return fmt.Errorf("%d %ss given, the graph has %d", len(data), kind, len(ports))
	}
	for i, p := range ports {
		if len(data[i]) != p.Shape.Elems() {
			return fmt.Errorf("%s %q: %d values, shape %v needs %d", kind, p.Name, len(data[i]), p.Shape, p.Shape.Elems())
		}
	}
	return nil
}
