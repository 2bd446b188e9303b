package kernels

import "unirestorer/kernels/abi"

// ChannelNorm normalises over the channels of each pixel, with the biased variance: (x-μ)/√(σ²+eps)·weight + bias, or
// x/√(σ²+eps)·weight for BiasFree. weight and bias are fp32 rows of the pitch; bias is absent for BiasFree.
func ChannelNorm(x, y Tensor, kind NormKind, weight, bias abi.Buffer, eps float32) (Launch, error) {
	p := &problems{kernel: "channel_norm"}
	p.tensor("y", y, 2)
	p.same(y, "x", x)
	p.plain(x)
	if kind != LayerNorm && kind != BiasFree {
		p.addf("normalisation %d", kind)
	}
	if !(eps > 0) {
		p.addf("epsilon %g is not positive", eps)
	}
	if p.err != nil {
		return p.done(Launch{})
	}
	pitch := x.Layout.Pitch()
	p.fits("weight", weight, pitch, 4)
	if kind == LayerNorm {
		p.fits("bias", bias, pitch, 4)
	} else {
		bias = abi.Buffer{}
	}
	var a abi.Args
	a.Buf(x.Buffer).Buf(weight).Buf(bias).Buf(y.Buffer)
	a.I32(int32(x.Pixels())).I32(int32(pitch)).I32(int32(x.Layout.Channels)).I32(flag(kind == BiasFree)).F32(eps)
	return p.done(Launch{
		Module: "norm", Shape: abi.Shape{Grid: abi.D1(ceilDiv(x.Pixels(), 4)), Block: abi.D1(128)}, Args: a,
		Bytes: 4*int64(x.Values()) + 8*int64(pitch), Operations: 6 * int64(x.Values()),
	})
}

// RescaleShares is how many shares RescalePartial makes of an image of so many values, padding included.
func RescaleShares(values int) int { return min(max(ceilDiv(values, 3<<12), 1), 256) }

// RescalePartial takes the statistics of shares of the images of x, RescaleShares of them an image: partial is fp32
// [N][shares][2].
func RescalePartial(x Tensor, partial abi.Buffer) (Launch, error) {
	p := &problems{kernel: "rescale_partial"}
	p.tensor("x", x, 2)
	p.plain(x)
	if p.err != nil {
		return p.done(Launch{})
	}
	shares := RescaleShares(x.Values() / x.N)
	p.fits("partial statistics", partial, 2*x.N*shares, 4)
	var a abi.Args
	a.Buf(x.Buffer).Buf(partial).I32(int32(x.H * x.W)).I32(int32(x.Layout.Pitch())).I32(int32(x.Layout.Channels))
	return p.done(Launch{
		Module: "norm", Shape: abi.Shape{Grid: abi.D2(shares, x.N), Block: abi.D1(256)}, Args: a,
		Bytes: 2*int64(x.Values()) + 8*int64(x.N*shares), Operations: 4 * int64(x.Values()),
	})
}

// RescaleParams are the parameters of RescaleNorm, fp32 rows of the pitch with zeros in the padding.
type RescaleParams struct {
	Weight, Bias           abi.Buffer
	ScaleWeight, ScaleBias abi.Buffer
	ShiftWeight, ShiftBias abi.Buffer
	Eps                    float32
}

// RescaleFinish makes of the statistics of RescalePartial the mean μ and the deviation σ = √(variance+Eps) of each image
// over pixels and channels together, and two affine maps, fp32 [N][2][pitch]. before normalises: scale Weight/σ, shift
// Bias-μ·Weight/σ. after undoes it behind the layer: scale ScaleWeight·σ+ScaleBias, shift ShiftWeight·μ+ShiftBias.
func RescaleFinish(x Tensor, partial abi.Buffer, params RescaleParams, before, after abi.Buffer) (Launch, error) {
	p := &problems{kernel: "rescale_finish"}
	p.tensor("x", x, 2)
	p.plain(x)
	if !(params.Eps > 0) {
		p.addf("epsilon %g is not positive", params.Eps)
	}
	if p.err != nil {
		return p.done(Launch{})
	}
	shares, pitch := RescaleShares(x.Values()/x.N), x.Layout.Pitch()
	p.fits("partial statistics", partial, 2*x.N*shares, 4)
	var f abi.Args
	f.Buf(x.Buffer).Buf(partial)
	for _, v := range []struct {
		name string
		b    abi.Buffer
	}{
		{"weight", params.Weight}, {"bias", params.Bias}, {"scale weight", params.ScaleWeight}, {"scale bias", params.ScaleBias},
		{"shift weight", params.ShiftWeight}, {"shift bias", params.ShiftBias},
	} {
		p.fits(v.name, v.b, x.Layout.Channels, 4)
		f.Buf(v.b)
	}
	p.fits("map before", before, 2*x.N*pitch, 4)
	p.fits("map after", after, 2*x.N*pitch, 4)
	f.Buf(before).Buf(after).I32(int32(x.H * x.W)).I32(int32(pitch)).I32(int32(x.Layout.Channels)).I32(int32(shares)).F32(params.Eps)
	return p.done(Launch{
		Module: "norm", Shape: abi.Shape{Grid: abi.D1(x.N), Block: abi.D1(256)}, Args: structure(&f),
		Bytes: 8*int64(x.N*shares) + 24*int64(pitch) + 16*int64(x.N*pitch), Operations: 8 * int64(x.N*(shares+pitch)),
	})
}
