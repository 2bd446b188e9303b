package ptxsim_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// FuzzLoadModule loads arbitrary bytes, and launches what loads: neither may panic or hang.
func FuzzLoadModule(f *testing.F) {
	files, err := filepath.Glob("testdata/*.ptx")
	require.NoError(f, err)
	for _, name := range files {
		p, err := os.ReadFile(name)
		require.NoError(f, err)
		if len(p) < 20000 {
			f.Add(p)
		}
	}
	f.Add([]byte(".version 8.4\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p){.reg .b32 %r<4>;L: mov.u32 %r1, %tid.x; bra L; ret;}"))
	f.Add([]byte(".version 7.0\n.target sm_80\n.const .align 4 .b8 t[8] = {1,2,3};\n.func f(){ret;}\n.entry k(){call f; ret;}"))
	f.Add([]byte(".version 7.0\n.target sm_80\n.entry k(){.reg .pred %p<2>;.reg .f32 %f<3>;@!%p1 bra A; add.f32 %f1,%f2,0f3F800000; A: bar.sync 0; exit;}"))
	f.Add([]byte(rare))
	f.Add([]byte(".version 8.4\n.target sm_90a\n.address_size 64\n.entry k(.param .align 64 .b8 m[128], .param .u64 p) .reqnctapercluster 2, 1, 1 {.reg .b32 %r<9>; .reg .b64 %d<5>; .reg .pred %p<2>;" +
		".shared .align 128 .b8 s[256]; .shared .align 8 .b64 b; mov.u32 %r1, s; mov.u32 %r2, b; mbarrier.init.shared::cta.b64 [%r2], 1;" +
		"barrier.cluster.arrive; barrier.cluster.wait; mapa.shared::cluster.u32 %r3, %r1, 1; st.shared::cluster.u32 [%r3], %r1; ld.shared::cluster.u32 %r4, [%r3+4];" +
		"mov.b64 %d1, m; cvta.param.u64 %d2, %d1; cp.async.bulk.tensor.1d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%d2, {%r4}], [%r2];" +
		"ld.param.u64 %d3, [p]; cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r1], [%d3], 64, [%r2], 3;" +
		"st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r3], %r1, [%r2]; mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r2], 0; barrier.cluster.arrive; barrier.cluster.wait; ret;}"))
	f.Fuzz(func(t *testing.T, image []byte) {
		dev, err := ptxsim.New(ptxsim.Options{Memory: 1 << 20, MaxSteps: 2000, Workers: 1})
		require.NoError(t, err)
		mod, err := dev.LoadModule("fuzz", image)
		if err != nil {
			return
		}
		str, err := dev.NewStream()
		require.NoError(t, err)
		buf, err := dev.Alloc(4096)
		require.NoError(t, err)
		for _, name := range mod.(*ptxsim.Module).Kernels() {
			fn, err := mod.Function(name)
			require.NoError(t, err)
			var a device.Args
			for _, p := range fn.(*ptxsim.Function).Params() {
				content := make([]byte, p.Size)
				if p.Size == 8 {
					for i := range content {
						content[i] = byte(buf.Ptr >> (8 * i))
					}
				}
				a.Struct(p.Align, content)
			}
			// Whatever the kernel does, it comes back.
			_ = str.Launch(context.Background(), fn, device.Shape{Grid: device.D1(2), Block: device.D1(40)}, &a)
		}
	})
}
