package kernels

import "unirestorer/kernels/abi"

// PoolShares is how many partial sums PoolPartial makes of an image of so many pixels. It does not depend on the device,
// and so neither do the sums.
func PoolShares(pixels int) int { return min(max(ceilDiv(pixels, 128), 1), 256) }

// summed checks what is summed, x and, unless it is the zero Tensor, x2, and gives its bytes.
func (p *problems) summed(x, x2 Tensor) int64 {
	p.tensor("x", x, 2)
	bytes := 2 * int64(x.Values())
	if !x2.Buffer.IsZero() {
		p.same(x, "x2", x2)
		bytes *= 2
	}
	return bytes
}

// PoolPartial sums x, and x2 with it unless that is the zero Tensor, over the pixels of each image, in
// PoolShares(pixels of an image) shares: partial is fp32 [N][shares][pitch]. PoolFinish adds them.
func PoolPartial(x, x2 Tensor, partial abi.Buffer) (Launch, error) {
	p := &problems{kernel: "pool_partial"}
	bytes := p.summed(x, x2)
	shares, pitch := PoolShares(x.H*x.W), x.Layout.Pitch()
	p.fits("partial sums", partial, x.N*shares*pitch, 4)
	var a abi.Args
	a.Buf(x.Buffer).Buf(x2.Buffer).Buf(partial).I32(int32(x.H * x.W)).I32(int32(pitch))
	return p.done(Launch{
		Module: "pool", Shape: abi.Shape{Grid: abi.D3(shares, max(ceilDiv(pitch, 64), 1), max(x.N, 1)), Block: abi.D1(128)},
		Args: a, Bytes: bytes + 4*int64(x.N*shares*pitch), Operations: bytes / 2,
	})
}

// PoolFinish adds the shares of partial sums, fp32 [y.N][shares][pitch], in order and writes their product with factor to
// the vectors y, N×1×1×C.
func PoolFinish(partial abi.Buffer, shares int, factor float32, y Tensor) (Launch, error) {
	p := &problems{kernel: "pool_finish"}
	p.tensor("y", y, 2)
	p.positive("shares", shares)
	if y.H != 1 || y.W != 1 {
		p.addf("y is %s, want vectors", y.describe())
	}
	if p.err != nil {
		return p.done(Launch{})
	}
	pitch := y.Layout.Pitch()
	p.fits("partial sums", partial, y.N*shares*pitch, 4)
	var a abi.Args
	a.Buf(partial).Buf(y.Buffer).I32(int32(shares)).I32(int32(pitch)).F32(factor)
	return p.done(Launch{
		Module: "pool", Shape: abi.Shape{Grid: abi.D2(ceilDiv(pitch, 32), y.N), Block: abi.D1(256)}, Args: a,
		Bytes: 4*int64(y.N*shares*pitch) + 2*int64(y.Values()), Operations: int64(y.N * shares * pitch),
	})
}

// windowStrip is how many positions a thread of the sliding windows walks before it sums afresh.
const windowStrip = 64

// WindowSums sums x, and x2 with it unless that is the zero Tensor, over every `window` consecutive rows: sums is fp32
// [N][H-window+1][W][pitch]. WindowMeans does the columns.
func WindowSums(x, x2 Tensor, window int, sums abi.Buffer) (Launch, error) {
	p := &problems{kernel: "window_rows"}
	bytes := p.summed(x, x2)
	if window <= 0 || window > x.H {
		p.addf("a window of %d rows in %s", window, x.describe())
	}
	if p.err != nil {
		return p.done(Launch{})
	}
	out, pitch := x.H-window+1, x.Layout.Pitch()
	p.fits("sums", sums, x.N*out*x.W*pitch, 4)
	var a abi.Args
	a.Buf(x.Buffer).Buf(x2.Buffer).Buf(sums).I32(int32(x.H)).I32(int32(x.W)).I32(int32(pitch)).I32(int32(window)).I32(windowStrip)
	return p.done(Launch{
		Module: "pool", Shape: abi.Shape{Grid: abi.D3(ceilDiv(x.W*pitch/4, 128), ceilDiv(out, windowStrip), x.N), Block: abi.D1(128)},
		Args: a, Bytes: bytes + 4*int64(x.N*out*x.W*pitch), Operations: 2 * int64(x.N*out*x.W*pitch),
	})
}

// WindowMeans sums over every windowW consecutive columns of what WindowSums made of windowH rows each, fp32
// [N][y.H][y.W+windowW-1][pitch], and writes the means to y.
func WindowMeans(sums abi.Buffer, windowH, windowW int, y Tensor) (Launch, error) {
	p := &problems{kernel: "window_columns"}
	p.tensor("y", y, 2)
	p.positive("window", windowH, windowW)
	if p.err != nil {
		return p.done(Launch{})
	}
	width, pitch := y.W+windowW-1, y.Layout.Pitch()
	p.fits("sums", sums, y.N*y.H*width*pitch, 4)
	if y.H*pitch/4 > maxCount {
		p.addf("%s is too large for one launch", y.describe())
	}
	var a abi.Args
	a.Buf(sums).Buf(y.Buffer).I32(int32(y.H)).I32(int32(width)).I32(int32(pitch)).I32(int32(windowW)).I32(windowStrip)
	a.F32(float32(1 / (float64(windowH) * float64(windowW))))
	return p.done(Launch{
		Module: "pool", Shape: abi.Shape{Grid: abi.D3(ceilDiv(y.H*pitch/4, 128), ceilDiv(y.W, windowStrip), y.N), Block: abi.D1(128)},
		Args: a, Bytes: 4*int64(y.N*y.H*width*pitch) + 2*int64(y.Values()), Operations: 2 * int64(y.Values()),
	})
}
