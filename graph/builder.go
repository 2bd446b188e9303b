package graph

import (
	"errors"
	"fmt"
)

// Builder collects the nodes of a graph. The first error sticks: later verbs
// do nothing and return a placeholder, and Build reports the error with the
// node it came from. A Builder serves one goroutine.
type Builder struct {
	g      Graph
	err    error
	trace  func(name string) bool
	names  map[string]int
	nodeOf map[*Tensor]bool
}

// NewBuilder starts a graph. Tensors given to Trace whose name trace accepts
// become outputs; a nil trace accepts none.
func NewBuilder(name string, trace func(name string) bool) *Builder {
	return &Builder{g: Graph{Name: name}, trace: trace, names: map[string]int{}, nodeOf: map[*Tensor]bool{}}
}

// Err is the first error so far.
func (b *Builder) Err() error { return b.err }

// Fail makes err the builder's error unless it has one.
func (b *Builder) Fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// Traces reports whether Trace would make an output of that name, so that a
// model spends nodes on values between fused steps only when they are wanted.
func (b *Builder) Traces(name string) bool { return b.trace != nil && b.trace(name) }

// Build ends the graph. Nodes whose results nothing reads are dropped.
func (b *Builder) Build() (*Graph, error) {
	if b.err == nil && len(b.g.Outputs) == 0 {
		b.err = errors.New("no output")
	}
	if b.err != nil {
		return nil, fmt.Errorf("build %s: %w", b.g.Name, b.err)
	}
	g := b.g
	g.Nodes = live(g.Nodes)
	g.Tensors = nil
	for i, n := range g.Nodes {
		n.ID = i
		for _, t := range n.Outputs {
			t.ID = len(g.Tensors)
			g.Tensors = append(g.Tensors, t)
		}
	}
	return &g, nil
}

// live keeps imports, exports and what exports depend on.
func live(nodes []*Node) []*Node {
	needed := map[*Node]bool{}
	for i := len(nodes) - 1; i >= 0; i-- {
		n := nodes[i]
		switch n.Op.(type) {
		case *Export, *Import:
			needed[n] = true
		}
		if needed[n] {
			for _, t := range n.Op.Inputs() {
				needed[t.Producer] = true
			}
		}
	}
	var kept []*Node
	for _, n := range nodes {
		if needed[n] {
			kept = append(kept, n)
		}
	}
	return kept
}

// Add appends an operation under a name and returns its results. Names need
// not be unique; later ones get a number.
func (b *Builder) Add(name string, op Op) []*Tensor {
	if b.err == nil {
		b.err = b.check(op)
	}
	var out []Shape
	if b.err == nil {
		out, b.err = op.shapes()
		for _, s := range out {
			if b.err == nil {
				b.err = s.check()
			}
		}
		if b.err != nil {
			b.err = fmt.Errorf("node %q (%s): %w", name, op.Kind(), b.err)
		}
	}
	if b.err != nil {
		return []*Tensor{{Name: name}, {Name: name}}
	}
	n := &Node{Name: b.unique(name), Op: op, Cost: op.cost(out)}
	for i, s := range out {
		t := &Tensor{Name: n.Name, Shape: s, Producer: n}
		if i > 0 {
			t.Name = fmt.Sprintf("%s#%d", n.Name, i)
		}
		b.nodeOf[t] = true
		n.Outputs = append(n.Outputs, t)
	}
	b.g.Nodes = append(b.g.Nodes, n)
	return n.Outputs
}

func (b *Builder) check(op Op) error {
	for _, t := range op.Inputs() {
		if !b.nodeOf[t] {
			return fmt.Errorf("%s reads tensor %q of another graph", op.Kind(), t.Name)
		}
	}
	for _, p := range op.Params() {
		if p == nil { // which the operation's own check reports
			continue
		}
		if err := p.Adapter.check(p); err != nil {
			return err
		}
	}
	return nil
}

func (b *Builder) unique(name string) string {
	b.names[name]++
	if k := b.names[name]; k > 1 {
		return b.unique(fmt.Sprintf("%s~%d", name, k))
	}
	return name
}

// Counted sets the multiply-adds of the node that produced t to what the
// network's definition counts, where folded weights make the node cheaper.
func (b *Builder) Counted(t *Tensor, macs int64) {
	if b.err == nil {
		t.Producer.Cost.MACs = macs
	}
}

// Input adds an input port.
func (b *Builder) Input(name string, s Shape, l Layout) *Tensor {
	if _, err := b.g.input(name); err == nil {
		b.Fail(fmt.Errorf("input %q is given twice", name))
	}
	t := b.Add(name, &Import{Port: len(b.g.Inputs), Shape: s, Layout: l})[0]
	b.g.Inputs = append(b.g.Inputs, Port{name, s, l})
	return t
}

// Output adds an output port that receives t.
func (b *Builder) Output(name string, t *Tensor, l Layout) {
	if _, err := b.g.Output(name); err == nil {
		b.Fail(fmt.Errorf("output %q is given twice", name))
	}
	b.Add("output:"+name, &Export{X: t, Port: len(b.g.Outputs), Layout: l})
	b.g.Outputs = append(b.g.Outputs, Port{name, t.Shape, l})
}

// TracePrefix begins the names of the output ports that Trace adds.
const TracePrefix = "trace/"

// Trace makes t an output named TracePrefix+name when the builder traces that
// name; otherwise it does nothing.
func (b *Builder) Trace(name string, t *Tensor, l Layout) {
	if b.Traces(name) {
		b.Output(TracePrefix+name, t, l)
	}
}

// Conv adds a convolution without a Gram matrix.
func (b *Builder) Conv(name string, c Conv) *Tensor { return b.Add(name, &c)[0] }

// ConvGram adds a convolution that ends in a Gram matrix and returns what it
// writes and the matrix.
func (b *Builder) ConvGram(name string, c Conv) (y, gram *Tensor) { return b.two(name, &c) }

// Depthwise adds a depthwise convolution with one result.
func (b *Builder) Depthwise(name string, d Depthwise) *Tensor { return b.Add(name, &d)[0] }

// DepthwisePool adds a depthwise convolution that also averages its result.
func (b *Builder) DepthwisePool(name string, d Depthwise) (y, mean *Tensor) {
	d.Pool = true
	return b.two(name, &d)
}

// DepthwiseGram adds a depthwise convolution that ends in a Gram matrix.
func (b *Builder) DepthwiseGram(name string, d Depthwise) (y, gram *Tensor) {
	return b.two(name, &d)
}

// Fold adds an attention fold.
func (b *Builder) Fold(name string, f Fold) *Tensor { return b.Add(name, &f)[0] }

// WindowAttention adds attention inside windows.
func (b *Builder) WindowAttention(name string, a WindowAttention) *Tensor { return b.Add(name, &a)[0] }

// Attention adds attention over a token sequence.
func (b *Builder) Attention(name string, a Attention) *Tensor { return b.Add(name, &a)[0] }

// Pool adds a mean over a sliding window.
func (b *Builder) Pool(name string, p Pool) *Tensor { return b.Add(name, &p)[0] }

// ChannelNorm adds a normalisation by itself.
func (b *Builder) ChannelNorm(name string, n ChannelNorm) *Tensor { return b.Add(name, &n)[0] }

// RescaleNorm adds image statistics and returns the affine maps for before and
// after the layer.
func (b *Builder) RescaleNorm(name string, r RescaleNorm) (before, after *Tensor) {
	return b.two(name, &r)
}

// Pad adds a border.
func (b *Builder) Pad(name string, p Pad) *Tensor {
	if p.Top|p.Left|p.Bottom|p.Right == 0 {
		return p.X
	}
	return b.Add(name, &p)[0]
}

// Crop cuts a rectangle; cutting nothing away adds no node.
func (b *Builder) Crop(name string, c Crop) *Tensor {
	if s := c.X.Shape; c.Y == 0 && c.X0 == 0 && c.H == s.H && c.W == s.W {
		return c.X
	}
	return b.Add(name, &c)[0]
}

// Concat joins channels.
func (b *Builder) Concat(name string, x, y *Tensor) *Tensor {
	return b.Add(name, &Concat{x, y})[0]
}

// Tokens makes a token sequence of patches.
func (b *Builder) Tokens(name string, t Tokens) *Tensor { return b.Add(name, &t)[0] }

// MulAdd adds x·y + z.
func (b *Builder) MulAdd(name string, x, y, z *Tensor) *Tensor {
	return b.Add(name, &MulAdd{x, y, z})[0]
}

// Sum adds x + y.
func (b *Builder) Sum(name string, x, y *Tensor) *Tensor {
	return b.Add(name, &MulAdd{A: x, C: y})[0]
}

// SoftReconstruction adds K·X - B + X.
func (b *Builder) SoftReconstruction(name string, x, kb *Tensor) *Tensor {
	return b.Add(name, &SoftReconstruction{x, kb})[0]
}

// DeformConv adds a deformable convolution.
func (b *Builder) DeformConv(name string, d DeformConv) *Tensor { return b.Add(name, &d)[0] }

// Prompt adds a weighted sum of prompt components.
func (b *Builder) Prompt(name string, p Prompt) *Tensor { return b.Add(name, &p)[0] }

// Resize adds a bilinear interpolation; the size that X has adds no node.
func (b *Builder) Resize(name string, r Resize) *Tensor {
	if r.X.Shape.H == r.H && r.X.Shape.W == r.W {
		return r.X
	}
	return b.Add(name, &r)[0]
}

// Route adds a decision.
func (b *Builder) Route(name string, r Route) *Tensor { return b.Add(name, &r)[0] }

// Sigmoid adds 1/(1+exp(-x)).
func (b *Builder) Sigmoid(name string, x *Tensor) *Tensor { return b.Add(name, &Sigmoid{X: x})[0] }

// SelectiveKernel adds a blend of two branches.
func (b *Builder) SelectiveKernel(name string, s SelectiveKernel) *Tensor {
	return b.Add(name, &s)[0]
}

// two adds an operation that must have two results.
func (b *Builder) two(name string, op Op) (first, second *Tensor) {
	t := b.Add(name, op)
	if len(t) != 2 {
		b.Fail(fmt.Errorf("node %q (%s): %d results where 2 are wanted", name, op.Kind(), len(t)))
		return t[0], t[0]
	}
	return t[0], t[1]
}
