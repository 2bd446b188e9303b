package ptxsim_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// bulk are the kernels of bulk.cu.
var bulk = []plant{
	{"load_without_wait", ptxsim.AsyncHazard, 1, 64, counted(64)},
	{"load_waited_for_by_one", ptxsim.SharedRace, 1, 64, counted(64)},
	{"ring", ptxsim.SharedRace, 1, 96, counted(512)},
	{"store_without_fence", ptxsim.ProxyFence, 1, 64, out(64)},
	{"store_with_fence_too_early", ptxsim.ProxyFence, 1, 64, out(64)},
	{"source_overwritten", ptxsim.AsyncHazard, 1, 64, out(128)},
	{"ends_before_source_is_read", ptxsim.AsyncHazard, 1, 64, out(64)},
	{"stored_and_read", ptxsim.AsyncHazard, 1, 64, unwritten(64)},
	{"arrive_without_wait", ptxsim.SharedRace, 1, 64, out(64)},
	{"arrive_for_the_warp", ptxsim.SharedRace, 1, 64, out(64)},
	{"too_many_arrive", ptxsim.MbarrierMisuse, 1, 64, out(64)},
	{"not_initialised", ptxsim.MbarrierMisuse, 1, 64, out(64)},
	{"waits_for_ever", ptxsim.Deadlock, 1, 64, out(64)},
	{"tokens", ptxsim.SharedRace, 1, 64, out(64)},
	{"copies_at_mbarrier", ptxsim.AsyncHazard, 1, 64, counted(64)},
}

func TestDefectsOfBulkCopiesAndMbarriersAreFoundAndTheirTwinsAreNot(t *testing.T) {
	findPlants(t, "bulk", bulk)
}

func TestBulkCopiesAndMbarriersMoveTheRightBytes(t *testing.T) {
	reversed := func(i int) float32 { return float32(63 - i) }
	same := func(i int) float32 { return float32(i) }
	for _, check := range []bool{true, false} {
		for kernel, want := range map[string]func(i int) float32{
			"load_without_wait": reversed, "load_waited_for_by_one": reversed, "arrive_without_wait": reversed, "copies_at_mbarrier": reversed,
			"ring":                func(i int) float32 { return float32(8*(63-i) + 64*28) },
			"tokens":              func(i int) float32 { return float32(4*(63-i) + 6) },
			"store_without_fence": same, "store_with_fence_too_early": same, "ends_before_source_is_read": same,
			"stored_and_read": reversed, "too_many_arrive": same, "waits_for_ever": same,
		} {
			r := newRig(t, ptxsim.Options{NoCheck: !check, Seed: 3}, "bulk", sample(t, "bulk.ptx"))
			for _, p := range bulk {
				if p.kernel != kernel {
					continue
				}
				var a device.Args
				p.args(r, &a)
				require.NoError(t, r.launch(kernel, device.D1(1), device.D1(p.block), 0, a.I32(0)), kernel)
				got := fromWords[float32](r.bytes(r.last))
				for i := range 64 {
					require.Equal(t, want(i), got[i], "%s, element %d", kernel, i)
				}
			}
		}
	}
}
