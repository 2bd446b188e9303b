package profile

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/cpu"
	"unirestorer/runtime/predict"
)

// 100 operations and 10 bytes a second: the ridge is at 10 operations a byte.
var slow = Peaks{Operations: 100, Bytes: 10}

func TestRoofline(t *testing.T) {
	require.Equal(t, 10.0, slow.Ridge())
	require.Equal(t, 50.0, slow.Attainable(5), "bytes are the limit")
	require.Equal(t, 100.0, slow.Attainable(10))
	require.Equal(t, 100.0, slow.Attainable(40), "operations are the limit")
	require.Equal(t, 4.0, slow.floor(200, 40), "40 bytes take longer than 200 operations")
	require.Equal(t, 5.0, slow.floor(500, 40), "500 operations take longer than 40 bytes")
}

func TestRatesOfARun(t *testing.T) {
	n := Network{NetworkID: NetworkID{Width: 10, Height: 5, Batch: 4}, Operations: 300, Bytes: 60}
	r := n.ratesAt(8, &slow)
	require.Equal(t, 0.5, r.Images)
	require.Equal(t, 25.0, r.Pixels)
	require.Equal(t, 37.5, r.Operations)
	require.Equal(t, 7.5, r.Bytes)
	require.Equal(t, 0.75, r.Roofline, "6 of 8 seconds: the floor is set by the bytes")
	// The same by the roof: 37.5 of min(100, 5·10) operations a second.
	require.InDelta(t, r.Roofline, r.Operations/slow.Attainable(5), 1e-12)
	require.Zero(t, n.ratesAt(0, &slow))
	require.Zero(t, n.ratesAt(8, nil).Roofline)
}

func TestPredictionAddsUpLaunches(t *testing.T) {
	g := GPU{SMs: 1, Clock: 1, L2: 1, HBM: 1, Tensor: 1, FP32: 1, Integer: 1, Half: 1, Convert: 1, Special: 1, Gap: 0.25}
	parts := []Part{{Launches: []Launch{{Bytes: 40, Operations: 200}, {Bytes: 40, Operations: 500}}}, {Launches: []Launch{{}}}}
	p := price(&g, parts, [][]predict.Counts{{{Blocks: 1, Instructions: 16, Path: 3}, {Blocks: 1, Path: 5}}, {{}}})
	require.Equal(t, 3, p.Launches)
	require.Equal(t, int64(80), p.Bytes)
	require.Equal(t, int64(700), p.Operations)
	require.Equal(t, 9.0, p.Kernels)
	require.Equal(t, 0.75, p.Launch)
	require.Equal(t, 4.0, p.Issue)
	require.Equal(t, 9.75, p.Seconds())
	require.Equal(t, 4.25, parts[0].Launches[0].Predicted)
	require.Equal(t, predict.Latency, parts[0].Launches[1].Binding)
}

func TestPeaksOfThisMachineAreMeasured(t *testing.T) {
	b, err := cpu.New(cpu.Options{Threads: 1})
	require.NoError(t, err)
	defer b.Close()
	p, err := MeasurePeaks(context.Background(), b)
	require.NoError(t, err)
	require.Greater(t, p.Operations, 1e8)
	require.Greater(t, p.Bytes, 1e8)
	require.Contains(t, p.Source, "1 threads")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = MeasurePeaks(ctx, b)
	require.ErrorIs(t, err, context.Canceled)
}
