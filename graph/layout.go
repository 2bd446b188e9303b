package graph

import (
	"errors"
	"fmt"
)

// Import reads input port Port of the graph from host memory, converting its
// layout.
type Import struct {
	Port   int
	Shape  Shape
	Layout Layout
}

// Kind implements Op.
func (i *Import) Kind() string { return "import" }

// Inputs implements Op.
func (i *Import) Inputs() []*Tensor { return nil }

// Params implements Op.
func (i *Import) Params() []*Param { return nil }

func (i *Import) shapes() ([]Shape, error) { return []Shape{i.Shape}, i.Shape.check() }

func (i *Import) cost([]Shape) Cost { return Cost{} }

// Export writes X to output port Port of the graph, converting its layout.
type Export struct {
	X      *Tensor
	Port   int
	Layout Layout
}

// Kind implements Op.
func (e *Export) Kind() string { return "export" }

// Inputs implements Op.
func (e *Export) Inputs() []*Tensor { return some(e.X) }

// Params implements Op.
func (e *Export) Params() []*Param { return nil }

func (e *Export) shapes() ([]Shape, error) { return nil, nil }

func (e *Export) cost([]Shape) Cost { return Cost{} }

// Pad surrounds an image.
type Pad struct {
	X                        *Tensor
	Top, Left, Bottom, Right int
	Mode                     PadMode
	// Multiple, if not 0, says what Bottom and Right are for: to make the sides
	// multiples of it. They would be others at another size.
	Multiple int
}

// Kind implements Op.
func (p *Pad) Kind() string { return "pad" }

// Inputs implements Op.
func (p *Pad) Inputs() []*Tensor { return some(p.X) }

// Params implements Op.
func (p *Pad) Params() []*Param { return nil }

func (p *Pad) shapes() ([]Shape, error) {
	s := p.X.Shape
	if err := errors.Join(p.Mode.checkPad(s.H, p.Top, p.Bottom), p.Mode.checkPad(s.W, p.Left, p.Right)); err != nil {
		return nil, err
	}
	s.H += p.Top + p.Bottom
	s.W += p.Left + p.Right
	return []Shape{s}, nil
}

func (p *Pad) cost([]Shape) Cost { return Cost{} }

// Crop cuts the H×W rectangle whose top left pixel is (Y, X0) out of X.
type Crop struct {
	X           *Tensor
	Y, X0, H, W int
}

// Kind implements Op.
func (c *Crop) Kind() string { return "crop" }

// Inputs implements Op.
func (c *Crop) Inputs() []*Tensor { return some(c.X) }

// Params implements Op.
func (c *Crop) Params() []*Param { return nil }

func (c *Crop) shapes() ([]Shape, error) {
	s := c.X.Shape
	if c.Y < 0 || c.X0 < 0 || c.H <= 0 || c.W <= 0 || c.Y+c.H > s.H || c.X0+c.W > s.W {
		return nil, fmt.Errorf("rectangle %dx%d at (%d,%d) is not inside %v", c.H, c.W, c.Y, c.X0, s)
	}
	s.H, s.W = c.H, c.W
	return []Shape{s}, nil
}

func (c *Crop) cost([]Shape) Cost { return Cost{} }

// Concat puts the channels of B after those of A.
type Concat struct{ A, B *Tensor }

// Kind implements Op.
func (c *Concat) Kind() string { return "concat" }

// Inputs implements Op.
func (c *Concat) Inputs() []*Tensor { return some(c.A, c.B) }

// Params implements Op.
func (c *Concat) Params() []*Param { return nil }

func (c *Concat) shapes() ([]Shape, error) {
	a, b := c.A.Shape, c.B.Shape
	if a.N != b.N || a.H != b.H || a.W != b.W {
		return nil, fmt.Errorf("inputs %v and %v differ in more than channels", a, b)
	}
	a.C += b.C
	return []Shape{a}, nil
}

func (c *Concat) cost([]Shape) Cost { return Cost{} }

// Tokens flattens patches N×H×W×C to a sequence N×1×(H·W+1)×C in row-major
// order behind the class token, and adds the positional embedding (ViT, arXiv
// 2010.11929).
type Tokens struct {
	X     *Tensor
	Class *Param // [C]
	Pos   *Param // [H·W+1, C]
}

// Kind implements Op.
func (t *Tokens) Kind() string { return "tokens" }

// Inputs implements Op.
func (t *Tokens) Inputs() []*Tensor { return some(t.X) }

// Params implements Op.
func (t *Tokens) Params() []*Param { return some(t.Class, t.Pos) }

func (t *Tokens) shapes() ([]Shape, error) {
	s := t.X.Shape
	n := s.H*s.W + 1
	if t.Class == nil || !t.Class.holds(s.C) || t.Pos == nil || !t.Pos.is(n, s.C) {
		return nil, fmt.Errorf("class token is %s and positions are %s, want [%d] and [%d %d]", describe(t.Class), describe(t.Pos), s.C, n, s.C)
	}
	return []Shape{{s.N, 1, n, s.C}}, nil
}

func (t *Tokens) cost([]Shape) Cost { return Cost{} }
