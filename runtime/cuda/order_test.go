//go:build cuda && linux

package cuda_test

import (
	"context"
	"encoding/binary"
	"math"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"unirestorer/runtime/cuda"
	"unirestorer/runtime/device"
)

// restless makes the simulated driver take its time whenever a context becomes current, 0 for no longer; a card's has no
// such thing.
var restless = func(time.Duration) {}

// The context that is current on the thread when an operation comes may be anyone's.
func TestOperationsSelectTheirContext(t *testing.T) {
	infos := gpus(t)
	if len(infos) < 2 {
		t.Skip("needs two GPUs")
	}
	b, other := newBench(t, open(t, 0, cuda.Options{})), open(t, 1, cuda.Options{})
	require.NoError(t, b.stream.BeginCapture())
	require.NoError(t, b.launch(b.stream, 1))
	g, err := b.stream.EndCapture()
	require.NoError(t, err)
	exec, err := g.Instantiate()
	require.NoError(t, err)

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, operation := range []func() error{
		func() error { return b.launch(b.stream, 1) },
		func() error { return exec.Launch(background, b.stream) },
		func() error { return b.stream.Synchronize(background) },
		func() error { return b.stream.Memset(b.x, 0) },
	} {
		_, _, err := other.Memory() // its context is current now
		require.NoError(t, err)
		require.NoError(t, operation())
	}
	require.Zero(t, b.value(t))
}

// A goroutine that is not locked to its thread may move to another one, with another context, in the middle of an
// operation.
func TestGoroutinesMayMoveBetweenThreads(t *testing.T) {
	infos := gpus(t)
	var devices []device.Device
	for i := range infos {
		devices = append(devices, open(t, i, cuda.Options{}))
	}
	restless(500 * time.Microsecond)
	defer restless(0)
	var wg sync.WaitGroup
	for i := range 8 * runtime.GOMAXPROCS(0) {
		d := devices[i%len(devices)]
		wg.Go(func() {
			for range 10 {
				b, err := d.Alloc(256)
				if assert.NoError(t, err) {
					assert.NoError(t, d.Free(b))
				}
			}
		})
	}
	wg.Wait()
}

func TestClosingAStreamWaitsForItsWork(t *testing.T) {
	gpus(t)
	b := newBench(t, open(t, 0, cuda.Options{}))
	s, err := b.NewStream()
	require.NoError(t, err)
	require.NoError(t, b.launch(s, 5))
	require.NoError(t, s.Close())
	require.EqualValues(t, 5, b.value(t), "another stream sees it")

	s, err = b.NewStream()
	require.NoError(t, err)
	require.NoError(t, b.launch(s, 1))
	require.NoError(t, s.Close())
	require.NoError(t, b.Free(b.x), "nothing uses the memory any more")
}

// The memory of a copy is the stream's until it is synchronized, even if the program forgets it.
func TestCopiesKeepHostMemoryReachable(t *testing.T) {
	gpus(t)
	b := newBench(t, open(t, 0, cuda.Options{}))
	const n = 1 << 16
	x, err := b.Alloc(n)
	require.NoError(t, err)
	require.NoError(t, b.stream.CopyHtoD(x, filled(n, 7)))
	runtime.GC()
	for range 100 {
		filled(n, 9) // would take the place of what was collected
	}
	got := make([]byte, n)
	require.NoError(t, b.stream.CopyDtoH(got, x))
	require.NoError(t, b.stream.Synchronize(background))
	require.Equal(t, filled(n, 7), got)

	require.NoError(t, b.stream.CopyDtoH(make([]byte, n), x)) // nobody looks at it
	require.NoError(t, b.stream.Synchronize(background))
}

func filled(n int, v byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = v
	}
	return b
}

func TestEventsOrderStreams(t *testing.T) {
	gpus(t)
	b := newBench(t, open(t, 0, cuda.Options{}))
	s, err := b.NewStream()
	require.NoError(t, err)
	e, err := b.NewEvent()
	require.NoError(t, err)
	for i := range 4 {
		require.NoError(t, b.launch(b.stream, 1))
		require.NoError(t, b.stream.Record(e))
		require.NoError(t, s.Wait(e))
		require.NoError(t, b.launch(s, 1))
		require.NoError(t, s.Record(e))
		require.NoError(t, b.stream.Wait(e))
		require.EqualValues(t, 2*(i+1), b.value(t))
	}
}

// A wait that was given up says nothing of the work: it goes on, and the next wait is for it too.
func TestWorkOutlivesAWaitThatWasGivenUp(t *testing.T) {
	gpus(t)
	b := newBench(t, open(t, 0, cuda.Options{}))
	h, err := b.AllocHost(4)
	require.NoError(t, err)
	require.NoError(t, b.launch(b.stream, 2))
	require.NoError(t, b.stream.CopyDtoH(h.Bytes(), b.x))
	ctx, cancel := context.WithCancel(background)
	cancel()
	require.ErrorIs(t, b.stream.Synchronize(ctx), context.Canceled)
	require.NoError(t, b.stream.Synchronize(background))
	require.EqualValues(t, 2, math.Float32frombits(binary.LittleEndian.Uint32(h.Bytes())))
}
