package cpu

import (
	"context"
	"math"

	"unirestorer/graph"
	"unirestorer/runtime/cpu/simd"
)

// queryBlock is how many queries of a sequence a chunk answers.
const queryBlock = 64

// attention is graph.Attention: a chunk is a block of queries of one head.
type attention struct {
	op      *graph.Attention
	out     *graph.Tensor
	simd    *simd.Kernels
	threads int
	n, t, c int // images, tokens, channels
	d       int // channels of a head
	blocks  int
	qkv, y  []float32
	scratch scratch
}

func newAttention(op *graph.Attention, n *graph.Node, e env) step {
	s := n.Outputs[0].Shape
	return &attention{
		op: op, out: n.Outputs[0], simd: e.simd, threads: e.threads,
		n: s.N, t: s.W, c: s.C, d: s.C / op.Heads, blocks: ceil(s.W, queryBlock),
	}
}

func (a *attention) chunks() int { return a.n * a.op.Heads * a.blocks }

func (a *attention) needs() needs {
	return needs{
		each:    headFloats(min(a.t, queryBlock), a.t, a.d),
		workers: min(a.threads, a.chunks()),
	}
}

func (a *attention) bind(m memory, s scratch) {
	a.scratch, a.qkv, a.y = s, m.tensor(a.op.QKV), m.tensor(a.out)
}

func (a *attention) run(ctx context.Context, ex *executor) error {
	return ex.workers.loop(ctx, a, a.chunks())
}

func (a *attention) do(worker, i int) {
	block, i := i%a.blocks, i/a.blocks
	h, n := i%a.op.Heads, i/a.op.Heads
	first := block * queryBlock
	queries := min(queryBlock, a.t-first)
	ld := 3 * a.c
	tokens := a.qkv[n*a.t*ld+h*a.d:]
	space := newHeadSpace(a.scratch.of(worker), queries, a.t, a.d)
	attendHead(a.simd, space, head{
		q: simd.Rows(tokens[first*ld:], ld), k: simd.Rows(tokens[a.c:], ld), v: simd.Rows(tokens[2*a.c:], ld),
		y: simd.Rows(a.y[(n*a.t+first)*a.c+h*a.d:], a.c), queries: queries, keys: a.t, d: a.d,
	})
}

// head is softmax(q·kᵀ/√d + bias)·v for one head; bias has a row of keys for
// each query, or no data.
type head struct {
	q, k, v, bias, y simd.Mat
	queries, keys, d int
}

// headSpace is what attendHead works in.
type headSpace struct {
	keys   []float32 // transposed
	logits []float32
	scaled []float32 // queries
}

// headFloats is the size of a headSpace.
func headFloats(queries, keys, d int) int {
	return d*lines(keys) + lines(queries*keys) + lines(queries*d)
}

func newHeadSpace(s carve, queries, keys, d int) headSpace {
	return headSpace{keys: s.take(d * lines(keys)), logits: s.take(queries * keys), scaled: s.take(queries * d)}
}

func attendHead(k *simd.Kernels, s headSpace, h head) {
	keys, logits, scaled := simd.Rows(s.keys, lines(h.keys)), simd.Rows(s.logits, h.keys), simd.Rows(s.scaled, h.d)
	k.Scale(scaled, h.q, float32(1/math.Sqrt(float64(h.d))), h.queries, h.d)
	transpose(keys, h.k, h.keys, h.d)
	k.MatMulRows(logits, h.bias, scaled, keys, h.queries, h.d, h.keys)
	k.Softmax(logits, logits, h.queries, h.keys)
	k.MatMulRows(h.y, simd.Mat{}, logits, h.v, h.queries, h.keys, h.d)
}
