package kernels_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/kernels"
	"unirestorer/runtime/device"
	"unirestorer/weights/half"
)

// adapted is a convolution with loralib's factors, as a file holds them.
type adapted struct {
	filters, channels, k, inner int
	weight, a, b                []float32
	bias, normWeight, normBias  []float32 // with a norm, else nil
	scale                       float32
}

func newAdapted(rng *rand.Rand, filters, channels, k, rank int, norm bool) *adapted {
	d := &adapted{filters: filters, channels: channels, k: k, inner: rank * k, scale: 2}
	d.weight = normals(rng, filters*channels*k*k, 0, 0.1)
	d.a = normals(rng, d.inner*channels*k, 0, 0.1)
	d.b = normals(rng, filters*k*d.inner, 0, 0.1)
	if norm {
		d.bias, d.normWeight, d.normBias = normals(rng, filters, 0, 0.3), normals(rng, channels, 1, 0.3), normals(rng, channels, 0, 0.3)
	}
	return d
}

// merged is the weight with strength times the adapter, in double precision.
func (d *adapted) merged(strength float64) []float64 {
	cols := d.channels * d.k
	w := make([]float64, len(d.weight))
	for i := range w {
		row, col := i/cols, i%cols
		var sum float64
		for n := range d.inner {
			sum += float64(d.b[row*d.inner+n]) * float64(d.a[n*cols+col])
		}
		w[i] = float64(d.weight[i]) + strength*float64(d.scale)*sum
	}
	return w
}

func (d *adapted) source(weight []float32, in []kernels.Layout, order kernels.Order) kernels.ProductSource {
	s := kernels.ProductSource{Weight: weight, Filters: d.filters, KH: d.k, KW: d.k, In: in, Order: order}
	if d.normWeight != nil {
		s.Bias, s.Norm, s.NormWeight, s.NormBias = d.bias, kernels.LayerNorm, d.normWeight, d.normBias
	}
	return s
}

func narrow(v []float64) []float32 {
	f := make([]float32, len(v))
	for i, x := range v {
		f[i] = float32(x)
	}
	return f
}

func bits(v []float32) []uint16 {
	h := make([]uint16, len(v))
	half.F32ToF16(h, v)
	return h
}

func values(h []uint16) []float32 {
	f := make([]float32, len(h))
	half.F16ToF32(f, h)
	return f
}

func (r *rig) readHalves(b device.Buffer, n int) []float32 {
	r.Helper()
	f := make([]float32, n)
	half.DecodeF16(f, r.download(b, 2*n))
	return f
}

// resident is an adapted convolution on the device, packed without the normalisation in front, and where its merged form
// goes.
type resident struct {
	*adapted
	in    []kernels.Layout
	order kernels.Order
	base  *kernels.ProductWeights
	entry kernels.Adapter
}

func (r *rig) reside(d *adapted, in []kernels.Layout, order kernels.Order) *resident {
	r.Helper()
	bare := d.source(d.weight, in, order)
	bare.Bias, bare.Norm, bare.NormWeight, bare.NormBias = nil, kernels.NoNorm, nil, nil
	base, err := bare.Pack()
	require.NoError(r, err)
	var channelOf, rowOf []int32
	first := 0
	for _, l := range in {
		for p := range l.Pitch() {
			c := l.Channel(p)
			if c >= 0 {
				c += first
			}
			channelOf = append(channelOf, int32(c))
		}
		first += l.Channels
	}
	for _, f := range order {
		rowOf = append(rowOf, int32(f))
	}
	e := kernels.Adapter{
		Name: "conv", Base: r.halves(base.W), Out: r.alloc(2 * len(base.W)), Scale: d.scale,
		Rows: base.Columns, Filters: d.filters, Channels: d.channels, Pitch: len(channelOf), Kernel: d.k,
		RowOf: r.ints(rowOf), ChannelOf: r.ints(channelOf), A: r.halves(bits(d.a)), B: r.halves(bits(d.b)), Inner: d.inner,
	}
	if d.normWeight != nil {
		e.Factor, e.NormSum, e.NormBias = r.floats(d.normWeight), r.alloc(4*base.Columns), r.floats(d.normBias)
		e.BaseBias, e.Bias = r.floats(order.Vector(d.bias)), r.alloc(4*base.Columns)
	}
	return &resident{d, in, order, base, e}
}

// check compares what is on the device with the packed form of the merged weight.
func (r *rig) check(d *resident, strength float64) {
	r.Helper()
	want, err := d.source(narrow(d.merged(strength)), d.in, d.order).Pack()
	require.NoError(r, err)
	got := r.readHalves(d.entry.Out, len(d.base.W))
	// The base, without the norm's factor, is rounded to fp16, and so are both sums.
	folded, err := d.source(d.weight, d.in, d.order).Pack()
	require.NoError(r, err)
	for i, w := range values(want.W) {
		base := values(folded.W[i : i+1])[0]
		bound := halfUlp * (2*abs(w) + abs(base)) * 1.05
		require.InDelta(r, w, got[i], bound+1e-6, "value %d", i)
	}
	if d.normWeight == nil {
		return
	}
	sums, biases := r.singles(d.entry.NormSum, want.Columns), r.singles(d.entry.Bias, want.Columns)
	for n := range want.Columns {
		var sum float64
		for _, v := range got[n*want.Depth:][:want.Depth] {
			sum += float64(v)
		}
		require.InDelta(r, sum, sums[n], 1e-5, "the sum of row %d is that of its rounded values", n)
		require.InDelta(r, want.Bias[n], biases[n], 1e-5, "bias %d", n)
	}
}

func abs(v float32) float64 { return float64(max(v, -v)) }

func TestMergedAdapterEqualsPackedMergedWeight(t *testing.T) {
	plain := func(c ...int) []kernels.Layout {
		var l []kernels.Layout
		for _, n := range c {
			l = append(l, kernels.Plain(n))
		}
		return l
	}
	for _, s := range []struct {
		name             string
		filters, k, rank int
		in               []kernels.Layout
		order            kernels.Order
		norm             bool
		strength         float64
	}{
		{name: "aligned", filters: 48, k: 1, rank: 8, in: plain(48), order: kernels.PlainOrder(kernels.Plain(48)), strength: 1},
		{name: "odd", filters: 13, k: 1, rank: 3, in: plain(21), order: kernels.PlainOrder(kernels.Plain(13)), strength: 1},
		{name: "norm and gate", filters: 34, k: 1, rank: 4, in: plain(19), order: kernels.PlainOrder(kernels.Plain(17)).Gated(17), norm: true, strength: 1},
		{name: "3x3", filters: 24, k: 3, rank: 2, in: plain(16), order: kernels.PlainOrder(kernels.Plain(24)), strength: 1},
		{name: "3x3 odd, shuffle", filters: 20, k: 3, rank: 2, in: plain(7), order: kernels.ShuffleOrder(20, 2), strength: 1},
		{name: "two inputs in parts", filters: 9, k: 1, rank: 5, in: []kernels.Layout{{Channels: 10, Parts: 2}, kernels.Plain(3)}, order: kernels.PlainOrder(kernels.Plain(9)), strength: 1},
		{name: "wide", filters: 16, k: 1, rank: 8, in: plain(384), order: kernels.PlainOrder(kernels.Plain(16)), norm: true, strength: 1},
		{name: "half strength", filters: 8, k: 3, rank: 2, in: plain(3), order: kernels.PlainOrder(kernels.Plain(8)), strength: 0.5},
	} {
		t.Run(s.name, func(t *testing.T) {
			r := newRig(t)
			channels := 0
			for _, l := range s.in {
				channels += l.Channels
			}
			d := r.reside(newAdapted(newRand(6), s.filters, channels, s.k, s.rank, s.norm), s.in, s.order)
			table, err := kernels.NewAdapterTable([]kernels.Adapter{d.entry})
			require.NoError(t, err)
			r.run(kernels.MergeAdapter(table, r.upload(table.Content), float32(s.strength)))
			r.check(d, s.strength)
		})
	}
}

// One launch serves tensors of all kinds; whatever was merged before, the result depends on the base alone.
func TestSwitchingAdaptersDoesNotDrift(t *testing.T) {
	r, rng := newRig(t), newRand(7)
	product := r.reside(newAdapted(rng, 30, 12, 1, 4, true), []kernels.Layout{kernels.Plain(12)}, kernels.PlainOrder(kernels.Plain(30)))
	conv := r.reside(newAdapted(rng, 8, 5, 3, 2, false), []kernels.Layout{kernels.Plain(5)}, kernels.PlainOrder(kernels.Plain(8)))
	const n = 2500
	base, delta := normals(rng, n, 0, 1), normals(rng, n, 0, 0.1)
	base[3] = 0
	negativeZero := bits(base)
	negativeZero[3] = 0x8000
	dense32 := kernels.Adapter{Name: "depthwise", Kind: kernels.AdapterDenseF32, Values: n, Base: r.floats(base), Out: r.alloc(4 * n), Delta: r.halves(bits(delta)), Scale: 1}
	dense16 := kernels.Adapter{Name: "vector", Kind: kernels.AdapterDenseF16, Values: n, Base: r.halves(negativeZero), Out: r.alloc(2 * n), Delta: r.halves(bits(delta)), Scale: 0.5}
	table, err := kernels.NewAdapterTable([]kernels.Adapter{dense32, product.entry, dense16, conv.entry})
	require.NoError(t, err)
	memory := r.upload(table.Content)
	state := func() [][]byte {
		return [][]byte{r.download(dense32.Out, 4*n), r.download(product.entry.Out, 2*len(product.base.W)), r.download(dense16.Out, 2*n), r.download(conv.entry.Out, 2*len(conv.base.W))}
	}
	r.run(kernels.MergeAdapter(table, memory, 1))
	merged := state()
	r.check(product, 1)
	r.check(conv, 1)
	for i, v := range r.singles(dense32.Out, n) {
		require.InDelta(t, base[i]+delta[i], v, 1e-6)
	}
	for i, v := range r.readHalves(dense16.Out, n) {
		require.InDelta(t, base[i]+delta[i]/2, v, halfUlp*abs(v)+1e-6)
	}
	for _, strength := range []float32{0.3, -1, 0.7} {
		r.run(kernels.MergeAdapter(table, memory, strength))
		require.NotEqual(t, merged, state())
	}
	r.run(kernels.MergeAdapter(table, memory, 1))
	require.Equal(t, merged, state())
	r.run(kernels.MergeAdapter(table, memory, 0))
	restored := state()
	r.check(product, 0)
	require.Equal(t, r.download(conv.entry.Base, 2*len(conv.base.W)), restored[3])
	require.Equal(t, r.download(dense32.Base, 4*n), restored[0])
	require.Equal(t, r.download(dense16.Base, 2*n), restored[2])
}

func TestAdapterTableRefusesWhatDoesNotFit(t *testing.T) {
	r := newRig(t)
	good := r.reside(newAdapted(newRand(1), 8, 8, 1, 2, false), []kernels.Layout{kernels.Plain(8)}, kernels.PlainOrder(kernels.Plain(8))).entry
	for _, s := range []struct {
		message string
		break_  func(a *kernels.Adapter)
	}{
		{"overlap", func(a *kernels.Adapter) { a.Out = a.Base }},
		{"A holds", func(a *kernels.Adapter) { a.A.Size-- }},
		{"base holds", func(a *kernels.Adapter) { a.Rows = 16 }},
		{"is missing", func(a *kernels.Adapter) { a.B = device.Buffer{} }},
		{"must be positive", func(a *kernels.Adapter) { a.Inner = 0 }},
		{"too large", func(a *kernels.Adapter) { a.Inner = 1 << 20 }},
		{"kind", func(a *kernels.Adapter) { a.Kind = 9 }},
		{"the bias of a normalisation", func(a *kernels.Adapter) { a.NormBias = a.Base }},
	} {
		t.Run(s.message, func(t *testing.T) {
			a := good
			s.break_(&a)
			_, err := kernels.NewAdapterTable(slices.Repeat([]kernels.Adapter{good, a}, 1))
			require.ErrorContains(t, err, s.message)
			require.ErrorContains(t, err, fmt.Sprintf("%q", a.Name))
		})
	}
}
