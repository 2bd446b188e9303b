package reference

import (
	"math"

	"unirestorer/graph"
)

// kernel is a convolution's weight [Cout][Cin/groups][KH][KW].
type kernel struct {
	cout, kh, kw        int
	stride, pad, groups int
	mode                graph.PadMode
	w                   []float64
}

// apply is the plain cross-correlation.
func (k *kernel) apply(x *value) *value {
	per := x.C / k.groups // input channels of a group
	out := newValue(graph.Shape{N: x.N, H: (x.H+2*k.pad-k.kh)/k.stride + 1, W: (x.W+2*k.pad-k.kw)/k.stride + 1, C: k.cout})
	return out.fill(func(n, y, xo, o int) float64 {
		first := o / (k.cout / k.groups) * per
		var sum float64
		for i := range k.kh {
			iy := k.mode.Index(y*k.stride-k.pad+i, x.H)
			for j := range k.kw {
				ix := k.mode.Index(xo*k.stride-k.pad+j, x.W)
				if iy < 0 || ix < 0 {
					continue
				}
				p := x.pixel(n, iy, ix)[first : first+per]
				for c, v := range p {
					sum += v * k.w[((o*per+c)*k.kh+i)*k.kw+j]
				}
			}
		}
		return sum
	})
}

func (in *interpreter) conv(c *graph.Conv) ([]*value, error) {
	x, err := in.convInput(c)
	if err != nil {
		return nil, err
	}
	t, err := in.convSum(c, x)
	if err != nil {
		return nil, err
	}
	bias, err := paramValues(c.Bias)
	if err != nil {
		return nil, err
	}
	t = gate(activate(addBias(t, bias), c.Act), c.Gate)
	if c.Gram != nil {
		v, gram := gramOf(in.round(t), c.Gram)
		return []*value{v, gram}, nil
	}
	scale, err := paramValues(c.Scale)
	if err != nil {
		return nil, err
	}
	if scale != nil {
		t.fill(func(n, y, x, ch int) float64 { return t.at(n, y, x, ch) * scale[ch] })
	}
	t = affine(t, in.of(c.OutAffine))
	return one(add(shuffle(t, c.Shuffle), in.of(c.Residual))), nil
}

// convInput is x' of graph.Conv.
func (in *interpreter) convInput(c *graph.Conv) (*value, error) {
	x := in.of(c.X)
	if c.X2 != nil {
		x = concat(x, in.of(c.X2))
	}
	if c.Norm != nil {
		var err error
		if x, err = normalise(x, in.normInFront(c)); err != nil {
			return nil, err
		}
	}
	if s := in.of(c.InScale); s != nil {
		y := newValue(x.Shape)
		x = y.fill(func(n, row, col, ch int) float64 {
			sy := min(max(row-(y.H-s.H)/2, 0), s.H-1)
			sx := min(max(col-(y.W-s.W)/2, 0), s.W-1)
			return x.at(n, row, col, ch) * s.at(n, sy, sx, ch)
		})
	}
	return in.round(affine(x, in.of(c.InAffine))), nil
}

// convSum is the convolution with its low-rank branch.
func (in *interpreter) convSum(c *graph.Conv, x *value) (*value, error) {
	if w := in.of(c.Dynamic); w != nil {
		out := newValue(graph.Shape{N: x.N, H: x.H, W: x.W, C: w.W})
		return out.fill(func(n, y, xo, o int) float64 {
			return dot(x.pixel(n, y, xo), w.pixel(n, 0, o))
		}), nil
	}
	kh, kw := c.Kernel()
	w, err := paramValues(c.Weight)
	if err != nil {
		return nil, err
	}
	shift, err := in.foldNorm(c, w)
	if err != nil {
		return nil, err
	}
	in.roundAll(w)
	k := &kernel{cout: c.COut(), kh: kh, kw: kw, stride: c.StrideOr1(), pad: c.Pad, groups: c.GroupsOr1(), mode: c.PadMode, w: w}
	t := addBias(k.apply(x), shift)
	for i := range x.N {
		if err := in.addBranch(t, i, c, *k, x); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// addBranch adds the low-rank branch of image i of x, if there is one; k is the
// convolution c beside it.
func (in *interpreter) addBranch(t *value, i int, c *graph.Conv, k kernel, x *value) error {
	l := c.Branch(i)
	if l == nil {
		return nil
	}
	factors, err := allParams(l.Down, l.Up)
	if err != nil {
		return err
	}
	shift, err := in.foldNorm(c, factors[0])
	if err != nil {
		return err
	}
	in.roundAll(factors[0])
	in.roundAll(factors[1])
	up := &kernel{cout: k.cout, kh: 1, kw: 1, stride: 1, groups: 1, w: factors[1]}
	k.cout, k.w = l.Down.Dims[0], factors[0]
	part := len(x.data) / x.N
	one := &value{x.Shape, x.data[i*part : (i+1)*part]}
	one.N = 1
	branch := up.apply(in.round(addBias(k.apply(one), shift)))
	for j, v := range branch.data {
		t.data[i*len(branch.data)+j] += float64(l.Scale) * v
	}
	return nil
}

func (in *interpreter) depthwise(d *graph.Depthwise) ([]*value, error) {
	ps, err := allParams(d.Weight, d.Bias)
	if err != nil {
		return nil, err
	}
	x := in.of(d.X)
	k := &kernel{cout: x.C, kh: d.Kernel(), kw: d.Kernel(), stride: 1, pad: d.Kernel() / 2, groups: x.C, w: ps[0]}
	t := gate(activate(addBias(k.apply(x), ps[1]), d.Act), d.Gate)
	if d.Gram != nil {
		v, gram := gramOf(in.round(t), d.Gram)
		return []*value{v, gram}, nil
	}
	t = add(t, in.of(d.Residual))
	if !d.Pool {
		return one(t), nil
	}
	return []*value{t, boxMean(t, t.H, t.W)}, nil
}

// gramOf splits q, k and v and multiplies the normalised first two.
func gramOf(t *value, g *graph.Gram) (v, gram *value) {
	d := g.C / g.Heads
	length := make([]float64, t.N*2*g.C) // of each channel of q and k, over all positions
	for n := range t.N {
		for c := range 2 * g.C {
			var sum float64
			for i := range t.H * t.W {
				q := t.data[(n*t.H*t.W+i)*t.C+c]
				sum += q * q
			}
			length[n*2*g.C+c] = max(math.Sqrt(sum), 1e-12)
		}
	}
	gram = newValue(graph.Shape{N: t.N, H: g.Heads, W: d, C: d})
	gram.fill(func(n, h, i, j int) float64 {
		q, k := h*d+i, g.C+h*d+j
		var sum float64
		for p := range t.H * t.W {
			pixel := t.data[(n*t.H*t.W+p)*t.C:]
			sum += pixel[q] * pixel[k]
		}
		return sum / length[n*2*g.C+q] / length[n*2*g.C+k]
	})
	v = newValue(graph.Shape{N: t.N, H: t.H, W: t.W, C: t.C - 2*g.C})
	v.fill(func(n, y, x, c int) float64 { return t.at(n, y, x, 2*g.C+c) })
	return v, gram
}

func addBias(t *value, bias []float64) *value {
	if bias != nil {
		t.fill(func(n, y, x, c int) float64 { return t.at(n, y, x, c) + bias[c] })
	}
	return t
}

func activate(t *value, a graph.Activation) *value {
	if a != graph.Identity {
		t.fill(func(n, y, x, c int) float64 { return activation(a, t.at(n, y, x, c)) })
	}
	return t
}

func activation(a graph.Activation, v float64) float64 {
	switch a {
	case graph.ReLU:
		return max(v, 0)
	case graph.LeakyReLU:
		if v < 0 {
			return 0.1 * v
		}
		return v
	case graph.GELU:
		return gelu(v)
	}
	return v
}

// gelu uses the complementary error function, which keeps its digits where
// 1+erf cancels.
func gelu(v float64) float64 { return 0.5 * v * math.Erfc(-v/math.Sqrt2) }

func gate(t *value, g graph.Gate) *value {
	if g == graph.NoGate {
		return t
	}
	s := t.Shape
	s.C /= 2
	return newValue(s).fill(func(n, y, x, c int) float64 {
		a, b := t.at(n, y, x, c), t.at(n, y, x, s.C+c)
		if g == graph.GELUGate {
			a = gelu(a)
		}
		return a * b
	})
}

// affine applies N×1×2×C scales and shifts; nil leaves t as it is.
func affine(t, a *value) *value {
	if a == nil {
		return t
	}
	return newValue(t.Shape).fill(func(n, y, x, c int) float64 {
		return t.at(n, y, x, c)*a.at(n, 0, 0, c) + a.at(n, 0, 1, c)
	})
}

// shuffle is PixelShuffle(r) for r > 1 and PixelUnshuffle(-r) for r < -1.
func shuffle(t *value, r int) *value {
	switch {
	case r > 1:
		return newValue(graph.Shape{N: t.N, H: t.H * r, W: t.W * r, C: t.C / (r * r)}).fill(func(n, y, x, c int) float64 {
			return t.at(n, y/r, x/r, c*r*r+y%r*r+x%r)
		})
	case r < -1:
		r = -r
		return newValue(graph.Shape{N: t.N, H: t.H / r, W: t.W / r, C: t.C * r * r}).fill(func(n, y, x, c int) float64 {
			return t.at(n, y*r+c%(r*r)/r, x*r+c%r, c/(r*r))
		})
	}
	return t
}

func dot(a, b []float64) float64 {
	var sum float64
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}
