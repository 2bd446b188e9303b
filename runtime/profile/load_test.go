package profile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/stage"
)

// A picture that takes long delays those that arrive behind it; a loop that
// waits for one picture before it starts the next would see one slow picture.
func TestSlowPicturesAreNotForgivenTheirQueue(t *testing.T) {
	o := LoadOptions{Clients: 1, Rate: 100, Duration: 500 * time.Millisecond, Seed: 3}
	l, err := OpenLoop(context.Background(), o, 0, func(ctx context.Context, i int) error {
		_, end := stage.Start(ctx, "run", "")
		defer end()
		if i == 0 {
			time.Sleep(300 * time.Millisecond)
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, l.Arrived, len(l.Pictures))
	require.InDelta(t, 50, l.Arrived, 25)
	late := 0
	for i, p := range l.Pictures {
		require.GreaterOrEqual(t, p.Begun, p.Arrived, "picture %d", i)
		require.GreaterOrEqual(t, p.Done, p.Begun)
		if p.Done-p.Arrived > 0.05 {
			late++
		}
	}
	require.Greater(t, late, 5, "all that arrived meanwhile waited")
	require.Greater(t, l.Latency.P90, 0.1)
	require.GreaterOrEqual(t, l.Latency.Max, 0.3)
	require.Equal(t, "run", l.Stages[0].Name)
	require.Equal(t, l.Arrived, l.Stages[0].Runs)
	require.NotEmpty(t, l.Table().Rows)

	var b bytes.Buffer
	require.NoError(t, l.WriteTrace(&b))
	var traced struct {
		Events []traceEvent `json:"traceEvents"`
	}
	require.NoError(t, json.Unmarshal(b.Bytes(), &traced))
	lines := map[[2]int]float64{}
	pictures, runs := 0, 0
	for _, e := range traced.Events {
		if e.Phase != "X" {
			continue
		}
		switch {
		case e.Name == "run":
			runs++
		case e.Process == 1:
			pictures++
			fallthrough
		default: // those of a line follow each other
			line := [2]int{e.Process, e.Thread}
			require.GreaterOrEqual(t, e.Time, lines[line]-1, e.Name)
			lines[line] = e.Time + e.Duration
		}
	}
	require.Equal(t, [2]int{l.Arrived, l.Arrived}, [2]int{pictures, runs})
}

func TestClientsWorkSideBySide(t *testing.T) {
	var now, most atomic.Int32
	o := LoadOptions{Clients: 4, Rate: 400, Duration: 200 * time.Millisecond, Seed: 1}
	broken := errors.New("no picture")
	l, err := OpenLoop(context.Background(), o, 0, func(_ context.Context, i int) error {
		n := now.Add(1)
		defer now.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		time.Sleep(20 * time.Millisecond)
		if i == 1 {
			return broken
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, int32(4), most.Load())
	require.Equal(t, 1, l.Failed)
	require.Equal(t, l.Arrived-1, l.Latency.Runs)
	require.Contains(t, l.Table().Notes[1], "1 pictures failed")
}

func TestLoadsThatMakeNoSense(t *testing.T) {
	ctx := context.Background()
	for _, o := range []LoadOptions{{}, {Clients: 1, Duration: 1}, {Clients: 1, Rate: 1}, {Clients: 1, Rate: 1e9, Duration: time.Hour}, {Clients: 1, Rate: 1e-9, Duration: 1}} {
		_, err := OpenLoop(ctx, o, 0, nil)
		require.Error(t, err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := OpenLoop(ended, LoadOptions{Clients: 2, Rate: 10, Duration: time.Minute}, 0, func(context.Context, int) error { return nil })
	require.ErrorIs(t, err, context.Canceled)
	_, err = OpenLoop(ctx, LoadOptions{Clients: 2, Rate: 100, Duration: 50 * time.Millisecond}, 0, func(context.Context, int) error { return errors.New("broken") })
	require.ErrorContains(t, err, "no picture was done; the first: broken")
}
