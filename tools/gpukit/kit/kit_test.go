package kit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/tools/gpukit/results"
)

func newSession(t *testing.T) *session {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log.txt"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, log.Close()) })
	return &session{RunOptions: RunOptions{Log: io.Discard, Work: t.TempDir()}, report: &results.Report{}, log: log}
}

func TestStagesEndAsTheyShould(t *testing.T) {
	s := newSession(t)
	s.noGPU = "there is no GPU"
	shell := func(script string) func(*session, context.Context) error {
		return func(s *session, ctx context.Context) error { return s.exec(ctx, "sh", "-c", script) }
	}
	ctx := context.Background()
	started := time.Now()
	for _, st := range []stage{
		{name: "good", limit: time.Minute, run: shell("echo fine")},
		{name: "bad", limit: time.Minute, run: shell("echo what happened; exit 3")},
		{name: "slow", limit: 200 * time.Millisecond, run: shell("sleep 50 & sleep 50")},
		{name: "card", limit: time.Minute, gpu: true, run: shell("exit 4")},
		{name: "lacking", limit: time.Minute, run: func(*session, context.Context) error { return unavailable("no %s", "tool") }},
	} {
		s.stage(ctx, st)
	}
	require.Less(t, time.Since(started), 20*time.Second, "children of a stage end with it")
	var got []results.Stage
	for _, r := range s.report.Stages {
		require.GreaterOrEqual(t, r.Seconds, 0.0)
		got = append(got, results.Stage{Name: r.Name, Status: r.Status})
	}
	require.Equal(t, []results.Stage{
		{Name: "good", Status: results.OK}, {Name: "bad", Status: results.Failed}, {Name: "slow", Status: results.TimedOut},
		{Name: "card", Status: results.Unavailable}, {Name: "lacking", Status: results.Unavailable},
	}, got)
	all := s.report.Stages
	require.Empty(t, all[0].Log)
	require.Equal(t, "what happened\n", all[1].Log)
	require.Equal(t, "sh: exit status 3", all[1].Reason)
	require.Equal(t, "there is no GPU", all[3].Reason)
	require.Equal(t, "no tool", all[4].Reason)

	over, cancel := context.WithTimeout(ctx, 0)
	defer cancel()
	s.stage(over, stage{name: "late", limit: time.Minute, run: shell("exit 5")})
	require.Equal(t, results.TimedOut, s.report.Stages[5].Status)
	require.Equal(t, "the time of the whole run was over", s.report.Stages[5].Reason)
}

func TestStagesAreChosenByName(t *testing.T) {
	some, err := choose([]string{"peers", "verify"})
	require.NoError(t, err)
	require.Len(t, some, 2)
	require.Equal(t, "verify", some[0].name, "in their own order")
	all, err := choose(nil)
	require.NoError(t, err)
	require.Len(t, all, len(StageNames()))
	_, err = choose([]string{"dance"})
	require.ErrorContains(t, err, `no stage "dance": there are kernels, verify,`)
}

func TestComparisonsGoToTheRunsTheyAreOf(t *testing.T) {
	s := newSession(t)
	s.report.Ours = []results.Run{{Network: "a", Runtime: results.Graph, Batch: 1, Height: 2, Width: 3, Device: results.Timing{Runs: 5}}}
	require.NoError(t, s.takePeers([]byte(`{"network":"a","runtime":"eager","batch":1,"height":2,"width":3}
{"network":"a","runtime":"graph","batch":1,"height":2,"width":3,"psnr_db":"70.1","max_abs":"0.01"}
{"network":"b","runtime":"graph","batch":1,"height":2,"width":3,"psnr_db":"60.1","max_abs":"0.02"}
`)))
	require.Len(t, s.report.Peers, 1)
	require.Len(t, s.report.Ours, 2)
	require.Equal(t, 5, s.report.Ours[0].Device.Runs)
	require.Equal(t, "70.1", s.report.Ours[0].PSNR)
	require.Equal(t, "b", s.report.Ours[1].Network)
	require.ErrorContains(t, s.takePeers([]byte("Traceback")), "result of PyTorch")
}

func FuzzTakePeers(f *testing.F) {
	f.Add([]byte(`{"network":"a","runtime":"graph","psnr_db":"70.1"}` + "\n" + `{"error":"x"}`))
	f.Add(bytes.Repeat([]byte("x"), 100))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &session{report: &results.Report{}}
		if s.takePeers(data) == nil {
			require.NoError(t, s.report.WriteMarkdown(io.Discard))
		}
	})
}

func TestNewerComparesNumberByNumber(t *testing.T) {
	for _, c := range []struct {
		a, b  string
		newer bool
	}{{"2.34", "2.4", true}, {"2.4", "2.34", false}, {"2.34", "2.34", false}, {"2.3.2", "2.3", true}, {"2.2", "", true}, {"PRIVATE", "2.2", false}} {
		require.Equal(t, c.newer, newer(c.a, c.b), "%s and %s", c.a, c.b)
	}
}

func TestFailuresAreCounted(t *testing.T) {
	require.NoError(t, failures([]results.Run{{}, {}}))
	require.EqualError(t, failures([]results.Run{{}, {Error: "x"}}), "1 of 2 runs failed")
	require.True(t, errors.Is(unavailable("x"), errUnavailable))
}
