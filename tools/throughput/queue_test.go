package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// plenty is a queue that is never in the way, with answers at once.
func plenty() (r rates) {
	for s := range r.carries {
		r.carries[s] = 1e9
	}
	return r
}

func TestQueueThatIsNotInTheWayLeavesGPUsBusy(t *testing.T) {
	rate, busy, _, _ := queuePlay(plenty(), 8, 1, 100, [2]float64{}, 2000)
	require.InEpsilon(t, 80, rate, 0.02)
	require.Greater(t, busy, 0.98)
}

func TestWhatAPictureNeedsOfTheSlowestStationBoundsTheRate(t *testing.T) {
	for s, n := range map[station]float64{messages: 4, writes: 4, s3Reads: 2, s3Writes: 1, requests: 2} {
		r := plenty()
		r.carries[s] = 1000
		rate, _, binds, share := queuePlay(r, 300, 1, 100, [2]float64{}, 9000)
		require.InEpsilon(t, 1000/n, rate, 0.05, stationNames[s])
		require.Equal(t, stationNames[s], binds)
		require.Greater(t, share, 0.98)
	}
}

// A worker waits for every answer, so that a second one on the same GPU hides the first one's waiting.
func TestSecondWorkerHidesLatency(t *testing.T) {
	r := plenty()
	r.latency[s3Reads], r.latency[s3Writes] = 30, 40
	one, _, _, _ := queuePlay(r, 4, 1, 100, [2]float64{}, 2000)
	two, busy, _, _ := queuePlay(r, 4, 2, 100, [2]float64{}, 2000)
	require.InEpsilon(t, 4*1000/200., one, 0.02)
	require.Greater(t, two, 1.9*one)
	require.Greater(t, busy, 0.95)
}
