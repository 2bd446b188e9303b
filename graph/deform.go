package graph

import "fmt"

// deformTaps is the number of taps of a deformable convolution's 3×3 window.
const deformTaps = 9

// DeformConv is a modulated deformable 3×3 convolution with stride 1, one group
// and no bias (arXiv 1811.11168). Tap k = 3i+j of pixel (r, c) samples X
// bilinearly at (r-1+i+dy, c-1+j+dx), each corner outside the image being 0, and
// multiplies the sample by sigmoid(m), where dy, dx and m are channels 2k, 2k+1
// and 18+k of Offsets. Offsets are in pixels and unbounded.
type DeformConv struct {
	X       *Tensor
	Offsets *Tensor // N×H×W×27
	Weight  *Param  // [Cout, C, 3, 3]
}

// Kind implements Op.
func (d *DeformConv) Kind() string { return "deform-conv" }

// Inputs implements Op.
func (d *DeformConv) Inputs() []*Tensor { return some(d.X, d.Offsets) }

// Params implements Op.
func (d *DeformConv) Params() []*Param { return some(d.Weight) }

func (d *DeformConv) shapes() ([]Shape, error) {
	s := d.X.Shape
	want := s
	want.C = 3 * deformTaps
	if d.Offsets.Shape != want {
		return nil, fmt.Errorf("offsets are %v, want %v", d.Offsets.Shape, want)
	}
	if d.Weight == nil || len(d.Weight.Dims) != 4 || !d.Weight.is(d.Weight.Dims[0], s.C, 3, 3) {
		return nil, fmt.Errorf("weight is %s, want [Cout %d 3 3]", describe(d.Weight), s.C)
	}
	s.C = d.Weight.Dims[0]
	return []Shape{s}, nil
}

func (d *DeformConv) cost(out []Shape) Cost {
	macs := int64(out[0].Elems()) * int64(d.X.Shape.C) * deformTaps
	return Cost{MACs: macs, Executed: macs}
}
