package devicetest

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
)

var background = context.Background()

func testBadImages(t *testing.T, d *rig) {
	for _, image := range []string{
		"",
		"this is not PTX",
		".version 8.4\n.target sm_80\n.address_size 64\n.visible .entry k() { bogus.op %r1; ret; }\n",
	} {
		_, err := d.LoadModule("broken", []byte(image))
		require.ErrorContains(t, err, "broken", "%q", image)
	}
}

func testModule(t *testing.T, d *rig) {
	require.Equal(t, "scale", d.function("scale").Name())
	_, err := d.mod.Function("scal")
	require.ErrorContains(t, err, "scal")
	_, err = d.mod.Global("nothing")
	require.ErrorContains(t, err, "nothing")

	// A module of its own, as the variable keeps its value.
	m, err := d.LoadModule("second", kernels)
	require.NoError(t, err)
	total, err := m.Global("total")
	require.NoError(t, err)
	require.EqualValues(t, 4, total.Size)
	require.EqualValues(t, 7, binary.LittleEndian.Uint32(d.download(total)))
	tally, err := m.Function("tally")
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, d.stream.Launch(background, tally, device.Shape{Grid: device.D3(3, 2, 2), Block: device.D3(5, 4, 3)}, nil))
	}
	require.EqualValues(t, 7+2*12*60, binary.LittleEndian.Uint32(d.download(total)))
	require.NoError(t, m.Close())
	require.NoError(t, m.Close(), "closing twice is harmless")
}

func testAttributes(t *testing.T, d *rig) {
	a, err := d.function("arguments").Attributes()
	require.NoError(t, err)
	require.Positive(t, a.Registers)
	require.LessOrEqual(t, a.Registers, 255)
	require.Zero(t, a.StaticShared)
	require.Equal(t, 48<<10, a.MaxDynamicShared)
	require.Positive(t, a.MaxThreadsPerBlock)
	require.Equal(t, 80, a.PTXVersion)
}

func testLaunch(t *testing.T, d *rig) {
	for _, n := range []int{1, 63, 64, 65, 1000, 12345} {
		x, y := d.upload(ramp(1, n)), d.alloc(4*n+4)
		require.NoError(t, d.stream.Memset(y, 0xff))
		d.scale(d.stream, y, x, -2.5)
		got := d.download(y)
		require.Equal(t, scaled(1, n, -2.5), floats(got[:4*n]), "n = %d", n)
		require.Equal(t, []byte{0xff, 0xff, 0xff, 0xff}, got[4*n:], "n = %d: written beyond the end", n)
	}
}

func testArguments(t *testing.T, d *rig) {
	pair := make([]byte, 24)
	binary.LittleEndian.PutUint64(pair, 0x1122334455667788)
	for i, v := range []uint32{0xdeadbeef, 2, 0x80000000} {
		binary.LittleEndian.PutUint32(pair[8+4*i:], v)
	}
	out := d.upload(make([]byte, 44))
	var args device.Args
	args.U8(0xfe).F64(math.Pi).U16(0x7bff).F32(-1.5).Struct(8, pair).I32(-3).Buf(out)
	require.NoError(t, d.stream.Launch(background, d.function("arguments"), one, &args))

	bits := math.Float64bits(math.Pi)
	want := []uint32{0xfe, uint32(bits), uint32(bits >> 32), 0x7bff, math.Float32bits(-1.5),
		0x55667788, 0x11223344, 0xdeadbeef, 2, 0x80000000, math.MaxUint32 - 2}
	got := d.download(out)
	for i, w := range want {
		require.Equal(t, w, binary.LittleEndian.Uint32(got[4*i:]), "word %d", i)
	}
}

// one is the shape of a single thread.
var one = device.Shape{Grid: device.D1(1), Block: device.D1(1)}

func testArgumentReuse(t *testing.T, d *rig) {
	x := d.upload(ramp(1, 4))
	var ys []device.Buffer
	var args device.Args
	for i := range 20 {
		y := d.alloc(16)
		ys = append(ys, y)
		args.Reset().Buf(y).Buf(x).I32(4).F32(float32(i))
		require.NoError(t, d.stream.Launch(background, d.function("scale"), device.Shape{Grid: device.D1(1), Block: device.D1(4)}, &args))
	}
	args.Reset()
	for i, y := range ys {
		require.Equal(t, scaled(1, 4, float32(i)), floats(d.download(y)))
	}
}

func testMissingArguments(t *testing.T, d *rig) {
	var args device.Args
	args.Buf(d.alloc(4))
	for _, a := range []*device.Args{nil, new(device.Args), &args} {
		err := d.stream.Launch(background, d.function("scale"), one, a)
		var launch *device.LaunchError
		require.ErrorAs(t, err, &launch)
		require.Equal(t, "scale", launch.Kernel)
	}
	d.sync() // the stream works on
}

func testShapes(t *testing.T, d *rig) {
	x := d.upload(ramp(0, 4))
	var args device.Args
	args.Buf(x).Buf(x).I32(4).F32(1)
	for _, s := range []device.Shape{
		{},
		{Grid: device.D1(1)},
		{Grid: device.D2(1, 0), Block: device.D1(32)},
		{Grid: device.D1(1), Block: device.D3(32, 0, 1)},
		{Grid: device.D1(1), Block: device.D1(1025)},
		{Grid: device.D1(1), Block: device.D3(1024, 1024, 1024)},
		{Grid: device.D1(1), Block: device.D1(1 << 31)},
		{Grid: device.D2(1, 65536), Block: device.D1(1)},
		{Grid: device.D1(1), Block: device.D1(1), Shared: -1},
		{Grid: device.D1(1), Block: device.D1(1), Shared: 49153},
		{Grid: device.D1(1), Block: device.D1(1), Shared: 1 << 40},
	} {
		err := d.stream.Launch(background, d.function("scale"), s, &args)
		var launch *device.LaunchError
		require.ErrorAs(t, err, &launch, "%v", s)
		require.Equal(t, s, launch.Shape)
		require.ErrorContains(t, err, fmt.Sprintf("kernel scale (%v)", s))
	}
	require.Equal(t, scaled(0, 4, 1), floats(d.download(x)), "the stream works on")
}

func testDynamicShared(t *testing.T, d *rig) {
	f := d.function("reverse")
	limit := d.Info().SharedPerBlockOptin
	require.Error(t, f.SetMaxDynamicShared(limit+1))
	require.Error(t, f.SetMaxDynamicShared(-1))

	run := func(shared int) ([]byte, error) {
		x := d.upload([]byte{1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0})
		var args device.Args
		args.Buf(x).I32(int32(shared / 4))
		err := d.stream.Launch(background, f, device.Shape{Grid: device.D1(2), Block: device.D1(3), Shared: shared}, &args)
		return d.download(x), err
	}
	want := []byte{3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0, 5, 0, 0, 0, 4, 0, 0, 0}
	for _, shared := range []int{12, 4096, 48 << 10} {
		got, err := run(shared)
		require.NoError(t, err)
		require.Equal(t, want, got, "%d bytes", shared)
	}
	_, err := run(limit)
	require.ErrorContains(t, err, "reverse")
	require.NoError(t, f.SetMaxDynamicShared(limit))
	got, err := run(limit)
	require.NoError(t, err)
	require.Equal(t, want, got, "%d bytes", limit)

	a, err := f.Attributes()
	require.NoError(t, err)
	require.Equal(t, limit, a.MaxDynamicShared)
	_, err = run(limit + 4)
	require.Error(t, err)
}

func testCancelled(t *testing.T, d *rig) {
	ctx, cancel := context.WithCancel(background)
	x, y := d.upload(ramp(1, 4)), d.upload(make([]byte, 16))
	require.NoError(t, d.stream.Synchronize(ctx), "a context that can be cancelled but is not")
	require.NoError(t, d.Synchronize(ctx))
	cancel()

	var args device.Args
	args.Buf(y).Buf(x).I32(4).F32(1)
	err := d.stream.Launch(ctx, d.function("scale"), device.Shape{Grid: device.D1(1), Block: device.D1(4)}, &args)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, d.stream.Synchronize(ctx), context.Canceled)
	require.ErrorIs(t, d.Synchronize(ctx), context.Canceled)
	require.Equal(t, make([]byte, 16), d.download(y), "the cancelled launch ran")
}
