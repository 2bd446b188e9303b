package kernels_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/reference"
	"unirestorer/kernels"
	"unirestorer/runtime/device"
)

// halfUlp is the largest relative error of rounding to fp16, float32Noise what sums of a few thousand fp32 terms may add
// relative to the largest of them.
const (
	halfUlp      = 1.0 / (1 << 11)
	float32Noise = 1e-5
)

// tensor gives what a launcher takes for a graph's tensor, the zero Tensor for nil.
func (o *one) tensor(t *graph.Tensor) kernels.Tensor {
	if t == nil {
		return kernels.Tensor{}
	}
	return kernels.Tensor{Buffer: o.buffers[t], N: t.Shape.N, H: t.Shape.H, W: t.Shape.W, Layout: kernels.Plain(t.Shape.C)}
}

// unwritten allocates a result.
func (r *rig) unwritten(n, h, w, c int) kernels.Tensor {
	r.Helper()
	l := kernels.Plain(c)
	return kernels.Tensor{Buffer: r.emptyRows(n*h*w, l), N: n, H: h, W: w, Layout: l}
}

func (r *rig) read(t kernels.Tensor) []float32 {
	r.Helper()
	return r.pixels(t.Buffer, t.Pixels(), t.Layout)
}

// fresh uploads random values that are exact in fp16 and returns them.
func (r *rig) fresh(rng *rand.Rand, n, h, w, c int) (kernels.Tensor, []float32) {
	r.Helper()
	v := normals(rng, n*h*w*c, 0, 1)
	l := kernels.Plain(c)
	return kernels.Tensor{Buffer: r.rows(v, l), N: n, H: h, W: w, Layout: l}, v
}

// singles reads n fp32 values back.
func (r *rig) singles(b device.Buffer, n int) []float32 {
	r.Helper()
	raw := r.download(b, 4*n)
	v := make([]float32, n)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return v
}

func normals(rng *rand.Rand, n int, mean, deviation float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(mean + deviation*rng.NormFloat64())
	}
	return rounded(v)
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 2)) }

// within requires every value to be as near to what it should be as one rounding to fp16 and `absolute` allow.
func within(t testing.TB, got, want []float32, absolute float64) {
	t.Helper()
	require.Len(t, got, len(want))
	for i, w := range want {
		bound := math.Abs(float64(w))*halfUlp*1.01 + absolute + 1.0/(1<<25)
		require.InDelta(t, w, got[i], bound, "value %d", i)
	}
}

// eachCase runs the cases of some operations against the reference; bound gives the absolute error allowed beside one
// rounding of the result.
func eachCase(t *testing.T, keep func(op graph.Op) bool, bound float64, lower func(o *one, op graph.Op) [][]float32) {
	t.Helper()
	cases := casesWith(keep)
	require.NotEmpty(t, cases)
	for _, c := range cases {
		t.Run(name(c), func(t *testing.T) {
			t.Parallel()
			g, err := c.Build()
			require.NoError(t, err)
			o, op := single(newRig(t), g, 11)
			want, err := reference.Run(g, o.inputs)
			require.NoError(t, err)
			got := lower(o, op)
			require.Len(t, got, len(want))
			for i := range want {
				within(t, got[i], want[i], bound)
			}
		})
	}
}

func is[T graph.Op](op graph.Op) bool {
	_, ok := op.(T)
	return ok
}

func TestPaddingAndCroppingMoveEveryPixel(t *testing.T) {
	eachCase(t, func(op graph.Op) bool { return is[*graph.Pad](op) || is[*graph.Crop](op) }, 0, func(o *one, op graph.Op) [][]float32 {
		var y kernels.Tensor
		switch op := op.(type) {
		case *graph.Pad:
			s := op.X.Shape
			y = o.unwritten(s.N, s.H+op.Top+op.Bottom, s.W+op.Left+op.Right, s.C)
			o.run(kernels.Pad(o.tensor(op.X), y, op.Top, op.Left, kernels.PadMode(op.Mode)))
		case *graph.Crop:
			y = o.unwritten(op.X.Shape.N, op.H, op.W, op.X.Shape.C)
			o.run(kernels.Crop(o.tensor(op.X), y, op.Y, op.X0))
		}
		return [][]float32{o.read(y)}
	})
}

func TestConcatenationKeepsBothInputs(t *testing.T) {
	eachCase(t, is[*graph.Concat], 0, func(o *one, op graph.Op) [][]float32 {
		c := op.(*graph.Concat)
		a, b := o.tensor(c.A), o.tensor(c.B)
		y := o.unwritten(a.N, a.H, a.W, a.Layout.Channels+b.Layout.Channels)
		o.run(kernels.CopyChannels(a, b, y, 0))
		return [][]float32{o.read(y)}
	})
}

func TestChannelsMoveBetweenLayouts(t *testing.T) {
	for _, s := range []struct {
		from, second, to kernels.Layout
		first            int
	}{
		{from: kernels.Plain(24), to: kernels.Plain(16), first: 8},
		{from: kernels.Plain(24), to: kernels.Plain(13), first: 5},
		{from: kernels.Plain(30), to: kernels.Layout{Channels: 30, Parts: 3}},
		{from: kernels.Layout{Channels: 10, Parts: 2}, to: kernels.Plain(10)},
		{from: kernels.Layout{Channels: 10, Parts: 2}, second: kernels.Plain(7), to: kernels.Plain(12), first: 5},
		{from: kernels.Plain(16), second: kernels.Layout{Channels: 6, Parts: 2}, to: kernels.Layout{Channels: 22, Parts: 2}},
	} {
		t.Run(fmt.Sprintf("%v", s), func(t *testing.T) {
			r, rng := newRig(t), newRand(3)
			const n, h, w = 2, 3, 5
			x := kernels.Tensor{N: n, H: h, W: w, Layout: s.from}
			v := normals(rng, x.Pixels()*s.from.Channels, 0, 1)
			x.Buffer = r.rows(v, s.from)
			split := s.to.Channels - s.second.Channels
			var x2 kernels.Tensor
			var v2 []float32
			if s.second.Channels > 0 {
				x2 = kernels.Tensor{N: n, H: h, W: w, Layout: s.second}
				v2 = normals(rng, x2.Pixels()*s.second.Channels, 0, 1)
				x2.Buffer = r.rows(v2, s.second)
			}
			y := kernels.Tensor{N: n, H: h, W: w, Layout: s.to, Buffer: r.emptyRows(n*h*w, s.to)}
			r.run(kernels.CopyChannels(x, x2, y, s.first))
			var want []float32
			for p := range x.Pixels() {
				want = append(want, v[p*s.from.Channels+s.first:][:split]...)
				if v2 != nil {
					want = append(want, v2[p*s.second.Channels:][:s.second.Channels]...)
				}
			}
			require.Equal(t, want, r.read(y))
		})
	}
}

func TestTokensAreClassAndPatchesWithPositions(t *testing.T) {
	eachCase(t, is[*graph.Tokens], 1e-6, func(o *one, op graph.Op) [][]float32 {
		k := op.(*graph.Tokens)
		s := k.X.Shape
		l := kernels.Plain(s.C)
		y := o.unwritten(s.N, 1, s.H*s.W+1, s.C)
		o.run(kernels.Tokens(o.tensor(k.X), o.floatRows(o.values(k.Class), l), o.floatRows(o.values(k.Pos), l), y))
		return [][]float32{o.read(y)}
	})
}

func TestHostOrdersConvertExactly(t *testing.T) {
	for _, order := range []kernels.HostOrder{kernels.NHWC, kernels.NCHW} {
		for _, l := range []kernels.Layout{kernels.Plain(3), kernels.Plain(16), kernels.Plain(21), {Channels: 18, Parts: 2}} {
			for _, single := range []bool{false, true} {
				t.Run(fmt.Sprintf("order %d, %v, single %t", order, l, single), func(t *testing.T) {
					r := newRig(t)
					x := kernels.Tensor{N: 2, H: 11, W: 7, Layout: l}
					v := normals(newRand(5), x.Pixels()*l.Channels, 0, 1)
					host := make([]float32, len(v))
					for p := range x.Pixels() {
						for c := range l.Channels {
							at := p*l.Channels + c
							if order == kernels.NCHW {
								at = (p/(x.H*x.W)*l.Channels+c)*x.H*x.W + p%(x.H*x.W)
							}
							host[at] = v[p*l.Channels+c]
						}
					}
					x.Buffer = r.alloc(4 * x.Values())
					r.run(kernels.Import(r.floats(host), order, x, single))
					if single {
						require.Equal(t, v, r.floatPixels(x.Buffer, x.Pixels(), l))
					} else {
						require.Equal(t, v, r.pixels(x.Buffer, x.Pixels(), l))
					}
					out := r.alloc(4 * len(v))
					r.run(kernels.Export(x, out, order, single))
					require.Equal(t, host, r.singles(out, len(v)))
				})
			}
		}
	}
}

func TestBlendsEqualTheReference(t *testing.T) {
	keep := func(op graph.Op) bool {
		return is[*graph.MulAdd](op) || is[*graph.SoftReconstruction](op) || is[*graph.Sigmoid](op) || is[*graph.SelectiveKernel](op)
	}
	eachCase(t, keep, 4e-6, func(o *one, op graph.Op) [][]float32 {
		var y kernels.Tensor
		switch op := op.(type) {
		case *graph.MulAdd:
			y = o.like(op.A)
			o.run(kernels.MulAdd(o.tensor(op.A), o.tensor(op.B), o.tensor(op.C), y))
		case *graph.SoftReconstruction:
			y = o.like(op.X)
			o.run(kernels.SoftReconstruction(o.tensor(op.X), o.tensor(op.KB), y))
		case *graph.Sigmoid:
			y = o.like(op.X)
			o.run(kernels.Sigmoid(o.tensor(op.X), y, o.flag()))
		case *graph.SelectiveKernel:
			y = o.like(op.A)
			o.run(kernels.SelectiveKernel(o.tensor(op.A), o.tensor(op.B), o.tensor(op.Logits), o.tensor(op.Residual), y, o.flag()))
		}
		return [][]float32{o.read(y)}
	})
}

func TestPromptsAndResizingEqualTheReference(t *testing.T) {
	keep := func(op graph.Op) bool { return is[*graph.Prompt](op) || is[*graph.Resize](op) }
	eachCase(t, keep, 4e-6, func(o *one, op graph.Op) [][]float32 {
		var y kernels.Tensor
		switch op := op.(type) {
		case *graph.Prompt:
			d := op.Components.Dims
			y = o.unwritten(op.Logits.Shape.N, d[1], d[2], d[3])
			components, err := op.Components.Values()
			require.NoError(t, err)
			logits := kernels.Plain(op.Logits.Shape.C)
			single := kernels.Tensor{N: y.N, H: 1, W: 1, Layout: logits, Buffer: o.floatRows(o.read(o.tensor(op.Logits)), logits)}
			o.run(kernels.Prompt(single, o.floatRows(components, y.Layout), y))
		case *graph.Resize:
			y = o.unwritten(op.X.Shape.N, op.H, op.W, op.X.Shape.C)
			o.run(kernels.Bilinear(o.tensor(op.X), y))
		}
		return [][]float32{o.read(y)}
	})
}

func TestDeformableConvolutionEqualsTheReference(t *testing.T) {
	// What is sampled is rounded to fp16 before it is multiplied.
	eachCase(t, is[*graph.DeformConv], 2e-3, func(o *one, op graph.Op) [][]float32 {
		d := op.(*graph.DeformConv)
		values, err := d.Weight.Values()
		require.NoError(t, err)
		filters, channels := d.Weight.Dims[0], d.X.Shape.C
		rows, columns := kernels.DeformPadded(filters, channels)
		w := make([]float32, kernels.DeformTaps*rows*columns)
		for f := range filters {
			for c := range channels {
				for k := range kernels.DeformTaps {
					w[(k*rows+f)*columns+c] = values[(f*channels+c)*kernels.DeformTaps+k]
				}
			}
		}
		y := o.unwritten(d.X.Shape.N, d.X.Shape.H, d.X.Shape.W, filters)
		o.run(kernels.DeformConv(o.tensor(d.X), o.tensor(d.Offsets), o.rows(w, kernels.Plain(columns)), y, o.flag()))
		return [][]float32{o.read(y)}
	})
}

func (o *one) like(t *graph.Tensor) kernels.Tensor {
	return o.unwritten(t.Shape.N, t.Shape.H, t.Shape.W, t.Shape.C)
}

// A probability or weight in fp16 is off by half an ulp of at most 1, and values reach about 5.
func TestAttentionEqualsTheReference(t *testing.T) {
	keep := func(op graph.Op) bool { return is[*graph.Attention](op) || is[*graph.WindowAttention](op) }
	eachCase(t, keep, 5*halfUlp, runAttention)
}

func runAttention(o *one, op graph.Op) [][]float32 {
	o.Helper()
	var y kernels.Tensor
	switch op := op.(type) {
	case *graph.Attention:
		s := op.QKV.Shape
		y = o.unwritten(s.N, s.H, s.W, s.C/3)
		o.run(kernels.Attention(o.tensor(op.QKV), y, op.Heads, o.flag()))
	case *graph.WindowAttention:
		s := op.QKV.Shape
		y = o.unwritten(s.N, s.H, s.W, s.C/3)
		o.run(kernels.WindowAttention(o.tensor(op.QKV), y, o.attentionBias(o.values(op.Bias), op.Window), op.Heads, op.Window, op.Shift, o.flag()))
	}
	return [][]float32{o.read(y)}
}

// attentionBias uploads [heads][T][T] as the kernels read it.
func (r *rig) attentionBias(v []float32, window int) device.Buffer {
	r.Helper()
	b := r.rows(v, kernels.Plain(window*window))
	require.EqualValues(r, 2*len(v)/(window*window)*kernels.AttentionBiasPitch(window), b.Size)
	return b
}

// The shapes of a ViT at 256 pixels, of windows of 16 and of heads that no tensor-core path takes.
func TestLongSequencesAndLargeHeads(t *testing.T) {
	for _, s := range []struct{ n, h, w, heads, d, window, shift int }{
		{1, 1, 257, 1, 64, 0, 0}, {1, 1, 130, 2, 8, 0, 0}, {1, 3, 7, 2, 72, 0, 0}, {1, 1, 20, 1, 256, 0, 0},
		{1, 17, 18, 1, 16, 16, 8}, {1, 9, 8, 1, 80, 4, 1},
	} {
		t.Run(fmt.Sprintf("%+v", s), func(t *testing.T) {
			t.Parallel()
			c := s.heads * s.d
			b := graph.NewBuilder("attention", nil)
			in := b.Input("qkv", graph.Shape{N: s.n, H: s.h, W: s.w, C: 3 * c}, graph.NHWC)
			rng := newRand(8)
			r := newRig(t)
			qkv, values := r.fresh(rng, s.n, s.h, s.w, 3*c)
			y := r.unwritten(s.n, s.h, s.w, c)
			var want [][]float32
			if s.window == 0 {
				want = [][]float32{attended(values, s.n, s.h*s.w, s.heads, s.d)}
				r.run(kernels.Attention(qkv, y, s.heads, r.flag()))
			} else {
				tokens := s.window * s.window
				bias, err := graph.Const("bias", []int{s.heads, tokens, tokens}, normals(rng, s.heads*tokens*tokens, 0, 1))
				require.NoError(t, err)
				v, err := bias.Values()
				require.NoError(t, err)
				b.Output("y", b.WindowAttention("y", graph.WindowAttention{QKV: in, Bias: bias, Heads: s.heads, Window: s.window, Shift: s.shift}), graph.NHWC)
				g, err := b.Build()
				require.NoError(t, err)
				want, err = reference.Run(g, [][]float32{values})
				require.NoError(t, err)
				r.run(kernels.WindowAttention(qkv, y, r.attentionBias(v, s.window), s.heads, s.window, s.shift, r.flag()))
			}
			within(t, r.read(y), want[0], 5*halfUlp)
		})
	}
}

// attended is softmax(q·kᵀ/√d)·v in double precision.
func attended(qkv []float32, n, tokens, heads, d int) []float32 {
	c := heads * d
	out := make([]float32, 0, n*tokens*c)
	at := func(image, t, part, ch int) float64 { return float64(qkv[((image*tokens+t)*3+part)*c+ch]) }
	for image := range n {
		for i := range tokens {
			for h := range heads {
				p := make([]float64, tokens)
				var sum float64
				for j := range p {
					for e := range d {
						p[j] += at(image, i, 0, h*d+e) * at(image, j, 1, h*d+e)
					}
					p[j] = math.Exp(p[j] / math.Sqrt(float64(d)))
					sum += p[j]
				}
				for e := range d {
					var v float64
					for j := range p {
						v += p[j] / sum * at(image, j, 2, h*d+e)
					}
					out = append(out, float32(v))
				}
			}
		}
	}
	return out
}

func TestPoolsEqualTheReference(t *testing.T) {
	eachCase(t, is[*graph.Pool], float32Noise, runPool)
}

func runPool(o *one, op graph.Op) [][]float32 {
	o.Helper()
	p := op.(*graph.Pool)
	s := p.X.Shape
	kh, kw := p.Window()
	pitch := kernels.PadC(s.C)
	y := o.unwritten(s.N, s.H-kh+1, s.W-kw+1, s.C)
	if y.H == 1 && y.W == 1 {
		shares := kernels.PoolShares(s.H * s.W)
		partial := o.alloc(4 * s.N * shares * pitch)
		o.run(kernels.PoolPartial(o.tensor(p.X), o.tensor(p.X2), partial))
		o.run(kernels.PoolFinish(partial, shares, 1/float32(s.H*s.W), y))
	} else {
		sums := o.alloc(4 * s.N * y.H * s.W * pitch)
		o.run(kernels.WindowSums(o.tensor(p.X), o.tensor(p.X2), kh, sums))
		o.run(kernels.WindowMeans(sums, kh, kw, y))
	}
	return [][]float32{o.read(y)}
}

func TestChannelNormEqualsTheReference(t *testing.T) {
	eachCase(t, is[*graph.ChannelNorm], float32Noise, func(o *one, op graph.Op) [][]float32 {
		n := op.(*graph.ChannelNorm)
		l := kernels.Plain(n.X.Shape.C)
		kind, bias := kernels.BiasFree, device.Buffer{}
		if n.Norm.Kind == graph.LayerNorm {
			kind, bias = kernels.LayerNorm, o.floatRows(o.values(n.Norm.Bias), l)
		}
		y := o.like(n.X)
		o.run(kernels.ChannelNorm(o.tensor(n.X), y, kind, o.floatRows(o.values(n.Norm.Weight), l), bias, n.Norm.Eps))
		return [][]float32{o.read(y)}
	})
}

// NAFNet's activations reach a few hundred, where squares overflow fp16 and sums of squares lose the variance.
func TestChannelNormSurvivesLargeMeans(t *testing.T) {
	r, rng := newRig(t), newRand(9)
	const pixels, c = 5, 67
	v := normals(rng, pixels*c, 600, 2)
	l := kernels.Plain(c)
	x := kernels.Tensor{Buffer: r.rows(v, l), N: 1, H: 1, W: pixels, Layout: l}
	y := r.unwritten(1, 1, pixels, c)
	ones := make([]float32, c)
	for i := range ones {
		ones[i] = 1
	}
	zeros := make([]float32, c)
	r.run(kernels.ChannelNorm(x, y, kernels.LayerNorm, r.floatRows(ones, l), r.floatRows(zeros, l), 1e-6))
	var want []float32
	for p := range pixels {
		mean, variance := moments(v[p*c : (p+1)*c])
		for _, e := range v[p*c : (p+1)*c] {
			want = append(want, float32((float64(e)-mean)/math.Sqrt(variance+1e-6)))
		}
	}
	within(t, r.read(y), want, 1e-4)
}

func moments(v []float32) (mean, variance float64) {
	for _, x := range v {
		mean += float64(x)
	}
	mean /= float64(len(v))
	for _, x := range v {
		variance += (float64(x) - mean) * (float64(x) - mean)
	}
	return mean, variance / float64(len(v))
}

func (o *one) rescale(r *graph.RescaleNorm) [][]float32 {
	s := r.X.Shape
	l := kernels.Plain(s.C)
	x := o.tensor(r.X)
	partial := o.alloc(8 * s.N * kernels.RescaleShares(x.Values()/s.N))
	before, after := o.alloc(8*s.N*l.Pitch()), o.alloc(8*s.N*l.Pitch())
	row := func(p *graph.Param) device.Buffer { return o.floatRows(o.values(p), l) }
	o.run(kernels.RescalePartial(x, partial))
	o.run(kernels.RescaleFinish(x, partial, kernels.RescaleParams{
		Weight: row(r.Weight), Bias: row(r.Bias), ScaleWeight: row(r.ScaleWeight), ScaleBias: row(r.ScaleBias),
		ShiftWeight: row(r.ShiftWeight), ShiftBias: row(r.ShiftBias), Eps: r.Eps,
	}, before, after))
	return [][]float32{o.floatPixels(before, 2*s.N, l), o.floatPixels(after, 2*s.N, l)}
}

func TestRescaleNormEqualsTheReference(t *testing.T) {
	cases := casesWith(is[*graph.RescaleNorm])
	require.NotEmpty(t, cases)
	for _, c := range cases {
		t.Run(name(c), func(t *testing.T) {
			g, err := c.Build()
			require.NoError(t, err)
			o, op := single(newRig(t), g, 11)
			want, err := reference.Run(g, o.inputs)
			require.NoError(t, err)
			got := o.rescale(op.(*graph.RescaleNorm))
			for i := range want {
				for j, w := range want[i] {
					require.InDelta(t, w, got[i][j], 2e-6*max(1, math.Abs(float64(w))), "map %d, value %d", i, j)
				}
			}
		})
	}
}

// An image whose mean is a thousand deviations from zero and whose first value is far from the mean: sums of squares
// would have no digit of the variance left.
func TestRescaleStatisticsDoNotCancel(t *testing.T) {
	r, rng := newRig(t), newRand(10)
	const h, w, c = 40, 52, 21
	v := normals(rng, h*w*c, 1000, 1)
	v[0] = -2000
	l := kernels.Plain(c)
	x := kernels.Tensor{Buffer: r.rows(v, l), N: 1, H: h, W: w, Layout: l}
	shares := kernels.RescaleShares(x.Values())
	require.Greater(t, shares, 1)
	partial, before, after := r.alloc(8*shares), r.alloc(8*l.Pitch()), r.alloc(8*l.Pitch())
	row := func(value float32) device.Buffer {
		f := make([]float32, c)
		for i := range f {
			f[i] = value
		}
		return r.floatRows(f, l)
	}
	r.run(kernels.RescalePartial(x, partial))
	r.run(kernels.RescaleFinish(x, partial, kernels.RescaleParams{
		Weight: row(1), Bias: row(0), ScaleWeight: row(1), ScaleBias: row(0), ShiftWeight: row(1), ShiftBias: row(0), Eps: 1e-5,
	}, before, after))
	mean, variance := moments(v)
	got := r.floatPixels(after, 2, l)
	require.InEpsilon(t, math.Sqrt(variance+1e-5), got[0], 1e-5)
	require.InEpsilon(t, mean, got[c], 1e-6)
}
