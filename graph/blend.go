package graph

import "fmt"

// MulAdd is A·B + C elementwise; without B it is A + C.
type MulAdd struct{ A, B, C *Tensor }

// Kind implements Op.
func (m *MulAdd) Kind() string { return "mul-add" }

// Inputs implements Op.
func (m *MulAdd) Inputs() []*Tensor { return some(m.A, m.B, m.C) }

// Params implements Op.
func (m *MulAdd) Params() []*Param { return nil }

func (m *MulAdd) shapes() ([]Shape, error) {
	for _, t := range some(m.B, m.C) {
		if t.Shape != m.A.Shape {
			return nil, fmt.Errorf("inputs %v and %v differ", m.A.Shape, t.Shape)
		}
	}
	return []Shape{m.A.Shape}, nil
}

func (m *MulAdd) cost([]Shape) Cost { return Cost{} }

// SoftReconstruction is K·X - B + X with K the first channel of KB, shared by
// all channels of X, and B the others (DehazeFormer's output layer).
type SoftReconstruction struct {
	X  *Tensor // N×H×W×C
	KB *Tensor // N×H×W×(1+C)
}

// Kind implements Op.
func (s *SoftReconstruction) Kind() string { return "soft-reconstruction" }

// Inputs implements Op.
func (s *SoftReconstruction) Inputs() []*Tensor { return some(s.X, s.KB) }

// Params implements Op.
func (s *SoftReconstruction) Params() []*Param { return nil }

func (s *SoftReconstruction) shapes() ([]Shape, error) {
	want := s.X.Shape
	want.C++
	if s.KB.Shape != want {
		return nil, fmt.Errorf("coefficients are %v, want %v", s.KB.Shape, want)
	}
	return []Shape{s.X.Shape}, nil
}

func (s *SoftReconstruction) cost([]Shape) Cost { return Cost{} }

// Sigmoid is 1/(1+exp(-X)) elementwise.
type Sigmoid struct{ X *Tensor }

// Kind implements Op.
func (s *Sigmoid) Kind() string { return "sigmoid" }

// Inputs implements Op.
func (s *Sigmoid) Inputs() []*Tensor { return some(s.X) }

// Params implements Op.
func (s *Sigmoid) Params() []*Param { return nil }

func (s *Sigmoid) shapes() ([]Shape, error) { return []Shape{s.X.Shape}, nil }

func (s *Sigmoid) cost([]Shape) Cost { return Cost{} }

// SelectiveKernel blends two branches by channel: with (p, q) the softmax of
// the pair (Logits[c], Logits[C+c]), the result is p·A + q·B + Residual
// (DehazeFormer's SK fusion, after arXiv 1903.06586).
type SelectiveKernel struct {
	A, B     *Tensor
	Logits   *Tensor // N×1×1×2C
	Residual *Tensor // may be nil
}

// Kind implements Op.
func (s *SelectiveKernel) Kind() string { return "selective-kernel" }

// Inputs implements Op.
func (s *SelectiveKernel) Inputs() []*Tensor { return some(s.A, s.B, s.Logits, s.Residual) }

// Params implements Op.
func (s *SelectiveKernel) Params() []*Param { return nil }

func (s *SelectiveKernel) shapes() ([]Shape, error) {
	a := s.A.Shape
	for _, t := range some(s.B, s.Residual) {
		if t.Shape != a {
			return nil, fmt.Errorf("inputs %v and %v differ", a, t.Shape)
		}
	}
	if want := (Shape{a.N, 1, 1, 2 * a.C}); s.Logits.Shape != want {
		return nil, fmt.Errorf("logits are %v, want %v", s.Logits.Shape, want)
	}
	return []Shape{a}, nil
}

func (s *SelectiveKernel) cost([]Shape) Cost { return Cost{} }
