package kernels

import "unirestorer/kernels/abi"

// Pad surrounds the images of x with top rows and left columns, and with as much below and to the right as makes them
// y.H×y.W; mode says what stands there. Negative numbers cut away. Reflection of a side by its own length or more needs
// ReflectLoop.
func Pad(x, y Tensor, top, left int, mode PadMode) (Launch, error) {
	p := &problems{kernel: "place"}
	p.tensor("x", x, 2)
	p.tensor("y", y, 2)
	if x.N != y.N || !x.Layout.equal(y.Layout) {
		p.addf("x is %s, y %s: images and channels must agree", x.describe(), y.describe())
	}
	if mode < Zero || mode > Replicate {
		p.addf("padding mode %d", mode)
	}
	bottom, right := y.H-x.H-top, y.W-x.W-left
	if mode == Reflect && (max(top, bottom) >= x.H || max(left, right) >= x.W) {
		p.addf("reflection by %d,%d,%d,%d pixels needs sides longer than that, have %dx%d", top, left, bottom, right, x.H, x.W)
	}
	units := x.Layout.Pitch() / 8
	var f abi.Args
	f.Buf(x.Buffer).Buf(y.Buffer).I32(int32(x.H)).I32(int32(x.W)).I32(int32(y.H)).I32(int32(y.W)).I32(int32(units))
	f.I32(int32(top)).I32(int32(left)).I32(int32(mode))
	read := min(x.Values(), y.Values())
	return p.done(Launch{
		Module: "layout",
		Shape:  abi.Shape{Grid: abi.D3(ceilDiv(max(y.W*units, 1), 256), min(max(y.H, 1), maxGridYZ), max(y.N, 1)), Block: abi.D1(256)},
		Args:   structure(&f), Bytes: 2 * int64(read+y.Values()),
	})
}

// Crop takes the y.H×y.W rectangle whose first pixel is (top, left) out of the images of x.
func Crop(x, y Tensor, top, left int) (Launch, error) {
	p := &problems{kernel: "place"}
	if top < 0 || left < 0 || top+y.H > x.H || left+y.W > x.W {
		p.addf("rectangle %dx%d at (%d,%d) is not inside %s", y.H, y.W, top, left, x.describe())
		return p.done(Launch{})
	}
	return Pad(x, y, -top, -left, Zero)
}

// CopyChannels fills y with channels of x, beginning with channel first, and then with those of x2: a concatenation, a
// part of the channels, or another layout. x2 may be the zero Tensor.
func CopyChannels(x, x2, y Tensor, first int) (Launch, error) {
	p := &problems{kernel: "copy_channels"}
	p.tensor("x", x, 2)
	p.tensor("y", y, 2)
	second := !x2.Buffer.IsZero()
	split := y.Layout.Channels
	if second {
		p.tensor("x2", x2, 2)
		split -= x2.Layout.Channels
		if x2.N != x.N || x2.H != x.H || x2.W != x.W {
			p.addf("x is %s, x2 %s: sizes must agree", x.describe(), x2.describe())
		}
	} else {
		x2 = x
	}
	if x.N != y.N || x.H != y.H || x.W != y.W {
		p.addf("x is %s, y %s: sizes must agree", x.describe(), y.describe())
	}
	if first < 0 || split <= 0 || first+split > x.Layout.Channels {
		p.addf("channels [%d, %d) of x, which has %d", first, first+split, x.Layout.Channels)
	}
	if p.err != nil {
		return p.done(Launch{})
	}
	whole := func(l Layout) bool { return l.parts() == 1 }
	if whole(x.Layout) && whole(x2.Layout) && whole(y.Layout) && first%8 == 0 &&
		(second && split%8 == 0 || !second && first+split == x.Layout.Channels) {
		p.kernel = "copy_octets"
	}
	var f abi.Args
	f.Buf(x.Buffer).Buf(x2.Buffer).Buf(y.Buffer).U32(uint32(y.octets())).I32(int32(first)).I32(int32(split))
	for _, t := range []Tensor{x, x2, y} {
		rows(&f, t.Layout)
	}
	return p.done(Launch{
		Module: "layout", Shape: p.linear(y.octets(), 256), Args: structure(&f), Bytes: 4 * int64(y.Values()),
	})
}

// rows appends a Rows struct.
func rows(f *abi.Args, l Layout) {
	f.I32(int32(l.Channels)).I32(int32(l.parts())).I32(int32(l.Pitch()))
}

// Tokens makes y, N×1×T×C, of the patches x with T-1 pixels behind the class token, and adds positions. class and
// positions are fp32 rows of the pitch, 1 and T of them.
func Tokens(x Tensor, class, positions abi.Buffer, y Tensor) (Launch, error) {
	p := &problems{kernel: "tokens"}
	p.tensor("x", x, 2)
	p.tensor("y", y, 2)
	count, pitch := x.H*x.W+1, x.Layout.Pitch()
	if y.N != x.N || y.H != 1 || y.W != count || !y.Layout.equal(x.Layout) {
		p.addf("y is %s, want %dx1x%dx%d", y.describe(), x.N, count, x.Layout.Channels)
	}
	p.fits("class token", class, pitch, 4)
	p.fits("positions", positions, count*pitch, 4)
	var a abi.Args
	a.Buf(x.Buffer).Buf(class).Buf(positions).Buf(y.Buffer).U32(uint32(y.octets())).I32(int32(count)).I32(int32(pitch))
	return p.done(Launch{
		Module: "layout", Shape: p.linear(y.octets(), 256), Args: a,
		Bytes: 2*int64(x.Values()+y.Values()) + 4*int64((count+1)*pitch), Operations: int64(y.Values()),
	})
}

// HostOrder is how host tensors lie in memory, without padding.
type HostOrder int32

// Orders of host tensors.
const (
	NHWC HostOrder = iota
	NCHW
)

// Import converts an fp32 tensor in host order, already in device memory, to y; single says that y holds fp32 too.
func Import(host abi.Buffer, order HostOrder, y Tensor, single bool) (Launch, error) {
	return border("import_f32", host, order, y, single)
}

// Export converts x to an fp32 tensor in host order; single says that x holds fp32 too.
func Export(x Tensor, host abi.Buffer, order HostOrder, single bool) (Launch, error) {
	return border("export_f32", host, order, x, single)
}

func border(kernel string, host abi.Buffer, order HostOrder, t Tensor, single bool) (Launch, error) {
	p := &problems{kernel: kernel}
	elem := 2
	if single {
		elem = 4
	}
	p.tensor("tensor", t, elem)
	values := t.Pixels() * t.Layout.Channels
	p.fits("host tensor", host, values, 4)
	if order != NHWC && order != NCHW {
		p.addf("host order %d", order)
	}
	var f abi.Args
	if kernel == "import_f32" {
		f.Buf(host).Ptr(0)
	} else {
		f.Ptr(0).Buf(host)
	}
	if single {
		f.Ptr(0).Buf(t.Buffer)
	} else {
		f.Buf(t.Buffer).Ptr(0)
	}
	f.U32(uint32(t.octets())).U32(uint32(t.H * t.W)).I32(int32(order))
	rows(&f, t.Layout)
	return p.done(Launch{
		Module: "layout", Shape: p.linear(t.octets(), 256), Args: structure(&f),
		Bytes: 4*int64(values) + int64(elem)*int64(t.Values()),
	})
}
