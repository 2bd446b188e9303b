//go:build unix

package ptxsim_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/proctime"
	"unirestorer/runtime/ptxsim"
)

// bench runs one launch over and over and reports lane instructions a second.
func bench(b *testing.B, file, kernel string, shape device.Shape, check bool, args func(up func(n int) device.Buffer) *device.Args) {
	dev, err := ptxsim.New(ptxsim.Options{NoCheck: !check, Workers: 1})
	require.NoError(b, err)
	str, err := dev.NewStream()
	require.NoError(b, err)
	ptx, err := os.ReadFile("testdata/" + file)
	require.NoError(b, err)
	mod, err := dev.LoadModule(file, ptx)
	require.NoError(b, err)
	f, err := mod.Function(kernel)
	require.NoError(b, err)
	rng := rand.New(rand.NewPCG(1, 1))
	a := args(func(n int) device.Buffer {
		buf, err := dev.Alloc(int64(n))
		require.NoError(b, err)
		require.NoError(b, str.CopyHtoD(buf, halves(normals(rng, n/2))))
		return buf
	})
	var lanes, macs uint64
	began := proctime.Used()
	for b.Loop() {
		require.NoError(b, str.Launch(context.Background(), f, shape, a))
		c := dev.LastReport().Counters
		lanes += c.LaneInstructions
		macs += c.TensorMACs
	}
	b.ReportMetric(float64(lanes)/b.Elapsed().Seconds()/1e6, "Mlane/s")
	b.ReportMetric(float64(lanes)/(proctime.Used()-began).Seconds()/1e6, "Mlane/cpu-s") // for busy machines
	if macs > 0 {
		b.ReportMetric(float64(macs)/b.Elapsed().Seconds()/1e6, "MMAC/s")
	}
}

func BenchmarkLaunch(b *testing.B) {
	for _, check := range []bool{true, false} {
		mode := fmt.Sprintf("check=%v", check)
		b.Run("gelu/"+mode, func(b *testing.B) {
			const n = 1 << 15
			bench(b, "elementwise.ptx", "gelu_half2", device.Shape{Grid: device.D1(32), Block: device.D1(128)}, check,
				func(up func(int) device.Buffer) *device.Args {
					return new(device.Args).Buf(up(4 * n)).Buf(up(4 * n)).F32(1).F32(0).I32(n)
				})
		})
		b.Run("row_sum/"+mode, func(b *testing.B) {
			bench(b, "reduce.ptx", "row_sum", device.Shape{Grid: device.D1(32), Block: device.D1(256)}, check,
				func(up func(int) device.Buffer) *device.Args {
					return new(device.Args).Buf(up(4 * 32 * 1024)).Buf(up(4 * 32)).I32(1024)
				})
		})
		b.Run("gemm/"+mode, func(b *testing.B) {
			const m, n, k = 256, 128, 256
			bench(b, "gemm.ptx", "gemm", device.Shape{Grid: device.D2(n/64, m/64), Block: device.D1(128), Shared: 2 * 3 * 128 * 40}, check,
				func(up func(int) device.Buffer) *device.Args {
					return new(device.Args).Buf(up(2 * m * k)).Buf(up(2 * n * k)).Buf(up(2 * m * n)).I32(m).I32(n).I32(k)
				})
		})
	}
}
