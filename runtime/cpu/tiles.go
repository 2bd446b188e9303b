package cpu

import "unirestorer/graph"

// tile is a rectangle of a convolution's result before its shuffle, or some of
// its channels. A flat tile is a row of w consecutive pixels from x on.
type tile struct {
	n, y, x, h, w int
	c0, c1        int // channels
	place         int // among all tiles, whatever the channels
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
	heavy          bool
}

const (
	// tileBytes is what a tile's input and result should stay below together, to
	// leave room for weights in a second level cache of 512 KiB and more.
	tileBytes = 192 << 10
	// tileRows is what a tile's pixels are a multiple of where possible: it holds
	// whole blocks of every micro-kernel.
	tileRows = 24
	// fewPixels is up to how many pixels any weights count as heavy.
	fewPixels = 128
	// heavyTileBytes is the same for the input alone where weights are heavy. A
	// result then leaves the cache before it is complete, which costs less than
	// reading weights more often.
	heavyTileBytes = 640 << 10
	// heavyTileRows is how many pixels make decoding heavy weights a small matter.
	heavyTileRows = 2 * tileRows
	// chunksPerThread is how finely loops should be cut to balance.
	chunksPerThread = 4
)

func newTileGrid(op *graph.Conv, flat, split bool, threads int) tileGrid {
	kh, kw := op.Kernel()
	g := tileGrid{images: op.X.Shape.N, flat: flat, cin: op.CIn(), cout: op.COut(), kh: kh, kw: kw, stride: op.StrideOr1()}
	g.oh, g.ow = op.ConvExtent()
	g.columns, g.tc = 1, g.cout
	wanted := threads * chunksPerThread
	g.heavy = isHeavy(op)
	if g.heavy || flat && split && g.images*g.oh*g.ow <= fewPixels {
		g.cutHeavy(wanted, split)
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

// cutHeavy chooses tiles for heavy weights: as many pixels as a cache holds,
// and different columns for different threads, if columns may be split.
func (g *tileGrid) cutHeavy(wanted int, split bool) {
	all := g.oh * g.ow
	if g.flat {
		most := min(max(heavyTileBytes/floatBytes/g.cin/tileRows*tileRows, heavyTileRows), all)
		for !split && most > heavyTileRows && g.images*ceil(all, most) < wanted/2 {
			most -= tileRows
		}
		g.th, g.tw = 1, even(all, most)
		g.down, g.across = 1, ceil(all, g.tw)
	} else {
		g.tw = even(g.ow, min(g.ow, 4*tileRows))
		g.th = 1
		for g.th < g.oh && g.inputRow()*(g.th*g.stride+g.kh) <= heavyTileBytes/floatBytes {
			g.th++
		}
		g.across = ceil(g.ow, g.tw)
		for !split && g.th > 1 && g.th*g.tw > heavyTileRows && g.images*ceil(g.oh, g.th)*g.across < wanted/2 {
			g.th--
		}
		g.down = ceil(g.oh, g.th)
	}
	if tiles := g.images * g.down * g.across; split && tiles < wanted {
		g.splitColumns(ceil(wanted, tiles))
	}
}

// even divides n into as few parts of up to so many pixels as there must be,
// about equal and of whole blocks of every micro-kernel.
func even(n, most int) int {
	const block = 8
	return min(ceil(ceil(n, ceil(n, most)), block)*block, most)
}

// splitColumns cuts the channels into about so many parts of whole blocks.
func (g *tileGrid) splitColumns(parts int) {
	blocks := ceil(g.cout, columnBlock)
	g.tc = ceil(blocks, min(parts, blocks)) * columnBlock
	g.columns = ceil(g.cout, g.tc)
}

func ceil(n, d int) int { return (n + d - 1) / d }

func (g *tileGrid) chunks() int { return g.columns * g.images * g.tiles }

// chunk is the i-th tile. Columns of the same pixels are neighbours, so that a
// worker can go on with the input that it has.
func (g *tileGrid) chunk(i int) tile {
	col, place := i%g.columns, i/g.columns
	n, i := place/g.tiles, place%g.tiles
	t := tile{n: n, y: i / g.across * g.th, x: i % g.across * g.tw, c0: col * g.tc, place: place}
	t.c1 = min(t.c0+g.tc, g.cout)
	if g.flat {
		t.h, t.w = 1, min(g.tw, g.oh*g.ow-t.x)
	} else {
		t.h, t.w = min(g.th, g.oh-t.y), min(g.tw, g.ow-t.x)
	}
	return t
}

// pixels is how many pixels are multiplied at once at most: a row of a tile, or
// the whole of it by heavy weights.
func (g *tileGrid) pixels() int {
	if g.heavy {
		return g.th * g.tw
	}
	return g.tw
}

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
