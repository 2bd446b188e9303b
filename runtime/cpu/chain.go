package cpu

import (
	"context"

	"unirestorer/graph"
)

// chain is two 1×1 convolutions, the second of the first's result: a chunk is
// a strip of pixels that goes through both.
type chain struct {
	first, last *conv
	threads     int
	images      int
	pixels, per int // of an image, of a strip
	middle      int // channels between
	scratch     scratch
}

func newChain(first, last *conv, e env) step {
	s := first.op.X.Shape
	c := &chain{first: first, last: last, threads: e.threads, images: s.N, pixels: s.H * s.W, middle: last.op.X.Shape.C}
	wide := first.op.CIn() + first.op.COut() + last.op.COut()
	c.per = max(tileBytes/floatBytes/wide/tileRows*tileRows, tileRows)
	for c.per > tileRows && c.chunks() < c.threads*chunksPerThread {
		c.per -= tileRows
	}
	c.per = min(c.per, c.pixels)
	first.inStrips(c.per, false)
	last.inStrips(c.per, true)
	return c
}

func (c *chain) chunks() int { return c.images * ceil(c.pixels, c.per) }

func (c *chain) needs() needs {
	n := needs{
		each:    lines(c.per*c.middle) + max(c.first.eachFloats(), c.last.eachFloats()),
		workers: min(c.threads, c.chunks()),
		weights: append(c.first.weights(), c.last.weights()...),
		inPlace: c.last.out.takesOver(),
	}
	// The strip that is written has been read by then; other inputs have not.
	if r := n.inPlace; r != nil {
		others := *c.first.op
		others.X = &graph.Tensor{}
		if readsAny(r, &others) {
			n.inPlace = nil
		}
	}
	return n
}

func (c *chain) bind(m memory, s scratch) {
	c.scratch = s
	c.first.bindStrips(m, c.needs().workers)
	c.last.bindStrips(m, c.needs().workers)
}

func (c *chain) run(ctx context.Context, ex *executor) error {
	return ex.workers.loop(ctx, c, c.chunks())
}

func (c *chain) do(worker, i int) {
	across := ceil(c.pixels, c.per)
	n, p := i/across, i%across*c.per
	s := carve(c.scratch.of(worker))
	between := s.take(c.per * c.middle)
	count := min(c.per, c.pixels-p)
	c.first.strip(worker, s, strip{n: n, p: p, count: count, c1: c.first.op.COut(), into: between})
	c.last.strip(worker, s, strip{n: n, p: p, count: count, c1: c.last.op.COut(), in: between})
}

// skipped is the step of a node that is computed with a later one.
type skipped struct{}

func (skipped) needs() needs { return needs{} }

func (skipped) bind(memory, scratch) {}

func (skipped) run(context.Context, *executor) error { return nil }
