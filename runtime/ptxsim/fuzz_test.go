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
	f.Add([]byte(".version 8.4\n.target sm_80\n.address_size 64\n.entry k(.param .u64 t, .param .u64 p) {.reg .f32 %f<5>; .reg .b32 %r<5>; .reg .b64 %d<3>; ld.param.u64 %d1, [t];" +
		"mov.u32 %r1, %tid.x; cvt.rn.f32.u32 %f1, %r1; tex.2d.v4.f32.f32 {%f1,%f2,%f3,%f4}, [%d1, {%f1,%f1}]; tld4.r.2d.v4.f32.f32 {%f1,%f2,%f3,%f4}, [%d1, {%f1,%f2}];" +
		"suld.b.2d.v2.b32.zero {%r2,%r3}, [%d1, {%r1,%r1}]; sust.b.2d.b32.clamp [%d1, {%r1,%r2}], {%r3}; txq.height.b32 %r4, [%d1]; ret;}"))
	f.Add([]byte(".version 8.4\n.target sm_80\n.address_size 64\n.func (.param .b32 r) f(.param .b32 x) {.reg .b64 %d<2>; mov.u64 %d1, g; {.param .b32 q; p: .callprototype (.param .b32 _) _ (.param .b32 _);" +
		"call (r), %d1, (x), p;} ret;}\n.func (.param .b32 r) g(.param .b32 x) {ret;}\n.global .u64 v[2] = {f, g};\n.entry k(.param .u64 p) {.reg .b64 %d<3>; .reg .b32 %r<3>; ld.global.u64 %d1, [v];" +
		"{.param .b32 q; .param .b32 r; st.param.b32 [q], 1; t: .calltargets f, g; call (r), %d1, (q), t; ld.param.b32 %r1, [r];} ret;}"))
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
		texture, err := dev.NewTexture(buf, ptxsim.Texture{Type: ptxsim.TensorF32, Channels: 1, Dims: 2, Size: [3]int{16, 8}, Linear: true, Address: ptxsim.AddressBorder})
		require.NoError(t, err)
		for _, name := range mod.(*ptxsim.Module).Kernels() {
			fn, err := mod.Function(name)
			require.NoError(t, err)
			var a device.Args
			for n, p := range fn.(*ptxsim.Function).Params() {
				content := make([]byte, p.Size)
				if p.Size == 8 {
					value := uint64(buf.Ptr)
					if n == 0 && len(image)%2 == 0 {
						value = texture
					}
					for i := range content {
						content[i] = byte(value >> (8 * i))
					}
				}
				a.Struct(p.Align, content)
			}
			// Whatever the kernel does, it comes back.
			_ = str.Launch(context.Background(), fn, device.Shape{Grid: device.D1(2), Block: device.D1(40), Cooperative: len(image)%3 == 0}, &a)
		}
	})
}
