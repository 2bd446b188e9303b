package gpu

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"

	"unirestorer/runtime/backend/backendtest"
)

func TestLoweringListsTheLaunchesOfAProgram(t *testing.T) {
	b := newBackend(t, Options{})
	for _, g := range backendtest.Chains(t)[:3] {
		p := compile(t, b, g)
		l, err := Lower(g, b.info)
		require.NoError(t, err)
		require.Equal(t, p.Memory(), l.Memory())
		require.LessOrEqual(t, l.WeightSpace(), l.Memory().Weights)
		arena, weights := device.Buffer{Ptr: 1 << 20, Size: l.Memory().Arena}, device.Buffer{Ptr: 1 << 40, Size: l.WeightSpace()}
		all, err := l.Launches(arena, weights)
		require.NoError(t, err)
		for _, n := range g.Nodes {
			want := p.Launches(n)
			require.Len(t, all[n.ID], len(want))
			for i, launch := range all[n.ID] {
				require.Equal(t, want[i].Kernel, launch.Kernel)
				require.Equal(t, want[i].Shape, launch.Shape)
				require.Equal(t, want[i].Args.Fields(), launch.Args.Fields())
			}
		}
		if l.WeightSpace() > 0 {
			_, err = l.Launches(arena, device.Buffer{Ptr: 1 << 40, Size: l.WeightSpace() - alignment})
			require.Error(t, err, "a constant does not fit")
		}
	}
}
