package kernels

import "unirestorer/kernels/abi"

// MaxVectors is the number of rows that Gemv takes.
const MaxVectors = 8

// maxGemvShared bounds the vectors in shared memory, which every device gives.
const maxGemvShared = 64 << 10

// VectorProduct is a linear layer for a few rows, exact in fp32 where X, W and Y are.
type VectorProduct struct {
	// One of: fp16 rows, fp32 rows, or partial sums fp32 [rows][Shares][Pitch] that are added and multiplied by Factor.
	X, X32, Partial abi.Buffer
	Shares          int
	Factor          float32
	Rows            int
	Channels, Pitch int        // of the input
	W               abi.Buffer // [Filters][Pitch] in the order of the filters, fp16 or with W32 fp32
	W32             bool
	Filters         int
	Bias, Scale     abi.Buffer // fp32 [Filters], [channels after the gate]
	Norm            NormKind
	NormWeight      abi.Buffer // fp32 [Channels]
	NormBias        abi.Buffer
	Eps             float32
	Act             Activation
	Gate            Gate
	Residual        abi.Buffer // fp16, as Y
	Y, Y32          abi.Buffer // one of: fp16 or fp32 rows of the channels after the gate, rounded up to 8
}

// GemvFits reports whether Gemv takes rows of pitch values.
func GemvFits(rows, pitch int) bool {
	return rows > 0 && rows <= MaxVectors && 4*rows*pitch <= maxGemvShared
}

// Gemv computes y = epilogue(norm(x)·Wᵀ).
func Gemv(v VectorProduct) (Launch, error) {
	p := &problems{kernel: "gemv_f16"}
	size := 2
	if v.W32 {
		p.kernel, size = "gemv_f32", 4
	}
	p.positive("rows, channels and filters", v.Rows, v.Channels, v.Filters)
	if !GemvFits(v.Rows, v.Pitch) || v.Pitch%8 != 0 || v.Pitch < v.Channels {
		p.addf("%d rows of %d values in %d", v.Rows, v.Channels, v.Pitch)
	}
	channels := v.Filters
	if v.Gate != NoGate {
		channels /= 2
		if v.Filters%2 != 0 || v.Act != Identity {
			p.addf("gate of %d filters with activation %d", v.Filters, v.Act)
		}
	}
	inputs := 0
	for _, b := range []abi.Buffer{v.X, v.X32, v.Partial} {
		if !b.IsZero() {
			inputs++
		}
	}
	if inputs != 1 || v.Y.IsZero() == v.Y32.IsZero() {
		p.addf("want one input and one result")
	}
	p.optional("input", v.X, v.Rows*v.Pitch, 2)
	p.optional("input", v.X32, v.Rows*v.Pitch, 4)
	if !v.Partial.IsZero() {
		p.positive("shares", v.Shares)
		p.fits("partial sums", v.Partial, v.Rows*v.Shares*v.Pitch, 4)
	}
	p.fits("weight", v.W, v.Filters*v.Pitch, size)
	p.optional("bias", v.Bias, v.Filters, 4)
	p.optional("scale", v.Scale, channels, 4)
	if v.Norm != NoNorm {
		p.fits("normalisation weight", v.NormWeight, v.Channels, 4)
		if v.Norm == LayerNorm {
			p.fits("normalisation bias", v.NormBias, v.Channels, 4)
		}
		if !(v.Eps > 0) {
			p.addf("epsilon %g", v.Eps)
		}
	}
	out := PadC(channels)
	p.optional("result", v.Y, v.Rows*out, 2)
	p.optional("result", v.Y32, v.Rows*out, 4)
	p.optional("residual", v.Residual, v.Rows*out, 2)
	var a abi.Args
	a.Buf(v.X).Buf(v.X32).Buf(v.Partial).Buf(v.W).Buf(v.Bias).Buf(v.Scale).Buf(v.NormWeight).Buf(v.NormBias).Buf(v.Residual).Buf(v.Y).Buf(v.Y32)
	a.I32(int32(v.Rows)).I32(int32(v.Pitch)).I32(int32(v.Channels)).I32(int32(v.Filters)).I32(int32(out)).I32(int32(v.Shares))
	a.I32(int32(v.Norm)).I32(int32(v.Act)).I32(int32(v.Gate)).F32(v.Factor).F32(v.Eps)
	l := Launch{Module: "gemv", Args: structure(&a)}
	l.Shape = abi.Shape{Grid: abi.D1(max(ceilDiv(out, 8), 1)), Block: abi.D1(256), Shared: 4 * v.Rows * v.Pitch}
	l.Bytes = int64(size)*int64(v.Filters)*int64(v.Pitch) + 4*int64(v.Rows)*int64(max(v.Shares, 1)*v.Pitch+out)
	l.Operations = 2 * int64(v.Rows) * int64(v.Filters) * int64(v.Pitch)
	return p.done(l)
}
