//go:build cuda && linux

package cuda_test

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"unirestorer/runtime/cuda"
	"unirestorer/runtime/device"
)

var background = context.Background()

// addPTX has add(x, v): *x += v, for an fp32 x on one thread, and poke(x, i): x[i] = 1.
const addPTX = `
.version 8.4
.target sm_80
.address_size 64
.visible .entry add(.param .u64 x, .param .f32 v)
{
	.reg .f32 %f<4>;
	.reg .b64 %rd<2>;
	ld.param.u64 %rd1, [x];
	ld.param.f32 %f1, [v];
	ld.global.f32 %f2, [%rd1];
	add.f32 %f3, %f2, %f1;
	st.global.f32 [%rd1], %f3;
	ret;
}
.visible .entry poke(.param .u64 x, .param .u64 i)
{
	.reg .b64 %rd<4>;
	.reg .b32 %r<2>;
	ld.param.u64 %rd1, [x];
	ld.param.u64 %rd2, [i];
	add.s64 %rd3, %rd1, %rd2;
	mov.u32 %r1, 1;
	st.global.u32 [%rd3], %r1;
	ret;
}
`

var one = device.Shape{Grid: device.D1(1), Block: device.D1(1)}

// bench is a device with a stream, a number in its memory and the kernels of addPTX.
type bench struct {
	device.Device
	stream    device.Stream
	x         device.Buffer
	add, poke device.Function
}

func newBench(t testing.TB, d device.Device) *bench {
	b := &bench{Device: d}
	m, err := d.LoadModule("add", []byte(addPTX))
	require.NoError(t, err)
	b.add, err = m.Function("add")
	require.NoError(t, err)
	b.poke, err = m.Function("poke")
	require.NoError(t, err)
	b.stream, err = d.NewStream()
	require.NoError(t, err)
	b.x, err = d.Alloc(4)
	require.NoError(t, err)
	require.NoError(t, b.stream.Memset(b.x, 0))
	require.NoError(t, b.stream.Synchronize(background))
	return b
}

func (b *bench) launch(s device.Stream, v float32) error {
	var args device.Args
	return s.Launch(background, b.add, one, args.Buf(b.x).F32(v))
}

// fault launches a kernel that writes beyond every buffer.
func (b *bench) fault() error {
	var args device.Args
	return b.stream.Launch(background, b.poke, one, args.Buf(b.x).I64(1<<42))
}

func (b *bench) value(t testing.TB) float32 {
	var out [4]byte
	require.NoError(t, b.stream.CopyDtoH(out[:], b.x))
	require.NoError(t, b.stream.Synchronize(background))
	return math.Float32frombits(binary.LittleEndian.Uint32(out[:]))
}

func TestOpenFindsGPUsByIndexAndUUID(t *testing.T) {
	for _, info := range gpus(t) {
		require.True(t, strings.HasPrefix(info.UUID, "GPU-"), info.UUID)
		require.Equal(t, info, open(t, info.Index, cuda.Options{}).Info())
	}
	_, err := cuda.Open("99", cuda.Options{})
	require.ErrorContains(t, err, "no GPU 99; there are 0 (")
	_, err = cuda.Open("", cuda.Options{MemoryBudget: -1})
	require.ErrorContains(t, err, "negative")
}

func TestBudgetLimitsMemory(t *testing.T) {
	gpus(t)
	d := open(t, 0, cuda.Options{MemoryBudget: 8 << 20})
	free, total, err := d.Memory()
	require.NoError(t, err)
	require.EqualValues(t, 8<<20, free)
	require.EqualValues(t, 8<<20, total)

	a, err := d.Alloc(5 << 20)
	require.NoError(t, err)
	free, _, err = d.Memory()
	require.NoError(t, err)
	require.EqualValues(t, 3<<20, free)
	_, err = d.Alloc(3<<20 + 1)
	require.ErrorIs(t, err, device.ErrOutOfMemory)
	require.ErrorContains(t, err, "allocate 3.0 MiB: out of device memory (5.0 MiB of the budget of 8.0 MiB are in use)")
	_, err = d.Alloc(math.MaxInt64)
	require.ErrorIs(t, err, device.ErrOutOfMemory)
	_, err = d.Alloc(3 << 20)
	require.NoError(t, err)
	require.NoError(t, d.Free(a))
	_, err = d.Alloc(5 << 20)
	require.NoError(t, err, "what was freed can be used again")
}

func TestDriversRefusalKeepsTheBudget(t *testing.T) {
	gpus(t)
	d := open(t, 0, cuda.Options{MemoryBudget: 1 << 60})
	_, err := d.Alloc(1 << 50)
	require.ErrorIs(t, err, device.ErrOutOfMemory)
	require.ErrorContains(t, err, "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY (2): out of memory")
	_, err = d.Alloc(1 << 10)
	require.NoError(t, err)
	free, _, err := d.Memory()
	require.NoError(t, err)
	require.Positive(t, free)
}

func TestLiveNamesWhatIsLeft(t *testing.T) {
	gpus(t)
	d := open(t, 0, cuda.Options{})
	live := d.(cuda.Owner).Live
	require.Empty(t, live())
	b := newBench(t, d)
	h, err := d.AllocHost(10)
	require.NoError(t, err)
	names := strings.Join(live(), "\n")
	for _, want := range []string{"stream", "module add", "10 bytes of page-locked memory", "4 bytes of device memory at 0x"} {
		require.Contains(t, names, want)
	}
	require.NoError(t, h.Free())
	require.NoError(t, h.Free())
	require.NoError(t, d.Free(b.x))
	require.NoError(t, b.stream.Close())
	require.Equal(t, []string{"module add"}, live())
}

func TestArgumentsAreCheckedAgainstTheSignature(t *testing.T) {
	gpus(t)
	b := newBench(t, open(t, 0, cuda.Options{}))
	if a, err := b.add.Attributes(); err != nil || a.ParamBytes == 0 {
		t.Skip("needs a driver for CUDA 12.4 or newer")
	}
	for _, c := range []struct {
		args *device.Args
		want string
	}{
		{new(device.Args).Buf(b.x).F64(1), "argument 1 has 8 bytes at offset 8, the parameter has 4 at 8"},
		{new(device.Args).I32(1).F32(1), "argument 0 has 4 bytes at offset 0, the parameter has 8 at 0"},
		{new(device.Args).Buf(b.x), "1 arguments for 2 parameters"},
		{new(device.Args).Buf(b.x).F32(1).F32(1), "3 arguments for 2 parameters"},
		{nil, "0 arguments for 2 parameters"},
	} {
		err := b.stream.Launch(background, b.add, one, c.args)
		require.EqualError(t, err, "kernel add (grid (1,1,1), block (1,1,1), 0 bytes shared): "+c.want)
	}
	require.Zero(t, b.value(t))
}

func TestCompilerMessageIsPartOfTheError(t *testing.T) {
	gpus(t)
	d := open(t, 0, cuda.Options{})
	_, err := d.LoadModule("broken", []byte(strings.Replace(addPTX, "add.f32", "bogus.f32", 1)))
	var e *cuda.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "cuModuleLoadDataEx", e.Call)
	require.Equal(t, "CUDA_ERROR_INVALID_PTX", e.Name)
	require.ErrorContains(t, err, "load module broken: cuModuleLoadDataEx: CUDA_ERROR_INVALID_PTX (218): ")
	require.ErrorContains(t, err, "bogus")
	_, err = d.LoadModule("half", []byte("\x7fELF\x02\x01"))
	require.ErrorContains(t, err, "load module half: damaged cubin: ")
	_, err = d.LoadModule("binary", []byte("\x50\xed\x55\xba\x01\x00\x10\x00more"))
	require.ErrorContains(t, err, "load module binary: neither PTX nor a cubin: a zero at byte 5")
	m, err := d.LoadModule("terminated", []byte(addPTX+"\x00"))
	require.NoError(t, err)
	require.NoError(t, m.Close())
}

func TestFaultIsBlamedOnTheRightLaunch(t *testing.T) {
	gpus(t)
	alone(t, "OnlyLaunch", func(t *testing.T) {
		b := newBench(t, openFaulty(t, cuda.Options{}))
		require.NoError(t, b.fault())
		err := b.stream.Synchronize(background)
		require.ErrorContains(t, err, "synchronize: kernel poke (grid (1,1,1), block (1,1,1), 0 bytes shared): cuStreamSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS (700): ")
		require.NotContains(t, err.Error(), "launched before it")
	})
	alone(t, "SeveralLaunches", func(t *testing.T) {
		b := newBench(t, openFaulty(t, cuda.Options{}))
		require.NoError(t, b.launch(b.stream, 1))
		require.NoError(t, b.fault())
		require.ErrorContains(t, b.stream.Synchronize(background), "launched before it")
		require.Error(t, b.launch(b.stream, 1), "the context is lost")
		if gpus(t)[0].Simulated {
			_, err := cuda.Open("1", cuda.Options{})
			require.ErrorContains(t, err, "CUDA_ERROR_ILLEGAL_ADDRESS", "and so is the process")
		}
	})
	alone(t, "Synchronous", func(t *testing.T) {
		b := newBench(t, openFaulty(t, cuda.Options{Synchronous: true}))
		require.NoError(t, b.launch(b.stream, 1))
		err := b.fault()
		var launch *device.LaunchError
		require.ErrorAs(t, err, &launch)
		require.Equal(t, "poke", launch.Kernel)
		require.NotContains(t, err.Error(), "launched before it")
	})
}

// aloneEnv names the test for which the test binary is a process of its own.
const aloneEnv = "UNIRESTORER_TEST_ALONE"

// alone runs a subtest in a process of its own: after a fault the driver serves its process no more.
func alone(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		if os.Getenv(aloneEnv) == t.Name() {
			test(t)
			return
		}
		cmd := exec.Command(os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v")
		cmd.Env = append(os.Environ(), aloneEnv+"="+t.Name())
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "--- PASS: "+t.Name())
	})
}

// openFaulty returns a device whose context the test breaks: closing it may report that.
func openFaulty(t testing.TB, opt cuda.Options) device.Device {
	d, err := cuda.Open("0", opt)
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestUpdatedGraphUsesTheNewArguments(t *testing.T) {
	gpus(t)
	b := newBench(t, open(t, 0, cuda.Options{}))
	capture := func(vs ...float32) device.Graph {
		require.NoError(t, b.stream.BeginCapture())
		for _, v := range vs {
			require.NoError(t, b.launch(b.stream, v))
		}
		g, err := b.stream.EndCapture()
		require.NoError(t, err)
		return g
	}
	e, err := capture(1, 2).Instantiate()
	require.NoError(t, err)
	require.NoError(t, e.Launch(background, b.stream))
	require.EqualValues(t, 3, b.value(t))
	require.NoError(t, e.(cuda.Updater).Update(capture(10, 20)))
	require.NoError(t, e.Launch(background, b.stream))
	require.EqualValues(t, 33, b.value(t))

	require.Error(t, e.(cuda.Updater).Update(capture(100, 200, 300)), "another number of nodes")
	require.NoError(t, e.Launch(background, b.stream))
	require.EqualValues(t, 63, b.value(t), "a failed update leaves the instance as it was")

	require.NoError(t, b.stream.BeginCapture())
	require.NoError(t, e.Launch(background, b.stream))
	require.NoError(t, b.launch(b.stream, 7))
	g, err := b.stream.EndCapture()
	require.NoError(t, err)
	require.Equal(t, 3, g.Nodes(), "the nodes of a captured graph launch count")
	outer, err := g.Instantiate()
	require.NoError(t, err)
	require.NoError(t, outer.Launch(background, b.stream))
	require.EqualValues(t, 100, b.value(t))
}

func TestCaptureFollowsEventsToOtherStreams(t *testing.T) {
	gpus(t)
	b := newBench(t, open(t, 0, cuda.Options{}))
	side, err := b.NewStream()
	require.NoError(t, err)
	fork, err := b.NewEvent()
	require.NoError(t, err)
	join, err := b.NewEvent()
	require.NoError(t, err)

	begin := func() {
		require.NoError(t, b.stream.BeginCapture())
		require.NoError(t, b.launch(b.stream, 1))
		require.NoError(t, b.stream.Record(fork))
		require.NoError(t, side.Wait(fork))
		require.NoError(t, b.launch(side, 10))
		require.ErrorContains(t, side.CopyHtoD(b.x, make([]byte, 4)), "AllocHost", "the side stream is captured too")
		require.NoError(t, side.Record(join))
	}
	begin()
	require.NoError(t, b.stream.Wait(join))
	require.NoError(t, b.launch(b.stream, 100))
	g, err := b.stream.EndCapture()
	require.NoError(t, err)
	require.Equal(t, 3, g.Nodes())
	e, err := g.Instantiate()
	require.NoError(t, err)
	require.NoError(t, e.Launch(background, b.stream))
	require.EqualValues(t, 111, b.value(t))

	begin()
	_, err = b.stream.EndCapture()
	require.ErrorContains(t, err, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED")
	require.EqualValues(t, 111, b.value(t))
}

func TestCaptureMayMoveBetweenThreads(t *testing.T) {
	gpus(t)
	b := newBench(t, open(t, 0, cuda.Options{}))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	require.NoError(t, b.stream.BeginCapture())
	nodes := make(chan int)
	go func() { // on another thread, as this one is taken
		defer close(nodes)
		assert.NoError(t, b.launch(b.stream, 1))
		_, err := b.Alloc(16)
		assert.NoError(t, err, "a capture does not keep others from allocating")
		if g, err := b.stream.EndCapture(); assert.NoError(t, err) {
			nodes <- g.Nodes()
		}
	}()
	require.Equal(t, 1, <-nodes)
}

func TestCapturedCopiesNeedPageLockedMemory(t *testing.T) {
	gpus(t)
	b := newBench(t, open(t, 0, cuda.Options{}))
	h, err := b.AllocHost(8)
	require.NoError(t, err)
	require.NoError(t, b.stream.BeginCapture())
	require.ErrorContains(t, b.Synchronize(background), "captured", "synchronizing the device would end the capture")
	require.ErrorContains(t, b.stream.CopyHtoD(b.x, make([]byte, 4)), "a captured copy needs host memory of AllocHost")
	require.ErrorContains(t, b.stream.CopyDtoH(make([]byte, 4), b.x), "a captured copy needs host memory of AllocHost")
	require.NoError(t, b.stream.CopyHtoD(b.x, h.Bytes()[4:]))
	g, err := b.stream.EndCapture()
	require.NoError(t, err)
	require.Equal(t, 1, g.Nodes())
}

func TestManyCopiesWithoutSynchronizing(t *testing.T) {
	gpus(t)
	b := newBench(t, open(t, 0, cuda.Options{}))
	for i := range 1000 {
		v := binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(i)))
		require.NoError(t, b.stream.CopyHtoD(b.x, v))
	}
	require.EqualValues(t, 999, b.value(t))
}

func TestDevicesWorkSideBySide(t *testing.T) {
	infos := gpus(t)
	benches := []*bench{newBench(t, open(t, 0, cuda.Options{})), newBench(t, open(t, 0, cuda.Options{}))} // one GPU twice
	for _, info := range infos[1:] {
		benches = append(benches, newBench(t, open(t, info.Index, cuda.Options{})))
	}
	var wg sync.WaitGroup
	for i, b := range benches {
		wg.Go(func() {
			for range 200 {
				assert.NoError(t, b.launch(b.stream, float32(i+1)))
			}
		})
	}
	wg.Wait()
	for i, b := range benches {
		require.EqualValues(t, 200*(i+1), b.value(t))
	}
	require.NoError(t, benches[0].Close())
	require.NoError(t, benches[1].launch(benches[1].stream, 1), "the other opening of the GPU stays")
	require.EqualValues(t, 401, benches[1].value(t))
}
