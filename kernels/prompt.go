package kernels

import "unirestorer/kernels/abi"

// Prompt makes y, N×H×W×C, the sum of components weighted by the softmax of logits, N×1×1×L in fp32. components are L·H·W
// fp32 rows of y's pitch.
func Prompt(logits Tensor, components abi.Buffer, y Tensor) (Launch, error) {
	p := &problems{kernel: "prompt"}
	p.tensor("y", y, 2)
	p.tensor("logits", logits, 4)
	if logits.N != y.N || logits.H != 1 || logits.W != 1 {
		p.addf("logits are %s, want %dx1x1xL", logits.describe(), y.N)
	}
	if y.N > maxGridYZ {
		p.addf("%d images are too many", y.N)
	}
	p.plain(logits)
	if p.err != nil {
		return p.done(Launch{})
	}
	count, octets := logits.Layout.Channels, y.octets()/y.N
	p.fits("components", components, count*octets*8, 4)
	var a abi.Args
	a.Buf(logits.Buffer).Buf(components).Buf(y.Buffer).U32(uint32(octets)).I32(int32(count)).I32(int32(logits.Layout.Pitch()))
	return p.done(Launch{
		Module: "prompt", Shape: abi.Shape{Grid: abi.D2(ceilDiv(octets, 256), y.N), Block: abi.D1(256)}, Args: a,
		Bytes: 4*int64(count*octets*8+logits.Values()) + 2*int64(y.Values()), Operations: 2 * int64(count) * int64(y.Values()),
	})
}

// Bilinear resizes the images of x to those of y, without antialiasing and with the corners of the outermost pixels
// aligned.
func Bilinear(x, y Tensor) (Launch, error) {
	p := &problems{kernel: "bilinear"}
	p.tensor("x", x, 2)
	p.tensor("y", y, 2)
	if x.N != y.N || !x.Layout.equal(y.Layout) {
		p.addf("x is %s, y %s: images and channels must agree", x.describe(), y.describe())
	}
	if y.N > maxGridYZ {
		p.addf("%d images are too many", y.N)
	}
	if p.err != nil {
		return p.done(Launch{})
	}
	octets := x.Layout.Pitch() / 8
	var a abi.Args
	a.Buf(x.Buffer).Buf(y.Buffer).I32(int32(x.H)).I32(int32(x.W)).I32(int32(y.H)).I32(int32(y.W)).I32(int32(octets))
	return p.done(Launch{
		Module: "prompt", Shape: abi.Shape{Grid: abi.D3(ceilDiv(y.W*octets, 256), min(y.H, maxGridYZ), y.N), Block: abi.D1(256)}, Args: a,
		Bytes: 2 * int64(x.Values()+y.Values()), Operations: 6 * int64(y.Values()),
	})
}
