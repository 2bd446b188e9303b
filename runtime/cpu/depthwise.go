package cpu

import (
	"context"

	"unirestorer/graph"
	"unirestorer/runtime/cpu/simd"
)

// depthwise is a convolution of each channel by itself. A chunk is a tile of
// some rows and columns. A few pixels are computed at a time, and gated,
// averaged or multiplied into the Gram matrix while they are in the first level
// cache.
//
// The rows under the window are those of the image, or a 1×1 convolution
// before computes them one by one into a ring; a 1×1 convolution after takes
// each row of results.
type depthwise struct {
	op            *graph.Depthwise
	node          *graph.Node
	simd          *simd.Kernels
	taps          taps
	before, after *conv // nil without

	n, h, w      int
	cin, c       int // channels that come in and, after gate or Gram matrix, go out
	radius       int
	th, tw       int // extents of a tile
	down, across int
	block        int // pixels computed at once
	slotRows     int // rows of a tile whose sums make a slot, or as many as the image has
	batchRows    int // of them that the Gram matrix takes at once
	threads      int
	means        *slotMean // nil without
	gram         *gram     // nil without
	direct       bool      // pixels are computed where the result goes

	x, y, residual []float32
	spaces         []depthwiseSpace // of each worker
}

const (
	// depthwiseTileBytes is what the rows under the window should stay below.
	depthwiseTileBytes = 256 << 10
	// depthwiseRows is how many rows a tile has in a large image: the rows above
	// and below are read once more for each.
	depthwiseRows = 16
	// depthwiseRingRows is the same where the rows are computed once more.
	depthwiseRingRows = 64
	// depthwiseBlockBytes is what the pixels computed at once take.
	depthwiseBlockBytes = 16 << 10
	// depthwiseGramBytes is what the pixels take that are multiplied into the
	// Gram matrix at once: enough of them to pay for reading and writing it.
	depthwiseGramBytes = 256 << 10
)

func newDepthwise(op *graph.Depthwise, n *graph.Node, before, after *conv, e env) *depthwise {
	s := op.X.Shape
	d := &depthwise{
		op: op, node: n, simd: e.simd, taps: newTaps(op, e), before: before, after: after, threads: e.threads,
		n: s.N, h: s.H, w: s.W, cin: s.C, c: n.Outputs[0].Shape.C, radius: op.Kernel() / 2,
	}
	d.direct = op.Gate == graph.NoGate && op.Gram == nil && op.Residual == nil
	d.cut(e.threads)
	perImage := ceil(d.h, d.slotRows) * d.across
	if op.Gram != nil {
		d.gram = newGram(op.Gram, d.n, perImage, e)
	}
	if op.Pool {
		d.means = newSlotMean(d.n, perImage, d.h*d.w, d.c)
	}
	if before != nil {
		before.inStrips(d.tw+2*d.radius, false)
	}
	if after != nil {
		after.inStrips(d.tw, true)
	}
	return d
}

// cut chooses the tiles. The image alone decides their width and the slots.
func (d *depthwise) cut(threads int) {
	wide := max(depthwiseTileBytes/floatBytes/(d.side()*d.cin)-2*d.radius, 8)
	d.tw = ceil(d.w, ceil(d.w, wide))
	d.across = ceil(d.w, d.tw)
	d.block = min(d.tw, max(depthwiseBlockBytes/floatBytes/d.cin&^3, 4))
	rows, wanted, unit := depthwiseRows, threads*chunksPerThread, 1
	if d.before != nil {
		rows, wanted = depthwiseRingRows, wanted/2
	}
	d.slotRows = d.h
	if d.op.Gram != nil || d.op.Pool {
		d.slotRows = min(ceil(slotPixels(d.h*d.w), d.tw), d.h)
		d.batchRows = min(max(depthwiseGramBytes/floatBytes/d.cin/d.tw, 1), d.slotRows)
		unit = d.slotRows
	}
	d.th = ceil(min(d.h, rows), unit) * unit
	for d.th > unit && d.n*ceil(d.h, d.th)*d.across < wanted {
		d.th -= unit
	}
	d.down = ceil(d.h, d.th)
}

// repeated is how many times over the convolution before is computed.
func (d *depthwise) repeated() float64 {
	return float64(d.th+2*d.radius) / float64(d.th) * float64(d.tw+2*d.radius) / float64(d.tw)
}

// side of the window.
func (d *depthwise) side() int { return 2*d.radius + 1 }

// ringRow is one row under the window, as wide as a tile and its borders.
func (d *depthwise) ringRow() int { return (d.tw + 2*d.radius) * d.cin }

// depthwiseSpace is what a worker computes a tile in.
type depthwiseSpace struct {
	worker int
	slot   int         // that takes sums
	window [][]float32 // the rows under the window
	ring   []float32   // rows of the convolution before; without one,
	zeros  []float32   // a row outside the image and
	patch  []float32   // the pixels under a window that crosses a border
	sums   []float32   // of a row's results
	// results are pixels between the convolution and what follows it; held of
	// them wait for the Gram matrix.
	results []float32
	held    int
	row     []float32 // results for the convolution after
	rest    carve     // for the convolutions before and after
}

// resultPixels is how many pixels wait between the convolution and what
// follows it.
func (d *depthwise) resultPixels() int {
	if d.gram != nil {
		return d.batchRows * d.tw
	}
	return d.block
}

func (d *depthwise) spaceFloats() int {
	n := lines(d.c)
	if d.before != nil {
		n += d.side() * lines(d.ringRow())
	} else {
		n += lines((d.block+2*d.radius)*d.cin) + lines(d.side()*d.side()*d.cin)
	}
	if !d.direct {
		n += lines(d.resultPixels() * d.cin)
	}
	rest := 0
	if d.before != nil {
		rest = d.before.eachFloats()
	}
	if d.after != nil {
		n += lines(d.tw * d.c)
		rest = max(rest, d.after.eachFloats())
	}
	return n + rest
}

func (d *depthwise) newSpace(worker int, s carve) depthwiseSpace {
	w := depthwiseSpace{worker: worker, window: make([][]float32, d.side()), sums: s.take(d.c)}
	if d.before != nil {
		w.ring = s.take(d.side() * lines(d.ringRow()))
	} else {
		w.zeros = s.take((d.block + 2*d.radius) * d.cin)
		w.patch = s.take(d.side() * d.side() * d.cin)
	}
	if !d.direct {
		w.results = s.take(d.resultPixels() * d.cin)
	}
	if d.after != nil {
		w.row = s.take(d.tw * d.c)
	}
	w.rest = s
	return w
}

func (d *depthwise) needs() needs {
	n := needs{each: d.spaceFloats(), workers: min(d.threads, d.chunks()), weights: d.taps.weights()}
	ops := []graph.Op{d.op}
	if d.before != nil {
		n.weights = append(n.weights, d.before.weights()...)
		ops = append(ops, d.before.op)
	}
	if d.after != nil {
		// Rows around a tile are read by other tiles.
		n.weights = append(n.weights, d.after.weights()...)
		if n.inPlace = d.after.out.takesOver(); readsAny(n.inPlace, ops...) {
			n.inPlace = nil
		}
	} else if d.op.Residual != d.op.X && (d.before == nil || !readsAny(d.op.Residual, d.before.op)) {
		n.inPlace = d.op.Residual
	}
	if d.gram != nil {
		n.shared += lines(d.gram.floats())
	}
	if d.means != nil {
		n.shared += lines(d.means.floats())
	}
	return n
}

func (d *depthwise) chunks() int { return d.n * d.down * d.across }

func (d *depthwise) bind(m memory, s scratch) {
	d.x, d.y, d.residual = m.tensor(d.op.X), m.tensor(d.node.Outputs[0]), m.tensor(d.op.Residual)
	shared := carve(s.shared)
	if d.gram != nil {
		d.gram.bind(m, d.node.Outputs[1], shared.take(d.gram.floats()))
	}
	if d.means != nil {
		d.means.bind(m.tensor(d.node.Outputs[1]), shared.take(d.means.floats()))
	}
	workers := d.needs().workers
	for _, c := range some(d.before, d.after) {
		c.bindStrips(m, workers)
	}
	d.spaces = make([]depthwiseSpace, workers)
	for i := range d.spaces {
		d.spaces[i] = d.newSpace(i, s.of(i))
	}
}

func (d *depthwise) run(ctx context.Context, ex *executor) error {
	err := ex.workers.loop(ctx, d, d.chunks())
	switch {
	case err != nil:
		return err
	case d.gram != nil:
		return ex.workers.loop(ctx, d.gram, d.gram.chunks())
	case d.means != nil:
		d.means.finish()
	}
	return nil
}

// do computes a tile.
func (d *depthwise) do(worker, i int) {
	w := &d.spaces[worker]
	n, i := i/(d.down*d.across), i%(d.down*d.across)
	y0, x0 := i/d.across*d.th, i%d.across*d.tw
	y1, x1 := min(y0+d.th, d.h), min(x0+d.tw, d.w)
	if d.before == nil {
		clear(w.zeros)
	} else {
		for y := y0 - d.radius; y < y0+d.radius; y++ {
			d.produce(w, n, y, x0, x1)
		}
	}
	for y := y0; y < y1; y++ {
		if y%d.slotRows == 0 {
			d.enter(w, (n*ceil(d.h, d.slotRows)+y/d.slotRows)*d.across+x0/d.tw)
		}
		if d.before != nil {
			d.produce(w, n, y+d.radius, x0, x1)
		}
		for x := x0; x < x1; {
			count := d.look(w, n, y, x, x0, x1)
			d.pixels(w, n, y, x, x0, count)
			x += count
		}
		d.endRow(w, n, y, x0, x1, y+1 == y1)
	}
}

// enter starts a slot.
func (d *depthwise) enter(w *depthwiseSpace, slot int) {
	w.slot = slot
	if d.gram != nil {
		d.gram.clear(slot)
	}
	if d.means != nil {
		d.means.clear(slot)
	}
}

// endRow does what takes whole rows of results.
func (d *depthwise) endRow(w *depthwiseSpace, n, y, x0, x1 int, last bool) {
	at, count := (n*d.h+y)*d.w+x0, x1-x0
	if d.means != nil {
		clear(w.sums)
		d.simd.ColSum(w.sums, simd.Rows(d.y[at*d.c:], d.c), count, d.c)
		d.means.add(w.slot, w.sums)
	}
	if d.gram != nil {
		if inSlot := y%d.slotRows + 1; last || inSlot == d.slotRows || inSlot%d.batchRows == 0 {
			d.gram.add(w.slot, simd.Rows(w.results, d.cin), w.held)
			w.held = 0
		}
	}
	if d.after != nil {
		d.after.strip(w.worker, w.rest, strip{n: n, p: y*d.w + x0, count: count, c1: d.after.op.COut(), in: w.row})
	}
}

// ringAt is the ring's place for row y of the image.
func (d *depthwise) ringAt(w *depthwiseSpace, y int) []float32 {
	i := (y + d.side()) % d.side()
	return w.ring[i*lines(d.ringRow()):][:d.ringRow()]
}

// produce lets the convolution before compute the part of row y that a tile's
// windows reach.
func (d *depthwise) produce(w *depthwiseSpace, n, y, x0, x1 int) {
	row := d.ringAt(w, y)
	if y < 0 || y >= d.h {
		clear(row)
		return
	}
	from, to := max(x0-d.radius, 0), min(x1+d.radius, d.w)
	left := (from - (x0 - d.radius)) * d.cin
	count := to - from
	clear(row[:left])
	clear(row[left+count*d.cin:])
	d.before.strip(w.worker, w.rest, strip{n: n, p: y*d.w + from, count: count, c1: d.cin, into: row[left:]})
}

// look points the window at the pixels from (y, x) on, of a tile's columns x0
// to x1, and tells how many can be computed at once.
func (d *depthwise) look(w *depthwiseSpace, n, y, x, x0, x1 int) int {
	count := min(d.block, x1-x)
	switch {
	case d.before != nil:
		for i := range w.window {
			w.window[i] = d.ringAt(w, y+i-d.radius)[(x-x0)*d.cin:]
		}
		return count
	case x < d.radius || x >= d.w-d.radius:
		d.crossing(w, n, y, x)
		return 1
	}
	count = min(count, d.w-d.radius-x)
	for i := range w.window {
		if iy := y + i - d.radius; iy < 0 || iy >= d.h {
			w.window[i] = w.zeros
		} else {
			w.window[i] = d.x[((n*d.h+iy)*d.w+x-d.radius)*d.cin:]
		}
	}
	return count
}

// crossing copies the pixels under a window that crosses the border on the
// left or right.
func (d *depthwise) crossing(w *depthwiseSpace, n, y, x int) {
	side, c := d.side(), d.cin
	for i := range side {
		row := w.patch[i*side*c : (i+1)*side*c]
		w.window[i] = row
		iy := y + i - d.radius
		for j := range side {
			ix, pixel := x+j-d.radius, row[j*c:(j+1)*c]
			if iy < 0 || iy >= d.h || ix < 0 || ix >= d.w {
				clear(pixel)
			} else {
				copy(pixel, d.x[((n*d.h+iy)*d.w+ix)*c:])
			}
		}
	}
}

// pixels computes count pixels from (y, x) on; x0 is the tile's first column.
func (d *depthwise) pixels(w *depthwiseSpace, n, y, x, x0, count int) {
	at := ((n*d.h+y)*d.w + x) * d.c
	to := simd.Mat{Stride: d.c}
	if d.after != nil {
		to.Data = w.row[(x-x0)*d.c:]
	} else {
		to.Data = d.y[at:]
	}
	t := to
	if !d.direct {
		t = simd.Rows(w.results, d.cin).From(w.held, 0)
	}
	d.taps.row(t, w.window, count)
	activate(d.simd, t, d.op.Act, count, d.cin)
	if d.gram != nil {
		copyRows(to, columns(t, 2*d.gram.c), count, d.c)
		w.held += count
		return
	}
	if d.op.Gate != graph.NoGate {
		gated := to
		if d.residual != nil {
			gated = t
		}
		gate(d.simd, gated, t, d.op.Gate, count, d.c)
	}
	if d.residual != nil {
		d.simd.Add(to, simd.Rows(d.residual[at:], d.c), t, count, d.c)
	}
}
