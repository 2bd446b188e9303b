package gpu

import (
	"context"
	"math"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph"
	"unirestorer/graph/graphtest"
	"unirestorer/runtime/backend"
	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// newBackend is a backend on a simulator that checks every access.
func newBackend(t testing.TB, opts Options) *Backend {
	t.Helper()
	return backendOn(t, newSimulator(t), opts)
}

func newSimulator(t testing.TB) *ptxsim.Device {
	t.Helper()
	dev, err := ptxsim.New(ptxsim.Options{Memory: 1 << 30})
	require.NoError(t, err)
	return dev
}

func backendOn(t testing.TB, dev device.Device, opts Options) *Backend {
	t.Helper()
	b, err := New(dev, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func compile(t testing.TB, b *Backend, g *graph.Graph) *Program {
	t.Helper()
	p, err := b.Compile(context.Background(), g)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p.(*Program)
}

// run runs a program on an arena that counts as never written, so that
// whatever is read before it is written is an error.
func run(t testing.TB, p *Program, inputs [][]float32) [][]float32 {
	t.Helper()
	return runWith(t, p, inputs, backend.RunOptions{})
}

func runWith(t testing.TB, p *Program, inputs [][]float32, opt backend.RunOptions) [][]float32 {
	t.Helper()
	if dev, ok := p.backend.dev.(*ptxsim.Device); ok {
		require.NoError(t, p.backend.arena.enter(t.Context()))
		require.NoError(t, p.bind())
		require.NoError(t, dev.Poison(p.backend.arena.memory))
		p.backend.arena.leave()
	}
	outputs := newOutputs(p.Graph())
	require.NoError(t, p.Run(context.Background(), inputs, outputs, opt))
	return outputs
}

func newOutputs(g *graph.Graph) [][]float32 {
	outputs := make([][]float32, len(g.Outputs))
	for i, p := range g.Outputs {
		outputs[i] = make([]float32, p.Shape.Elems())
		for j := range outputs[i] {
			outputs[i][j] = float32(math.NaN())
		}
	}
	return outputs
}

func wave(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(math.Sin(float64(i * i)))
	}
	return v
}

func param(t testing.TB, name string, dims ...int) *graph.Param {
	t.Helper()
	n := 1
	for _, d := range dims {
		n *= d
	}
	p, err := graph.Const(name, dims, wave(n))
	require.NoError(t, err)
	return p
}

// requireHalf compares with what fp16 storage of operands and results may
// cost, relative to the norm of the result: each rounding is at most 2⁻¹¹, and
// those of many products average out. Chains round some ten times more.
func requireHalf(t testing.TB, want, got [][]float32, chain bool) {
	t.Helper()
	limit := 1.5e-3
	if chain {
		limit = 4e-3
	}
	require.Len(t, got, len(want))
	for i := range want {
		d := graphtest.Compare(got[i], want[i])
		require.LessOrEqual(t, d.Relative, limit, "output %d: %v", i, d)
		require.LessOrEqual(t, d.MaxAbs, 4*limit*max(d.Peak, 0.1), "output %d: %v", i, d)
	}
}

// watched is a device that counts and can be made to fail.
type watched struct {
	device.Device
	allocs, syncs, launches, replays atomic.Int64
	// failAlloc and failLaunch, when set, decide from the count.
	failAlloc  func(n int64) error
	failLaunch func(n int64) error
	failReplay error
	// onSync, when set, is called before a stream is waited for.
	onSync func()
	info   func(device.Info) device.Info
}

func (d *watched) Info() device.Info {
	if d.info != nil {
		return d.info(d.Device.Info())
	}
	return d.Device.Info()
}

func (d *watched) Alloc(size int64) (device.Buffer, error) {
	if n := d.allocs.Add(1); d.failAlloc != nil {
		if err := d.failAlloc(n); err != nil {
			return device.Buffer{}, err
		}
	}
	return d.Device.Alloc(size)
}

func (d *watched) NewStream() (device.Stream, error) {
	s, err := d.Device.NewStream()
	return &watchedStream{s, d}, err
}

type watchedStream struct {
	device.Stream
	dev *watched
}

func (s *watchedStream) Launch(ctx context.Context, f device.Function, shape device.Shape, args *device.Args) error {
	if n := s.dev.launches.Add(1); s.dev.failLaunch != nil {
		if err := s.dev.failLaunch(n); err != nil {
			return &device.LaunchError{Kernel: f.Name(), Shape: shape, Err: err}
		}
	}
	return s.Stream.Launch(ctx, f, shape, args)
}

func (s *watchedStream) Synchronize(ctx context.Context) error {
	s.dev.syncs.Add(1)
	if s.dev.onSync != nil {
		s.dev.onSync()
	}
	return s.Stream.Synchronize(ctx)
}

// EndCapture gives a graph whose instances find the stream inside.
func (s *watchedStream) EndCapture() (device.Graph, error) {
	g, err := s.Stream.EndCapture()
	if err != nil {
		return nil, err
	}
	return watchedGraph{g, s.dev}, nil
}

type watchedGraph struct {
	device.Graph
	dev *watched
}

func (g watchedGraph) Instantiate() (device.Exec, error) {
	e, err := g.Graph.Instantiate()
	return &watchedExec{e, g.dev}, err
}

type watchedExec struct {
	device.Exec
	dev *watched
}

func (e *watchedExec) Launch(ctx context.Context, s device.Stream) error {
	if e.dev.failReplay != nil {
		return e.dev.failReplay
	}
	e.dev.replays.Add(1)
	return e.Exec.Launch(ctx, s.(*watchedStream).Stream)
}

// requireSame compares bit by bit and prints no more than where results
// differ.
func requireSame(t testing.TB, want, got [][]float32, what string) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		require.Len(t, got[i], len(want[i]))
		for j := range want[i] {
			if math.Float32bits(want[i][j]) != math.Float32bits(got[i][j]) {
				t.Fatalf("%s: output %d at %d: %g instead of %g", what, i, j, got[i][j], want[i][j])
			}
		}
	}
}
