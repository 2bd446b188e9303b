package cpu

import (
	"context"
	"math"

	"unirestorer/graph"
	"unirestorer/runtime/cpu/simd"
)

// rescaleNorm is graph.RescaleNorm. Each chunk takes the mean and the squared
// deviations of its values while they are in cache; chunks are then combined.
// The image alone decides the chunks.
type rescaleNorm struct {
	op            *graph.RescaleNorm
	node          *graph.Node
	simd          *simd.Kernels
	threads       int
	n, size, c    int // values and channels of an image
	per, perImage int // values and number of chunks
	weights       [6]*weight

	x, before, after []float32
	moments          []float64 // of each chunk: mean and sum of squared deviations
}

func newRescaleNorm(op *graph.RescaleNorm, n *graph.Node, e env) step {
	s := op.X.Shape
	r := &rescaleNorm{op: op, node: n, simd: e.simd, threads: e.threads, n: s.N, c: s.C, size: s.H * s.W * s.C}
	r.per = max(spanFloats, ceil(r.size, 4096))
	r.perImage = ceil(r.size, r.per)
	for i, p := range []*graph.Param{op.Weight, op.Bias, op.ScaleWeight, op.ScaleBias, op.ShiftWeight, op.ShiftBias} {
		r.weights[i] = plain(p)
	}
	return r
}

func (r *rescaleNorm) needs() needs {
	return needs{shared: 4 * r.n * r.perImage, weights: r.weights[:]}
}

func (r *rescaleNorm) bind(m memory, s scratch) {
	r.x, r.before, r.after = m.tensor(r.op.X), m.tensor(r.node.Outputs[0]), m.tensor(r.node.Outputs[1])
	r.moments = doubles(s.shared)
}

func (r *rescaleNorm) run(ctx context.Context, ex *executor) error {
	if err := ex.workers.loop(ctx, r, r.n*r.perImage); err != nil {
		return err
	}
	for n := range r.n {
		r.maps(n)
	}
	return nil
}

// chunk is the bounds of a chunk of image n.
func (r *rescaleNorm) chunk(n, i int) (from, to int) {
	return n*r.size + i*r.per, n*r.size + min((i+1)*r.per, r.size)
}

func (r *rescaleNorm) do(_, i int) {
	from, to := r.chunk(i/r.perImage, i%r.perImage)
	x := r.x[from:to]
	count := float64(len(x))
	mean := r.simd.Sum(x) / count
	centre := float32(mean)
	off := mean - float64(centre)
	r.moments[2*i], r.moments[2*i+1] = mean, r.simd.SumSquares(x, centre)-count*off*off
}

// maps writes the two affine maps of image n.
func (r *rescaleNorm) maps(n int) {
	var count, mean, squares float64
	for i := range r.perImage {
		from, to := r.chunk(n, i)
		c, m, s := float64(to-from), r.moments[2*(n*r.perImage+i)], r.moments[2*(n*r.perImage+i)+1]
		delta := m - mean
		squares += s + delta*delta*count*c/(count+c)
		mean += delta * c / (count + c)
		count += c
	}
	sigma := math.Sqrt(squares/count + float64(r.op.Eps))
	before, after := r.before[n*2*r.c:(n+1)*2*r.c], r.after[n*2*r.c:(n+1)*2*r.c]
	w := func(i, c int) float64 { return float64(r.weights[i].data()[c]) }
	for c := range r.c {
		scale := w(0, c) / sigma
		before[c], before[r.c+c] = float32(scale), float32(w(1, c)-mean*scale)
		after[c], after[r.c+c] = float32(w(2, c)*sigma+w(3, c)), float32(w(4, c)*mean+w(5, c))
	}
}
