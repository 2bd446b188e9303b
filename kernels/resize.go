package kernels

import (
	"math"

	"unirestorer/kernels/abi"
)

// Resize is Pillow's bicubic resize with antialias followed by a centre crop and a normalisation, what the degradation
// estimator looks at: the image becomes Height×Width, of which the Size×Size part whose first pixel is (Top, Left) is
// converted to RGB and written as (v/255 - Mean)/Deviation. Only that part is computed. Samples of 16 bits are reduced to
// their high byte first.
type Resize struct {
	Image           Picture
	Height, Width   int
	Top, Left, Size int
	// Alpha says that the last channel is alpha, by which colour is weighted where the size changes.
	Alpha bool
	// Nearest takes the sample under each pixel's centre, as Pillow does with palette and bilevel images.
	Nearest         bool
	Mean, Deviation [3]float32
}

// maxResizeSide bounds what sides may become, so that every position is exact in the taps' arithmetic.
const maxResizeSide = 1 << 26

// resizeRowsAtOnce is how many rows a warp of the first pass filters, as border.cu has it.
const resizeRowsAtOnce = 4

// ResizePlan is a Resize with its sizes worked out.
type ResizePlan struct {
	Resize
	// TapBytes and RowBytes are the sizes of the intermediate memory: the taps of both axes, and the rows between the
	// passes.
	TapBytes, RowBytes int

	rowTaps, columnTaps int // values between the taps of consecutive positions, less two
	first, rows         int // rows of the image that the crop needs
}

// Plan checks a resize and works out its intermediate sizes.
func (r Resize) Plan() (*ResizePlan, error) {
	p := &problems{kernel: "resize"}
	p.picture(r.Image)
	p.positive("resized height and width, crop", r.Height, r.Width, r.Size)
	if max(r.Height, r.Width) > maxResizeSide {
		p.addf("%dx%d pixels are too many", r.Height, r.Width)
	}
	if r.Top < 0 || r.Left < 0 || r.Top > r.Height-r.Size || r.Left > r.Width-r.Size {
		p.addf("crop of %d pixels at (%d,%d) from %dx%d", r.Size, r.Top, r.Left, r.Height, r.Width)
	}
	if r.Size > maxGridYZ {
		p.addf("crop of %d pixels", r.Size)
	}
	if r.Alpha && r.Image.Channels%2 != 0 {
		p.addf("%d channels have no alpha", r.Image.Channels)
	}
	for c, d := range r.Deviation {
		if !(d > 0) {
			p.addf("deviation %g of channel %d is not positive", d, c)
		}
	}
	if p.err != nil {
		return nil, p.err
	}
	plan := &ResizePlan{Resize: r, rowTaps: r.stride(r.Image.Width, r.Width), columnTaps: r.stride(r.Image.Height, r.Height)}
	plan.TapBytes = 4 * r.Size * (4 + plan.rowTaps + plan.columnTaps)
	plan.first, plan.rows = r.span()
	plan.RowBytes = plan.rows * r.Size * r.Image.Channels
	if shared := 8 * max(plan.rowTaps, plan.columnTaps); shared > defaultShared {
		p.addf("shrinking %dx%d to %dx%d takes too many taps", r.Image.Height, r.Image.Width, r.Height, r.Width)
	}
	if plan.rows > resizeRowsAtOnce*maxGridYZ {
		p.addf("%d rows under the crop are too many", plan.rows)
	}
	return plan, p.err
}

// mode is how an axis is filtered: TAPS_COPY, TAPS_BICUBIC or TAPS_NEAREST.
func (r Resize) mode(in, out int) int32 {
	switch {
	case r.Nearest:
		return 2
	case in == out:
		return 0
	default:
		return 1
	}
}

func (r Resize) stride(in, out int) int {
	if r.mode(in, out) != 1 {
		return 1
	}
	return min(int(2*max(float64(in)/float64(out), 1))*2+3, in)
}

// span is a range of rows of the image that covers the taps of the crop's rows, with a row to spare for rounding.
func (r Resize) span() (first, count int) {
	in, out := r.Image.Height, r.Height
	if !r.Nearest && in == out {
		return r.Top, r.Size
	}
	scale := float64(in) / float64(out)
	support := 2 * max(scale, 1)
	first = max(int((float64(r.Top)+0.5)*scale-support)-1, 0)
	end := min(int(math.Ceil((float64(r.Top+r.Size)-0.5)*scale+support))+2, in)
	return first, end - first
}

// alpha says whether samples are weighted by alpha.
func (r Resize) alpha() int32 {
	return flag(r.Alpha && !r.Nearest && (r.Width != r.Image.Width || r.Height != r.Image.Height))
}

// Launches gives the three launches of the resize, in order. taps and rows are the intermediate memory, y is
// 1×Size×Size×3.
func (r *ResizePlan) Launches(taps, rows abi.Buffer, y Tensor) ([]Launch, error) {
	p := &problems{kernel: "resize_taps"}
	p.fits("taps", taps, r.TapBytes, 1)
	p.fits("rows", rows, r.RowBytes, 1)
	p.rgb("y", y)
	if y.H != r.Size || y.W != r.Size {
		p.addf("y is %s, the crop %dx%d", y.describe(), r.Size, r.Size)
	}
	if p.err != nil {
		return nil, p.err
	}
	columnTaps := taps.Ptr + abi.Ptr(4*r.Size*(2+r.rowTaps))
	n := r.Image.Channels

	var a abi.Args
	for _, axis := range []struct {
		taps                   abi.Ptr
		in, out, first, stride int
	}{
		{taps.Ptr, r.Image.Width, r.Width, r.Left, r.rowTaps},
		{columnTaps, r.Image.Height, r.Height, r.Top, r.columnTaps},
	} {
		var f abi.Args
		f.Ptr(axis.taps).I32(int32(axis.in)).I32(int32(axis.out)).I32(int32(axis.first)).I32(int32(r.Size))
		f.I32(int32(axis.stride)).I32(r.mode(axis.in, axis.out))
		record(&a, &f, 8)
	}
	launches := make([]Launch, 0, 3)
	keep := func(p *problems, l Launch) error {
		l.Module = "border"
		l, err := p.done(l)
		launches = append(launches, l)
		return err
	}
	err := keep(p, Launch{
		Shape: abi.Shape{Grid: abi.D2(r.Size, 2), Block: abi.D1(32), Shared: 8 * max(r.rowTaps, r.columnTaps)}, Args: a,
		Bytes: int64(r.TapBytes), Operations: 12 * int64(r.Size*(r.rowTaps+r.columnTaps)),
	})
	if err != nil {
		return nil, err
	}

	p = &problems{kernel: "resize_rows_u8"}
	if r.Image.Depth == 16 {
		p.kernel = "resize_rows_u16"
	}
	a = abi.Args{}
	r.Image.record(&a)
	a.Buf(rows).Ptr(taps.Ptr).I32(int32(r.rowTaps)).I32(int32(r.first)).I32(int32(r.rows)).I32(int32(r.Size)).I32(r.alpha())
	err = keep(p, Launch{
		Shape: abi.Shape{Grid: abi.D2(ceilDiv(r.Size, 8), ceilDiv(r.rows, resizeRowsAtOnce)), Block: abi.D1(256)}, Args: a,
		Bytes:      int64(r.rows)*int64(min(r.Image.Width, r.Size*r.rowTaps))*int64(r.Image.pixelBytes()) + int64(r.RowBytes),
		Operations: 2 * int64(r.rows) * int64(r.Size*r.rowTaps*n),
	})
	if err != nil {
		return nil, err
	}

	p = &problems{kernel: "resize_columns"}
	a = abi.Args{}
	a.Buf(rows).Buf(y.Buffer).Ptr(columnTaps)
	var f abi.Args
	for _, v := range [][3]float32{r.Mean, r.Deviation} {
		f.F32(v[0]).F32(v[1]).F32(v[2])
	}
	record(&a, &f, 4)
	a.I32(int32(r.columnTaps)).I32(int32(r.first)).I32(int32(r.Size)).I32(int32(n)).I32(r.alpha())
	err = keep(p, Launch{
		Shape: abi.Shape{Grid: abi.D2(ceilDiv(r.Size, 128), r.Size), Block: abi.D1(128)}, Args: a,
		Bytes: int64(r.RowBytes) + 2*int64(y.Values()), Operations: 2 * int64(r.Size*r.Size*r.columnTaps*n),
	})
	return launches, err
}
