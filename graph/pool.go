package graph

import (
	"errors"
	"fmt"
)

// Pool averages over a sliding window with stride 1 and no padding. The window
// is cut to the image, so a large one is the global mean. The result,
// N×(H-kh+1)×(W-kw+1)×C, is in the form Conv.InScale reads with its borders
// replicated (NAFNet's TLC, arXiv 2112.04491). With X2 the mean of the sum of
// both is taken.
type Pool struct {
	X, X2            *Tensor
	WindowH, WindowW int // 0 means the whole side
}

// Kind implements Op.
func (p *Pool) Kind() string { return "pool" }

// Inputs implements Op.
func (p *Pool) Inputs() []*Tensor { return some(p.X, p.X2) }

// Params implements Op.
func (p *Pool) Params() []*Param { return nil }

// Window is the window cut to the image.
func (p *Pool) Window() (kh, kw int) {
	kh, kw = p.X.Shape.H, p.X.Shape.W
	if p.WindowH > 0 {
		kh = min(kh, p.WindowH)
	}
	if p.WindowW > 0 {
		kw = min(kw, p.WindowW)
	}
	return kh, kw
}

func (p *Pool) shapes() ([]Shape, error) {
	s := p.X.Shape
	if p.X2 != nil && p.X2.Shape != s {
		return nil, fmt.Errorf("inputs %v and %v differ", s, p.X2.Shape)
	}
	if p.WindowH < 0 || p.WindowW < 0 {
		return nil, errors.New("negative window")
	}
	kh, kw := p.Window()
	return []Shape{{s.N, s.H - kh + 1, s.W - kw + 1, s.C}}, nil
}

func (p *Pool) cost([]Shape) Cost { return Cost{} }

// ChannelNorm is a normalisation by itself: y = norm(X).
type ChannelNorm struct {
	X    *Tensor
	Norm *Norm
}

// Kind implements Op.
func (n *ChannelNorm) Kind() string { return "norm" }

// Inputs implements Op.
func (n *ChannelNorm) Inputs() []*Tensor { return some(n.X) }

// Params implements Op.
func (n *ChannelNorm) Params() []*Param { return n.Norm.params() }

func (n *ChannelNorm) shapes() ([]Shape, error) {
	if n.Norm == nil {
		return nil, errors.New("no normalisation given")
	}
	return []Shape{n.X.Shape}, n.Norm.check(n.X.Shape.C)
}

func (n *ChannelNorm) cost([]Shape) Cost { return Cost{} }

// RescaleNorm takes the mean μ and deviation σ = √(variance+Eps) of a whole
// image, over height, width and channels together, and gives two affine maps
// (DehazeFormer's RescaleNorm). Output 0 normalises, for Conv.InAffine: scale
// Weight/σ, shift Bias-μ·Weight/σ. Output 1 undoes it after the layer, for
// Conv.OutAffine: scale ScaleWeight·σ+ScaleBias, shift
// ShiftWeight·μ+ShiftBias. Both are N×1×2×C.
type RescaleNorm struct {
	X                      *Tensor
	Weight, Bias           *Param // [C]
	ScaleWeight, ScaleBias *Param // [C], upstream's meta1
	ShiftWeight, ShiftBias *Param // [C], upstream's meta2
	Eps                    float32
}

// Kind implements Op.
func (r *RescaleNorm) Kind() string { return "rescale-norm" }

// Inputs implements Op.
func (r *RescaleNorm) Inputs() []*Tensor { return some(r.X) }

// Params implements Op.
func (r *RescaleNorm) Params() []*Param {
	return some(r.Weight, r.Bias, r.ScaleWeight, r.ScaleBias, r.ShiftWeight, r.ShiftBias)
}

func (r *RescaleNorm) shapes() ([]Shape, error) {
	s := r.X.Shape
	ps := r.Params()
	if len(ps) != 6 {
		return nil, fmt.Errorf("%d of 6 parameters given", len(ps))
	}
	for _, p := range ps {
		if !p.holds(s.C) {
			return nil, fmt.Errorf("parameter is %s, want %d values", describe(p), s.C)
		}
	}
	if !(r.Eps > 0) {
		return nil, fmt.Errorf("epsilon %g is not positive", r.Eps)
	}
	affine := Shape{s.N, 1, 2, s.C}
	return []Shape{affine, affine}, nil
}

func (r *RescaleNorm) cost(out []Shape) Cost {
	// Upstream computes both maps as 1×1 convolutions of one channel.
	macs := int64(out[0].Elems())
	return Cost{MACs: macs, Executed: macs}
}
