package cpu

import (
	"context"
	"math"

	"unirestorer/graph"
	"unirestorer/runtime/cpu/simd"
)

const (
	deformTaps   = 9
	deformPixels = 32 // of a chunk: what it samples stays in the second-level cache
)

// deform samples what the taps of some pixels see as the rows of a matrix and
// multiplies it by the filters.
type deform struct {
	op      *graph.DeformConv
	out     *graph.Tensor
	simd    *simd.Kernels
	threads int
	weight  *weight // [tap][cin][cout]

	x, offsets, y []float32
	scratch       scratch
}

func newDeformConv(op *graph.DeformConv, n *graph.Node, e env) step {
	cout, cin := op.Weight.Dims[0], op.X.Shape.C
	w := newWeight("taps by rows", op.Weight.Elems(), func(from [][]float32, l *loader) prepared {
		values := l.aligned(op.Weight.Elems())
		for i, v := range from[0] {
			k, c, f := i%deformTaps, i/deformTaps%cin, i/deformTaps/cin
			values[(k*cin+c)*cout+f] = v
		}
		return prepared{values: values}
	}, op.Weight)
	return &deform{op: op, out: n.Outputs[0], simd: e.simd, threads: e.threads, weight: w}
}

func (d *deform) chunks() int { return ceil(d.out.Shape.Pixels(), deformPixels) }

func (d *deform) needs() needs {
	return needs{
		each: deformPixels * deformTaps * d.op.X.Shape.C, workers: min(d.threads, d.chunks()), weights: []*weight{d.weight},
	}
}

func (d *deform) bind(m memory, s scratch) {
	d.x, d.offsets, d.y, d.scratch = m.tensor(d.op.X), m.tensor(d.op.Offsets), m.tensor(d.out), s
}

func (d *deform) run(ctx context.Context, ex *executor) error {
	return ex.workers.loop(ctx, d, d.chunks())
}

func (d *deform) do(worker, i int) {
	c, cout := d.op.X.Shape.C, d.out.Shape.C
	inner := deformTaps * c
	first := i * deformPixels
	pixels := min(deformPixels, d.out.Shape.Pixels()-first)
	columns := d.scratch.of(worker)
	for p := range pixels {
		for k := range deformTaps {
			d.sample(columns[p*inner+k*c:][:c], first+p, k)
		}
	}
	d.simd.MatMulRows(simd.Rows(d.y[first*cout:][:pixels*cout], cout), simd.Mat{}, simd.Rows(columns[:pixels*inner], inner),
		simd.Rows(d.weight.data(), cout), pixels, inner, cout)
}

// sample is what tap k of a pixel sees.
func (d *deform) sample(dst []float32, pixel, k int) {
	s := d.op.X.Shape
	c := s.C
	offsets := d.offsets[pixel*3*deformTaps:][:3*deformTaps]
	image, at := pixel/(s.H*s.W), pixel%(s.H*s.W)
	y, x := float64(at/s.W-1+k/3)+float64(offsets[2*k]), float64(at%s.W-1+k%3)+float64(offsets[2*k+1])
	clear(dst)
	if !(y > -1 && y < float64(s.H) && x > -1 && x < float64(s.W)) {
		return
	}
	mask := 1 / (1 + math.Exp(-float64(offsets[2*deformTaps+k])))
	y0, x0 := math.Floor(y), math.Floor(x)
	ty, tx := y-y0, x-x0
	for corner := range 4 {
		i, j := corner/2, corner%2
		row, column := int(y0)+i, int(x0)+j
		if row < 0 || row >= s.H || column < 0 || column >= s.W {
			continue
		}
		factor := mask
		if i == 1 {
			factor *= ty
		} else {
			factor *= 1 - ty
		}
		if j == 1 {
			factor *= tx
		} else {
			factor *= 1 - tx
		}
		src := d.x[((image*s.H+row)*s.W+column)*c:][:c]
		d.simd.AddScaled(simd.Row(dst), simd.Row(dst), simd.Row(src), float32(factor), 1, c)
	}
}
