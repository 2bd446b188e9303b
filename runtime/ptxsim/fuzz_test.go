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
