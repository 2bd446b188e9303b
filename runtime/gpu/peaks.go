package gpu

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"unirestorer/graph"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/device"
)

// Peaks measures what the device reaches at best: operations a second in a
// large product of fp16 matrices on the backend's own kernel, a multiply-add
// counted as two, and bytes a second, read and written, in a large copy.
func (b *Backend) Peaks(ctx context.Context) (operations, bytes float64, err error) {
	if b.info.Simulated {
		return 0, 0, errors.New("a simulated device has no peaks")
	}
	const side, channels, most = 128, 4096, 1 << 30
	if operations, err = b.productRate(ctx, side, channels); err != nil {
		return 0, 0, fmt.Errorf("time a large product: %w", err)
	}
	if bytes, err = b.copyRate(ctx, most); err != nil {
		return 0, 0, fmt.Errorf("time a large copy: %w", err)
	}
	return operations, bytes, nil
}

// repeats of each measurement; the fastest counts.
const repeats = 20

// productRate times a product of side² rows with a square matrix.
func (b *Backend) productRate(ctx context.Context, side, channels int) (float64, error) {
	k := graph.NewBuilder("peak", nil)
	x := k.Input("x", graph.Shape{N: 1, H: side, W: side, C: 8}, graph.NHWC)
	values := func(name string, dims ...int) *graph.Param {
		return graph.NewParam(name, dims, nil, func(dst []float32) error {
			for i := range dst { // no two alike, as power depends on the bits that change
				dst[i] = float32(math.Sin(float64(i))) / 64
			}
			return nil
		})
	}
	x = k.Conv("widen", graph.Conv{X: x, Weight: values("widen", channels, 8)})
	k.Output("y", k.Conv("narrow", graph.Conv{
		X: k.Conv("product", graph.Conv{X: x, Weight: values("product", channels, channels)}), Weight: values("narrow", 8, channels),
	}), graph.NHWC)
	g, err := k.Build()
	if err != nil {
		return 0, err
	}
	p, err := b.Compile(ctx, g)
	if err != nil {
		return 0, err
	}
	in, out := make([]float32, side*side*8), make([]float32, side*side*8)
	for i := range in {
		in[i] = float32(math.Cos(float64(i)))
	}
	best := time.Duration(math.MaxInt64)
	opt := backend.RunOptions{Node: func(n *graph.Node, took time.Duration) {
		if n.Name == "product" {
			best = min(best, took)
		}
	}}
	for range repeats {
		if err := p.Run(ctx, [][]float32{in}, [][]float32{out}, opt); err != nil {
			return 0, errors.Join(err, p.Close())
		}
	}
	macs := float64(side*side) * float64(channels*channels)
	return 2 * macs / best.Seconds(), p.Close()
}

// copyRate times a copy of so many bytes, or of what there is room for.
func (b *Backend) copyRate(ctx context.Context, most int64) (rate float64, err error) {
	free, _, err := b.dev.Memory()
	if err != nil {
		return 0, err
	}
	size := min(most, free/4) &^ (alignment - 1)
	var buffers [2]device.Buffer
	for i := range buffers {
		buf, err := b.dev.Alloc(size)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, b.dev.Free(buf)) }()
		buffers[i] = buf
	}
	s, err := b.dev.NewStream()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	t, err := newTimer(b.dev)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	if err := s.Memset(buffers[1], 0x3c); err != nil {
		return 0, err
	}
	best := time.Duration(math.MaxInt64)
	for range repeats {
		took, err := t.time(ctx, s, func() error { return s.CopyDtoD(buffers[0], buffers[1]) })
		if err != nil {
			return 0, err
		}
		best = min(best, took)
	}
	return 2 * float64(size) / best.Seconds(), nil
}
