package cpu

import (
	"math"

	"unirestorer/graph"
	"unirestorer/runtime/cpu/simd"
)

// gram forms normalised Gram matrices, see graph.Gram.
type gram struct {
	simd             *simd.Kernels
	c, heads, d      int
	images, perImage int // and slots of an image

	sums []float32 // of each slot: a matrix a head, then squared lengths of q and k
	out  []float32
}

func newGram(g *graph.Gram, images, perImage int, e env) *gram {
	return &gram{simd: e.simd, c: g.C, heads: g.Heads, d: g.C / g.Heads, images: images, perImage: perImage}
}

func (g *gram) slotFloats() int { return lines(g.c*g.d) + lines(2*g.c) }

func (g *gram) floats() int { return g.images * g.perImage * g.slotFloats() }

func (g *gram) bind(m memory, out *graph.Tensor, sums []float32) {
	g.sums, g.out = sums, m.tensor(out)
}

// matrix is the sum of products of one head in a slot.
func (g *gram) matrix(slot, head int) []float32 {
	return g.sums[slot*g.slotFloats()+head*g.d*g.d:][:g.d*g.d]
}

// squares are the squared lengths of the channels of q, then of k, in a slot.
func (g *gram) squares(slot int) []float32 {
	return g.sums[slot*g.slotFloats()+lines(g.c*g.d):][:2*g.c]
}

func (g *gram) clear(slot int) { clear(g.sums[slot*g.slotFloats():][:g.slotFloats()]) }

// add adds rows that begin with the q and k of a pixel.
func (g *gram) add(slot int, t simd.Mat, rows int) {
	for h := range g.heads {
		m := simd.Rows(g.matrix(slot, h), g.d)
		g.simd.Gram(m, t.From(0, h*g.d), t.From(0, g.c+h*g.d), rows, g.d, g.d)
	}
	g.simd.ColDot(g.squares(slot), t, t, rows, 2*g.c)
}

// chunks of the loop that ends the work: one for each head of each image.
func (g *gram) chunks() int { return g.images * g.heads }

// do adds up the slots of one head of one image, into the first of them, and
// normalises the sum.
func (g *gram) do(_, i int) {
	n, h := i/g.heads, i%g.heads
	first, vector := n*g.perImage, simd.Row
	m, squares := g.matrix(first, h), g.squares(first)
	q, k := squares[h*g.d:(h+1)*g.d], squares[g.c+h*g.d:g.c+(h+1)*g.d]
	for s := first + 1; s < first+g.perImage; s++ {
		other := g.squares(s)
		g.simd.Add(vector(m), vector(m), vector(g.matrix(s, h)), 1, g.d*g.d)
		g.simd.Add(vector(q), vector(q), vector(other[h*g.d:]), 1, g.d)
		g.simd.Add(vector(k), vector(k), vector(other[g.c+h*g.d:]), 1, g.d)
	}
	inverse(q)
	inverse(k)
	out := g.out[i*g.d*g.d : (i+1)*g.d*g.d]
	for r := range g.d {
		row := simd.Row(out[r*g.d : (r+1)*g.d])
		g.simd.Scale(row, simd.Row(m[r*g.d:]), q[r], 1, g.d)
		g.simd.Mul(row, row, simd.Row(k), 1, g.d)
	}
}

// inverse turns squared lengths into 1/max(length, 1e-12).
func inverse(squares []float32) {
	for i, s := range squares {
		squares[i] = float32(1 / max(math.Sqrt(float64(s)), 1e-12))
	}
}
