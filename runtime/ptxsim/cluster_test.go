package ptxsim_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// clusters are the kernels of cluster.cu.
var clusters = []plant{
	{"neighbour", ptxsim.SharedRace, 8, 64, out(8 * 64)},
	{"owner_ends", ptxsim.BlockLifetime, 8, 64, out(8 * 64)},
	{"owner_not_begun", ptxsim.BlockLifetime, 4, 64, out(4 * 64)},
	{"relaxed_arrival", ptxsim.SharedRace, 2, 64, out(2 * 64)},
	{"histogram", ptxsim.SharedRace, 4, 64, out(64)},
	{"barrier_of_some", ptxsim.Deadlock, 2, 64, out(128)},
	{"arrives_twice", ptxsim.BarrierDivergence, 2, 64, out(128)},
	{"through_global", ptxsim.BlockRace, 4, 64, unwritten(4 * 64)},
	{"between_clusters", ptxsim.GlobalRace, 4, 64, unwritten(4 * 64)},
	{"multicast", ptxsim.AsyncHazard, 4, 64, counted(4 * 64)},
	{"block_to_block", ptxsim.ProxyFence, 2, 64, out(128)},
	{"stores_that_count", ptxsim.AsyncHazard, 2, 64, out(128)},
	{"arrives_far", ptxsim.SharedRace, 2, 64, out(128)},
	{"address_of_another", ptxsim.OutOfBounds, 2, 64, out(128)},
	{"no_such_block", ptxsim.OutOfBounds, 2, 64, out(128)},
}

func TestDefectsOfClustersAreFoundAndTheirTwinsAreNot(t *testing.T) {
	findPlants(t, "cluster", clusters)
}

func TestBlocksOfAClusterExchangeTheRightBytes(t *testing.T) {
	for _, check := range []bool{true, false} {
		for kernel, want := range map[string]func(block, i int) float32{
			"neighbour":          func(b, i int) float32 { return float32((b&^3+(b+1)%4)*64 + 63 - i) },
			"owner_ends":         func(b, i int) float32 { return float32((b&^3+(b+1)%4)*64 + i) },
			"owner_not_begun":    func(_, i int) float32 { return float32(i) },
			"relaxed_arrival":    func(_, i int) float32 { return float32(63 - i) },
			"through_global":     func(_, i int) float32 { return float32(63 - i) },
			"between_clusters":   func(_, i int) float32 { return float32(i) },
			"multicast":          func(_, i int) float32 { return float32(63 - i) },
			"block_to_block":     func(b, i int) float32 { return float32((b^1)*64 + i) },
			"stores_that_count":  func(_, i int) float32 { return float32(63 - i) },
			"arrives_far":        func(_, i int) float32 { return float32(2 * (63 - i)) },
			"address_of_another": func(_, i int) float32 { return float32(i) },
			"no_such_block":      func(_, i int) float32 { return float32(i) },
		} {
			r := newRig(t, ptxsim.Options{NoCheck: !check, Seed: 5}, "cluster", sample(t, "cluster.ptx"))
			for _, p := range clusters {
				if p.kernel != kernel {
					continue
				}
				var a device.Args
				p.args(r, &a)
				require.NoError(t, r.launch(kernel, device.D1(p.grid), device.D1(p.block), 0, a.I32(0)), kernel)
				got := fromWords[float32](r.bytes(r.last))
				for b := range p.grid {
					for i := range 64 {
						require.Equal(t, want(b, i), got[b*64+i], "%s, block %d, element %d", kernel, b, i)
					}
				}
			}
		}
	}
}

func TestALaunchShapesClusters(t *testing.T) {
	r := newRig(t, ptxsim.Options{}, "cluster", sample(t, "cluster.ptx"))
	f, err := r.mod.Function("registers")
	require.NoError(t, err)
	run := func(grid, cluster device.Dim3) error {
		var a device.Args
		a.Buf(r.upload(make([]byte, 4*8*int(grid.Count()))))
		return r.str.Launch(t.Context(), f, device.Shape{Grid: grid, Block: device.D1(32), Cluster: cluster}, &a)
	}
	require.NoError(t, run(device.D2(4, 6), device.D2(2, 3)))
	got := fromWords[int32](r.bytes(r.last))
	for y := range 6 {
		for x := range 4 {
			require.Equal(t, []int32{int32(x%2 + 2*(y%3)), 6, int32(x % 2), int32(y % 3), 2, 3, int32(x / 2), int32(y / 3)}, got[8*(4*y+x):][:8])
		}
	}
	require.ErrorContains(t, run(device.D1(6), device.D1(4)), "not a multiple")
	require.ErrorContains(t, run(device.D1(16), device.D1(16)), "at most 8")
	f.(*ptxsim.Function).AllowNonPortableCluster(true)
	require.NoError(t, run(device.D1(16), device.D1(16)))
	require.ErrorContains(t, run(device.D1(32), device.D1(32)), "at most 16")

	f, err = r.mod.Function("neighbour")
	require.NoError(t, err)
	var a device.Args
	err = r.str.Launch(t.Context(), f, device.Shape{Grid: device.D1(6), Block: device.D1(64)}, a.Buf(r.alloc(4*6*64)).I32(0))
	require.ErrorContains(t, err, "not a multiple")
	err = r.str.Launch(t.Context(), f, device.Shape{Grid: device.D1(8), Block: device.D1(64), Cluster: device.D1(2)}, &a)
	require.ErrorContains(t, err, "requires clusters")
}
