package graph

import (
	"fmt"
	"image"
	"math"
	"slices"
)

// Statistics lists, in the order in which they are computed, the tensors that are statistics of a whole image: Gram
// matrices of attention across channels, means over all positions, and the affine maps of RescaleNorm. A part of an
// image has others than the whole, so parts that are to match must share them; see Given and Gathered. Means over
// windows smaller than the image are not among them.
func (g *Graph) Statistics() []*Tensor {
	var all []*Tensor
	for _, n := range g.Nodes {
		switch op := n.Op.(type) {
		case *Depthwise:
			if op.Gram != nil || op.Pool {
				all = append(all, n.Outputs[1])
			}
		case *Conv:
			if op.Gram != nil {
				all = append(all, n.Outputs[1])
			}
		case *Pool:
			if kh, kw := op.Window(); kh == op.X.Shape.H && kw == op.X.Shape.W && kh*kw > 1 {
				all = append(all, n.Outputs[0])
			}
		case *RescaleNorm:
			all = append(all, n.Outputs...)
		}
	}
	return all
}

// Given gives a graph for part of an image that reads statistics from inputs of their names instead of computing them.
// The inputs follow the graph's own, in the order of names, as the host's NHWC. What only they needed is dropped.
// [Graph.Observed] gives a graph that shows statistics.
func (g *Graph) Given(names []string) (*Graph, error) {
	out, _, err := g.shared(names, nil, false)
	return out, err
}

// Corrected gives a graph whose statistics are its own plus inputs of their names, which follow the graph's own as the
// host's NHWC, and are shown by outputs that follow the graph's own. names are in the order of Statistics, and so are both.
func (g *Graph) Corrected(names []string) (*Graph, error) {
	out, _, err := g.shared(names, nil, true)
	return out, err
}

// Gathered is Given with further outputs, which are of the positions inside core alone, a rectangle of the graph's first
// input whose sides lie on the network's grid or at the image's end: a Gather joins them to the statistics of an image
// that cores cover. What is around a core is seen, but not counted.
func (g *Graph) Gathered(names []string, core image.Rectangle) (*Graph, *Gather, error) {
	return g.shared(names, &core, false)
}

func (g *Graph) shared(names []string, core *image.Rectangle, corrected bool) (*Graph, *Gather, error) {
	s := &sharing{Builder: NewBuilder(g.Name, nil), core: core, image: g.Inputs[0].Shape, own: len(g.Outputs), gather: &Gather{own: len(g.Outputs)}}
	ports := map[string]int{}
	inputs := slices.Clone(g.Inputs)
	for _, name := range names {
		ports[name] = len(inputs)
		inputs = append(inputs, Port{Name: name, Layout: NHWC})
	}
	tensors := map[*Tensor]*Tensor{}
	place := func(t *Tensor) *Tensor { return tensors[t] }
	s.g.Outputs = slices.Clone(g.Outputs)
	for _, n := range g.Nodes {
		op := withTensors(n.Op, place)
		outs := s.Add(n.Name, op)
		if s.err != nil {
			break
		}
		s.g.Nodes[len(s.g.Nodes)-1].Cost = n.Cost
		var given []string
		for i, t := range n.Outputs {
			tensors[t] = outs[i]
			if port, ok := ports[t.Name]; ok && inputs[port].Shape == (Shape{}) {
				inputs[port].Shape = t.Shape
				tensors[t] = s.Add("given:"+t.Name, &Import{Port: port, Shape: t.Shape, Layout: NHWC})[0]
				if corrected {
					tensors[t] = s.Sum("corrected:"+t.Name, outs[i], tensors[t])
					s.Output("corrected:"+t.Name, tensors[t], NHWC)
				}
				given = append(given, t.Name)
			}
		}
		if len(given) > 0 && core != nil {
			s.show(n, op, outs, given)
		}
	}
	for i, p := range inputs {
		if p.Shape == (Shape{}) {
			s.Fail(fmt.Errorf("no tensor %q", inputs[i].Name))
		}
	}
	s.g.Inputs = inputs
	if core == nil && !corrected { // other tensors than the graph's have no known range
		s.g.Ranges = g.Ranges
	}
	out, err := s.Build()
	return out, s.gather, err
}

// sharing builds the graphs of Given and Gathered.
type sharing struct {
	*Builder
	core   *image.Rectangle
	image  Shape
	own    int // outputs
	gather *Gather
}

// show adds what statistics of a node are joined from.
func (s *sharing) show(n *Node, op Op, outs []*Tensor, names []string) {
	p := &gathered{names: names}
	switch op := op.(type) {
	case *RescaleNorm:
		x := s.inside(n.Name, op.X)
		p.norm = op
		p.mean, p.square = s.mean(n.Name, x), s.meanSquare(n.Name, x)
	case *Pool:
		x := op.X
		if op.X2 != nil { // the mean of the sum
			x = s.Sum(n.Name+":sum", op.X, op.X2)
		}
		p.mean = s.mean(n.Name, s.inside(n.Name, x))
	default:
		gram := gramOf(op)
		if gram == nil {
			p.mean = s.mean(n.Name, s.inside(n.Name, outs[0]))
			break
		}
		// The matrix is normalised by the lengths of its channels in the core, which the mean squares tell.
		qkv := s.inside(n.Name, s.Add(n.Name+":qkv", withoutGram(op))[0])
		c := qkv.Shape.C
		_, own := s.ConvGram(n.Name+":gram", Conv{X: qkv, Weight: identity(c), Gram: gram})
		p.gram = own.Shape
		p.mean, p.square = s.mean(n.Name, qkv), s.meanSquare(n.Name, qkv)
		p.matrix = s.output(n.Name+":matrix", own)
	}
	s.gather.parts = append(s.gather.parts, p)
}

func gramOf(op Op) *Gram {
	switch op := op.(type) {
	case *Conv:
		return op.Gram
	case *Depthwise:
		return op.Gram
	}
	return nil
}

func (s *sharing) output(name string, t *Tensor) int {
	s.Output(name, t, NHWC)
	return len(s.g.Outputs) - 1 - s.own
}

func (s *sharing) mean(name string, x *Tensor) int {
	return s.output(name+":mean", s.Pool(name+":mean", Pool{X: x}))
}

// meanSquare gives the mean of x²+x, which an operation computes that all backends have.
func (s *sharing) meanSquare(name string, x *Tensor) int {
	return s.output(name+":square", s.Pool(name+":square", Pool{X: s.MulAdd(name+":squared", x, x, x)}))
}

// inside cuts the core out of a tensor, whose resolution is the image's or a whole fraction of it.
func (s *sharing) inside(name string, x *Tensor) *Tensor {
	if s.err != nil {
		return x
	}
	c := Crop{X: x, H: x.Shape.H, W: x.Shape.W}
	for _, side := range []struct {
		from, to, image, size int
		at, len               *int
	}{
		{s.core.Min.Y, s.core.Max.Y, s.image.H, x.Shape.H, &c.Y, &c.H},
		{s.core.Min.X, s.core.Max.X, s.image.W, x.Shape.W, &c.X0, &c.W},
	} {
		scale := 1 // networks halve; a side that they had to pad first is no whole fraction
		for scale*side.size < side.image {
			scale *= 2
		}
		*side.at = side.from / scale
		*side.len = side.size - *side.at
		if side.to < side.image { // otherwise to the end, padding too
			*side.len = side.to/scale - *side.at
		}
		if side.from%scale != 0 || side.to < side.image && side.to%scale != 0 {
			s.Fail(fmt.Errorf("%s: a core from %d to %d of %d pixels on a grid of %d of them", name, side.from, side.to, side.image, side.size))
			return x
		}
	}
	return s.Crop(name+":core", c)
}

// identity is the weight of a convolution that changes nothing.
func identity(c int) *Param {
	return NewParam("identity", []int{c, c}, fmt.Sprintf("identity %d", c), func(dst []float32) error {
		clear(dst)
		for i := range c {
			dst[i*c+i] = 1
		}
		return nil
	})
}

// Gather joins statistics of the parts of an image. It serves one goroutine.
type Gather struct {
	own   int
	parts []*gathered
	area  float64
}

// Empty gives a Gather for other parts of the image.
func (s *Gather) Empty() *Gather {
	e := &Gather{own: s.own}
	for _, p := range s.parts {
		q := *p
		q.means, q.squares, q.products = nil, nil, nil
		e.parts = append(e.parts, &q)
	}
	return e
}

// gathered is what one node's statistics are joined from: places of outputs, and sums over cores.
type gathered struct {
	names                []string
	norm                 *RescaleNorm
	gram                 Shape
	mean, square, matrix int

	means, squares, products []float64
}

// Add takes the outputs of a run of a graph that [Graph.Gathered] gave, or would have given for another core, and the
// pixels in its core.
func (s *Gather) Add(outputs [][]float32, pixels int) {
	outputs = outputs[s.own:]
	area := float64(pixels)
	s.area += area
	for _, p := range s.parts {
		means := outputs[p.mean]
		add(&p.means, len(means), func(i int) float64 { return area * float64(means[i]) })
		if p.norm == nil && p.gram.C == 0 {
			continue
		}
		both := outputs[p.square]
		square := func(i int) float64 { return max(0, float64(both[i])-float64(means[i])) }
		add(&p.squares, len(both), func(i int) float64 { return area * square(i) })
		if p.gram.C > 0 {
			matrix := outputs[p.matrix]
			add(&p.products, len(matrix), func(i int) float64 {
				q, k := p.channels(i)
				return area * float64(matrix[i]) * math.Sqrt(square(q)*square(k))
			})
		}
	}
}

func add(to *[]float64, n int, value func(i int) float64) {
	if *to == nil {
		*to = make([]float64, n)
	}
	for i := range *to {
		(*to)[i] += value(i)
	}
}

// channels are those whose product entry i of a Gram matrix is, among q, k and the rest.
func (p *gathered) channels(i int) (q, k int) {
	d := p.gram.C
	h := i / (d * d)
	return h*d + i/d%d, p.gram.H*d + h*d + i%d
}

// Values gives the joined statistics by name.
func (s *Gather) Values() (map[string][]float32, error) {
	all := map[string][]float32{}
	for _, p := range s.parts {
		switch {
		case p.norm != nil:
			var mean, square float64
			for i := range p.means {
				mean += p.means[i] / (s.area * float64(len(p.means)))
				square += p.squares[i] / (s.area * float64(len(p.means)))
			}
			before, after, err := p.norm.affine(mean, max(0, square-mean*mean))
			if err != nil {
				return nil, err
			}
			for _, name := range p.names {
				all[name] = before
				before = after
			}
		case p.gram.C > 0:
			out := make([]float32, len(p.products))
			for i := range out {
				q, k := p.channels(i)
				out[i] = float32(p.products[i] / max(math.Sqrt(p.squares[q]*p.squares[k]), 1e-24))
			}
			all[p.names[0]] = out
		default:
			out := make([]float32, len(p.means))
			for i := range out {
				out[i] = float32(p.means[i] / s.area)
			}
			all[p.names[0]] = out
		}
	}
	return all, nil
}

// affine gives the operation's outputs for an image of that mean and variance.
func (r *RescaleNorm) affine(mean, variance float64) (before, after []float32, err error) {
	var v [6][]float32
	for i, p := range r.Params() {
		if v[i], err = p.Values(); err != nil {
			return nil, nil, err
		}
	}
	sigma := math.Sqrt(variance + float64(r.Eps))
	c := len(v[0])
	before, after = make([]float32, 2*c), make([]float32, 2*c)
	for i := range c {
		scale := float64(v[0][i]) / sigma
		before[i], before[c+i] = float32(scale), float32(float64(v[1][i])-mean*scale)
		after[i] = float32(float64(v[2][i])*sigma + float64(v[3][i]))
		after[c+i] = float32(float64(v[4][i])*mean + float64(v[5][i]))
	}
	return before, after, nil
}
