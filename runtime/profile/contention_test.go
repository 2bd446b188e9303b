package profile

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// spin keeps the processor busy.
func spin(until <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-until:
			return
		default:
			n *= 3
		}
	}
}

func TestABusyLoopBesideTheRunIsNoticed(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells")
	}
	// Loops in this very process, more than there are cores, make its threads wait.
	old := runtime.GOMAXPROCS(3 * runtime.NumCPU())
	defer runtime.GOMAXPROCS(old)
	end := watch(runtime.NumCPU())
	until := make(chan struct{})
	for range 3 * runtime.NumCPU() {
		go spin(until)
	}
	time.Sleep(400 * time.Millisecond)
	close(until)
	c := end()
	require.NotNil(t, c)
	require.Contains(t, c.String(), "waited for a core")
	require.Greater(t, c.Waiting, 0.2)
}

func TestReasonsAreThoseOfTheCounters(t *testing.T) {
	at := time.Now()
	later := func(change func(*busyness)) *Contention {
		b := busyness{at: at.Add(time.Second), own: 2, busy: 2.1}
		change(&b)
		return judgeContention(busyness{at: at}, b, 2, 2)
	}
	require.Nil(t, later(func(*busyness) {}), "a quiet machine is not spoken of")
	for want, change := range map[string]func(*busyness){
		"waited for a core 50 %":      func(b *busyness) { b.own, b.waited = 1, 1 },
		"others used 1.0 of 2 cores":  func(b *busyness) { b.own, b.busy = 1, 2 },
		"the hypervisor took 10 %":    func(b *busyness) { b.stolen = 0.2 },
		"quota held it back for 0.30": func(b *busyness) { b.throttled = 0.3 },
	} {
		c := later(change)
		require.NotNil(t, c, want)
		require.Contains(t, c.String(), want)
	}
	require.Nil(t, judgeContention(busyness{at: at}, busyness{at: at.Add(time.Second), own: 1, busy: 2}, 1, 2), "there is a core for others")
}

func TestCountersOfLinuxAreRead(t *testing.T) {
	busy, stolen := procStat([]byte("cpu  100 20 30 4000 5 1 2 7 0 0\ncpu0 1 2\n"))
	require.InDelta(t, 1.53, busy, 1e-9)
	require.InDelta(t, 0.07, stolen, 1e-9)
	require.InDelta(t, 0.25, throttled([]byte("nr_throttled 3\nthrottled_usec 250000\n")), 1e-12)
	require.InDelta(t, 0.25, throttled([]byte("throttled_time 250000000\n")), 1e-12)
	on, waiting := schedstat([]byte("2000000000 500000000 7\n"))
	require.Equal(t, [2]float64{2, 0.5}, [2]float64{on, waiting})
	for _, damaged := range []string{"", "x", "cpu", "cpu a b c d e f g h", "throttled_usec x"} {
		procStat([]byte(damaged))
		schedstat([]byte(damaged))
		require.Zero(t, throttled([]byte(damaged)))
	}
}

func TestPeaksFarBelowTheRecordAreReplacedAndSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "peaks.json")
	ctx := context.Background()
	good, err := Peaks{200e9, 20e9, "measured", ""}.AgainstRecord(ctx, path, "two cores")
	require.NoError(t, err)
	require.Empty(t, good.Warning)
	bad, err := Peaks{55e9, 21e9, "measured", ""}.AgainstRecord(ctx, path, "two cores")
	require.NoError(t, err)
	require.InDelta(t, 200e9, bad.Operations, 1)
	require.Contains(t, bad.Warning, "measured now were 55 GFLOP/s")
	near, err := Peaks{190e9, 21e9, "measured", ""}.AgainstRecord(ctx, path, "two cores")
	require.NoError(t, err)
	require.Empty(t, near.Warning)
	other, err := Peaks{55e9, 10e9, "measured", ""}.AgainstRecord(ctx, path, "one core")
	require.NoError(t, err)
	require.Empty(t, other.Warning)
	require.NoError(t, os.WriteFile(path, []byte("{"), 0o600))
	again, err := Peaks{55e9, 21e9, "measured", ""}.AgainstRecord(ctx, path, "two cores")
	require.NoError(t, err)
	require.Empty(t, again.Warning)
}

func TestDisturbedTimesAreMarkedAndNotJudged(t *testing.T) {
	make := func(seconds float64, c *Contention) *Profile {
		samples := []float64{}
		for i := range 20 {
			samples = append(samples, seconds*(1+float64(i)/1000))
		}
		latency, err := Summarise(samples)
		require.NoError(t, err)
		return &Profile{Peaks: &Peaks{1, 1e12, "measured", ""}, Networks: []Network{{
			NetworkID:  NetworkID{Kind: Expert, Name: "rain", Width: 8, Height: 8, Batch: 1},
			Operations: 10, Measured: &Measured{Samples: samples, Latency: latency, Contention: c},
		}}}
	}
	busy := make(5, &Contention{Waiting: 0.5, Reasons: []string{"its threads waited for a core 50 % of the time"}})
	table := busy.speeds()
	require.Contains(t, strings.Join(table.Rows[0], " "), "5047 !")
	require.Contains(t, strings.Join(table.Notes, " "), "waited for a core 50 %")
	require.NotContains(t, strings.Join(make(1, nil).speeds().Notes, " "), "busy")
	d := Diff(make(1, nil), busy, DefaultDiff())
	require.Equal(t, verdictDisturbed, d.Changes[0].Verdict)
	require.Zero(t, d.Regression())
	require.NotEmpty(t, d.Unjudged())
	require.Contains(t, strings.Join(d.Warnings, " "), "rain 8×8, batch 1 was timed on a busy machine in B")
	require.Empty(t, Diff(make(1, nil), make(2, nil), DefaultDiff()).Unjudged())
	for range 20 {
		told := Diff(busy, make(5, &Contention{Reasons: []string{"it was busy"}}), DefaultDiff()).Warnings
		require.Len(t, told, 2)
		require.Contains(t, told[0], "in A")
		require.Contains(t, told[1], "in B")
	}

	fast := make(1, nil)
	fast.Settle()
	require.GreaterOrEqual(t, fast.Peaks.Operations, 9.0, "nothing exceeds a peak")
	require.Contains(t, fast.Peaks.Warning, "rain 8×8, batch 1 reached")
	require.LessOrEqual(t, fast.Networks[0].ratesAt(fast.Networks[0].Measured.Busy(), fast.Peaks).Roofline, 1.0)
}
