package ptxsim

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
)

// applied runs y = op(x) on a device and returns y.
func applied(t *testing.T, op string, x []float32, rough bool) []float32 {
	t.Helper()
	dev, err := New(Options{Rough: rough})
	require.NoError(t, err)
	defer dev.Close()
	mod, err := dev.LoadModule("m", []byte(fmt.Sprintf(`.version 8.4
.target sm_80
.address_size 64
.visible .entry k(.param .u64 p)
{
.reg .b32 %%r<2>; .reg .f32 %%f<3>; .reg .b64 %%rd<4>;
ld.param.u64 %%rd1, [p];
mov.u32 %%r1, %%tid.x;
mul.wide.u32 %%rd2, %%r1, 4;
add.u64 %%rd3, %%rd1, %%rd2;
ld.global.f32 %%f1, [%%rd3];
%s %%f2, %%f1;
st.global.f32 [%%rd3], %%f2;
ret;
}
`, op)))
	require.NoError(t, err)
	f, err := mod.Function("k")
	require.NoError(t, err)
	s, err := dev.NewStream()
	require.NoError(t, err)
	b, err := dev.Alloc(int64(4 * len(x)))
	require.NoError(t, err)
	data := make([]byte, 4*len(x))
	for i, v := range x {
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(v))
	}
	require.NoError(t, s.CopyHtoD(b, data))
	require.NoError(t, s.Launch(context.Background(), f, device.Shape{Grid: device.D1(1), Block: device.D1(len(x))}, new(device.Args).Buf(b)))
	require.NoError(t, s.CopyDtoH(data, b))
	y := make([]float32, len(x))
	for i := range y {
		y[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return y
}

// A rough function is off by most of what the manual allows, and never by more.
func TestRoughFunctionsAreAsInaccurateAsTheManualAllows(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	x := make([]float32, 512)
	for i := range x {
		x[i] = float32(rng.Float64()*3 + 0.1)
	}
	for _, c := range []struct {
		op    string
		true  func(float64) float64
		bound func(y float64) float64
	}{
		{"rcp.approx.f32", func(x float64) float64 { return 1 / x }, func(y float64) float64 { return y * 0x1p-23 }},
		{"sqrt.approx.f32", math.Sqrt, func(y float64) float64 { return y * 0x1p-23 }},
		{"rsqrt.approx.f32", func(x float64) float64 { return 1 / math.Sqrt(x) }, func(y float64) float64 { return y * math.Exp2(-22.9) }},
		{"ex2.approx.f32", math.Exp2, func(y float64) float64 { return y * 0x1p-22 }},
		{"sin.approx.f32", math.Sin, func(float64) float64 { return math.Exp2(-20.5) }},
		{"tanh.approx.f32", math.Tanh, func(y float64) float64 { return y * 0x1p-11 }},
	} {
		fine, rough := applied(t, c.op, x, false), applied(t, c.op, x, true)
		require.NotEqual(t, fine, rough, c.op)
		require.Equal(t, rough, applied(t, c.op, x, true), "%s is the same each time", c.op)
		most, up := 0.0, 0
		for i, y := range rough {
			want := c.true(float64(x[i]))
			off := (float64(y) - want) / c.bound(math.Abs(want))
			most = max(most, math.Abs(off))
			if off > 0 {
				up++
			}
			// The fine result that is moved may itself be off by half a unit in the last place.
			slack := math.Abs(want) * 0x1p-24 / c.bound(math.Abs(want))
			require.LessOrEqual(t, math.Abs(off), 1+slack+1e-9, "%s(%v)", c.op, x[i])
		}
		require.Greater(t, most, 0.5, c.op)
		require.InDelta(t, 256, up, 120, "%s moves both ways", c.op)
	}
}

func TestRoughFunctionsKeepWhatTheManualLists(t *testing.T) {
	inf := float32(math.Inf(1))
	x := []float32{0, inf, float32(math.Copysign(0, -1)), -inf}
	require.Equal(t, []float32{inf, 0, -inf, float32(math.Copysign(0, -1))}, applied(t, "rcp.approx.f32", x, true))
	require.Equal(t, []float32{1, inf, 1, 0}, applied(t, "ex2.approx.f32", x, true))
}

// Sums of tensor cores lose what lies far below the largest addend, even where a later sum would have kept it.
func TestTensorCoreSumsAreCutAndGrouped(t *testing.T) {
	// Every small product is below the last kept bit of 1: lost one by one, though together they count.
	small := make([]float64, 8)
	for i := range small {
		small[i] = 0x1p-26
	}
	require.Equal(t, float32(1), cutSum(1, small))
	require.Equal(t, float32(1+0x1p-23), float32(1+8*0x1p-26))
	// What extra bits keep, adds up.
	for i := range small {
		small[i] = 0x1p-25
	}
	require.Equal(t, float32(1+2*0x1p-23), cutSum(1, small))
	// The sum is cut off, not rounded.
	require.Equal(t, float32(1), cutSum(1, []float64{0x1.8p-24}))
	require.Equal(t, float32(-1), cutSum(-1, []float64{-0x1.8p-24}))
	// A large product makes the accumulator lose its low bits even if another takes the product away again.
	require.Equal(t, float32(0), cutSum(0x1p-10, []float64{0x1p20, -0x1p20}))
	require.Equal(t, float32(0x1p-5), cutSum(0x1p-5, []float64{0x1p20, -0x1p20}))
	require.True(t, math.IsInf(float64(cutSum(1, []float64{math.Inf(1)})), 1))
	nan := cutSum(1, []float64{math.NaN()})
	require.True(t, nan != nan)
	require.Equal(t, float32(0), cutSum(0, []float64{0, 0}))
}
