package ptxsim_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// counted passes n floats and room for as many.
func counted(n int) func(r *rig, a *device.Args) {
	return func(r *rig, a *device.Args) { a.Buf(r.floatsOf(n)).Buf(r.alloc(4 * n)) }
}

func unwritten(n int) func(r *rig, a *device.Args) {
	return func(r *rig, a *device.Args) { a.Buf(r.alloc(4 * n)).Buf(r.alloc(4 * n)) }
}

func flagged(n int) func(r *rig, a *device.Args) {
	return func(r *rig, a *device.Args) { a.Buf(r.alloc(4 * n)).Buf(r.upload(make([]byte, 4))).Buf(r.alloc(4 * n)) }
}

// holes are the kernels of holes.cu.
var holes = []plant{
	{"shuffle_is_no_fence", ptxsim.SharedRace, 1, 32, out(32)},
	{"vote_is_no_fence", ptxsim.SharedRace, 1, 32, out(32)},
	{"match_is_no_fence", ptxsim.SharedRace, 1, 32, out(32)},
	{"half_warp_barrier", ptxsim.SharedRace, 1, 32, out(32)},
	{"barriers_of_overlapping_lanes", ptxsim.SharedRace, 1, 32, out(32)},
	{"half_warp_broadcast", ptxsim.SharedRace, 1, 32, out(32)},
	{"global_race_in_block", ptxsim.BlockRace, 1, 128, unwritten(128)},
	{"global_race_in_warp", ptxsim.BlockRace, 1, 32, unwritten(32)},
	{"global_write_after_read", ptxsim.BlockRace, 1, 128, counted(128)},
	{"global_same_place", ptxsim.BlockRace, 1, 64, out(64)},
	{"flag_between_warps", ptxsim.BlockRace, 1, 64, flagged(4)},
	{"fence_of_block_scope", ptxsim.GlobalRace, 5, 32, lastOf(5)},
	{"atomic_of_block_scope", ptxsim.GlobalRace, 5, 32, func(r *rig, a *device.Args) { a.Buf(r.upload(make([]byte, 4))) }},
	{"noncoherent_load", ptxsim.NonCoherent, 1, 64, counted(64)},
	{"async_source_overwritten", ptxsim.AsyncHazard, 1, 64, counted(64)},
	{"overrun_into_neighbour", ptxsim.OutOfBounds, 1, 32, out(32)},
	{"unwritten_register", ptxsim.UnwrittenRegister, 1, 32, out(32)},
	{"unwritten_predicate", ptxsim.UnwrittenRegister, 1, 32, out(32)},
	{"unwritten_sum", ptxsim.UnwrittenRegister, 1, 32, out(32)},
}

func TestWhatIsNoSynchronisationIsFoundAndItsTwinIsNot(t *testing.T) {
	findPlants(t, "holes", holes)
}

func TestCorrectKernelsThatLookSuspiciousAreSilent(t *testing.T) {
	ptx := sample(t, "silent.ptx")
	zero := func(r *rig) device.Buffer { return r.upload(make([]byte, 4)) }
	for _, k := range []struct {
		kernel      string
		grid, block int
		args        func(r *rig, a *device.Args)
		want        []uint32 // in the last argument, if known
	}{
		{"exit_before_warp_barrier", 1, 32, out(32), nil},
		{"exit_while_others_wait", 1, 32, out(32), nil},
		{"exit_before_barrier", 1, 96, out(96), nil},
		{"exit_while_block_waits", 1, 96, out(96), nil},
		{"work_before_exit", 1, 96, out(96), nil},
		{"shuffle_without_exited", 1, 32, out(32), []uint32{1, 0, 3, 2}},
		{"generic_shared", 1, 64, out(64), nil},
		{"borrow", 1, 1, func(r *rig, a *device.Args) { a.Buf(r.upload(words([]uint32{1, 7, 2, 3}))).Buf(r.alloc(8)) }, []uint32{^uint32(0), 3}},
		{"spin_lock", 2, 64, func(r *rig, a *device.Args) { a.Buf(zero(r)).Buf(zero(r)) }, []uint32{128}},
		{"spin_lock_tight", 2, 64, func(r *rig, a *device.Args) { a.Buf(zero(r)).Buf(zero(r)) }, []uint32{128}},
		{"grid_barrier", 7, 64, func(r *rig, a *device.Args) { a.Buf(zero(r)).Buf(r.alloc(4 * 448)).Buf(r.alloc(4 * 448)) }, nil},
		{"flag_within_block", 1, 64, flagged(4), nil},
		{"in_place", 1, 32, func(r *rig, a *device.Args) { a.Buf(r.floatsOf(256)) }, nil},
		{"equal_stores", 1, 64, out(1), nil},
		{"loop_in_place", 1, 64, func(r *rig, a *device.Args) { a.Buf(r.floatsOf(1000)).I32(1000) }, nil},
		{"rotate_tiles", 1, 64, func(r *rig, a *device.Args) { a.Buf(r.alloc(4 * 64)).Buf(r.alloc(4 * 64)).I32(9) }, nil},
		{"conditional_register", 1, 32, func(r *rig, a *device.Args) { a.Buf(r.alloc(4 * 32)).I32(2) }, nil},
		{"discarded_register", 1, 32, func(r *rig, a *device.Args) { a.Buf(r.alloc(4 * 32)).I32(7) }, nil},
	} {
		t.Run(k.kernel, func(t *testing.T) {
			for _, seed := range []int64{0, 1, 2, 3} {
				r := newRig(t, ptxsim.Options{Seed: seed, MaxSteps: 1 << 22}, "silent", ptx)
				var a device.Args
				k.args(r, &a)
				require.NoError(t, r.launch(k.kernel, device.D1(k.grid), device.D1(k.block), 0, &a))
				if k.want != nil {
					require.Equal(t, k.want, fromWords[uint32](r.bytes(r.last))[:len(k.want)])
				}
			}
		})
	}
}
