// Package devicetest holds the tests that every implementation of [unirestorer/runtime/device] must pass. A package
// that implements it calls [Run] from its own tests.
package devicetest

import (
	"context"
	_ "embed" // the kernels
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
)

//go:generate nvcc -arch=sm_80 -ptx -o kernels.ptx kernels.cu

// kernels is the PTX of kernels.cu.
//
//go:embed kernels.ptx
var kernels []byte

// Run tests the implementation that open gives devices of. Every device is closed before Run returns; an
// implementation that has a method Live() []string must then name nothing.
func Run(t *testing.T, open func(t testing.TB) device.Device) {
	shared := []struct {
		property string
		test     func(t *testing.T, d *rig)
	}{
		{"InfoDescribesADevice", testInfo},
		{"MemoryCountsAllocations", testMemory},
		{"AllocRefusesWhatCannotBe", testAllocRefusals},
		{"MemoryIsFreedOnce", testFree},
		{"CopiesKeepEveryByte", testCopies},
		{"CopiesStayInsideBuffers", testCopyBounds},
		{"PageLockedMemoryCopies", testHostMemory},
		{"BadImagesAreNamed", testBadImages},
		{"ModuleKnowsItsKernelsAndVariables", testModule},
		{"AttributesDescribeTheKernel", testAttributes},
		{"LaunchComputesEveryElement", testLaunch},
		{"ArgumentsArriveUnchanged", testArguments},
		{"ArgumentsMayBeReusedAfterLaunch", testArgumentReuse},
		{"MissingArgumentsAreRefused", testMissingArguments},
		{"ImpossibleShapesAreRefused", testShapes},
		{"DynamicSharedMemoryNeedsPermissionAboveTheDefault", testDynamicShared},
		{"CancelledContextStopsWork", testCancelled},
		{"EventsMeasureAndOrder", testEvents},
		{"UnrecordedEventsAreRefused", testUnrecordedEvents},
		{"CaptureRunsNothingAndReplayRunsAll", testGraph},
		{"CaptureKeepsItsBounds", testCaptureMisuse},
		{"CapturedCopiesReadHostMemoryAtReplay", testGraphHostCopies},
		{"StreamsOfSeveralGoroutinesDoNotMix", testGoroutines},
	}
	t.Run("SharedDevice", func(t *testing.T) {
		d := newRig(t, open(t))
		for _, c := range shared {
			t.Run(c.property, func(t *testing.T) {
				d.T = t
				c.test(t, d)
			})
		}
	})
	t.Run("ForeignObjectsAreRefused", func(t *testing.T) { testForeign(t, open) })
	t.Run("CloseReleasesEverything", func(t *testing.T) { testClose(t, open) })
}

// rig is a device with what most tests need. Its helpers fail the test that is under way.
type rig struct {
	device.Device
	*testing.T
	mod    device.Module
	stream device.Stream
}

// newRig prepares a device; it is closed, and asked for leaks, at the end of t.
func newRig(t *testing.T, d device.Device) *rig {
	r := &rig{Device: d, T: t}
	t.Cleanup(func() { closeDevice(t, d) })
	var err error
	r.mod, err = d.LoadModule("kernels", kernels)
	require.NoError(t, err)
	r.stream, err = d.NewStream()
	require.NoError(t, err)
	return r
}

// closeDevice closes d and checks that nothing is left of it.
func closeDevice(t *testing.T, d device.Device) {
	require.NoError(t, d.Close())
	if owner, ok := d.(interface{ Live() []string }); ok {
		require.Empty(t, owner.Live())
	}
}

func (r *rig) function(name string) device.Function {
	f, err := r.mod.Function(name)
	require.NoError(r, err)
	return f
}

// alloc returns memory that is freed at the end of the test.
func (r *rig) alloc(size int) device.Buffer {
	b, err := r.Alloc(int64(size))
	require.NoError(r, err)
	r.Cleanup(func() { require.NoError(r, r.Free(b)) })
	return b
}

// upload returns memory with the given content, freed at the end of the test.
func (r *rig) upload(content []byte) device.Buffer {
	b := r.alloc(len(content))
	require.NoError(r, r.stream.CopyHtoD(b, content))
	return b
}

// download waits for the stream and returns the content of b.
func (r *rig) download(b device.Buffer) []byte {
	out := make([]byte, b.Size)
	require.NoError(r, r.stream.CopyDtoH(out, b))
	r.sync()
	return out
}

func (r *rig) sync() { require.NoError(r, r.stream.Synchronize(context.Background())) }

func (r *rig) slice(b device.Buffer, off, n int) device.Buffer {
	s, err := b.Slice(int64(off), int64(n))
	require.NoError(r, err)
	return s
}

func (r *rig) newStream() device.Stream {
	s, err := r.NewStream()
	require.NoError(r, err)
	r.Cleanup(func() { require.NoError(r, s.Close()) })
	return s
}

func (r *rig) event() device.Event {
	e, err := r.NewEvent()
	require.NoError(r, err)
	r.Cleanup(func() { require.NoError(r, e.Close()) })
	return e
}

func (r *rig) hostMemory(size int) []byte {
	h, err := r.AllocHost(size)
	require.NoError(r, err)
	r.Cleanup(func() { require.NoError(r, h.Free()) })
	require.Len(r, h.Bytes(), size)
	return h.Bytes()
}

// scale enqueues y = a·x.
func (r *rig) scale(on device.Stream, y, x device.Buffer, a float32) {
	n := int(x.Size / 4)
	var args device.Args
	args.Buf(y).Buf(x).I32(int32(n)).F32(a)
	shape := device.Shape{Grid: device.D1((n + 63) / 64), Block: device.D1(64)}
	require.NoError(r, on.Launch(context.Background(), r.function("scale"), shape, &args))
}

// ramp is the n numbers from from upwards, as fp32.
func ramp(from float32, n int) []byte {
	var b []byte
	for i := range n {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(from+float32(i)))
	}
	return b
}

func floats(b []byte) []float32 {
	out := make([]float32, len(b)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return out
}

// scaled is ramp(from, n) times a, as numbers.
func scaled(from float32, n int, a float32) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = a * (from + float32(i))
	}
	return out
}
