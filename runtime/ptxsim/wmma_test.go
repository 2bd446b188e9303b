package ptxsim_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// small are integers that halves and their sums hold exactly.
func small(rng *rand.Rand, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = float64(rng.IntN(9) - 4)
	}
	return out
}

// timesTransposed is a·bᵀ for a [m][k] and b [n][k].
func timesTransposed(a, b []float64, m, n, k int) []float64 {
	out := make([]float64, m*n)
	for i := range m {
		for j := range n {
			for l := range k {
				out[i*n+j] += a[i*k+l] * b[j*k+l]
			}
		}
	}
	return out
}

func TestProductsOfWmmaAndOfOtherTypesAreExactOnIntegers(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 1))
	r := newRig(t, ptxsim.Options{}, "wmma", sample(t, "wmma.ptx"))
	run := func(kernel string, out int, in ...[]byte) []byte {
		t.Helper()
		var a device.Args
		for _, p := range in {
			a.Buf(r.upload(p))
		}
		y := r.alloc(out)
		require.NoError(t, r.launch(kernel, device.D1(1), device.D1(32), 0, a.Buf(y)), kernel)
		return r.bytes(y)
	}
	a, b := small(rng, 256), small(rng, 256)
	want := timesTransposed(a, b, 16, 16, 16)
	z := make([]float32, 256)
	for i := range z {
		z[i] = float32(i)
	}
	got := fromWords[float32](run("wmma_f16", 1024, halves(a), halves(b), words(z)))
	for i, v := range got {
		require.Equal(t, float32(want[i])+z[i], v, i)
	}
	half := run("wmma_half_sum", 512, halves(a), halves(b))
	for i := range want {
		require.Equal(t, want[i]+1, halfValue(binary.LittleEndian.Uint16(half[2*i:])), i)
	}

	bytesOf := func(v []float64) (p []byte) {
		for _, x := range v {
			p = append(p, byte(int8(x)))
		}
		return p
	}
	a, b = small(rng, 16*32), small(rng, 8*32)
	want = timesTransposed(a, b, 16, 8, 32)
	for i, v := range fromWords[int32](run("mma_s8", 512, bytesOf(a), bytesOf(b))) {
		require.Equal(t, int32(want[i]), v, i)
	}

	doubles := func(v []float64) (p []byte) {
		for _, x := range v {
			p = binary.LittleEndian.AppendUint64(p, math.Float64bits(x))
		}
		return p
	}
	a, b = small(rng, 32), small(rng, 32)
	require.Equal(t, doubles(timesTransposed(a, b, 8, 8, 4)), run("mma_f64", 512, doubles(a), doubles(b)))
}

func TestKernelsPrintAndAssert(t *testing.T) {
	var out bytes.Buffer
	r := newRig(t, ptxsim.Options{Output: &out}, "print", sample(t, "print.ptx"))
	var a device.Args
	require.NoError(t, r.launch("hello", device.D1(1), device.D1(2), 0, a.I32(42).F32(1.5)))
	require.Equal(t, "t0 n=   42 f=1.50 text 123456789abc c%\nt1 n=   42 f=1.50 text 123456789abc c%\n", out.String())
	out.Reset()
	require.NoError(t, r.launch("too_few", device.D1(1), device.D1(8), 0, a.Reset().I32(8)))
	err := r.launch("too_few", device.D1(1), device.D1(8), 0, a.Reset().I32(5))
	var found *ptxsim.FindingsError
	require.ErrorAs(t, err, &found)
	require.True(t, found.Has(ptxsim.Trap))
	require.Equal(t, uint32(5), found.Findings[0].Thread.X)
	require.Regexp(t, `assertion "n > \(int\)threadIdx.x" of .* failed at .*print\.cu:9`, err.Error())
	require.Contains(t, out.String(), "Assertion `n > (int)threadIdx.x` failed")
}
