//go:build cuda && cudasim && linux

package doctor

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// On the simulated driver the golden network runs through gorgonia.org/cu and the kernels' PTX.
func TestSelfTestOnTheSimulatedDriver(t *testing.T) {
	r, err := Run(context.Background(), Options{Device: "cuda:1"})
	require.NoError(t, err)
	require.Contains(t, find(t, r, "driver", "library").Text, "simulated")
	require.Equal(t, OK, find(t, r, "cuda:1", "capability").Level)
	require.Equal(t, OK, find(t, r, "cuda:1", "memory").Level)
	l := find(t, r, "cuda:1", "self test")
	require.Equal(t, OK, l.Level, "%+v", l)
	require.Contains(t, l.Text, "restormer is right on 3 pictures")
}
