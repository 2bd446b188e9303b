package kernels_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/kernels"
	"unirestorer/runtime/device"
)

// attention is NAFNet's channel attention on a device: y = simple gate of a depthwise convolution of x, and the factors
// A·mean(y) + b in shares.
type attention struct {
	conv     kernels.DepthwiseConv
	out      kernels.Layout
	in       kernels.Layout
	a, bias  []float32
	counters int
}

// newAttention uploads random operands for c channels.
func newAttention(r *rig, seed uint64, images, h, w, c int) *attention {
	r.Helper()
	k := &attention{in: kernels.Layout{Channels: 2 * c, Parts: 2}, out: kernels.Plain(c), a: normal(seed, c*c, 0, 0.3), bias: normal(seed+1, c, 1, 0.3)}
	filters, err := kernels.PackDepthwise(normal(seed+2, 9*2*c, 0, 0.4), 9, k.in)
	require.NoError(r, err)
	matrix, err := kernels.PackSqueeze(k.a, c)
	require.NoError(r, err)
	k.conv = kernels.DepthwiseConv{
		X: r.rows(normal(seed+3, images*h*w*2*c, 0.5, 1), k.in), W: r.floats(filters), Bias: r.floats(k.in.Spread(normal(seed+4, 2*c, 0.2, 0.5))),
		Y: r.emptyRows(images*h*w, k.out), Images: images, Height: h, Width: w, K: 3, Pitch: k.in.Pitch(), OutPitch: k.out.Pitch(),
		Gate: kernels.SimpleGate, Squeeze: &kernels.Squeeze{W: r.halves(matrix)},
	}
	d := &k.conv
	k.counters = images * d.SqueezeGroups()
	d.Pool = r.alloc(4 * images * d.PoolShares() * d.OutPitch)
	d.Squeeze.Arrived = r.ints(make([]int32, k.counters))
	d.Squeeze.Factors = r.alloc(4 * k.counters * d.OutPitch)
	return k
}

// factors adds the shares that lie in memory.
func (k *attention) factors(r *rig) [][]float64 {
	r.Helper()
	d, c := &k.conv, k.out.Channels
	groups := d.SqueezeGroups()
	shares := r.floatPixels(d.Squeeze.Factors, d.Images*groups, k.out)
	var all [][]float64
	for ; len(shares) > 0; shares = shares[groups*c:] {
		s := make([]float64, c)
		for i := range s {
			s[i] = float64(k.bias[i])
			for g := range groups {
				s[i] += float64(shares[g*c+i])
			}
		}
		all = append(all, s)
	}
	return all
}

// wanted computes the factors from the convolution's result in double precision.
func (k *attention) wanted(r *rig) [][]float64 {
	r.Helper()
	d, c := &k.conv, k.out.Channels
	pixels := d.Height * d.Width
	var all [][]float64
	for _, image := range chunks(r.pixels(d.Y, d.Images*pixels, k.out), pixels*c) {
		mean, s := make([]float64, c), make([]float64, c)
		for i, v := range image {
			mean[i%c] += float64(v) / float64(pixels)
		}
		a := rounded(k.a)
		for i := range s {
			s[i] = float64(k.bias[i])
			for j, m := range mean {
				s[i] += float64(a[i*c+j]) * m
			}
		}
		all = append(all, s)
	}
	return all
}

// check compares the factors with those of the convolution's result. Partial sums are of values before they are rounded
// to fp16.
func (k *attention) check(r *rig) {
	r.Helper()
	got := k.factors(r)
	for i, want := range k.wanted(r) {
		require.InDeltaSlice(r, want, got[i], 3e-3, "image %d", i)
	}
}

// squeezeShapes have one and several groups, padding, a last group of fewer channels, sides that are no multiples of a
// block's, one pixel, and as many groups as fit.
var squeezeShapes = []struct{ images, h, w, c int }{
	{1, 1, 1, 8}, {2, 5, 7, 16}, {1, 17, 33, 21}, {3, 19, 9, 72}, {2, 33, 11, 100}, {1, 16, 16, 256}, {1, 3, 4, 1000}, {1, 40, 21, 64},
}

// TestSqueezeEqualsMatrixTimesMean runs every shape twice, so that the counters must be back at zero, and in several
// orders of blocks and warps, whose results are the same to the last bit.
func TestSqueezeEqualsMatrixTimesMean(t *testing.T) {
	for _, s := range squeezeShapes {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			var first []byte
			for _, seed := range []int64{0, 1, 2, 3} {
				r := ownRig(t, seed)
				k := newAttention(r, 9, s.images, s.h, s.w, s.c)
				d := k.conv
				for range 2 {
					for _, b := range []device.Buffer{d.Y, d.Pool, d.Squeeze.Factors} {
						require.NoError(t, r.dev.Poison(b))
					}
					r.run(kernels.DepthwiseKernel(d))
					k.check(r)
					bits := r.download(d.Squeeze.Factors, 4*k.counters*d.OutPitch)
					if first == nil {
						first = bits
					}
					require.True(t, bytes.Equal(first, bits), "seed %d", seed)
					require.Equal(t, make([]byte, 4*k.counters), r.download(d.Squeeze.Arrived, 4*k.counters))
				}
			}
		})
	}
}

// TestSqueezeLeavesTheConvolutionAlone compares with the kernel that only pools.
func TestSqueezeLeavesTheConvolutionAlone(t *testing.T) {
	for _, s := range squeezeShapes {
		r := newRig(t)
		k := newAttention(r, 5, s.images, s.h, s.w, s.c)
		r.run(kernels.DepthwiseKernel(k.conv))
		plain := k.conv
		plain.Squeeze, plain.Y = nil, r.emptyRows(s.images*s.h*s.w, k.out)
		plain.Pool = r.alloc(4 * s.images * plain.PoolShares() * plain.OutPitch)
		r.run(kernels.DepthwiseKernel(plain))
		pixels := s.images * s.h * s.w
		require.Equal(t, r.pixels(plain.Y, pixels, k.out), r.pixels(k.conv.Y, pixels, k.out))
	}
}

// TestSqueezedFactorsScaleTheInput multiplies with factors in shares, and the same factors as a tensor.
func TestSqueezedFactorsScaleTheInput(t *testing.T) {
	for _, s := range []struct{ images, rows, c, filters, groups, splits int }{
		{1, 64, 64, 64, 1, 1}, {2, 70, 40, 24, 3, 1}, {3, 9, 8, 72, 2, 1}, {1, 130, 520, 64, 9, 1}, {2, 65, 544, 40, 5, 2},
	} {
		for _, bias := range []bool{false, true} {
			r := newRig(t)
			in, out := kernels.Plain(s.c), kernels.Plain(s.filters)
			// Multiples of 1/64 add up exactly in any order.
			shares := normal(1, s.images*s.groups*s.c, 0, 1)
			for i, v := range shares {
				shares[i] = float32(int(v*16)) / 64
			}
			biases := make([]float32, s.c)
			if bias {
				for i, v := range normal(2, s.c, 1, 1) {
					biases[i] = float32(int(v*16)) / 64
				}
			}
			factors := make([]float32, s.images*s.c)
			for i := range factors {
				factors[i] = biases[i%s.c]
				for g := range s.groups {
					factors[i] += shares[(i/s.c*s.groups+g)*s.c+i%s.c]
				}
			}
			p, err := kernels.ProductSource{Weight: normal(3, s.filters*s.c, 0, 0.1), Filters: s.filters, In: []kernels.Layout{in}, Order: kernels.PlainOrder(out)}.Pack()
			require.NoError(t, err)
			q := kernels.PointwiseProduct{Rows: s.rows}
			q.X, q.Pitch, q.Images, q.W = r.rows(normal(4, s.images*s.rows*s.c, 0, 1), in), in.Pitch(), s.images, r.halves(p.W)
			q.Tiling = kernels.Tiling{Rows: 64, Splits: s.splits}
			q.Epilogue = kernels.Epilogue{Columns: out.Pitch()}
			run := func() []float32 {
				y := r.emptyRows(s.images*s.rows, out)
				if q.Epilogue.Y = y; s.splits > 1 {
					q.Partial = r.alloc(int(kernels.PartialBytes(q.Tiling, s.images, s.rows, out.Pitch())))
				}
				r.run(kernels.Pointwise(q))
				if s.splits > 1 {
					r.run(kernels.Finish(kernels.FinishProduct{Partial: q.Partial, Splits: s.splits, Images: s.images, Rows: s.rows, Epilogue: q.Epilogue}))
				}
				return r.pixels(y, s.images*s.rows, out)
			}
			q.InSqueeze = kernels.InSqueeze{Shares: r.floatRows(shares, in), Groups: s.groups}
			if bias {
				q.InSqueeze.Bias = r.floats(in.Spread(biases))
			}
			got := run()
			q.InSqueeze = kernels.InSqueeze{}
			q.InScale, q.ScaleHeight, q.ScaleWidth, q.Height, q.Width = r.rows(factors, in), 1, 1, 1, s.rows
			require.Equal(t, run(), got, "%v", s)
		}
	}
}

// TestSqueezeIsTakenWhereItIsWorthALaunch states the rule at NAFNet's levels.
func TestSqueezeIsTakenWhereItIsWorthALaunch(t *testing.T) {
	for _, s := range []struct {
		side, c, bytes int
		fits           bool
	}{
		{256, 64, 128*256 + 8<<10 + 256, true},
		{128, 128, 64*256 + 16<<10 + 1<<10, true},
		{32, 512, 16*256 + 64<<10 + 16<<10, true},
		{16, 1024, 4*256 + 128<<10 + 64<<10, false},
		{2048, 64, 1114112 + 8<<10 + 256, false},
	} {
		d := kernels.DepthwiseConv{Height: s.side, Width: s.side, K: 3, OutPitch: s.c, Gate: kernels.SimpleGate, Squeeze: &kernels.Squeeze{}, SMs: 132}
		require.Equal(t, s.bytes, d.SqueezeBytes(), "%v", s)
		require.Equal(t, s.fits, d.SqueezeFits(), "%v", s)
	}
	d := kernels.DepthwiseConv{Height: 8, Width: 8, K: 3, OutPitch: 8, Gate: kernels.GELUGate, Squeeze: &kernels.Squeeze{}}
	require.False(t, d.SqueezeFits())
}

func TestSqueezeRefusesWhatItCannotDo(t *testing.T) {
	r := newRig(t)
	for _, s := range []struct {
		change func(d *kernels.DepthwiseConv)
		says   string
	}{
		{func(d *kernels.DepthwiseConv) { d.Pool = device.Buffer{} }, "want a 3x3 kernel, partial sums"},
		{func(d *kernels.DepthwiseConv) { d.Gate = kernels.GELUGate }, "gate"},
		{func(d *kernels.DepthwiseConv) { d.Squeeze.W = device.Buffer{} }, "squeeze matrix is missing"},
		{func(d *kernels.DepthwiseConv) { d.Squeeze.Arrived.Size = 4 }, "counters of the squeeze holds 4 bytes"},
		{func(d *kernels.DepthwiseConv) { d.Squeeze.Factors.Ptr += 4 }, "shares of the factors"},
	} {
		k := newAttention(r, 1, 2, 4, 4, 72)
		s.change(&k.conv)
		_, err := kernels.DepthwiseKernel(k.conv)
		require.ErrorContains(t, err, s.says)
	}
	_, err := kernels.PackSqueeze(make([]float32, 5), 2)
	require.ErrorContains(t, err, "5 values for 2 channels")
}
