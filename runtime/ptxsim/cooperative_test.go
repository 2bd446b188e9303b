package ptxsim_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

func TestCooperativeGridsWaitForAllTheirBlocks(t *testing.T) {
	const n = 8 * 64
	x := uniform(n)
	for _, seed := range seeds {
		r := newRig(t, ptxsim.Options{Seed: seed}, "cooperative", sample(t, "cooperative.ptx"))
		run := func(kernel string, cooperative bool, blocks uint32) ([]float32, []float32, error) {
			f, err := r.mod.Function(kernel)
			require.NoError(t, err)
			part, y := r.alloc(4*n), r.alloc(4*n)
			shape := device.Shape{Grid: device.D1(int(blocks)), Block: device.D1(64), Cooperative: cooperative}
			err = r.str.Launch(context.Background(), f, shape, new(device.Args).Buf(r.upload(words(x))).Buf(part).Buf(y))
			return fromWords[float32](r.bytes(part)), fromWords[float32](r.bytes(y)), err
		}
		part, y, err := run("mirrored", true, 8)
		require.NoError(t, err)
		for i := range x {
			require.Equal(t, 2*x[n-1-i], y[i])
			require.Equal(t, 2*x[i], part[i])
		}
		var found *ptxsim.FindingsError
		_, _, err = run("unsynchronised", true, 8)
		require.ErrorAs(t, err, &found)
		_, _, err = run("mirrored", false, 8)
		require.ErrorAs(t, err, &found, "an ordinary launch")
		require.Equal(t, ptxsim.Trap, found.Findings[0].Kind)
		require.ErrorContains(t, err, "needs a cooperative launch")
		_, _, err = run("mirrored", true, 1<<16)
		require.ErrorIs(t, err, ptxsim.ErrTooManyBlocks)
	}
}
