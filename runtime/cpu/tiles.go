package cpu

import "unirestorer/graph"

// tile is a rectangle of a convolution's result before its shuffle, or some of
// its channels. A flat tile is a row of w consecutive pixels from x on.
type tile struct {
	n, y, x, h, w int
	c0, c1        int // channels
}

// tileGrid cuts a convolution's result into tiles that keep a core's share of
// the cache busy.
type tileGrid struct {
	images, oh, ow int
	flat           bool
	th, tw, tc     int // extents of a tile
	down, across   int // tiles of an image
	columns        int // parts of the channels
	tiles          int // tiles of an image
	cin, cout      int
	kh, kw, stride int
}

const (
	// tileBytes is what a tile's input and result should stay below together, to
	// leave room for weights in a second level cache of 512 KiB and more.
	tileBytes = 192 << 10
	// tileRows is what a tile's pixels are a multiple of where possible: it holds
	// whole blocks of every micro-kernel.
	tileRows = 24
	// fewPixels is up to how many pixels a product is about reading its weights.
	fewPixels = 128
	// chunksPerThread is how finely loops should be cut to balance.
	chunksPerThread = 4
)

func newTileGrid(op *graph.Conv, flat, split bool, threads int) tileGrid {
	kh, kw := op.Kernel()
	g := tileGrid{images: op.X.Shape.N, flat: flat, cin: op.CIn(), cout: op.COut(), kh: kh, kw: kw, stride: op.StrideOr1()}
	g.oh, g.ow = op.ConvExtent()
	g.columns, g.tc = 1, g.cout
	wanted := threads * chunksPerThread
	if flat && split && g.images*g.oh*g.ow <= fewPixels {
		// Weights are what moves: every chunk takes all pixels, so that each
		// weight is read once.
		pixels := g.oh * g.ow
		g.th, g.tw, g.down, g.across = 1, pixels, 1, 1
		g.splitColumns(wanted)
	} else if flat {
		pixels := g.oh * g.ow
		most := max(tileBytes/floatBytes/(g.cin+g.cout)/tileRows*tileRows, tileRows)
		for most > tileRows && g.images*ceil(pixels, most) < wanted {
			most -= tileRows
		}
		g.th, g.tw = 1, min(most, pixels)
		g.down, g.across = 1, ceil(pixels, g.tw)
		if split && g.images*g.across < wanted {
			g.splitColumns(ceil(wanted, g.images*g.across))
		}
	} else {
		g.tw = min(g.ow, 4*tileRows)
		g.tw = ceil(g.ow, ceil(g.ow, g.tw)) // equal parts
		for g.tw > tileRows && g.inputRow()*kh > tileBytes/floatBytes {
			g.tw = max(g.tw/2/tileRows*tileRows, tileRows)
		}
		g.th = 1
		for g.th < g.oh && g.inputRow()*(g.th*g.stride+kh) <= tileBytes/floatBytes {
			g.th++
		}
		for g.th > 1 && g.images*ceil(g.oh, g.th)*ceil(g.ow, g.tw) < wanted {
			g.th--
		}
		g.down, g.across = ceil(g.oh, g.th), ceil(g.ow, g.tw)
	}
	g.tiles = g.down * g.across
	return g
}

// splitColumns cuts the channels into about so many parts of whole blocks.
func (g *tileGrid) splitColumns(parts int) {
	blocks := ceil(g.cout, columnBlock)
	g.tc = ceil(blocks, min(parts, blocks)) * columnBlock
	g.columns = ceil(g.cout, g.tc)
}

func ceil(n, d int) int { return (n + d - 1) / d }

func (g *tileGrid) chunks() int { return g.columns * g.images * g.tiles }

// chunk is the i-th tile; tiles of the same channels and image are neighbours.
func (g *tileGrid) chunk(i int) tile {
	col, i := i/(g.images*g.tiles), i%(g.images*g.tiles)
	n, i := i/g.tiles, i%g.tiles
	t := tile{n: n, y: i / g.across * g.th, x: i % g.across * g.tw, c0: col * g.tc}
	t.c1 = min(t.c0+g.tc, g.cout)
	if g.flat {
		t.h, t.w = 1, min(g.tw, g.oh*g.ow-t.x)
	} else {
		t.h, t.w = min(g.th, g.oh-t.y), min(g.tw, g.ow-t.x)
	}
	return t
}

// pixels is how many pixels are multiplied at once at most.
func (g *tileGrid) pixels() int { return g.tw }

// inputWidth and inputHeight are the extents of a whole tile's input.
func (g *tileGrid) inputWidth() int  { return (g.tw-1)*g.stride + g.kw }
func (g *tileGrid) inputHeight() int { return (g.th-1)*g.stride + g.kh }

func (g *tileGrid) inputRow() int { return g.inputWidth() * g.cin }

// inputFloats is a tile's input.
func (g *tileGrid) inputFloats() int {
	if g.flat {
		return g.tw * g.cin
	}
	return g.inputHeight() * g.inputRow()
}
