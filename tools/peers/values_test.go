package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/graph/models"
)

// Rounding could not be told from errors if activations grew or died on the way.
func TestActivationsStaySane(t *testing.T) {
	for _, n := range []network{catalogue()[0], catalogue()[3], {name: "dehazeformer-xs", architecture: models.DehazeFormerName,
		args: `{"embed_dims":[12,24,48,24,12],"depths":[8,8,8,4,4]}`}} {
		t.Run(n.name, func(t *testing.T) {
			p := preparer{folder: t.TempDir(), seed: 1, log: t.Logf}
			f, err := p.prepare(t.Context(), n, 32)
			require.NoError(t, err)
			e := &cpuEngine{}
			defer e.Close()
			_, err = e.load(t.Context(), load{Architecture: n.architecture, Args: json.RawMessage(n.args), Weights: f.weights,
				Input: f.input, Shape: [4]int{1, 3, 32, 32}, Threads: 1})
			require.NoError(t, err)
			require.NoError(t, e.run(t.Context()))
			values, _ := e.output()
			image := randomImage(32, 1)
			var changed float64
			for i, v := range values {
				require.Less(t, math.Abs(float64(v)), 30.0)
				changed += math.Abs(float64(v - image[i]))
			}
			require.Greater(t, changed/float64(len(values)), 0.05)
		})
	}
}

func TestFilesAreMadeOnce(t *testing.T) {
	p := preparer{folder: t.TempDir(), seed: 1, log: t.Logf}
	first, err := p.prepare(t.Context(), tiny(), 8)
	require.NoError(t, err)
	before, err := os.Stat(first.weights)
	require.NoError(t, err)
	again, err := p.prepare(t.Context(), tiny(), 8)
	require.NoError(t, err)
	require.Equal(t, first, again)
	after, err := os.Stat(again.weights)
	require.NoError(t, err)
	require.True(t, os.SameFile(before, after))

	p.seed = 2
	other, err := p.prepare(t.Context(), tiny(), 8)
	require.NoError(t, err)
	require.NotEqual(t, first.weights, other.weights)
	require.NotEqual(t, first.input, other.input)
}

func TestHighWater(t *testing.T) {
	n, err := highWater([]byte("Name:\tnode\nVmPeak:\t  999 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 1 kB\n"))
	require.NoError(t, err)
	require.Equal(t, int64(1234<<10), n)
	for _, text := range []string{"", "VmHWM:", "VmHWM: x kB", "VmHWM: -1 kB", "VmHWM: 12 MB", "VmHWM: 99999999999999999999 kB"} {
		_, err := highWater([]byte(text))
		require.ErrorContains(t, err, "VmHWM", "%q", text)
	}
	if n, err := peakMemory(os.Getpid()); err != nil {
		require.ErrorIs(t, err, errNoPeak)
	} else {
		require.Greater(t, n, int64(1<<20))
	}
}

func FuzzHighWater(f *testing.F) {
	f.Add([]byte("Name:\tnode\nVmHWM:\t 1234 kB\n"))
	f.Fuzz(func(t *testing.T, status []byte) {
		if n, err := highWater(status); err == nil {
			require.GreaterOrEqual(t, n, int64(0))
			require.True(t, bytes.Contains(status, []byte("VmHWM:")))
		}
	})
}
