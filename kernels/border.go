package kernels

import (
	"math"

	"unirestorer/kernels/abi"
)

// Picture is an image as it is stored, [Height][Width][Channels] without padding: grey, grey and alpha, RGB or RGBA of 8
// or 16 bits.
type Picture struct {
	Buffer                  abi.Buffer
	Height, Width, Channels int
	Depth                   int // 8 or 16
}

func (p *problems) picture(img Picture) (suffix string) {
	p.positive("image height and width", img.Height, img.Width)
	if img.Channels < 1 || img.Channels > 4 || img.Depth != 8 && img.Depth != 16 {
		p.addf("image of %d channels of %d bits", img.Channels, img.Depth)
	}
	if p.err != nil {
		return ""
	}
	if img.Height > maxCount || img.Width > maxCount/4 {
		p.addf("image of %dx%d pixels is too large", img.Height, img.Width)
	}
	p.fits("image", img.Buffer, img.Height*img.Width*img.Channels, img.Depth/8)
	if img.Depth == 8 {
		return "_u8"
	}
	return "_u16"
}

// record appends the Picture struct.
func (img Picture) record(a *abi.Args) {
	var f abi.Args
	f.Buf(img.Buffer).I32(int32(img.Height)).I32(int32(img.Width)).I32(int32(img.Channels))
	record(a, &f, 8)
}

func (img Picture) pixelBytes() int { return img.Channels * img.Depth / 8 }

// rgb checks that t is one image of three channels.
func (p *problems) rgb(name string, t Tensor) {
	p.tensor(name, t, 2)
	if t.N != 1 || t.Layout.Channels != 3 || t.Layout.parts() != 1 {
		p.addf("%s is %s, want one image of 3 channels", name, t.describe())
	}
}

// byRows is the shape for a thread a pixel, rows one above the other.
func byRows(height, width, block int) abi.Shape {
	return abi.Shape{Grid: abi.D2(ceilDiv(max(width, 1), block), min(max(height, 1), maxGridYZ)), Block: abi.D1(block)}
}

// DecodeImage reads the rectangle of y's size whose first pixel is (top, left) into y, 1×H×W×3, as RGB in 0..1. Where the
// rectangle reaches beyond the image it is reflected, as often as needed. Grey is repeated, alpha dropped.
func DecodeImage(img Picture, y Tensor, top, left int) (Launch, error) {
	p := &problems{kernel: "decode"}
	p.kernel += p.picture(img)
	p.rgb("y", y)
	if max(abs(top), abs(left)) > math.MaxInt32/2 {
		p.addf("rectangle at (%d,%d)", top, left)
	}
	var a abi.Args
	img.record(&a)
	a.Buf(y.Buffer).I32(int32(top)).I32(int32(left)).I32(int32(y.H)).I32(int32(y.W))
	return p.done(Launch{
		Module: "border", Shape: byRows(y.H, y.W, 256), Args: a,
		Bytes: int64(y.Pixels()) * int64(16+img.pixelBytes()), Operations: 3 * int64(y.Pixels()),
	})
}

func abs(v int) int { return max(v, -v) }

// Rectangle is a part of an image of a source.
type Rectangle struct {
	SourceY, SourceX    int // first pixel in the source
	Y, X, Height, Width int // in the image
}

// EncodeImage stores a rectangle of x, 1×H×W×3 in 0..1, in an image: clamped, scaled and rounded half to even, NaN as 0.
// A grey image takes the mean of the clamped channels. Alpha is not touched.
func EncodeImage(x Tensor, img Picture, r Rectangle) (Launch, error) {
	p := &problems{kernel: "encode_f16"}
	p.rgb("x", x)
	return p.encode(x, img, r, 16)
}

// EncodeCanvas is EncodeImage for a canvas, see Canvas.
func EncodeCanvas(c Canvas, img Picture, r Rectangle) (Launch, error) {
	p := &problems{kernel: "encode_f32"}
	p.canvas(c)
	return p.encode(Tensor{Buffer: c.Buffer, N: 1, H: c.Height, W: c.Width}, img, r, 16)
}

func (p *problems) encode(x Tensor, img Picture, r Rectangle, pixelBytes int64) (Launch, error) {
	p.kernel += p.picture(img)
	p.positive("rectangle", r.Height, r.Width)
	inside := func(first, n, size int) bool { return first >= 0 && n <= size && first <= size-n }
	if !inside(r.SourceY, r.Height, x.H) || !inside(r.SourceX, r.Width, x.W) || !inside(r.Y, r.Height, img.Height) || !inside(r.X, r.Width, img.Width) {
		p.addf("rectangle %+v does not fit the source, %dx%d, or the image, %dx%d", r, x.H, x.W, img.Height, img.Width)
	}
	var a, f abi.Args
	a.Buf(x.Buffer)
	img.record(&a)
	for _, v := range []int{r.SourceY, r.SourceX, x.W, r.Y, r.X, r.Height, r.Width} {
		f.I32(int32(v))
	}
	record(&a, &f, 4)
	pixels := int64(r.Height) * int64(r.Width)
	return p.done(Launch{
		Module: "border", Shape: byRows(r.Height, r.Width, 256), Args: a,
		Bytes: pixels * (pixelBytes + int64(img.pixelBytes())), Operations: 9 * pixels,
	})
}

// Canvas is where tiles are added up: fp32 [Height][Width][4], RGB and one value of padding, zero to begin with. Its first
// row is row First of the image.
type Canvas struct {
	Buffer               abi.Buffer
	Height, Width, First int
}

func (p *problems) canvas(c Canvas) {
	p.positive("canvas height and width", c.Height, c.Width)
	if p.err == nil && (c.Height > maxCount || c.Width > maxCount) {
		p.addf("canvas of %dx%d pixels is too large", c.Height, c.Width)
	}
	if p.err == nil {
		p.fits("canvas", c.Buffer, c.Height*c.Width, 16)
	}
}

// TileSide is one side of a tile: where it lies in the image and how its weight rises and falls. The weight moves
// linearly from 0 to 1 between centre-HalfWidth and centre+HalfWidth of the transition from the tile before, and back
// around that to the tile behind. Pixels count with their middle: pixel i lies at i+1/2.
type TileSide struct {
	Origin, Length int // of the tile
	First, End     int // positions where it has weight; within the tile
	// Before and Behind say whether there are neighbours, Rise and Fall where the transitions are centred.
	Before, Behind bool
	Rise, Fall     float32
	HalfWidth      float32
}

func (p *problems) side(s TileSide) {
	p.positive("tile side", s.Length)
	if s.First < s.Origin || s.End > s.Origin+s.Length || s.First >= s.End {
		p.addf("weight in [%d, %d) of a tile in [%d, %d)", s.First, s.End, s.Origin, s.Origin+s.Length)
	}
	if (s.Before || s.Behind) && !(s.HalfWidth >= 0) {
		p.addf("transition of half width %g", s.HalfWidth)
	}
	if s.Origin < 0 || s.End > 1<<22 {
		p.addf("a tile in [%d, %d): fp32 has no halves beyond that", s.Origin, s.End)
	}
}

// BlendTile adds a tile, 1×H×W×3, with its weights to the canvas.
func BlendTile(tile Tensor, c Canvas, vertical, horizontal TileSide) (Launch, error) {
	p := &problems{kernel: "blend_tile"}
	p.rgb("tile", tile)
	p.canvas(c)
	p.side(vertical)
	p.side(horizontal)
	if tile.H != vertical.Length || tile.W != horizontal.Length {
		p.addf("tile is %s, its sides %d and %d", tile.describe(), vertical.Length, horizontal.Length)
	}
	if vertical.First < c.First || vertical.End > c.First+c.Height || horizontal.End > c.Width {
		p.addf("tile reaches rows [%d, %d) and columns to %d of a canvas of rows [%d, %d) and %d columns",
			vertical.First, vertical.End, horizontal.End, c.First, c.First+c.Height, c.Width)
	}
	var a abi.Args
	a.Buf(tile.Buffer).Buf(c.Buffer)
	for _, s := range []TileSide{vertical, horizontal} {
		var f abi.Args
		f.I32(int32(s.Origin)).I32(int32(s.First)).I32(int32(s.End)).I32(flag(s.Before)).I32(flag(s.Behind))
		f.F32(s.Rise).F32(s.Fall).F32(s.HalfWidth)
		record(&a, &f, 4)
	}
	a.I32(int32(tile.W)).I32(int32(c.First)).I32(int32(c.Width))
	h, w := vertical.End-vertical.First, horizontal.End-horizontal.First
	return p.done(Launch{
		Module: "border", Shape: byRows(h, w, 256), Args: a,
		Bytes: 48 * int64(h) * int64(w), Operations: 8 * int64(h) * int64(w),
	})
}
