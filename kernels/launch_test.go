package kernels_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/kernels"
	"unirestorer/runtime/device"
)

// goodPointwise is a product that Pointwise accepts.
func goodPointwise() kernels.PointwiseProduct {
	buffer := device.Buffer{Ptr: 0x1000, Size: 1 << 20}
	q := kernels.PointwiseProduct{Rows: 100}
	q.X, q.Pitch, q.Images, q.W = buffer, 48, 1, buffer
	q.Tiling = kernels.Tiling{Rows: 64, Splits: 1}
	q.Epilogue = kernels.Epilogue{Columns: 144, Y: buffer}
	return q
}

func TestLaunchersRejectWhatKernelsCannotDo(t *testing.T) {
	_, err := kernels.Pointwise(goodPointwise())
	require.NoError(t, err)
	small := device.Buffer{Ptr: 0x1000, Size: 100}
	odd := device.Buffer{Ptr: 0x1008, Size: 1 << 20}
	for name, s := range map[string]struct {
		spoil func(q *kernels.PointwiseProduct)
		want  string
	}{
		"no rows":              {func(q *kernels.PointwiseProduct) { q.Rows = 0 }, "must be positive"},
		"negative images":      {func(q *kernels.PointwiseProduct) { q.Images = -1 }, "must be positive"},
		"odd pitch":            {func(q *kernels.PointwiseProduct) { q.Pitch = 47 }, "multiples of 8"},
		"odd columns":          {func(q *kernels.PointwiseProduct) { q.Epilogue.Columns = 12 }, "multiple of 8"},
		"gate of odd octets":   {func(q *kernels.PointwiseProduct) { q.Epilogue.Columns, q.Epilogue.Gate = 24, kernels.SimpleGate }, "multiple of 16"},
		"small input":          {func(q *kernels.PointwiseProduct) { q.X = small }, "input holds 100 bytes"},
		"small result":         {func(q *kernels.PointwiseProduct) { q.Epilogue.Y = small }, "result holds 100 bytes"},
		"unaligned weight":     {func(q *kernels.PointwiseProduct) { q.W = odd }, "not aligned"},
		"missing weight":       {func(q *kernels.PointwiseProduct) { q.W = device.Buffer{} }, "weight is missing"},
		"tile":                 {func(q *kernels.PointwiseProduct) { q.Tiling.Rows = 96 }, "tile of 96"},
		"split without buffer": {func(q *kernels.PointwiseProduct) { q.Tiling.Splits = 2 }, "partial sums"},
		"norm without epsilon": {func(q *kernels.PointwiseProduct) { q.Norm, q.Channels = kernels.LayerNorm, 48 }, "epsilon"},
		"rank":                 {func(q *kernels.PointwiseProduct) { q.LowRank.Rank = 8 }, "rank 8"},
		"two prologues": {func(q *kernels.PointwiseProduct) {
			q.Norm, q.Channels, q.Eps, q.InAffine = kernels.LayerNorm, 48, 1e-5, q.X
		}, "exclude each other"},
		"unshuffle": {func(q *kernels.PointwiseProduct) { q.Epilogue.Shuffle, q.Epilogue.Width, q.Epilogue.Height = -2, 5, 20 }, "unshuffle by 2"},
		"huge":      {func(q *kernels.PointwiseProduct) { q.Rows, q.Images = 1<<40, 1<<40 }, "too large"},
		"many images": {func(q *kernels.PointwiseProduct) {
			q.Rows, q.Images, q.Pitch, q.Epilogue.Columns = 1, 1<<17, 8, 8
			q.X.Size <<= 10
			q.Epilogue.Y.Size <<= 10
		}, "at most 65535"},
		"many rows":     {func(q *kernels.PointwiseProduct) { q.Rows = 1 << 31 }, "too many"},
		"unknown act":   {func(q *kernels.PointwiseProduct) { q.Epilogue.Act = 9 }, "activation 9"},
		"act with gate": {func(q *kernels.PointwiseProduct) { q.Epilogue.Act, q.Epilogue.Gate = kernels.GELU, kernels.GELUGate }, "gate"},
	} {
		t.Run(name, func(t *testing.T) {
			q := goodPointwise()
			s.spoil(&q)
			_, err := kernels.Pointwise(q)
			require.ErrorContains(t, err, s.want)
			require.ErrorContains(t, err, "kernel pointwise")
		})
	}
}

func TestConvolutionLauncherRejectsWindowsThatDoNotFit(t *testing.T) {
	buffer := device.Buffer{Ptr: 0x1000, Size: 1 << 20}
	good := func() kernels.ConvProduct {
		c := kernels.ConvProduct{Height: 9, Width: 8, KernelH: 3, KernelW: 3, Stride: 1, Pad: 1}
		c.X, c.Pitch, c.Images, c.W, c.Tiling = buffer, 8, 1, buffer, kernels.Tiling{Rows: 64, Splits: 1}
		c.Epilogue = kernels.Epilogue{Columns: 8, Y: buffer}
		return c
	}
	_, err := kernels.Conv(good())
	require.NoError(t, err)
	for want, spoil := range map[string]func(c *kernels.ConvProduct){
		"does not fit":     func(c *kernels.ConvProduct) { c.KernelH = 12 },
		"cannot be padded": func(c *kernels.ConvProduct) { c.Pad, c.PadMode = 8, kernels.Reflect },
		"stride":           func(c *kernels.ConvProduct) { c.Stride = 0 },
	} {
		c := good()
		spoil(&c)
		_, err := kernels.Conv(c)
		require.ErrorContains(t, err, want)
	}
}

func TestPackRejectsInconsistentWeights(t *testing.T) {
	good := kernels.ProductSource{Weight: make([]float32, 12), Filters: 3, In: []kernels.Layout{kernels.Plain(4)}, Order: kernels.PlainOrder(kernels.Plain(3))}
	_, err := good.Pack()
	require.NoError(t, err)
	for name, spoil := range map[string]func(s *kernels.ProductSource){
		"values":    func(s *kernels.ProductSource) { s.Weight = s.Weight[1:] },
		"bias":      func(s *kernels.ProductSource) { s.Bias = make([]float32, 2) },
		"order":     func(s *kernels.ProductSource) { s.Order = kernels.Order{3} },
		"norm":      func(s *kernels.ProductSource) { s.Norm = kernels.LayerNorm },
		"rank":      func(s *kernels.ProductSource) { s.Rank = 2 },
		"no inputs": func(s *kernels.ProductSource) { s.In = nil },
		"parts":     func(s *kernels.ProductSource) { s.In = []kernels.Layout{{Channels: 4, Parts: 3}} },
		"scale":     func(s *kernels.ProductSource) { s.Scale = make([]float32, 2) },
	} {
		s := good
		spoil(&s)
		_, err := s.Pack()
		require.Error(t, err, name)
	}
}

// TestLayoutPlacesEveryChannelOnce holds At and Channel together.
func TestLayoutPlacesEveryChannelOnce(t *testing.T) {
	for _, l := range []kernels.Layout{kernels.Plain(3), kernels.Plain(48), {Channels: 254, Parts: 2}, {Channels: 60, Parts: 6}, {Channels: 16}} {
		require.Zero(t, l.Pitch()%8)
		seen := map[int]bool{}
		for c := range l.Channels {
			require.Equal(t, c, l.Channel(l.At(c)))
			seen[l.At(c)] = true
		}
		require.Len(t, seen, l.Channels)
		padding := 0
		for p := range l.Pitch() {
			if l.Channel(p) < 0 {
				padding++
			}
		}
		require.Equal(t, l.Pitch()-l.Channels, padding)
	}
}

func TestTilesFillTheDevice(t *testing.T) {
	for _, s := range []struct {
		name                         string
		images, rows, columns, depth int
		split                        bool
		want                         kernels.Tiling
	}{
		{"first level of Restormer", 1, 65536, 144, 48, true, kernels.Tiling{Rows: 128, Splits: 1}},
		{"a wave all but full", 1, 128 * 128, 96, 432, true, kernels.Tiling{Rows: 128, Splits: 1}},
		{"a wave short of a tenth", 1, 118 * 128, 128, 432, true, kernels.Tiling{Rows: 64, Splits: 1}},
		{"its latent level", 1, 1024, 1152, 384, true, kernels.Tiling{Rows: 64, Splits: 1}},
		{"a transformer's tokens", 1, 50, 768, 3072, true, kernels.Tiling{Rows: 64, Splits: 11}},
		{"short depth", 1, 50, 768, 64, true, kernels.Tiling{Rows: 64, Splits: 1}},
		{"not to be split", 1, 50, 768, 3072, false, kernels.Tiling{Rows: 64, Splits: 1}},
	} {
		require.Equal(t, s.want, kernels.Tile(s.images, s.rows, s.columns, s.depth, 132, s.split), s.name)
	}
}

func TestTilesOfPixelsFitAndFillTheDevice(t *testing.T) {
	const sms, shared = 132, 227 << 10
	for _, s := range []kernels.PointwiseShape{
		{Images: 1, Rows: 65536, Columns: 144, Depth: 48, Norm: true, Splittable: true},
		{Images: 1, Rows: 1024, Columns: 1024, Depth: 512, Norm: true, Splittable: true},
		{Images: 2, Rows: 50, Columns: 768, Depth: 3072, Splittable: true},
		{Images: 1, Rows: 50, Columns: 768, Depth: 2048},
		{Images: 8, Rows: 1, Columns: 8, Depth: 8},
	} {
		d := s.Tile(sms, shared)
		require.GreaterOrEqual(t, d.Splits, 1)
		require.True(t, s.Splittable || d.Splits == 1, "%+v: %+v", s, d)
		x := device.Buffer{Ptr: 1 << 20, Size: 1 << 40}
		q := kernels.PointwiseProduct{Rows: s.Rows}
		q.X, q.W, q.Pitch, q.Images, q.Tiling, q.Epilogue = x, x, s.Depth, s.Images, d, kernels.Epilogue{Columns: s.Columns, Y: x}
		if d.Splits > 1 {
			q.Partial = x
		}
		l, err := kernels.Pointwise(q)
		require.NoError(t, err)
		require.LessOrEqual(t, l.Shape.Shared, shared)
		if s.Rows*s.Images >= 1024 {
			require.GreaterOrEqual(t, l.Shape.Grid.Count(), uint64(sms/2), "%+v: %+v", s, d)
		}
	}
	require.Zero(t, kernels.PointwiseShape{Images: 1, Rows: 64, Columns: 64, Depth: 8192}.Tile(sms, shared).Splits)
}

// TestScheduleDoesNotChangeResults runs kernels with several warps and blocks in other orders: the same bits, no findings.
func TestScheduleDoesNotChangeResults(t *testing.T) {
	const pixels, c, heads = 150, 48, 2
	x := normal(1, pixels*3*c, 0, 1)
	var first [][]float32
	for seed := range int64(4) {
		r := ownRig(t, seed)
		in, v := kernels.Plain(3*c), kernels.Plain(c)
		w, err := kernels.PackDepthwise(normal(2, 9*3*c, 0, 0.3), 9, in)
		require.NoError(t, err)
		splits := 3
		d := kernels.DepthwiseGramConv{
			X: r.rows(x, in), W: r.floats(w), V: r.emptyRows(pixels, v), Partial: r.alloc(4 * heads * splits * kernels.GramSize(c/heads)),
			Images: 1, Height: 10, Width: 15, Head: c / heads, Heads: heads, Pitch: in.Pitch(), Strip: 4, Splits: splits,
		}
		r.run(kernels.DepthwiseGram(d))
		out := r.emptyRows(40, v)
		scratch, arrived := foldMemory(r, heads, c/heads)
		runAll(r, func() ([]kernels.Launch, error) {
			return kernels.Fold(kernels.AttentionFold{
				Partial: d.Partial, Splits: splits, Temperature: r.floats([]float32{1, 2}), W: r.rows(normal(3, 40*c, 0, 0.2), v),
				Out: out, Scratch: scratch, Arrived: arrived, Images: 1, Heads: heads, Head: c / heads, Outputs: 40,
			})
		})
		q := kernels.PointwiseProduct{Rows: pixels}
		q.X, q.Pitch, q.Images, q.W, q.WStride, q.Filters = d.V, c, 1, out, 40*c, 40
		q.Tiling, q.Epilogue = kernels.Tiling{Rows: 64, Splits: 1}, kernels.Epilogue{Columns: 40, Y: r.emptyRows(pixels, kernels.Plain(40))}
		r.run(kernels.Pointwise(q))
		got := [][]float32{r.pixels(d.V, pixels, v), r.pixels(out, 40, v), r.pixels(q.Epilogue.Y, pixels, kernels.Plain(40))}
		if first == nil {
			first = got
		}
		require.Equal(t, first, got, "seed %d", seed)
	}
}
