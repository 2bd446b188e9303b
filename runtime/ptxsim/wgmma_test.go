package ptxsim_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

func TestProductsOfFourWarpsAreExactOnIntegersInEveryLayout(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 2))
	ptx := sample(t, "wgmma.ptx")
	a, b := small(rng, 64*16), small(rng, 64*16)
	want := timesTransposed(a, b, 64, 64, 16)
	for _, k := range []struct {
		kernel string
		mode   int32
		plus   float64
		defect ptxsim.Kind
	}{
		{"layouts", 0, 1, ptxsim.ProxyFence}, {"layouts", 1, 1, ptxsim.ProxyFence}, {"layouts", 2, 1, ptxsim.ProxyFence}, {"layouts", 3, 1, ptxsim.ProxyFence},
		{"transposed", 0, 1, ptxsim.ProxyFence}, {"registers", 0, 0, ptxsim.ProxyFence}, {"overwritten", 0, 1, ptxsim.SharedRace},
		{"sum_read_early", 0, 1, ptxsim.RegisterHazard}, {"operand_changed", 0, 0, ptxsim.RegisterHazard}, {"scaled_between", 0, 0, ptxsim.RegisterHazard},
		{"pipeline", 0, 0, ptxsim.RegisterHazard},
	} {
		for _, seed := range []int64{0, 1} {
			r := newRig(t, ptxsim.Options{Seed: seed}, "wgmma", ptx)
			run := func(bug int32) error {
				var args device.Args
				args.Buf(r.upload(halves(a))).Buf(r.upload(halves(b))).Buf(r.alloc(4 * 64 * 64)).I32(k.mode).I32(bug)
				return r.launch(k.kernel, device.D1(1), device.D1(128), 0, &args)
			}
			require.NoError(t, run(0), "%s, mode %d", k.kernel, k.mode)
			for i, v := range fromWords[float32](r.bytes(r.last)) {
				require.Equal(t, want[i]+k.plus, float64(v), "%s, mode %d, element %d", k.kernel, k.mode, i)
			}
			var found *ptxsim.FindingsError
			require.ErrorAs(t, run(1), &found, "%s, mode %d", k.kernel, k.mode)
			require.True(t, found.Has(k.defect), "%s, mode %d: %v", k.kernel, k.mode, found)
		}
	}
}
