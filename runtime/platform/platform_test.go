package platform

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/graphtest"
	"unirestorer/runtime/backend"
)

func TestListedDevicesOpenAndOthersDoNot(t *testing.T) {
	for _, d := range List() {
		require.NotEmpty(t, d.Name)
		b, err := Open(d.Name, Options{Threads: 1})
		if !d.Available {
			require.NotEmpty(t, d.Reason)
			require.ErrorContains(t, err, "open "+d.Name)
			continue
		}
		require.NoError(t, err)
		require.NotEmpty(t, d.Description)
		kind, _, _ := strings.Cut(d.Name, ":")
		require.Equal(t, kind, b.Info().Name)
		require.NoError(t, b.Close())
	}
	b, err := Open("", Options{Threads: 2})
	require.NoError(t, err)
	require.Equal(t, 2, b.Info().Threads)
	require.NoError(t, b.Close())
	for _, name := range []string{"CPU", "cpu:1", "gpu", "cpu ", "sim:0", "cuda:", "cuda:all", "cuda:0,1"} {
		_, err := Open(name, Options{})
		require.ErrorIs(t, err, ErrUnknownDevice, name)
		require.ErrorContains(t, err, name)
	}
	for _, name := range []string{"cpu", "sim"} {
		_, err = Open(name, Options{Threads: -1})
		require.Error(t, err, name)
	}
}

func TestListTellsOfEveryKindOfDevice(t *testing.T) {
	kinds := map[string]bool{}
	for _, d := range List() {
		kind, _, _ := strings.Cut(d.Name, ":")
		kinds[kind] = true
	}
	require.Equal(t, map[string]bool{"cpu": true, "sim": true, "cuda": true}, kinds)
}

// Nothing about a result depends on where it was computed, beyond rounding.
func TestSimulatedDeviceAgreesWithTheCPU(t *testing.T) {
	for _, c := range graphtest.Cases() {
		if !c.Chain {
			continue
		}
		g, err := c.Build()
		require.NoError(t, err)
		inputs := graphtest.RandomInputs(g, 5)
		results := map[string][][]float32{}
		for _, name := range []string{"cpu", "sim"} {
			b, err := Open(name, Options{})
			require.NoError(t, err)
			p, err := b.Compile(context.Background(), g)
			require.NoError(t, err)
			for _, port := range g.Outputs {
				results[name] = append(results[name], make([]float32, port.Shape.Elems()))
			}
			require.NoError(t, p.Run(context.Background(), inputs, results[name], backend.RunOptions{}))
			require.NoError(t, p.Close())
			require.NoError(t, b.Close())
		}
		for i := range g.Outputs {
			d := graphtest.Compare(results["sim"][i], results["cpu"][i])
			require.Greater(t, d.PSNR(d.Peak), 60.0, "%s: %v", c.Name, d)
		}
	}
}
