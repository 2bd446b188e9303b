package ptxsim_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// A plant is a kernel of checks.cu: how to launch it and what must be found with the defect on.
type plant struct {
	kernel      string
	kind        ptxsim.Kind
	grid, block int
	args        func(r *rig, a *device.Args) // all but the flag
}

// floatsOf uploads n floats.
func (r *rig) floatsOf(n int) device.Buffer {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i)
	}
	return r.upload(words(v))
}

var plants = []plant{
	{"past_end", ptxsim.OutOfBounds, 2, 64, func(r *rig, a *device.Args) { a.Buf(r.alloc(4 * 100)).I32(100) }},
	{"before_start", ptxsim.OutOfBounds, 2, 64, func(r *rig, a *device.Args) { a.Buf(r.floatsOf(128)).Buf(r.alloc(4 * 128)).I32(128) }},
	{"misaligned", ptxsim.Misaligned, 1, 32, func(r *rig, a *device.Args) { a.Buf(r.floatsOf(64)).Buf(r.alloc(4 * 32)) }},
	{"unwritten_global", ptxsim.Uninitialised, 1, 32, func(r *rig, a *device.Args) { a.Buf(r.alloc(4 * 32)).Buf(r.alloc(4 * 32)).I32(32) }},
	{"unwritten_shared", ptxsim.Uninitialised, 1, 64, out(64)},
	{"unwritten_local", ptxsim.Uninitialised, 1, 32, func(r *rig, a *device.Args) {
		a.Buf(r.upload(words([]int32{3, 1, 2, 0, 7, 6, 5, 4}))).Buf(r.alloc(4 * 32))
	}},
	{"shared_past_variable", ptxsim.OutOfBounds, 1, 32, out(32)},
	{"race_read_after_write", ptxsim.SharedRace, 1, 128, out(128)},
	{"race_write_after_read", ptxsim.SharedRace, 1, 128, out(128)},
	{"race_write_after_write", ptxsim.SharedRace, 1, 64, out(64)},
	{"race_in_warp", ptxsim.SharedRace, 1, 32, out(32)},
	{"race_broadcast", ptxsim.SharedRace, 1, 64, out(64)},
	{"race_partial_barrier", ptxsim.SharedRace, 1, 96, out(32)},
	{"blocks_overlap", ptxsim.GlobalRace, 3, 64, out(192)},
	{"blocks_read_neighbour", ptxsim.GlobalRace, 3, 64, func(r *rig, a *device.Args) { a.Buf(r.floatsOf(192)).Buf(r.alloc(4 * 192)) }},
	{"blocks_without_fence", ptxsim.GlobalRace, 5, 32, lastOf(5)},
	{"blocks_without_second_fence", ptxsim.GlobalRace, 5, 32, lastOf(5)},
	{"blocks_fence_of_another_lane", ptxsim.GlobalRace, 5, 32, lastOf(5)},
	{"blocks_fence_too_early", ptxsim.GlobalRace, 5, 64, lastOf(5)},
	{"blocks_polled", ptxsim.GlobalRace, 5, 64, lastOf(5)},
	{"async_without_wait", ptxsim.AsyncHazard, 1, 64, inOut},
	{"async_waits_for_fewer", ptxsim.AsyncHazard, 1, 64, inOut},
	{"async_without_barrier", ptxsim.SharedRace, 1, 64, inOut},
	{"async_refill_too_early", ptxsim.SharedRace, 1, 64, inOut},
	{"barrier_in_branch", ptxsim.BarrierDivergence, 1, 64, out(64)},
	{"barrier_never_complete", ptxsim.BarrierDivergence, 1, 64, out(64)},
	{"barriers_crossed", ptxsim.Deadlock, 1, 64, out(64)},
	{"shuffle_in_branch", ptxsim.ShuffleSource, 1, 32, out(32)},
	{"shuffle_inactive_source", ptxsim.ShuffleSource, 1, 32, out(32)},
	{"shuffle_mask_without_self", ptxsim.WarpDivergence, 1, 32, out(32)},
	{"spin", ptxsim.StepLimit, 1, 32, func(r *rig, a *device.Args) { a.Buf(r.upload(make([]byte, 4))).Buf(r.alloc(4 * 32)) }},
	{"stops", ptxsim.Trap, 1, 32, out(32)},
}

// out passes a buffer of n values that nobody wrote.
func out(n int) func(r *rig, a *device.Args) {
	return func(r *rig, a *device.Args) { a.Buf(r.alloc(4 * n)) }
}

// lastOf passes what n blocks need whose last one finishes the job: their parts, a counter, the result.
func lastOf(n int) func(r *rig, a *device.Args) {
	return func(r *rig, a *device.Args) {
		a.Buf(r.alloc(4 * n)).Buf(r.upload(make([]byte, 4))).Buf(r.alloc(4 * n))
	}
}

func inOut(r *rig, a *device.Args) { a.Buf(r.floatsOf(128)).Buf(r.alloc(4 * 64)) }

func TestPlantedDefectsAreFoundAndTheirTwinsAreNot(t *testing.T) {
	findPlants(t, "checks", plants)
}

// findPlants runs kernels of a sample without their defect, which must be silent, and with it.
func findPlants(t *testing.T, module string, plants []plant) {
	ptx := sample(t, module+".ptx")
	for _, p := range plants {
		t.Run(p.kernel, func(t *testing.T) {
			for _, seed := range []int64{0, 1, 2, 3} {
				r := newRig(t, ptxsim.Options{Seed: seed, MaxSteps: 1 << 18, Workers: 1}, module, ptx)
				var a device.Args
				p.args(r, &a)
				require.NoError(t, r.launch(p.kernel, device.D1(p.grid), device.D1(p.block), 0, a.I32(0)))

				a.Reset()
				p.args(r, &a)
				err := r.launch(p.kernel, device.D1(p.grid), device.D1(p.block), 0, a.I32(1))
				var found *ptxsim.FindingsError
				require.ErrorAs(t, err, &found)
				require.True(t, found.Has(p.kind), "wanted %s, got %v", p.kind, err)
				f := found.Findings[0]
				require.Equal(t, p.kernel, f.Kernel)
				require.Positive(t, f.Line)
				require.Regexp(t, `^\w+\.(cu|hpp):\d+`, f.Source)
				require.Contains(t, err.Error(), "kernel "+p.kernel+" (grid (")
				require.Less(t, int(f.Thread.X), p.block)
			}
		})
	}
}

// TestBlocksPassOnWhatTheyAcquired has a fence missing in the block between writer and reader.
func TestBlocksPassOnWhatTheyAcquired(t *testing.T) {
	for _, bug := range []int32{0, 1} {
		r := newRig(t, ptxsim.Options{}, "checks", sample(t, "checks.ptx"))
		x, flags, y := r.alloc(4), r.upload(make([]byte, 8)), r.alloc(4)
		var a device.Args
		err := r.launch("blocks_chain", device.D1(3), device.D1(1), 0, a.Buf(x).Buf(flags).Buf(y).I32(bug))
		if bug == 0 {
			require.NoError(t, err)
			require.Equal(t, words([]float32{1}), r.bytes(y))
			continue
		}
		var found *ptxsim.FindingsError
		require.ErrorAs(t, err, &found)
		require.Len(t, found.Findings, 1)
		require.Equal(t, ptxsim.GlobalRace, found.Findings[0].Kind)
		require.Equal(t, device.Dim3{X: 2}, found.Findings[0].Block)
	}
}

func TestAccessToFreedMemoryIsFound(t *testing.T) {
	r := newRig(t, ptxsim.Options{}, "checks", sample(t, "checks.ptx"))
	b := r.alloc(400)
	require.NoError(t, r.dev.Free(b))
	var a device.Args
	err := r.launch("past_end", device.D1(1), device.D1(32), 0, a.Buf(b).I32(32).I32(0))
	require.ErrorContains(t, err, "freed buffer")
	require.ErrorContains(t, r.dev.Free(b), "already freed")
	require.ErrorContains(t, r.dev.Free(device.Buffer{Ptr: b.Ptr + 4, Size: 1}), "not the start")
	require.ErrorContains(t, r.str.CopyDtoH(make([]byte, 4), b), "freed")
}

func TestPoisonMakesStaleMemoryUnwritten(t *testing.T) {
	r := newRig(t, ptxsim.Options{}, "checks", sample(t, "checks.ptx"))
	x, y := r.floatsOf(128), r.alloc(4*128)
	var a device.Args
	run := func() error {
		return r.launch("before_start", device.D1(2), device.D1(64), 0, a.Reset().Buf(x).Buf(y).I32(128).I32(0))
	}
	require.NoError(t, run())
	part, err := x.Slice(256, 4)
	require.NoError(t, err)
	require.NoError(t, r.dev.Poison(part))
	var found *ptxsim.FindingsError
	require.ErrorAs(t, run(), &found)
	require.Equal(t, uint64(x.Ptr)+256, found.Findings[0].Address)
	require.Equal(t, device.Dim3{X: 1}, found.Findings[0].Block)
	require.Equal(t, device.Dim3{}, found.Findings[0].Thread)
}

func TestCancelledContextStopsALaunch(t *testing.T) {
	r := newRig(t, ptxsim.Options{MaxSteps: 1 << 60}, "checks", sample(t, "checks.ptx"))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	f, err := r.mod.Function("spin")
	require.NoError(t, err)
	var a device.Args
	a.Buf(r.upload(make([]byte, 4))).Buf(r.alloc(128)).I32(1)
	err = r.str.Launch(ctx, f, device.Shape{Grid: device.D1(1), Block: device.D1(32)}, &a)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	var le *device.LaunchError
	require.True(t, errors.As(err, &le))
	require.Equal(t, "spin", le.Kernel)
}

func TestFindingsAreBounded(t *testing.T) {
	r := newRig(t, ptxsim.Options{MaxFindings: 1}, "checks", sample(t, "checks.ptx"))
	var a device.Args
	err := r.launch("race_write_after_read", device.D1(4), device.D1(128), 0, a.Buf(r.alloc(16)).I32(1))
	var found *ptxsim.FindingsError
	require.ErrorAs(t, err, &found)
	require.Len(t, found.Findings, 1)
	require.Positive(t, found.More)
}

func TestFindingsDoNotDependOnTheWorkers(t *testing.T) {
	var first []ptxsim.Finding
	for _, workers := range []int{1, 2, 5} {
		r := newRig(t, ptxsim.Options{Workers: workers}, "checks", sample(t, "checks.ptx"))
		y := r.alloc(4 * 128)
		require.NoError(t, r.str.Memset(y, 0))
		var a device.Args
		err := r.launch("race_write_after_read", device.D1(1), device.D1(128), 0, a.Buf(y).I32(1))
		var found *ptxsim.FindingsError
		require.ErrorAs(t, err, &found)
		all := found.Findings
		require.ErrorAs(t, r.launch("before_start", device.D1(9), device.D1(32), 0, a.Reset().Buf(y).Buf(r.alloc(4*256)).I32(256).I32(1)), &found)
		all = append(all, found.Findings...)
		if first == nil {
			first = all
		}
		require.Equal(t, first, all)
	}
}
