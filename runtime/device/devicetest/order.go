package devicetest

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
)

func testEvents(t *testing.T, d *rig) {
	start, end := d.event(), d.event()
	x, y, z := d.upload(ramp(1, 5000)), d.alloc(20000), d.alloc(20000)
	require.NoError(t, d.stream.Record(start))
	d.scale(d.stream, y, x, 2)
	require.NoError(t, d.stream.Record(end))

	second := d.newStream()
	require.NoError(t, second.Wait(end))
	d.scale(second, z, y, 3)
	require.NoError(t, second.Synchronize(background))
	require.Equal(t, scaled(1, 5000, 6), floats(d.download(z)), "the second stream did not wait")

	require.NoError(t, end.Synchronize(background))
	took, err := end.Since(start)
	require.NoError(t, err)
	require.Positive(t, took)
	took, err = end.Since(end)
	require.NoError(t, err)
	require.Zero(t, took)

	cancelled, cancel := context.WithCancel(background)
	cancel()
	require.ErrorIs(t, end.Synchronize(cancelled), context.Canceled)
}

func testUnrecordedEvents(t *testing.T, d *rig) {
	set, unset := d.event(), d.event()
	require.NoError(t, d.stream.Record(set))
	d.sync()
	require.Error(t, unset.Synchronize(background))
	_, err := unset.Since(set)
	require.Error(t, err)
	_, err = set.Since(unset)
	require.Error(t, err)
	require.Error(t, d.stream.Wait(unset))
	d.sync() // the stream works on
}

func testGraph(t *testing.T, d *rig) {
	x, y, z := d.upload(ramp(1, 100)), d.alloc(400), d.upload(ramp(0, 100))
	d.sync()
	require.NoError(t, d.stream.BeginCapture())
	require.NoError(t, d.stream.Memset(y, 0))
	d.scale(d.stream, y, x, 2)
	d.scale(d.stream, x, y, 1)
	require.NoError(t, d.stream.CopyDtoD(z, x))
	g, err := d.stream.EndCapture()
	require.NoError(t, err)
	require.Equal(t, 4, g.Nodes())
	require.Equal(t, scaled(0, 100, 1), floats(d.download(z)), "capturing ran the work")

	e, err := g.Instantiate()
	require.NoError(t, err)
	require.NoError(t, g.Close())
	require.NoError(t, g.Close(), "closing twice is harmless")
	for range 3 {
		require.NoError(t, e.Launch(background, d.stream))
	}
	require.Equal(t, scaled(1, 100, 8), floats(d.download(z)))

	second := d.newStream()
	require.NoError(t, e.Launch(background, second))
	require.NoError(t, second.Synchronize(background))
	require.Equal(t, scaled(1, 100, 16), floats(d.download(z)), "on another stream")

	cancelled, cancel := context.WithCancel(background)
	cancel()
	require.ErrorIs(t, e.Launch(cancelled, d.stream), context.Canceled)
	require.NoError(t, e.Close())
	require.NoError(t, e.Close(), "closing twice is harmless")
}

func testCaptureMisuse(t *testing.T, d *rig) {
	_, err := d.stream.EndCapture()
	require.Error(t, err)

	x := d.upload(ramp(1, 10))
	d.sync()
	require.NoError(t, d.stream.BeginCapture())
	require.Error(t, d.stream.BeginCapture())
	require.Error(t, d.stream.Synchronize(background))
	d.scale(d.stream, x, x, 2)
	g, err := d.stream.EndCapture()
	require.NoError(t, err, "the capture survives the misuse")
	require.Equal(t, 1, g.Nodes())
	require.NoError(t, g.Close())
	require.Equal(t, scaled(1, 10, 1), floats(d.download(x)))

	require.NoError(t, d.stream.BeginCapture())
	g, err = d.stream.EndCapture()
	require.NoError(t, err)
	require.Zero(t, g.Nodes())
	require.NoError(t, g.Close())

	s, err := d.NewStream()
	require.NoError(t, err)
	require.NoError(t, s.BeginCapture())
	require.NoError(t, s.Close(), "a stream may be closed while it is captured")
	require.NoError(t, s.Close(), "closing twice is harmless")
}

func testGraphHostCopies(t *testing.T, d *rig) {
	in, out := d.hostMemory(400), d.hostMemory(400)
	x, y := d.alloc(400), d.alloc(400)
	require.NoError(t, d.stream.BeginCapture())
	require.NoError(t, d.stream.CopyHtoD(x, in))
	d.scale(d.stream, y, x, 2)
	require.NoError(t, d.stream.CopyDtoH(out, y))
	g, err := d.stream.EndCapture()
	require.NoError(t, err)
	e, err := g.Instantiate()
	require.NoError(t, err)
	for _, from := range []float32{1, 1000} {
		copy(in, ramp(from, 100))
		require.NoError(t, e.Launch(background, d.stream))
		d.sync()
		require.Equal(t, scaled(from, 100, 2), floats(out))
	}
	require.NoError(t, e.Close())
	require.NoError(t, g.Close())
}

func testGoroutines(t *testing.T, d *rig) {
	const rounds, n = 20, 257
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			// require would end the wrong goroutine.
			s, err := d.NewStream()
			if !assert.NoError(t, err) {
				return
			}
			for round := range rounds {
				from := float32(1000*worker + round)
				x, err := d.Alloc(4 * n)
				assert.NoError(t, err)
				assert.NoError(t, s.CopyHtoD(x, ramp(from, n)))
				f, err := d.mod.Function("scale")
				assert.NoError(t, err)
				var args device.Args
				args.Buf(x).Buf(x).I32(n).F32(2)
				assert.NoError(t, s.Launch(background, f, device.Shape{Grid: device.D1(5), Block: device.D1(64)}, &args))
				got := make([]byte, 4*n)
				assert.NoError(t, s.CopyDtoH(got, x))
				assert.NoError(t, s.Synchronize(background))
				assert.Equal(t, scaled(from, n, 2), floats(got))
				assert.NoError(t, d.Free(x))
			}
			assert.NoError(t, s.Close())
		})
	}
	wg.Wait()
}
