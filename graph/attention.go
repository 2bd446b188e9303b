package graph

import "fmt"

// Fold turns the Gram matrix of transposed attention and the projection that
// follows it into one matrix an image. With A = softmax over j of
// Temperature[h]·Gram[h][i][j], the network computes W·(A·v) at every pixel;
// both are linear in v, so the result is the dynamic weight N×1×Cout×C
//
//	M[o][h·d+j] = Σ_i Proj[o][h·d+i] · A[h][i][j]
//
// and attention·v, projection and residual are one 1×1 convolution of v.
type Fold struct {
	Gram        *Tensor // N×Heads×d×d
	Temperature *Param  // [Heads]
	Proj        *Param  // [Cout, C] or [Cout, C, 1, 1]
}

// Kind implements Op.
func (f *Fold) Kind() string { return "attention-fold" }

// Inputs implements Op.
func (f *Fold) Inputs() []*Tensor { return some(f.Gram) }

// Params implements Op.
func (f *Fold) Params() []*Param { return some(f.Temperature, f.Proj) }

func (f *Fold) shapes() ([]Shape, error) {
	g := f.Gram.Shape
	c := g.H * g.C
	if g.W != g.C {
		return nil, fmt.Errorf("gram %v is not square", g)
	}
	if f.Temperature == nil || !f.Temperature.holds(g.H) {
		return nil, fmt.Errorf("temperature is %s, want %d values", describe(f.Temperature), g.H)
	}
	if f.Proj == nil || len(f.Proj.Dims) < 2 || !f.Proj.is(f.Proj.Dims[0], c) {
		return nil, fmt.Errorf("projection is %s, want [Cout %d]", describe(f.Proj), c)
	}
	return []Shape{{g.N, 1, f.Proj.Dims[0], c}}, nil
}

func (f *Fold) cost(out []Shape) Cost {
	return Cost{Executed: int64(out[0].Elems()) * int64(f.Gram.Shape.C)}
}

// WindowAttention is multi-head self-attention inside square windows, padded
// by reflection and cropped back (DehazeFormer, arXiv 2204.03883). QKV holds q,
// k and v one after the other, C channels each, and head h owns channels
// [h·d, (h+1)·d) of each. Within a window, tokens in row-major order:
// softmax(q·kᵀ/√d + Bias[h])·v.
//
// With m = -size mod Window, the padding of each axis is 0 before and m after,
// or with Shift s it is s before and (Window-s+m) mod Window after.
type WindowAttention struct {
	QKV    *Tensor // N×H×W×3C
	Bias   *Param  // [Heads, Window², Window²]
	Heads  int
	Window int
	Shift  int
}

// Kind implements Op.
func (a *WindowAttention) Kind() string { return "window-attention" }

// Inputs implements Op.
func (a *WindowAttention) Inputs() []*Tensor { return some(a.QKV) }

// Params implements Op.
func (a *WindowAttention) Params() []*Param { return some(a.Bias) }

// Padding is what one axis of the given size is padded by.
func (a *WindowAttention) Padding(size int) (before, after int) {
	m := (a.Window - size%a.Window) % a.Window
	if a.Shift == 0 {
		return 0, m
	}
	return a.Shift, (a.Window - a.Shift + m) % a.Window
}

func (a *WindowAttention) shapes() ([]Shape, error) {
	s := a.QKV.Shape
	if a.Window <= 0 || a.Shift < 0 || a.Shift >= a.Window {
		return nil, fmt.Errorf("window %d with shift %d", a.Window, a.Shift)
	}
	out, err := attentionShape(s, a.Heads)
	if err != nil {
		return nil, err
	}
	t := a.Window * a.Window
	if a.Bias == nil || !a.Bias.is(a.Heads, t, t) {
		return nil, fmt.Errorf("bias is %s, want [%d %d %d]", describe(a.Bias), a.Heads, t, t)
	}
	for _, side := range [2]int{s.H, s.W} {
		before, after := a.Padding(side)
		if err := Reflect.checkPad(side, before, after); err != nil {
			return nil, err
		}
	}
	return []Shape{out}, nil
}

func (a *WindowAttention) cost(out []Shape) Cost {
	s := out[0]
	bh, ah := a.Padding(s.H)
	bw, aw := a.Padding(s.W)
	t := (s.H + bh + ah) * (s.W + bw + aw)
	macs := 2 * int64(s.N) * int64(t) * int64(a.Window*a.Window) * int64(s.C)
	return Cost{AttentionMACs: macs, Executed: macs}
}

// Attention is multi-head self-attention over a whole token sequence:
// softmax(q·kᵀ/√d)·v, with q, k and v as in WindowAttention.
type Attention struct {
	QKV   *Tensor // N×1×T×3C
	Heads int
}

// Kind implements Op.
func (a *Attention) Kind() string { return "attention" }

// Inputs implements Op.
func (a *Attention) Inputs() []*Tensor { return some(a.QKV) }

// Params implements Op.
func (a *Attention) Params() []*Param { return nil }

func (a *Attention) shapes() ([]Shape, error) {
	if a.QKV.Shape.H != 1 {
		return nil, fmt.Errorf("tokens %v: height must be 1", a.QKV.Shape)
	}
	out, err := attentionShape(a.QKV.Shape, a.Heads)
	return []Shape{out}, err
}

func (a *Attention) cost(out []Shape) Cost {
	s := out[0]
	macs := 2 * int64(s.N) * int64(s.W) * int64(s.W) * int64(s.C)
	return Cost{AttentionMACs: macs, Executed: macs}
}

func attentionShape(qkv Shape, heads int) (Shape, error) {
	if heads <= 0 || qkv.C%(3*heads) != 0 {
		return Shape{}, fmt.Errorf("%d channels do not split into q, k and v of %d heads", qkv.C, heads)
	}
	qkv.C /= 3
	return qkv, nil
}
