package devicetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
)

// RunFault tests that a fault names its kernel and ends no more than its device. It is not for implementations over a
// CUDA driver, which serves the process no more after a fault.
func RunFault(t *testing.T, open func(t testing.TB) device.Device) {
	d := open(t)
	r := &rig{Device: d, T: t}
	var err error
	r.mod, err = d.LoadModule("kernels", kernels)
	require.NoError(t, err)
	r.stream, err = d.NewStream()
	require.NoError(t, err)
	x, err := d.Alloc(64)
	require.NoError(t, err)

	var args device.Args
	args.Buf(x).I64(1 << 40)
	shape := device.Shape{Grid: device.D1(1), Block: device.D1(2)}
	err = r.stream.Launch(background, r.function("poke"), shape, &args)
	if err == nil { // where the launch does not wait for the kernel
		err = r.stream.Synchronize(background)
	}
	var launch *device.LaunchError
	require.ErrorAs(t, err, &launch)
	require.Equal(t, "poke", launch.Kernel)
	require.Equal(t, shape, launch.Shape)
	_ = d.Close() // it may report the fault again

	again := newRig(t, open(t))
	y := again.upload(ramp(1, 10))
	again.scale(again.stream, y, y, 3)
	require.Equal(t, scaled(1, 10, 3), floats(again.download(y)), "a new device works after a fault")
}

func testForeign(t *testing.T, open func(t testing.TB) device.Device) {
	a, b := newRig(t, open(t)), newRig(t, open(t))
	var args device.Args
	args.Buf(device.Buffer{}).Buf(device.Buffer{}).I32(0).F32(0)
	require.Error(t, a.stream.Launch(background, b.function("scale"), one, &args))

	type stranger struct{ device.Function }
	require.Error(t, a.stream.Launch(background, stranger{}, one, &args))
	type otherEvent struct{ device.Event }
	require.Error(t, a.stream.Record(otherEvent{}))
	require.Error(t, a.stream.Wait(otherEvent{}))

	require.NoError(t, a.stream.BeginCapture())
	g, err := a.stream.EndCapture()
	require.NoError(t, err)
	e, err := g.Instantiate()
	require.NoError(t, err)
	require.Error(t, e.Launch(background, b.stream))
}

func testClose(t *testing.T, open func(t testing.TB) device.Device) {
	d := open(t)
	m, err := d.LoadModule("kernels", kernels)
	require.NoError(t, err)
	s, err := d.NewStream()
	require.NoError(t, err)
	e, err := d.NewEvent()
	require.NoError(t, err)
	h, err := d.AllocHost(100)
	require.NoError(t, err)
	b, err := d.Alloc(100)
	require.NoError(t, err)
	require.NoError(t, s.BeginCapture())
	require.NoError(t, s.Memset(b, 1))
	g, err := s.EndCapture()
	require.NoError(t, err)
	x, err := g.Instantiate()
	require.NoError(t, err)
	require.NoError(t, s.BeginCapture())

	closeDevice(t, d)
	require.NoError(t, d.Close(), "closing twice is harmless")
	for _, c := range []func() error{x.Close, g.Close, s.Close, e.Close, m.Close, h.Free} {
		require.NoError(t, c(), "the device has closed it")
	}
	_, err = d.Alloc(100)
	require.Error(t, err)
	_, err = d.NewStream()
	require.Error(t, err)
	_, err = d.LoadModule("kernels", kernels)
	require.Error(t, err)
	_, _, err = d.Memory()
	require.Error(t, err)
}
