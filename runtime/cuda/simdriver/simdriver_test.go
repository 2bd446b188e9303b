//go:build cuda && cudasim && linux

package simdriver_test

import (
	"encoding/binary"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"gorgonia.org/cu"

	"unirestorer/runtime/cuda/internal/cuext"
	"unirestorer/runtime/cuda/simdriver"
	"unirestorer/runtime/device"
)

// axpyPTX has axpy(y, x, a, n): y[i] += a·x[i] for i < n, and poke(p): *p = 1.
const axpyPTX = `
.version 8.4
.target sm_80
.address_size 64
.visible .entry axpy(.param .u64 y, .param .u64 x, .param .f32 a, .param .u32 n)
{
	.reg .pred %p<2>;
	.reg .f32 %f<5>;
	.reg .b32 %r<6>;
	.reg .b64 %rd<6>;
	mov.u32 %r1, %ctaid.x;
	mov.u32 %r2, %ntid.x;
	mov.u32 %r3, %tid.x;
	mad.lo.s32 %r4, %r1, %r2, %r3;
	ld.param.u32 %r5, [n];
	setp.ge.s32 %p1, %r4, %r5;
	@%p1 bra DONE;
	ld.param.u64 %rd1, [y];
	ld.param.u64 %rd2, [x];
	ld.param.f32 %f1, [a];
	mul.wide.s32 %rd3, %r4, 4;
	add.s64 %rd4, %rd1, %rd3;
	add.s64 %rd5, %rd2, %rd3;
	ld.global.f32 %f2, [%rd4];
	ld.global.f32 %f3, [%rd5];
	fma.rn.f32 %f4, %f1, %f3, %f2;
	st.global.f32 [%rd4], %f4;
DONE:
	ret;
}
.visible .entry poke(.param .u64 p)
{
	.reg .b64 %rd<2>;
	.reg .b32 %r<2>;
	ld.param.u64 %rd1, [p];
	mov.u32 %r1, 1;
	st.global.u32 [%rd1], %r1;
	ret;
}
`

// retain makes the primary context of GPU n current on the test's thread until the test ends.
func retain(t *testing.T, n int) (cu.Device, cu.CUContext) {
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	d, err := cu.GetDevice(n)
	require.NoError(t, err)
	ctx, err := d.RetainPrimaryCtx()
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, cu.SetCurrentContext(cu.CUContext{}))
		require.NoError(t, d.ReleasePrimaryCtx())
	})
	require.NoError(t, cu.SetCurrentContext(ctx))
	return d, ctx
}

func functions(t *testing.T) (axpy, poke cu.Function) {
	m, err := cu.LoadDataEx(axpyPTX)
	require.NoError(t, err)
	axpy, err = m.Function("axpy")
	require.NoError(t, err)
	poke, err = m.Function("poke")
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Unload() }) // refused after a fault
	return axpy, poke
}

func floats(v ...float32) []byte {
	var b []byte
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return b
}

// upload returns device memory with the given content, freed at the end of the test.
func upload(t *testing.T, content []byte) cu.DevicePtr {
	p, err := cu.MemAlloc(int64(len(content)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = cu.MemFree(p) }) // refused after a fault
	require.NoError(t, cu.MemcpyHtoD(p, unsafe.Pointer(&content[0]), int64(len(content))))
	return p
}

func download(t *testing.T, p cu.DevicePtr, n int) []byte {
	b := make([]byte, n)
	require.NoError(t, cu.MemcpyDtoH(unsafe.Pointer(&b[0]), p, int64(n)))
	return b
}

func stream(t *testing.T) cu.Stream {
	s, err := cu.MakeStream(cu.NonBlocking)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Destroy() }) // refused after a fault
	return s
}

// requireResult checks that err is the CUDA result named name.
func requireResult(t *testing.T, name string, err error) {
	t.Helper()
	require.Error(t, err)
	if r, ok := err.(cuext.Result); ok {
		require.Equal(t, name, r.Error())
		return
	}
	require.Equal(t, name, err.Error()) // in cu's spelling
}

func TestKernelParametersArriveThroughCU(t *testing.T) {
	retain(t, 0)
	axpy, _ := functions(t)
	y, x := upload(t, floats(1, 2, 3)), upload(t, floats(10, 20, 30))
	// cu reads eight bytes for every argument, whatever its size.
	a, n := uint64(math.Float32bits(0.5)), uint64(3)
	args := []unsafe.Pointer{unsafe.Pointer(&y), unsafe.Pointer(&x), unsafe.Pointer(&a), unsafe.Pointer(&n)}
	require.NoError(t, axpy.Launch(2, 1, 1, 2, 1, 1, 0, cu.NoStream, args))
	require.NoError(t, cu.Synchronize())
	require.Equal(t, floats(6, 12, 18), download(t, y, 12))
}

func TestDevicesDiffer(t *testing.T) {
	n, err := cu.NumDevices()
	require.NoError(t, err)
	require.Equal(t, 2, n)
	uuids := map[string]bool{}
	for i, arch := range []int{90, 80} {
		d, err := cu.GetDevice(i)
		require.NoError(t, err)
		major, minor, err := d.ComputeCapability()
		require.NoError(t, err)
		require.Equal(t, arch, 10*major+minor)
		uuid, err := d.UUID()
		require.NoError(t, err)
		uuids[uuid.String()] = true
		name, err := d.Name()
		require.NoError(t, err)
		require.Contains(t, name, "Simulated GPU")
	}
	require.Len(t, uuids, 2)
	_, err = cu.GetDevice(2)
	requireResult(t, "InvalidDevice", err)
	require.Equal(t, 12040, cu.Version())
}

func TestWithoutACurrentContextNothingWorks(t *testing.T) {
	_, ctx := retain(t, 0)
	axpy, _ := functions(t)
	require.NoError(t, cu.SetCurrentContext(cu.CUContext{}))
	_, err := cu.MemAlloc(16)
	requireResult(t, "InvalidContext", err)
	requireResult(t, "InvalidContext", cu.Synchronize())
	requireResult(t, "InvalidContext", axpy.Launch(1, 1, 1, 1, 1, 1, 0, cu.NoStream, make([]unsafe.Pointer, 0)))

	other := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends
		_, err := cu.MemAlloc(16)
		other <- err
	}()
	requireResult(t, "InvalidContext", <-other)
	require.NoError(t, cu.SetCurrentContext(ctx))
	require.NoError(t, cu.Synchronize())
}

func TestHandlesOfAnotherContextAreRefused(t *testing.T) {
	_, first := retain(t, 0)
	s := stream(t)
	axpy, _ := functions(t)
	x := upload(t, floats(1))
	_, second := retain(t, 1)
	requireResult(t, "InvalidHandle", s.Synchronize())
	requireResult(t, "InvalidHandle", axpy.Launch(1, 1, 1, 1, 1, 1, 0, cu.NoStream, nil))
	requireResult(t, "InvalidValue", cu.MemFree(x))
	require.False(t, first == second)
	require.NoError(t, cu.SetCurrentContext(first))
	require.NoError(t, s.Synchronize())
}

func TestFreedThingsAreRefused(t *testing.T) {
	retain(t, 0)
	p, err := cu.MemAlloc(16)
	require.NoError(t, err)
	require.NoError(t, cu.MemFree(p))
	requireResult(t, "InvalidValue", cu.MemFree(p))
	s, err := cu.MakeStream(cu.DefaultStream)
	require.NoError(t, err)
	again := s
	require.NoError(t, s.Destroy())
	requireResult(t, "InvalidHandle", again.Synchronize())
	requireResult(t, "InvalidHandle", again.Destroy())
}

// alone runs the test in a process of its own, whose driver it may ruin, and reports whether this is that process.
func alone(t *testing.T) bool {
	const variable = "SIMDRIVER_TEST_ALONE"
	if os.Getenv(variable) != "" {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v")
	cmd.Env = append(os.Environ(), variable+"=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name())
	return false
}

func TestFaultShowsLaterAndStays(t *testing.T) {
	if !alone(t) {
		return
	}
	runtime.LockOSThread()
	d, err := cu.GetDevice(0)
	require.NoError(t, err)
	ctx, err := d.RetainPrimaryCtx()
	require.NoError(t, err)
	require.NoError(t, cu.SetCurrentContext(ctx))
	m, err := cu.LoadDataEx(axpyPTX)
	require.NoError(t, err)
	poke, err := m.Function("poke")
	require.NoError(t, err)
	wild := cu.DevicePtr(0x1234)
	require.NoError(t, poke.Launch(1, 1, 1, 1, 1, 1, 0, cu.NoStream, []unsafe.Pointer{unsafe.Pointer(&wild)}))
	for range 2 {
		requireResult(t, "IllegalAddress", cu.Synchronize())
		_, err := cu.MemAlloc(16)
		requireResult(t, "IllegalAddress", err)
	}
	name, text := cuext.Describe(700)
	require.Equal(t, "CUDA_ERROR_ILLEGAL_ADDRESS", name)
	require.Contains(t, text, "an illegal memory access was encountered (")
	require.Contains(t, text, "poke", "what the simulator found is part of the text")
	require.Len(t, simdriver.Findings(), 1)

	require.NoError(t, d.ReleasePrimaryCtx())
	for i := range 2 {
		d, err := cu.GetDevice(i)
		require.NoError(t, err)
		_, err = d.RetainPrimaryCtx()
		requireResult(t, "IllegalAddress", err)
	}
}

func TestCaptureRules(t *testing.T) {
	retain(t, 0)
	axpy, _ := functions(t)
	s := stream(t)
	x := upload(t, floats(1))

	require.NoError(t, cuext.BeginCapture(s))
	requireResult(t, "StreamCaptureUnsupported", s.Synchronize())
	_, err := cuext.EndCapture(s)
	requireResult(t, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", err)

	_, err = cuext.EndCapture(s)
	requireResult(t, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", err)

	require.NoError(t, cuext.BeginCapture(s))
	capturing, err := cuext.IsCapturing(s)
	require.NoError(t, err)
	require.True(t, capturing)
	a, n := uint64(math.Float32bits(1)), uint64(1)
	require.NoError(t, axpy.Launch(1, 1, 1, 1, 1, 1, 0, s, []unsafe.Pointer{unsafe.Pointer(&x), unsafe.Pointer(&x), unsafe.Pointer(&a), unsafe.Pointer(&n)}))
	e, err := cu.MakeEvent(cu.DefaultEvent)
	require.NoError(t, err)
	require.NoError(t, e.Record(s))
	requireResult(t, "CapturedEvent", e.Synchronize())
	g, err := cuext.EndCapture(s)
	require.NoError(t, err)
	work, err := cuext.CountWork(g)
	require.NoError(t, err)
	require.Equal(t, 1, work)
	require.NoError(t, g.Destroy())
	require.NoError(t, cu.DestroyEvent(&e))
	require.Equal(t, floats(1), download(t, x, 4))
}

func TestWhatIsNotSimulatedSaysSo(t *testing.T) {
	retain(t, 0)
	requireResult(t, "NotSupported", cu.SetLimit(cu.StackSize, 1024))
	_, err := cu.MakeGraph()
	requireResult(t, "NotSupported", err)
	d, err := cu.GetDevice(0)
	require.NoError(t, err)
	_, err = d.Attribute(cu.PciBusID)
	requireResult(t, "InvalidValue", err)
}

func TestLeaksAreReported(t *testing.T) {
	simdriver.Leaked() // of other tests
	d, err := cu.GetDevice(0)
	require.NoError(t, err)
	ctx, err := d.RetainPrimaryCtx()
	require.NoError(t, err)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	require.NoError(t, cu.SetCurrentContext(ctx))
	_, err = cu.MemAlloc(48)
	require.NoError(t, err)
	_, err = cuext.HostAlloc(12)
	require.NoError(t, err)
	_, err = cu.MakeStream(cu.NonBlocking)
	require.NoError(t, err)
	require.NoError(t, d.ReleasePrimaryCtx())
	require.Equal(t, []string{"12 bytes of page-locked memory", "48 bytes of device memory", "stream"}, simdriver.Leaked())
	require.Empty(t, simdriver.Leaked())
	requireResult(t, "InvalidContext", d.ReleasePrimaryCtx())
	requireResult(t, "InvalidContext", cu.Synchronize())
}

func TestCooperativeLaunchesRunAllBlocksTogether(t *testing.T) {
	_, ctx := retain(t, 0)
	ptx, err := os.ReadFile("../../ptxsim/testdata/cooperative.ptx")
	require.NoError(t, err)
	m, err := cu.LoadDataEx(string(ptx))
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Unload() }) // refused after a fault
	f, err := m.Function("mirrored")
	require.NoError(t, err)
	s := stream(t)
	x, part, y := upload(t, floats(1, 2, 3, 4, 5, 6)), upload(t, make([]byte, 24)), upload(t, make([]byte, 24))
	var args []byte
	for _, p := range []cu.DevicePtr{x, part, y} {
		args = binary.LittleEndian.AppendUint64(args, uint64(p))
	}
	shape := device.Shape{Grid: device.D1(3), Block: device.D1(2), Cooperative: true}
	require.NoError(t, cuext.Launch(ctx, f, &shape, s, args, false))
	require.NoError(t, s.Synchronize())
	require.Equal(t, floats(12, 10, 8, 6, 4, 2), download(t, y, 24))
	shape.Grid.X = 1 << 20
	requireResult(t, "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE", cuext.Launch(ctx, f, &shape, s, args, false))
	shape.Grid.X, shape.Cooperative = 3, false
	require.NoError(t, cuext.Launch(ctx, f, &shape, s, args, false))
	require.Error(t, s.Synchronize(), "an ordinary launch of a grid with barriers")
}
