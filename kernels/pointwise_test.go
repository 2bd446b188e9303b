package kernels_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/kernels"
)

// normProduct runs norm(x)·Wᵀ with 48 channels for rows of the given mean and deviation and gives result and reference.
func normProduct(t *testing.T, mean, deviation float64) (got, want [][]float32) {
	t.Helper()
	const c = 48
	g := oneOp(t, []graph.Shape{{N: 1, H: 9, W: 15, C: c}}, func(in []*graph.Tensor) graph.Op {
		return &graph.Conv{
			X: in[0], Weight: param(t, 1, 0, 0.15, 72, c),
			Norm: &graph.Norm{Weight: param(t, 2, 1, 0.2, c), Bias: param(t, 3, 0, 0.3, c), Eps: 1e-6},
		}
	})
	o, op := single(newRig(t), g, 5)
	o.inputs[0] = normal(9, len(o.inputs[0]), mean, deviation)
	x := op.(*graph.Conv).X
	o.buffers[x] = o.rows(o.inputs[0], kernels.Plain(c))
	return runConv(o, op, convOptions{}), expected(t, g, o.inputs)
}

// TestNormalisationSurvivesLargeValues covers rows whose squares overflow fp16 and rows whose mean is large against their
// deviation: sums of squares around zero would lose the variance.
func TestNormalisationSurvivesLargeValues(t *testing.T) {
	for _, s := range []struct{ mean, deviation float64 }{{0, 3000}, {175, 20}, {1000, 2}, {-20000, 100}, {0, 1e-3}} {
		got, want := normProduct(t, s.mean, s.deviation)
		requireClose(t, got, want)
	}
}

// TestConstantRowsNormaliseToTheBias covers a variance of zero, where 1/√ε multiplies what rounding leaves of x - mean.
func TestConstantRowsNormaliseToTheBias(t *testing.T) {
	got, want := normProduct(t, 3, 0)
	requireClose(t, got, want)
}

// TestImagesMayUseDifferentAdapters mixes three adapters and none in one batch.
func TestImagesMayUseDifferentAdapters(t *testing.T) {
	const images, rows, cin, filters, rank, adapters = 4, 70, 24, 40, 8, 3
	for _, norm := range []kernels.NormKind{kernels.NoNorm, kernels.LayerNorm} {
		r := newRig(t)
		in, out := kernels.Plain(cin), kernels.Plain(filters)
		x := normal(1, images*rows*cin, 0.5, 1)
		s := kernels.ProductSource{
			Weight: normal(2, filters*cin, 0, 0.2), Filters: filters, In: []kernels.Layout{in}, Order: kernels.PlainOrder(out),
			Norm: norm, Rank: rank, LowRankFactor: 2,
		}
		if norm != kernels.NoNorm {
			s.NormWeight, s.NormBias = normal(3, cin, 1, 0.2), normal(4, cin, 0, 0.3)
		}
		q := kernels.PointwiseProduct{Rows: rows, Norm: norm, Channels: cin, Eps: 1e-5}
		var down, up []uint16
		var shifts []float32
		merged := make([][]float32, adapters)
		for a := range adapters {
			s.Down, s.Up = normal(uint64(10+a), rank*cin, 0, 0.2), normal(uint64(20+a), filters*rank, 0, 0.2)
			p, err := s.Pack()
			require.NoError(t, err)
			down, up = append(down, p.Down...), append(up, p.Up...)
			shifts = append(shifts, p.DownShift...)
			merged[a] = mergedWeight(s, cin)
			if a == 0 {
				q.W, q.LowRank.Rank = r.halves(p.W), p.Rank
				if norm != kernels.NoNorm {
					q.Epilogue.Bias = r.floats(p.Bias)
				}
			}
		}
		q.X, q.Pitch, q.Images, q.Tiling = r.rows(x, in), in.Pitch(), images, kernels.Tiling{Rows: 64, Splits: 1}
		choice := []int32{2, -1, 0, 1}
		q.LowRank.Down, q.LowRank.Up, q.LowRank.Adapters, q.LowRank.Adapter = r.halves(down), r.halves(up), adapters, r.ints(choice)
		if norm != kernels.NoNorm {
			q.LowRank.DownShift = r.floats(shifts)
		}
		q.Epilogue.Columns, q.Epilogue.Y = out.Pitch(), r.emptyRows(images*rows, out)
		r.run(kernels.Pointwise(q))
		got := r.pixels(q.Epilogue.Y, images*rows, out)
		var want []float32
		for i, a := range choice {
			w := s.Weight
			if a >= 0 {
				w = merged[a]
			}
			want = append(want, linear(x[i*rows*cin:][:rows*cin], w, cin, s.NormWeight, s.NormBias)...)
		}
		requireClose(t, [][]float32{got}, [][]float32{want})
	}
}

// mergedWeight is W + factor·up·down.
func mergedWeight(s kernels.ProductSource, cin int) []float32 {
	w := make([]float32, len(s.Weight))
	for f := range s.Filters {
		for k := range cin {
			v := float64(s.Weight[f*cin+k])
			for r := range s.Rank {
				v += float64(s.LowRankFactor) * float64(s.Up[f*s.Rank+r]) * float64(s.Down[r*cin+k])
			}
			w[f*cin+k] = float32(v)
		}
	}
	return w
}

// linear is norm(x)·wᵀ in double precision; without factors it does not normalise.
func linear(x, w []float32, cin int, factors, summands []float32) []float32 {
	var y []float32
	for ; len(x) > 0; x = x[cin:] {
		row := make([]float64, cin)
		var mean, variance float64
		for _, v := range x[:cin] {
			mean += float64(v) / float64(cin)
		}
		for _, v := range x[:cin] {
			variance += (float64(v) - mean) * (float64(v) - mean) / float64(cin)
		}
		for k, v := range x[:cin] {
			row[k] = float64(v)
			if factors != nil {
				row[k] = (row[k]-mean)/math.Sqrt(variance+1e-5)*float64(factors[k]) + float64(summands[k])
			}
		}
		for f := range len(w) / cin {
			var sum float64
			for k, v := range row {
				sum += v * float64(w[f*cin+k])
			}
			y = append(y, float32(sum))
		}
	}
	return y
}

func TestSplitColumnsGoToTheSecondResult(t *testing.T) {
	r := newRig(t)
	in, all := kernels.Plain(16), kernels.Plain(72)
	x, w := normal(1, 33*16, 0, 1), normal(2, 72*16, 0, 0.25)
	p, err := kernels.ProductSource{Weight: w, Filters: 72, In: []kernels.Layout{in}, Order: kernels.PlainOrder(all)}.Pack()
	require.NoError(t, err)
	first, rest := kernels.Plain(48), kernels.Plain(24)
	q := kernels.PointwiseProduct{Rows: 33}
	q.X, q.Pitch, q.Images, q.W, q.Tiling = r.rows(x, in), 16, 1, r.halves(p.W), kernels.Tiling{Rows: 64, Splits: 1}
	q.Epilogue = kernels.Epilogue{Columns: 72, Split: 48, Y2: r.emptyRows(33, first), Y: r.emptyRows(33, rest)}
	r.run(kernels.Pointwise(q))
	a, b := r.pixels(q.Epilogue.Y2, 33, first), r.pixels(q.Epilogue.Y, 33, rest)
	var got []float32
	for i := range 33 {
		got = append(append(got, a[i*48:][:48]...), b[i*24:][:24]...)
	}
	requireClose(t, [][]float32{got}, [][]float32{linear(x, w, 16, nil, nil)})
}

// TestActivationsKeepNaN lets the guard at the end of a network see what went wrong inside.
func TestActivationsKeepNaN(t *testing.T) {
	for _, act := range []kernels.Activation{kernels.Identity, kernels.ReLU, kernels.LeakyReLU, kernels.GELU} {
		r := newRig(t)
		l := kernels.Plain(8)
		x := normal(1, 8*3, 0, 1)
		x[9] = float32(math.NaN())
		p, err := kernels.ProductSource{Weight: normal(2, 64, 0, 1), Filters: 8, In: []kernels.Layout{l}, Order: kernels.PlainOrder(l)}.Pack()
		require.NoError(t, err)
		q := kernels.PointwiseProduct{Rows: 3}
		q.X, q.Pitch, q.Images, q.W, q.Tiling = r.rows(x, l), 8, 1, r.halves(p.W), kernels.Tiling{Rows: 64, Splits: 1}
		q.Epilogue = kernels.Epilogue{Columns: 8, Act: act, Y: r.emptyRows(3, l)}
		r.run(kernels.Pointwise(q))
		w, err := kernels.PackDepthwise(normal(3, 9*8, 0, 1), 9, l)
		require.NoError(t, err)
		d := kernels.DepthwiseConv{X: q.X, Y: r.emptyRows(3, l), W: r.floats(w), Images: 1, Height: 3, Width: 1, K: 3, Pitch: 8, OutPitch: 8, Act: act}
		r.run(kernels.DepthwiseKernel(d))
		for i, v := range r.pixels(q.Epilogue.Y, 3, l) {
			require.Equal(t, i/8 == 1, math.IsNaN(float64(v)), "activation %d, value %d of the product", act, i)
		}
		for i, v := range r.pixels(d.Y, 3, l) {
			require.Equal(t, i%8 == 1, math.IsNaN(float64(v)), "activation %d, value %d of the depthwise convolution", act, i)
		}
	}
}
