package graph

import (
	"errors"
	"fmt"
	"slices"
)

// Activation is applied to each value after the bias.
type Activation uint8

const (
	// Identity leaves values as they are.
	Identity Activation = iota
	// ReLU is max(x, 0).
	ReLU
	// LeakyReLU is x for x ≥ 0 and 0.1·x below.
	LeakyReLU
	// GELU is x·(1+erf(x/√2))/2, the exact form.
	GELU
)

func (a Activation) String() string {
	return [...]string{"identity", "relu", "leaky-relu", "gelu"}[a]
}

// Gate multiplies the first half of the channels with the second, halving
// their number.
type Gate uint8

const (
	// NoGate keeps all channels.
	NoGate Gate = iota
	// SimpleGate is a·b (NAFNet, arXiv 2204.04676).
	SimpleGate
	// GELUGate is gelu(a)·b (Restormer's GDFN, arXiv 2111.09881).
	GELUGate
)

func (g Gate) String() string { return [...]string{"none", "simple", "gelu"}[g] }

// NormKind is a normalisation over the channels of each pixel.
type NormKind uint8

const (
	// LayerNorm is (x-μ)/√(σ²+ε)·w+b.
	LayerNorm NormKind = iota
	// BiasFree is x/√(σ²+ε)·w: the variance is centred, the numerator is not
	// (Restormer's BiasFree LayerNorm).
	BiasFree
)

// Norm normalises over the channels of each pixel, with the biased variance.
type Norm struct {
	Kind   NormKind
	Weight *Param // [C]
	Bias   *Param // [C], nil for BiasFree
	Eps    float32
}

func (n *Norm) check(c int) error {
	switch {
	case n == nil:
		return nil
	case n.Weight == nil || !n.Weight.holds(c):
		return fmt.Errorf("normalisation over %d channels: weight is %s", c, describe(n.Weight))
	case n.Kind == LayerNorm && (n.Bias == nil || !n.Bias.holds(c)):
		return fmt.Errorf("normalisation over %d channels: bias is %s", c, describe(n.Bias))
	case !(n.Eps > 0):
		return fmt.Errorf("normalisation: epsilon %g is not positive", n.Eps)
	}
	return nil
}

func (n *Norm) params() []*Param {
	if n == nil {
		return nil
	}
	return some(n.Weight, n.Bias)
}

// LowRank is the un-merged branch of a LoRA adapter (arXiv 2106.09685):
// Scale·Up·(Down∗x) is added to the convolution before its activation.
type LowRank struct {
	Down  *Param // [R, Cin, KH, KW], applied with the convolution's stride and padding
	Up    *Param // [Cout, R]
	Scale float32
}

// Gram makes a convolution end in the normalised Gram matrix of its first
// channels instead of writing them. Of the result's channels the first C are q,
// the next C are k and the rest is written. Each head owns C/Heads consecutive
// channels of both; q and k are normalised to unit length over all positions
// of an image, v/max(‖v‖, 1e-12), and the second output, N×Heads×d×d, is
// G[h][i][j] = Σ_p q[p][h·d+i]·k[p][h·d+j]: the logits of transposed attention
// (Restormer's MDTA, RetinexFormer's IG-MSA) before their temperature.
type Gram struct {
	C, Heads int
}

func (g *Gram) check(channels int) error {
	switch {
	case g.C <= 0 || g.Heads <= 0 || g.C%g.Heads != 0:
		return fmt.Errorf("gram: %d channels do not split into %d heads", g.C, g.Heads)
	case channels <= 2*g.C:
		return fmt.Errorf("gram: %d result channels hold no values beside twice %d", channels, g.C)
	}
	return nil
}

func (g *Gram) shape(n int) Shape {
	d := g.C / g.Heads
	return Shape{n, g.Heads, d, d}
}

// Conv is a dense or grouped k×k convolution (cross-correlation) with all that
// may be fused around it:
//
//	x' = InAffine(InScale · norm(concat(X, X2)))
//	t  = act-or-gate(conv(x', Weight) + Bias + LowRank)
//	y  = Residual + shuffle(OutAffine(t · Scale))
//
// Weight is [Cout, Cin/Groups, KH, KW]. With Dynamic set the weight is a
// tensor N×1×Cout×Cin, one matrix an image, and the convolution is 1×1.
type Conv struct {
	X  *Tensor
	X2 *Tensor // further channels after those of X

	Weight  *Param
	Dynamic *Tensor
	Bias    *Param // [Cout]
	Stride  int    // 0 means 1
	Pad     int    // on all four sides
	PadMode PadMode
	Groups  int // 0 means 1

	Norm *Norm
	// InScale multiplies the input. It is N×h×w×Cin with h ≤ H and w ≤ W; pixel
	// (y, x) takes row clamp(y-(H-h)/2, 0, h-1) and the column likewise: 1×1
	// scales channels, H×W scales every value, and in between are the results of
	// a sliding window whose borders are replicated.
	InScale *Tensor
	// InAffine is N×1×2×Cin: row 0 scales, row 1 shifts the channels.
	InAffine *Tensor

	LowRank *LowRank
	// LowRanks are branches in place of LowRank that differ by image: one for
	// each, nil for none.
	LowRanks []*LowRank
	Act      Activation
	Gate     Gate
	Scale    *Param // [channels after the gate]
	// OutAffine is N×1×2×C: row 0 scales, row 1 shifts the channels.
	OutAffine *Tensor
	// Shuffle r > 1 is PixelShuffle(r): channel c·r²+i·r+j becomes channel c at
	// (y·r+i, x·r+j). Shuffle -r is its inverse.
	Shuffle  int
	Residual *Tensor // added last, of the result's shape
	Gram     *Gram   // second output; excludes Gate, Scale, OutAffine, Shuffle and Residual
}

// Kind tells pointwise from dense and grouped convolutions.
func (c *Conv) Kind() string {
	kh, kw := c.Kernel()
	switch {
	case c.groups() > 1:
		return "conv-grouped"
	case kh == 1 && kw == 1:
		return "pointwise"
	default:
		return fmt.Sprintf("conv%dx%d", kh, kw)
	}
}

// Kernel is the height and width of the window.
func (c *Conv) Kernel() (kh, kw int) {
	if c.Dynamic != nil || c.Weight == nil || len(c.Weight.Dims) < 4 {
		return 1, 1
	}
	return c.Weight.Dims[2], c.Weight.Dims[3]
}

// CIn is the number of input channels of X and X2 together.
func (c *Conv) CIn() int {
	if c.X2 != nil {
		return c.X.Shape.C + c.X2.Shape.C
	}
	return c.X.Shape.C
}

// COut is the number of filters, before a gate or shuffle.
func (c *Conv) COut() int {
	if c.Dynamic != nil {
		return c.Dynamic.Shape.W
	}
	return c.Weight.Dims[0]
}

// StrideOr1 is the stride with the default filled in.
func (c *Conv) StrideOr1() int { return max(c.Stride, 1) }

func (c *Conv) groups() int { return max(c.Groups, 1) }

// GroupsOr1 is the number of groups with the default filled in.
func (c *Conv) GroupsOr1() int { return c.groups() }

// Inputs implements Op.
func (c *Conv) Inputs() []*Tensor {
	return some(c.X, c.X2, c.Dynamic, c.InScale, c.InAffine, c.OutAffine, c.Residual)
}

// Params implements Op.
func (c *Conv) Params() []*Param {
	p := append(c.Norm.params(), some(c.Weight, c.Bias, c.Scale)...)
	for _, l := range c.Branches() {
		p = append(p, l.Down, l.Up)
	}
	return p
}

// Branches lists the distinct low-rank branches in the order of their images.
func (c *Conv) Branches() []*LowRank {
	var all []*LowRank
	for _, l := range append(some(c.LowRank), some(c.LowRanks...)...) {
		if !slices.Contains(all, l) {
			all = append(all, l)
		}
	}
	return all
}

// Branch is the low-rank branch of image i, nil for none.
func (c *Conv) Branch(i int) *LowRank {
	if c.LowRanks != nil {
		return c.LowRanks[i]
	}
	return c.LowRank
}

// ByImage is the convolution as an operation of its own for each image, with
// that image's branch for all.
func (c *Conv) ByImage() *EachImage {
	each := &EachImage{}
	for i := range c.X.Shape.N {
		one := *c
		one.LowRank, one.LowRanks = c.Branch(i), nil
		each.Ops = append(each.Ops, &one)
	}
	return each
}

// ConvExtent is the height and width of the convolution's result before a
// shuffle.
func (c *Conv) ConvExtent() (h, w int) {
	kh, kw := c.Kernel()
	s := c.StrideOr1()
	return (c.X.Shape.H+2*c.Pad-kh)/s + 1, (c.X.Shape.W+2*c.Pad-kw)/s + 1
}

func (c *Conv) shapes() ([]Shape, error) {
	if err := c.checkInput(); err != nil {
		return nil, err
	}
	if err := c.checkWeight(); err != nil {
		return nil, err
	}
	kh, kw := c.Kernel()
	in := c.X.Shape
	if in.H+2*c.Pad < kh || in.W+2*c.Pad < kw {
		return nil, fmt.Errorf("a %dx%d window does not fit %v padded by %d", kh, kw, in, c.Pad)
	}
	if err := errors.Join(c.PadMode.checkPad(in.H, c.Pad, c.Pad), c.PadMode.checkPad(in.W, c.Pad, c.Pad)); err != nil {
		return nil, err
	}
	h, w := c.ConvExtent()
	out := Shape{in.N, h, w, c.COut()}
	if c.Bias != nil && !c.Bias.holds(out.C) {
		return nil, fmt.Errorf("bias is %s, want %d values", describe(c.Bias), out.C)
	}
	if c.Gram != nil {
		return c.gramShapes(out)
	}
	return c.finished(out)
}

// gramShapes are those of a convolution to out that ends in a Gram matrix.
func (c *Conv) gramShapes(out Shape) ([]Shape, error) {
	if c.Gate != NoGate || c.Scale != nil || c.OutAffine != nil || c.Shuffle != 0 || c.Residual != nil {
		return nil, errors.New("gram excludes gate, scale, affine, shuffle and residual")
	}
	if err := c.Gram.check(out.C); err != nil {
		return nil, err
	}
	out.C -= 2 * c.Gram.C
	return []Shape{out, c.Gram.shape(out.N)}, nil
}

// finished is the shape after all steps behind a convolution to out.
func (c *Conv) finished(out Shape) ([]Shape, error) {
	if err := gated(&out, c.Act, c.Gate); err != nil {
		return nil, err
	}
	if c.Scale != nil && !c.Scale.holds(out.C) {
		return nil, fmt.Errorf("scale is %s, want %d values", describe(c.Scale), out.C)
	}
	if err := checkAffine("output", c.OutAffine, out); err != nil {
		return nil, err
	}
	if err := shuffled(&out, c.Shuffle); err != nil {
		return nil, err
	}
	if c.Residual != nil && c.Residual.Shape != out {
		return nil, fmt.Errorf("residual is %v, the result %v", c.Residual.Shape, out)
	}
	return []Shape{out}, nil
}

func (c *Conv) checkInput() error {
	in := c.X.Shape
	if c.X2 != nil {
		if s := c.X2.Shape; s.N != in.N || s.H != in.H || s.W != in.W {
			return fmt.Errorf("inputs %v and %v differ in more than channels", in, s)
		}
		if c.groups() > 1 || c.Norm != nil || c.InScale != nil || c.InAffine != nil {
			return errors.New("two inputs exclude groups, normalisation and input scales")
		}
	}
	if c.Stride < 0 || c.Pad < 0 || c.Groups < 0 {
		return fmt.Errorf("stride %d, padding %d, groups %d: none may be negative", c.Stride, c.Pad, c.Groups)
	}
	if err := c.Norm.check(in.C); err != nil {
		return err
	}
	if c.InScale != nil {
		if s := c.InScale.Shape; s.N != in.N || s.H > in.H || s.W > in.W || s.C != in.C {
			return fmt.Errorf("input scale %v does not fit input %v", s, in)
		}
	}
	return checkAffine("input", c.InAffine, in)
}

func (c *Conv) checkWeight() error {
	cin, g := c.CIn(), c.groups()
	if (c.Weight == nil) == (c.Dynamic == nil) {
		return errors.New("want either a weight or a dynamic weight")
	}
	if c.Dynamic != nil {
		return c.checkDynamic()
	}
	d := c.Weight.Dims
	if len(d) != 2 && len(d) != 4 {
		return fmt.Errorf("weight is %s, want [Cout Cin KH KW] or [Cout Cin]", describe(c.Weight))
	}
	if cin%g != 0 || d[0]%g != 0 || d[1] != cin/g {
		return fmt.Errorf("weight is %s, want [Cout %d KH KW] for %d input channels in %d groups", describe(c.Weight), cin/g, cin, g)
	}
	for _, e := range d {
		if e <= 0 {
			return fmt.Errorf("weight is %s", describe(c.Weight))
		}
	}
	return c.checkBranches()
}

func (c *Conv) checkDynamic() error {
	if s := c.Dynamic.Shape; s.N != c.X.Shape.N || s.H != 1 || s.C != c.CIn() {
		return fmt.Errorf("dynamic weight %v does not fit input %v", s, c.X.Shape)
	}
	if c.groups() != 1 || c.StrideOr1() != 1 || c.Pad != 0 || len(c.Branches()) > 0 {
		return errors.New("a dynamic weight makes a plain 1x1 convolution: no groups, stride, padding or low-rank branch")
	}
	return nil
}

func (c *Conv) checkBranches() error {
	cin, cout := c.CIn(), c.Weight.Dims[0]
	if c.LowRanks != nil && (c.LowRank != nil || len(c.LowRanks) != c.X.Shape.N) {
		return fmt.Errorf("%d low-rank branches for %d images, beside one for all: %t", len(c.LowRanks), c.X.Shape.N, c.LowRank != nil)
	}
	for _, l := range c.Branches() {
		if c.groups() != 1 || l.Down == nil || l.Up == nil || len(l.Down.Dims) < 2 {
			return errors.New("a low-rank branch needs an ungrouped convolution and both factors")
		}
		kh, kw := c.Kernel()
		r := l.Down.Dims[0]
		if r <= 0 || !l.Down.is(r, cin, kh, kw) || !l.Up.is(cout, r) {
			return fmt.Errorf("low-rank factors are %s and %s, want [R %d %d %d] and [%d R]", describe(l.Down), describe(l.Up), cin, kh, kw, cout)
		}
	}
	return nil
}

func (c *Conv) cost(out []Shape) Cost {
	h, w := c.ConvExtent()
	kh, kw := c.Kernel()
	positions := int64(c.X.Shape.N) * int64(h) * int64(w)
	macs := positions * int64(c.COut()) * int64(c.CIn()/c.groups()) * int64(kh*kw)
	cost := Cost{MACs: macs, Executed: macs}
	n := c.X.Shape.N
	for i := range n {
		if l := c.Branch(i); l != nil {
			cost.Executed += positions / int64(n) * int64(l.Down.Dims[0]) * int64(c.CIn()*kh*kw+c.COut())
		}
	}
	return cost.Add(c.Gram.cost(positions))
}

// cost counts q·kᵀ as executed and, for the network's own account, attention·v
// as well, which folding the attention into the projection removes.
func (g *Gram) cost(positions int64) Cost {
	if g == nil {
		return Cost{}
	}
	macs := positions * int64(g.C) * int64(g.C/g.Heads)
	return Cost{AttentionMACs: 2 * macs, Executed: macs}
}

// Depthwise is a k×k convolution of each channel by itself, stride 1, padded
// with zeros so that height and width stay: act-or-gate(conv(X) + Bias) +
// Residual.
type Depthwise struct {
	X        *Tensor
	Weight   *Param // [C, 1, K, K], K odd
	Bias     *Param // [C]
	Act      Activation
	Gate     Gate
	Residual *Tensor
	// Pool adds a second output, N×1×1×C': the mean of the result over height
	// and width.
	Pool bool
	// Gram adds a second output, see Gram; it excludes Gate, Pool and Residual.
	Gram *Gram
}

// Kind implements Op.
func (d *Depthwise) Kind() string { return "depthwise" }

// Inputs implements Op.
func (d *Depthwise) Inputs() []*Tensor { return some(d.X, d.Residual) }

// Params implements Op.
func (d *Depthwise) Params() []*Param { return some(d.Weight, d.Bias) }

// Kernel is the side of the window.
func (d *Depthwise) Kernel() int { return d.Weight.Dims[2] }

func (d *Depthwise) shapes() ([]Shape, error) {
	out := d.X.Shape
	if d.Weight == nil || len(d.Weight.Dims) != 4 || !d.Weight.is(out.C, 1, d.Weight.Dims[2], d.Weight.Dims[2]) || d.Weight.Dims[2]%2 == 0 {
		return nil, fmt.Errorf("weight is %s, want [%d 1 K K] with K odd", describe(d.Weight), out.C)
	}
	if d.Bias != nil && !d.Bias.holds(out.C) {
		return nil, fmt.Errorf("bias is %s, want %d values", describe(d.Bias), out.C)
	}
	if d.Gram != nil {
		if d.Gate != NoGate || d.Pool || d.Residual != nil {
			return nil, errors.New("gram excludes gate, pool and residual")
		}
		if err := d.Gram.check(out.C); err != nil {
			return nil, err
		}
		out.C -= 2 * d.Gram.C
		return []Shape{out, d.Gram.shape(out.N)}, nil
	}
	if err := gated(&out, d.Act, d.Gate); err != nil {
		return nil, err
	}
	if d.Residual != nil && d.Residual.Shape != out {
		return nil, fmt.Errorf("residual is %v, the result %v", d.Residual.Shape, out)
	}
	if d.Pool {
		return []Shape{out, {out.N, 1, 1, out.C}}, nil
	}
	return []Shape{out}, nil
}

func (d *Depthwise) cost(out []Shape) Cost {
	k := int64(d.Kernel())
	macs := int64(d.X.Shape.Elems()) * k * k
	return Cost{MACs: macs, Executed: macs}.Add(d.Gram.cost(int64(d.X.Shape.Pixels())))
}

func gated(out *Shape, a Activation, g Gate) error {
	if g == NoGate {
		return nil
	}
	if a != Identity {
		return fmt.Errorf("activation %s and gate %s exclude each other", a, g)
	}
	if out.C%2 != 0 {
		return fmt.Errorf("a gate needs an even number of channels, have %d", out.C)
	}
	out.C /= 2
	return nil
}

func shuffled(out *Shape, r int) error {
	switch {
	case r == 0 || r == 1:
	case r > 1:
		if out.C%(r*r) != 0 {
			return fmt.Errorf("pixel shuffle by %d: %d channels are no multiple of %d", r, out.C, r*r)
		}
		*out = Shape{out.N, out.H * r, out.W * r, out.C / (r * r)}
	case r < -1:
		if r = -r; out.H%r != 0 || out.W%r != 0 {
			return fmt.Errorf("pixel unshuffle by %d: %dx%d is no multiple", r, out.H, out.W)
		}
		*out = Shape{out.N, out.H / r, out.W / r, out.C * r * r}
	default:
		return fmt.Errorf("pixel shuffle by %d", r)
	}
	return nil
}

func checkAffine(side string, t *Tensor, s Shape) error {
	if t == nil {
		return nil
	}
	if want := (Shape{s.N, 1, 2, s.C}); t.Shape != want {
		return fmt.Errorf("%s affine is %v, want %v", side, t.Shape, want)
	}
	return nil
}

func describe(p *Param) string {
	if p == nil {
		return "missing"
	}
	return fmt.Sprintf("%q %v", p.Name, p.Dims)
}

// some drops nils.
func some[T any](all ...*T) []*T {
	var kept []*T
	for _, t := range all {
		if t != nil {
			kept = append(kept, t)
		}
	}
	return kept
}
