package graph

import (
	"errors"
	"fmt"
)

// Prompt is the sum of an image's prompt components, N×H×W×C, weighted by the
// softmax of its logits (PromptIR's prompt generation, arXiv 2306.13090).
type Prompt struct {
	Logits     *Tensor // N×1×1×L
	Components *Param  // [L, H, W, C]
}

// Kind implements Op.
func (p *Prompt) Kind() string { return "prompt" }

// Inputs implements Op.
func (p *Prompt) Inputs() []*Tensor { return some(p.Logits) }

// Params implements Op.
func (p *Prompt) Params() []*Param { return some(p.Components) }

func (p *Prompt) shapes() ([]Shape, error) {
	if p.Components == nil || len(p.Components.Dims) != 4 {
		return nil, fmt.Errorf("components are %s, want four dimensions", describe(p.Components))
	}
	d, s := p.Components.Dims, p.Logits.Shape
	if want := (Shape{s.N, 1, 1, d[0]}); s != want {
		return nil, fmt.Errorf("logits are %v, want %v", s, want)
	}
	return []Shape{{s.N, d[1], d[2], d[3]}}, nil
}

func (p *Prompt) cost(out []Shape) Cost {
	return Cost{Executed: int64(out[0].Elems()) * int64(p.Logits.Shape.C)}
}

// Resize interpolates X to H×W pixels bilinearly, without antialiasing: pixel i
// of a side lies at max((i+½)·from/to - ½, 0) of the input, and past the last
// pixel that one is repeated (PyTorch's bilinear interpolate with
// align_corners=False). Either side may grow or shrink.
type Resize struct {
	X    *Tensor
	H, W int
	// Like, if not nil, is a tensor whose sides H and W are. It is not read.
	Like *Tensor
}

// Kind implements Op.
func (r *Resize) Kind() string { return "resize" }

// Inputs implements Op.
func (r *Resize) Inputs() []*Tensor { return some(r.X) }

// Params implements Op.
func (r *Resize) Params() []*Param { return nil }

func (r *Resize) shapes() ([]Shape, error) {
	if r.H <= 0 || r.W <= 0 {
		return nil, errors.New("a side without pixels")
	}
	s := r.X.Shape
	s.H, s.W = r.H, r.W
	return []Shape{s}, nil
}

func (r *Resize) cost([]Shape) Cost { return Cost{} }
