package kernels

import "unirestorer/kernels/abi"

// Epilogue says what becomes of a product's sums; see kernels/epilogue.cuh. Buffers left zero are absent.
type Epilogue struct {
	Y        abi.Buffer // fp16 rows of Pitch values
	Residual abi.Buffer // fp16, as Y
	Bias     abi.Buffer // fp32, one a column
	Scale    abi.Buffer // fp32, one a column after the gate
	Affine   abi.Buffer // fp32 [images][2][columns after the gate]
	Columns  int        // of the packed weight
	Pitch    int        // of Y; 0 means the columns that Y gets

	// Y2 takes the first Split columns as rows of Split values: q and k for a Gram matrix.
	Y2    abi.Buffer
	Split int

	Act  Activation
	Gate Gate
	// Shuffle r > 1 is a pixel shuffle by r, whose columns stand in ShuffleOrder; -r < -1 is its inverse, whose columns
	// stand in plain order.
	Shuffle int
	// Width and Height are those of the result before a shuffle; without one they may be 0.
	Width, Height int
}

func (e *Epilogue) after() int {
	if e.Gate != NoGate {
		return e.Columns / 2
	}
	return e.Columns
}

// resolve checks the epilogue for a product of images·rows rows and fills in the pitch. Pitch must be given where an
// unshuffle leaves it open.
func (e *Epilogue) resolve(p *problems, images, rows int) {
	step := 8
	if e.Gate != NoGate {
		step = 16
	}
	p.positive("columns", e.Columns)
	if e.Columns%step != 0 {
		p.addf("%d columns are no multiple of %d", e.Columns, step)
	}
	if e.Split < 0 || e.Split%8 != 0 || e.Split >= max(e.Columns, 1) || e.Split > 0 && (e.Y2.IsZero() || e.Shuffle != 0 || e.Gate != NoGate) {
		p.addf("split of %d columns at %d", e.Columns, e.Split)
	}
	stored, outRows := e.after()-e.Split, rows
	switch r := e.Shuffle; {
	case r > 1:
		if stored%(8*r*r) != 0 {
			p.addf("pixel shuffle by %d of %d columns", r, stored)
		}
		if !e.Affine.IsZero() {
			p.addf("an output affine map does not go with a pixel shuffle")
		}
		stored /= r * r
		outRows *= r * r
	case r < -1:
		if e.Width%-r != 0 || e.Height%-r != 0 {
			p.addf("pixel unshuffle by %d of %dx%d pixels", -r, e.Height, e.Width)
		}
		if e.Pitch <= 0 || e.Pitch > stored*r*r {
			p.addf("pixel unshuffle by %d of %d columns to rows of %d values", -r, stored, e.Pitch)
		}
		stored = e.Pitch
		outRows /= r * r
	}
	if e.Shuffle < -1 || e.Shuffle > 1 {
		if e.Width <= 0 || e.Height <= 0 || rows%e.Width != 0 || images*rows%(e.Width*e.Height) != 0 {
			p.addf("%d images of %d rows are no %dx%d pixels", images, rows, e.Height, e.Width)
			return
		}
	}
	if e.Pitch == 0 {
		e.Pitch = stored
	}
	if e.Pitch%8 != 0 || e.Pitch < stored {
		p.addf("rows of %d values do not hold %d", e.Pitch, stored)
	}
	p.fits("result", e.Y, images*outRows*e.Pitch, 2)
	p.optional("residual", e.Residual, images*outRows*e.Pitch, 2)
	p.optional("second result", e.Y2, images*rows*e.Split, 2)
	p.optional("bias", e.Bias, e.Columns, 4)
	p.optional("scale", e.Scale, e.after(), 4)
	p.optional("output affine map", e.Affine, images*2*e.after(), 4)
	if e.Act < Identity || e.Act > GELU || e.Gate < NoGate || e.Gate > GELUGate || e.Gate != NoGate && e.Act != Identity {
		p.addf("activation %d with gate %d", e.Act, e.Gate)
	}
}

func (e *Epilogue) append(a *abi.Args, partial abi.Buffer, quads bool) {
	group := 0
	if e.Shuffle > 1 {
		group = e.after() / (e.Shuffle * e.Shuffle)
	}
	a.Buf(e.Y).Buf(e.Y2).Buf(partial).Buf(e.Residual).Buf(e.Bias).Buf(e.Scale).Buf(e.Affine)
	a.I32(int32(e.Columns)).I32(int32(e.Pitch)).I32(int32(e.Split)).I32(int32(e.Split))
	a.I32(int32(e.Act)).I32(int32(e.Gate)).I32(int32(e.Shuffle)).I32(int32(group)).I32(int32(e.Width)).I32(flag(quads))
}

func (e *Epilogue) bytes(rows int) int64 {
	n := int64(e.after())
	if !e.Residual.IsZero() {
		n *= 2
	}
	return 2 * n * int64(rows)
}

// LowRank is an un-merged LoRA branch: Up·(Down∗x) is added before the activation.
type LowRank struct {
	Down, Up  abi.Buffer // fp16 [adapter][Rank][Depth] and [adapter][Columns][Rank]
	DownShift abi.Buffer // fp32 [adapter][Rank], with a normalisation
	Rank      int        // 0 for no branch, 16 or 32
	// Adapter is an int32 for each image, -1 for none; zero: adapter 0 for all. Adapters is how many there are.
	Adapter  abi.Buffer
	Adapters int
}

// Product is what pointwise products and dense convolutions have in common.
type Product struct {
	X, X2  abi.Buffer // fp16 rows of Pitch and Pitch2 values
	Pitch  int
	Pitch2 int
	Images int
	W      abi.Buffer // fp16 [Filters][depth], one for all images, or with WStride one every WStride values
	// Filters are the rows that W has; columns beyond them are zero. 0 means all columns.
	Filters  int
	WStride  int
	LowRank  LowRank
	Epilogue Epilogue
	Tiling   Tiling
	// Partial receives fp32 sums instead of the epilogue when it is not zero, [Tiling.Splits][images·rows][columns],
	// for [Finish] or [NaturalFinish].
	Partial abi.Buffer
}

// Tiling is how a product is divided between blocks.
type Tiling struct {
	Rows   int // of a block's tile: 64 or 128, for products of pixels also 32, see also Columns
	Splits int // of the depth, at least 1
	// ColumnBlocks is how many blocks share the columns of a tile of rows, for products of pixels; 0 means 1.
	ColumnBlocks int
	// Columns of a block's tile, 32, 48 or 64, for the convolutions of [TileConv3], whose Rows are 128 or 256 pixels of a
	// rectangle; 0 for all others.
	Columns int
}

const (
	tileColumns = 64
	tileDepth   = 32
)

// fullWave is the share of its slots from which a wave of blocks counts as full.
const fullWave = 0.9

// Tile chooses a tiling of a convolution: the larger tile where it still fills a wave of two blocks a multiprocessor, and a split depth
// where even the smaller one leaves multiprocessors idle and the depth is long enough to be worth a second launch.
// Products that cannot be split say so. Two of the smaller blocks take the place of a larger one, so that a wave that is
// nearly full is as full with either, and the larger tile reads a quarter less.
func Tile(images, rows, columns, depth, sms int, splittable bool) Tiling {
	blocks := func(tile int) int { return images * ceilDiv(rows, tile) * ceilDiv(columns, tileColumns) }
	if float64(blocks(128)) >= fullWave*float64(2*sms) {
		return Tiling{Rows: 128, Splits: 1}
	}
	t := Tiling{Rows: 64, Splits: 1}
	if splittable && blocks(64) <= sms/2 {
		// At least eight steps of depth for each split, or the second launch costs more than it saves.
		t.Splits = max(1, min(sms/blocks(64), ceilDiv(depth, tileDepth)/8, 16))
	}
	return t
}

// PartialBytes is the size of the partial sums of a product.
func PartialBytes(t Tiling, images, rows, columns int) int64 {
	return 4 * int64(t.Splits) * int64(images) * int64(rows) * int64(columns)
}

// prepared is what both launchers hand over to build the parameter.
type prepared struct {
	rows, depth, depth1 int
	norm                NormKind
	channels            int
	eps                 float32
	inScale, inAffine   abi.Buffer
	height, width       int
	scaleH, scaleW      int
	quads               bool
}

func (q *Product) resolve(p *problems, r *prepared) {
	p.positive("images, rows, depth", q.Images, r.rows, r.depth)
	if r.rows > maxCount-128 || r.depth > maxCount-tileDepth || q.Epilogue.Columns > maxCount-tileColumns {
		p.addf("%d rows of depth %d to %d columns are too many for one launch", r.rows, r.depth, q.Epilogue.Columns)
	}
	if q.Pitch%8 != 0 || q.Pitch2%8 != 0 {
		p.addf("input rows of %d and %d values are no multiples of 8", q.Pitch, q.Pitch2)
	}
	if (q.Pitch2 > 0) != !q.X2.IsZero() {
		p.addf("second input and its pitch %d do not agree", q.Pitch2)
	}
	if q.Tiling.Splits < 1 || q.Tiling.Splits > 1 && q.Partial.IsZero() {
		p.addf("%d splits need a buffer of partial sums", q.Tiling.Splits)
	}
	if q.Filters == 0 {
		q.Filters = q.Epilogue.Columns
	}
	if q.Filters < 0 || q.Filters > q.Epilogue.Columns {
		p.addf("%d filters for %d columns", q.Filters, q.Epilogue.Columns)
	}
	if q.WStride != 0 && q.WStride < q.Filters*r.depth {
		p.addf("weights of %d values every %d", q.Filters*r.depth, q.WStride)
	}
	p.fits("weight", q.W, (q.Images-1)*q.WStride+q.Filters*r.depth, 2)
	if q.Partial.IsZero() {
		q.Epilogue.resolve(p, q.Images, r.rows)
	} else {
		p.positive("columns", q.Epilogue.Columns)
		if q.Epilogue.Columns%8 != 0 {
			p.addf("%d columns are no multiple of 8", q.Epilogue.Columns)
		}
		p.fits("partial sums", q.Partial, int(PartialBytes(q.Tiling, q.Images, r.rows, q.Epilogue.Columns)/4), 4)
	}
	if l := q.LowRank; l.Rank != 0 {
		if l.Rank != 16 && l.Rank != 32 {
			p.addf("low-rank branch of rank %d, want 16 or 32", l.Rank)
		}
		if q.Tiling.Splits > 1 || q.WStride != 0 {
			p.addf("a low-rank branch goes with one split and one weight")
		}
		n := max(l.Adapters, 1)
		p.fits("low-rank down", l.Down, n*l.Rank*r.depth, 2)
		p.fits("low-rank up", l.Up, n*q.Epilogue.Columns*l.Rank, 2)
		p.optional("adapter of each image", l.Adapter, q.Images, 4)
		if r.norm != NoNorm {
			p.fits("low-rank shifts", l.DownShift, n*l.Rank, 4)
		}
	}
}

func (q *Product) arguments(r *prepared) *abi.Args {
	var a abi.Args
	l := q.LowRank
	a.Buf(q.X).Buf(q.X2).Buf(q.W).Buf(r.inScale).Buf(r.inAffine)
	a.Buf(l.Down).Buf(l.Up).Buf(l.DownShift).Buf(l.Adapter).I64(int64(q.WStride))
	a.I32(int32(r.rows)).I32(int32(r.depth)).I32(int32(r.depth1)).I32(int32(r.channels)).I32(int32(q.Filters)).I32(int32(l.Rank))
	a.I32(int32(q.Tiling.Splits)).I32(int32(q.Images)).I32(flag(r.norm == BiasFree)).F32(r.eps)
	a.I32(int32(r.height)).I32(int32(r.width)).I32(int32(r.scaleH)).I32(int32(r.scaleW)).I32(int32(max(q.Tiling.ColumnBlocks, 1)))
	q.Epilogue.append(&a, q.Partial, r.quads)
	return &a
}

func (q *Product) launch(p *problems, module string, r *prepared, args abi.Args) (Launch, error) {
	tiles := ceilDiv(r.rows, max(q.Tiling.Rows, 1)) * ceilDiv(q.Epilogue.Columns, tileColumns)
	if tiles > maxCount {
		p.addf("%d tiles are too many", tiles)
	}
	rows, columns, depth := int64(q.Images)*int64(r.rows), int64(q.Epilogue.Columns), int64(r.depth)
	l := Launch{
		Module: module, Args: args,
		Shape:      abi.Shape{Grid: abi.D3(max(tiles, 1), 1, max(q.Images*q.Tiling.Splits, 1)), Block: abi.D1(128)},
		Operations: 2 * rows * depth * (int64(q.Filters) + int64(q.LowRank.Rank)),
	}
	weights := int64(q.Filters) * depth
	if q.WStride != 0 {
		weights *= int64(q.Images)
	}
	l.Bytes = 2*weights + 2*int64(q.LowRank.Rank)*(depth+columns)
	if q.Partial.IsZero() {
		l.Bytes += q.Epilogue.bytes(int(rows))
	} else {
		l.Bytes += 4 * rows * columns * int64(q.Tiling.Splits)
	}
	return p.done(l)
}
