package kernels

import "unirestorer/runtime/device"

// DepthwiseConv is a k×k convolution of each channel by itself, stride 1, zeros outside: act-or-gate(x∗w + bias) +
// residual. Layouts are those of rows: with a gate, X has two parts and Y one.
type DepthwiseConv struct {
	X, Y, Residual        device.Buffer // fp16
	W                     device.Buffer // fp32 [K·K][pitch of X], see PackDepthwise
	Bias                  device.Buffer // fp32 [pitch of X]
	Images, Height, Width int
	K                     int
	Pitch, OutPitch       int // of X and Y
	Act                   Activation
	Gate                  Gate
	// Pool receives partial sums of the result over pixels, fp32 [images][PoolShares][OutPitch]; 3×3 only.
	Pool device.Buffer
}

const depthwiseStrip = 16

// quads is how many quads of channels a block of 128 threads spans: the number up to 32 that leaves the fewest threads
// idle, wide ones first.
func (d *DepthwiseConv) quads() int {
	all := d.OutPitch / 4
	best, most := 1, 0.0
	for q := min(32, all); q >= 1; q-- {
		used := float64(all) / float64(ceilDiv(all, q)*q) * float64(128/q*q) / 128
		if used > most+0.01 {
			best, most = q, used
		}
	}
	return best
}

// PoolShares is the number of rows of partial sums that pooling writes for each image.
func (d *DepthwiseConv) PoolShares() int {
	return ceilDiv(d.Width, 128/d.quads()) * ceilDiv(d.Height, depthwiseStrip)
}

// DepthwiseKernel computes the convolution.
func DepthwiseKernel(d DepthwiseConv) (Launch, error) {
	p := &problems{kernel: "depthwise3"}
	p.positive("images, height, width and pitch", d.Images, d.Height, d.Width, d.Pitch)
	switch {
	case d.K == 3 && d.Gate == SimpleGate:
		p.kernel = "depthwise3_simple_gate"
	case d.K == 3 && d.Gate == GELUGate:
		p.kernel = "depthwise3_gelu_gate"
	case d.K != 3:
		p.kernel = "depthwise_any"
	}
	want := d.OutPitch
	if d.Gate != NoGate {
		want *= 2
	}
	if d.OutPitch <= 0 || d.OutPitch%8 != 0 || d.Pitch != want {
		p.addf("rows of %d values to rows of %d, gate %d", d.Pitch, d.OutPitch, d.Gate)
	}
	if d.K <= 0 || d.K%2 == 0 || d.K > 63 {
		p.addf("kernel of side %d, want an odd one", d.K)
	}
	if d.Act < Identity || d.Act > GELU || d.Gate < NoGate || d.Gate > GELUGate || d.Gate != NoGate && d.Act != Identity {
		p.addf("activation %d with gate %d", d.Act, d.Gate)
	}
	pixels := d.Images * d.Height * d.Width
	p.fits("input", d.X, pixels*d.Pitch, 2)
	p.fits("result", d.Y, pixels*d.OutPitch, 2)
	p.optional("residual", d.Residual, pixels*d.OutPitch, 2)
	p.fits("weight", d.W, d.K*d.K*d.Pitch, 4)
	p.optional("bias", d.Bias, d.Pitch, 4)
	if p.err != nil {
		return p.done(Launch{})
	}
	if !d.Pool.IsZero() {
		if d.K != 3 {
			p.addf("partial sums of a kernel of side %d", d.K)
		}
		p.fits("partial sums", d.Pool, d.Images*d.PoolShares()*d.OutPitch, 4)
	}
	quads, octets := d.quads(), pixels*d.OutPitch/8
	var a device.Args
	a.Buf(d.X).Buf(d.W).Buf(d.Bias).Buf(d.Residual).Buf(d.Y).Buf(d.Pool).I32(int32(d.Height)).I32(int32(d.Width))
	a.I32(int32(d.Pitch)).I32(int32(d.OutPitch)).I32(int32(quads)).I32(depthwiseStrip).I32(int32(d.K)).I32(int32(d.Act)).I32(int32(d.Gate)).I64(int64(octets))
	l := Launch{Module: "depthwise", Args: structure(&a)}
	if d.K == 3 {
		across := ceilDiv(d.OutPitch/4, quads) * ceilDiv(d.Width, 128/quads)
		l.Shape = device.Shape{Grid: device.D3(across, ceilDiv(d.Height, depthwiseStrip), d.Images), Block: device.D1(128)}
	} else {
		l.Shape = p.linear(octets, 256)
	}
	l.Bytes = 2*int64(pixels)*int64(d.Pitch+d.OutPitch) + 4*int64(d.K*d.K*d.Pitch)
	if !d.Residual.IsZero() {
		l.Bytes += 2 * int64(pixels) * int64(d.OutPitch)
	}
	l.Operations = 2 * int64(pixels) * int64(d.Pitch) * int64(d.K*d.K)
	return p.done(l)
}
