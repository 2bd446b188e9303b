package cpu

import (
	"fmt"

	"unirestorer/graph"
	"unirestorer/runtime/cpu/simd"
)

// narrow is the product of a k×k convolution with few filters, such as the one
// to an image's three channels. Filters side by side would leave most of a
// vector empty, so instead every pixel of the tile's input is multiplied by all
// filters at all places of the window at once, and each result adds up what the
// pixels under its window contributed.
type narrow struct {
	kh, kw, cin, cout int
	inW, inH          int // extents of a whole tile's input
	weight            *weight
}

const (
	// narrowColumns is how many products a pixel may have: more are no longer
	// cheaper than vectors that are partly empty.
	narrowColumns = 64
	// narrowChannels is how many channels a pixel must have for its products to
	// outweigh adding them up.
	narrowChannels = 12
)

// isNarrow tells whether a convolution should be computed this way.
func isNarrow(op *graph.Conv) bool {
	kh, kw := op.Kernel()
	return kh > 1 && kw > 1 && kh*kw*op.COut() <= narrowColumns && op.COut() <= lineFloats/2 && op.CIn() >= narrowChannels &&
		op.StrideOr1() == 1 && op.GroupsOr1() == 1 && len(op.Branches()) == 0
}

func newNarrow(e env, op *graph.Conv, grid *tileGrid, scale *graph.Param, order rowOrder) *narrow {
	kh, kw := op.Kernel()
	n := &narrow{kh: kh, kw: kw, cin: op.CIn(), cout: op.COut(), inW: grid.inputWidth(), inH: grid.inputHeight()}
	how := fmt.Sprintf("narrow conv, window %dx%d, scaled %t, order %d", kh, kw, scale != nil, order.shuffle)
	n.weight = newWeight(how, e.simd.PackedLen(n.cin, n.columns()), func(from [][]float32, l *loader) prepared {
		// Column (place in the window)·cout + filter.
		columns := l.rows(n.columns() * n.cin)
		for o := range n.cout {
			f := order.filter(o, n.cout)
			for c := range n.cin {
				for place := range kh * kw {
					v := from[0][(f*n.cin+c)*kh*kw+place]
					if scale != nil {
						v *= from[1][f]
					}
					columns[(place*n.cout+o)*n.cin+c] = v
				}
			}
		}
		return prepared{packed: []*simd.Packed{l.pack(e.simd, simd.Rows(columns, n.cin), n.cin, n.columns())}}
	}, op.Weight, scale)
	return n
}

// columns is how many products a pixel has.
func (n *narrow) columns() int { return n.kh * n.kw * n.cout }

// ld is the distance of pixels' products.
func (n *narrow) ld() int { return lines(n.columns()) }

func (n *narrow) productFloats() int { return n.inH * n.inW * n.ld() }

func (n *narrow) rowFloats() int { return n.inW * (n.kw + 1) * n.cout }

// products multiplies the first rows of a tile's input.
func (n *narrow) products(k *simd.Kernels, segments []simd.Segment, dst, in []float32, rows int) {
	segments[0] = simd.Segment{A: simd.Rows(in, n.cin), K: n.cin}
	k.MatMul(&simd.Product{M: rows * n.inW, A: segments[:1], B: n.weight.packed[0], C: simd.Rows(dst, n.ld())})
}

// sum sets y, count pixels of a row of the tile, to bias + init + what the
// pixels under their windows contributed. init may be y; row is scratch.
func (n *narrow) sum(k *simd.Kernels, y, init simd.Mat, bias, products, row []float32, at, count int) {
	width, reach := n.kw*n.cout, count+n.kw-1
	all := simd.Rows(products, n.ld()).From(at*n.inW, 0)
	down := simd.Rows(row, width) // sums over the rows of the window
	k.Add(down, all, all.From(n.inW, width), reach, width)
	for i := 2; i < n.kh; i++ {
		k.Add(down, down, all.From(i*n.inW, i*width), reach, width)
	}
	to := y
	if init.Data != nil {
		to = simd.Rows(row[n.inW*width:], n.cout)
	}
	k.Add(to, down, down.From(1, n.cout), count, n.cout)
	for j := 2; j < n.kw; j++ {
		k.Add(to, to, down.From(j, j*n.cout), count, n.cout)
	}
	if bias != nil {
		k.Add(to, to, simd.Row(bias), count, n.cout)
	}
	if init.Data != nil {
		k.Add(y, to, init, count, n.cout)
	}
}
