package ptxsim_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/device/devicetest"
	"unirestorer/runtime/ptxsim"
)

func TestSimulatorMeetsTheDeviceContract(t *testing.T) {
	open := func(t testing.TB) device.Device {
		d, err := ptxsim.New(ptxsim.Options{})
		require.NoError(t, err)
		return d
	}
	devicetest.Run(t, open)
	t.Run("Fault", func(t *testing.T) { devicetest.RunFault(t, open) })
}

func TestGraphReplaysCapturedWork(t *testing.T) {
	r := newRig(t, ptxsim.Options{}, "elementwise", sample(t, "elementwise.ptx"))
	const n = 64
	x, y, z := r.upload(words(uniform(4*n))), r.alloc(16*n), r.alloc(16*n)
	in := words(uniform(4 * n))
	host := make([]byte, 16*n)
	var a device.Args
	require.NoError(t, r.str.BeginCapture())
	require.Error(t, r.str.BeginCapture())
	require.Error(t, r.str.Synchronize(context.Background()))
	require.NoError(t, r.str.CopyHtoD(y, in))
	require.NoError(t, r.launch("saxpy", device.D1(1), device.D1(n), 0, a.Buf(x).Buf(y).F32(2).I32(n)))
	require.NoError(t, r.str.CopyDtoD(z, y))
	require.NoError(t, r.str.Memset(y, 0))
	ev, err := r.dev.NewEvent()
	require.NoError(t, err)
	require.NoError(t, r.str.Record(ev))
	require.NoError(t, r.str.CopyDtoH(host, z))
	g, err := r.str.EndCapture()
	require.NoError(t, err)
	require.Equal(t, 5, g.Nodes())
	require.Equal(t, make([]byte, 16*n), host, "capturing runs nothing")
	a.Reset() // arguments were copied
	e, err := g.Instantiate()
	require.NoError(t, err)
	require.NoError(t, g.Close())
	for round := range 3 {
		require.NoError(t, e.Launch(context.Background(), r.str))
		got, v := fromWords[float32](host), fromWords[float32](in)
		for i := range got {
			require.Equal(t, 2*uniform(4 * n)[i]+v[i], got[i], "round %d", round)
		}
		require.Equal(t, make([]byte, 16*n), r.bytes(y))
		copy(in, words(uniform(8 * n)[4*n:])) // a replay reads the host memory again
	}
	require.NoError(t, e.Close())
}

func TestLaunchesThatADeviceWouldRefuse(t *testing.T) {
	r := newRig(t, ptxsim.Options{Arch: 86}, "gemm", sample(t, "gemm.ptx"))
	f, err := r.mod.Function("gemm")
	require.NoError(t, err)
	_, err = r.mod.Function("missing")
	require.ErrorContains(t, err, "module gemm has no kernel missing")
	attr, err := f.Attributes()
	require.NoError(t, err)
	require.Equal(t, 128, attr.MaxThreadsPerBlock)
	require.Equal(t, 40-4, attr.ParamBytes)
	require.Positive(t, attr.Registers)
	require.ErrorContains(t, f.SetMaxDynamicShared(100<<10), "the device allows 101376")
	b := r.alloc(64)
	good := func() *device.Args { return new(device.Args).Buf(b).Buf(b).Buf(b).I32(1).I32(1).I32(1) }
	for _, c := range []struct {
		shape device.Shape
		args  *device.Args
		want  string
	}{
		{device.Shape{Grid: device.D1(0), Block: device.D1(128)}, good(), "a dimension is zero"},
		{device.Shape{Grid: device.D2(1, 70000), Block: device.D1(128)}, good(), "grid is too large"},
		{device.Shape{Grid: device.D1(1), Block: device.D1(256)}, good(), "block of 256 threads: the kernel allows 128"},
		{device.Shape{Grid: device.D1(1), Block: device.D1(128), Shared: 50 << 10}, good(), "SetMaxDynamicShared raises it"},
		{device.Shape{Grid: device.D1(1), Block: device.D1(128)}, good().I32(1), "7 arguments for 6 parameters"},
		{device.Shape{Grid: device.D1(1), Block: device.D1(128)}, new(device.Args).Buf(b).Buf(b).Buf(b).I32(1).I32(1).I64(1), "argument 5 has 8 bytes at offset 32"},
		{device.Shape{Grid: device.D1(1), Block: device.D1(128)}, nil, "0 arguments for 6 parameters"},
	} {
		err := r.str.Launch(context.Background(), f, c.shape, c.args)
		require.ErrorContains(t, err, c.want)
		var le *device.LaunchError
		require.ErrorAs(t, err, &le)
		require.Equal(t, c.shape, le.Shape)
	}
	require.NoError(t, r.mod.Close())
	require.ErrorContains(t, r.str.Launch(context.Background(), f, device.Shape{Grid: device.D1(1), Block: device.D1(128)}, good()), "module was closed")
}

func TestMemoryIsAccountedAndBounded(t *testing.T) {
	dev, err := ptxsim.New(ptxsim.Options{Memory: 1000})
	require.NoError(t, err)
	b, err := dev.Alloc(600)
	require.NoError(t, err)
	_, err = dev.Alloc(401)
	require.ErrorIs(t, err, device.ErrOutOfMemory)
	free, total, err := dev.Memory()
	require.NoError(t, err)
	require.Equal(t, [2]int64{400, 1000}, [2]int64{free, total})
	require.NoError(t, dev.Free(b))
	_, err = dev.Alloc(1000)
	require.NoError(t, err)
	_, err = dev.Alloc(0)
	require.Error(t, err)
	require.NoError(t, dev.Close())
	_, err = dev.Alloc(1)
	require.Error(t, err)
	_, err = ptxsim.New(ptxsim.Options{Arch: 61})
	require.ErrorContains(t, err, "sm_61")
}

func TestEventsNeedRecording(t *testing.T) {
	dev, err := ptxsim.New(ptxsim.Options{})
	require.NoError(t, err)
	s, err := dev.NewStream()
	require.NoError(t, err)
	a, err := dev.NewEvent()
	require.NoError(t, err)
	b, err := dev.NewEvent()
	require.NoError(t, err)
	require.Error(t, a.Synchronize(context.Background()))
	require.Error(t, s.Wait(a))
	require.NoError(t, s.Record(a))
	_, err = b.Since(a)
	require.Error(t, err)
	require.NoError(t, s.Record(b))
	d, err := b.Since(a)
	require.NoError(t, err)
	require.GreaterOrEqual(t, int64(d), int64(0))
	require.NoError(t, s.Wait(b))
}

// TestCountersDoNotDependOnTheSchedule runs one kernel under several schedules and worker counts.
func TestCountersDoNotDependOnTheSchedule(t *testing.T) {
	var first ptxsim.Counters
	for i, opt := range []ptxsim.Options{{}, {Workers: 1}, {Seed: 5}, {Seed: 6, Workers: 3}, {NoCheck: true}} {
		r := newRig(t, opt, "gemm", sample(t, "gemm.ptx"))
		_, err := subjects[0].run(r)
		require.NoError(t, err)
		c := r.dev.LastReport().Counters
		if i == 0 {
			first = c
			continue
		}
		require.Equal(t, first, c, "%+v", opt)
	}
}

func TestCountersOfKnownAccessPatterns(t *testing.T) {
	const head = ".version 8.4\n.target sm_80\n.address_size 64\n.entry k(.param .u64 p) {\n.reg .b32 %r<9>; .reg .b64 %d<9>; .shared .align 128 .b8 s[8192];\n" +
		"ld.param.u64 %d1, [p]; mov.u32 %r1, %tid.x; mov.u32 %r2, s;\n"
	for _, c := range []struct {
		name, body string
		check      func(c ptxsim.Counters)
	}{
		{"coalesced words", "mul.wide.u32 %d2, %r1, 4; add.u64 %d2, %d1, %d2; st.global.u32 [%d2], 1;", func(c ptxsim.Counters) {
			require.Equal(t, [3]uint64{1, 4, 128}, [3]uint64{c.GlobalStore.Requests, c.GlobalStore.Sectors, c.GlobalStore.Bytes})
		}},
		{"coalesced vectors", "mul.wide.u32 %d2, %r1, 16; add.u64 %d2, %d1, %d2; st.global.v4.u32 [%d2], {1,2,3,4};", func(c ptxsim.Counters) {
			require.Equal(t, [3]uint64{1, 16, 512}, [3]uint64{c.GlobalStore.Requests, c.GlobalStore.Sectors, c.GlobalStore.Bytes})
			require.Equal(t, 16.0, c.GlobalStore.SectorsPerRequest())
		}},
		{"one word a sector", "mul.wide.u32 %d2, %r1, 32; add.u64 %d2, %d1, %d2; st.global.u32 [%d2], 1;", func(c ptxsim.Counters) {
			require.Equal(t, uint64(32), c.GlobalStore.Sectors)
			require.InDelta(t, 0.125, c.GlobalStore.Efficiency(), 1e-12)
		}},
		{"backwards and misplaced by a sector half", "sub.u32 %r3, 31, %r1; mul.wide.u32 %d2, %r3, 4; add.u64 %d2, %d1, %d2; st.global.u32 [%d2+16], 1;",
			func(c ptxsim.Counters) { require.Equal(t, uint64(5), c.GlobalStore.Sectors) }},
		{"free of conflicts", "shl.b32 %r3, %r1, 2; add.u32 %r3, %r2, %r3; st.shared.u32 [%r3], 1;", func(c ptxsim.Counters) {
			require.Equal(t, [3]uint64{1, 1, 0}, [3]uint64{c.SharedStore.Requests, c.SharedStore.Wavefronts, c.SharedStore.Conflicts})
		}},
		{"two lanes a bank", "shl.b32 %r3, %r1, 3; add.u32 %r3, %r2, %r3; st.shared.u32 [%r3], 1;", func(c ptxsim.Counters) {
			require.Equal(t, uint64(1), c.SharedStore.Conflicts)
		}},
		{"all lanes on one bank", "shl.b32 %r3, %r1, 7; add.u32 %r3, %r2, %r3; st.shared.u32 [%r3], 1;", func(c ptxsim.Counters) {
			require.Equal(t, uint64(31), c.SharedStore.Conflicts)
		}},
		{"broadcast", "st.shared.u32 [%r2], 1; bar.warp.sync 0xffffffff; ld.shared.u32 %r4, [%r2];", func(c ptxsim.Counters) {
			require.Equal(t, [2]uint64{1, 0}, [2]uint64{c.SharedLoad.Wavefronts, c.SharedLoad.Conflicts})
		}},
		{"vectors in order", "shl.b32 %r3, %r1, 4; add.u32 %r3, %r2, %r3; st.shared.v4.u32 [%r3], {1,2,3,4};", func(c ptxsim.Counters) {
			require.Equal(t, [2]uint64{4, 0}, [2]uint64{c.SharedStore.Wavefronts, c.SharedStore.Conflicts})
		}},
		{"rows of 128 bytes for ldmatrix", "shl.b32 %r3, %r1, 4; add.u32 %r3, %r2, %r3; st.shared.v4.u32 [%r3], {1,2,3,4}; st.shared.v4.u32 [%r3+512], {1,2,3,4};" +
			"bar.sync 0; and.b32 %r5, %r1, 7; shl.b32 %r5, %r5, 7; add.u32 %r5, %r5, %r2; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r6}, [%r5];",
			func(c ptxsim.Counters) {
				require.Equal(t, [2]uint64{8, 7}, [2]uint64{c.Matrix.Wavefronts, c.Matrix.Conflicts})
				require.Equal(t, uint64(1), c.Barriers)
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, ptxsim.Options{}, "m", []byte(head+c.body+"\nret;\n}\n"))
			var a device.Args
			require.NoError(t, r.launch("k", device.D1(1), device.D1(32), 0, a.Buf(r.alloc(4096))))
			c.check(r.dev.LastReport().Counters)
		})
	}
}

// TestOccupancy compares with figures worked out by hand from the limits of each architecture.
func TestOccupancy(t *testing.T) {
	for _, c := range []struct {
		sm, threads, regs, shared int
		blocks                    int
		limit                     string
	}{
		{80, 256, 32, 0, 8, "threads"},
		{80, 128, 128, 0, 4, "registers"},
		{80, 128, 32, 48 << 10, 3, "shared"},
		{80, 32, 16, 0, 32, "blocks"},
		{86, 256, 64, 0, 4, "registers"},
		{86, 128, 40, 30720, 3, "shared"},
		{89, 1024, 32, 0, 1, "threads"},
		{90, 128, 168, 100 << 10, 2, "shared"},
		{90, 384, 168, 0, 1, "registers"},
	} {
		a, ok := ptxsim.ArchOf(c.sm)
		require.True(t, ok)
		o := a.Occupancy(c.threads, c.regs, c.shared)
		require.Equal(t, c.blocks, o.Blocks, "%+v", c)
		require.Equal(t, c.limit, o.Limit, "%+v", c)
		require.Equal(t, float64(c.blocks*c.threads)/float64(a.MaxThreads), o.Share)
	}
}
