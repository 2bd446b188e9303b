package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fakeContest lets fake workers take turns; it gives the log of their requests.
func fakeContest(t *testing.T, kinds ...string) (*contest, func() []string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	p := preparer{folder: t.TempDir(), seed: 1, threads: 1, log: t.Logf}
	c := &contest{
		runtimes: kinds, prepare: p.prepare, threads: 1, rounds: 2, tolerance: 1e-3, log: t.Logf,
		launch: func(kind string, _ int) launch { return fakeLaunch(t, kind, logVariable+"="+log) },
	}
	return c, func() []string {
		text, err := os.ReadFile(log)
		require.NoError(t, err)
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
}

func TestRuntimesTakeTurns(t *testing.T) {
	c, log := fakeContest(t, "one", "two")
	c.coldRounds = 2
	r, err := c.run(t.Context(), tiny(), 8)
	require.NoError(t, err)
	cold := []string{"load one", "run one", "load two", "run two"}
	want := append(append(append([]string{}, cold...), cold...), cold...) // the third are the workers of the rounds
	want = append(want, "run one", "run two", "run one", "run two")
	require.Equal(t, want, log())
	require.Len(t, r.Measures, 2)
	for _, m := range r.Measures {
		require.Equal(t, "1.2.3", m.Version)
		require.Len(t, m.Cold, 2)
		require.Len(t, m.Rounds, 2)
		require.GreaterOrEqual(t, m.Median, 1e-3)
		require.Greater(t, m.cold(), 1e-3)
		require.LessOrEqual(t, m.Fastest, m.Median)
	}
	require.Len(t, r.Agreement, 1)
	require.Zero(t, r.Agreement[0].MaxAbs)
	require.Positive(t, r.MACs)
	require.Positive(t, r.Parameters)
}

func TestLongTurnsDoNotCountTheirFirstRun(t *testing.T) {
	c, log := fakeContest(t, "one")
	c.rounds, c.turn = 1, time.Second
	r, err := c.run(t.Context(), tiny(), 8)
	require.NoError(t, err)
	counted := len(r.Measures[0].Rounds[0])
	require.Greater(t, counted, 1)
	const loadAndFirstRun = 2
	require.Len(t, log(), loadAndFirstRun+1+counted)
}

func TestDisagreementKeepsTheMeasures(t *testing.T) {
	c, _ := fakeContest(t, "one", "wrong")
	r, err := c.run(t.Context(), tiny(), 8)
	require.ErrorAs(t, err, new(disagreement))
	require.ErrorContains(t, err, "outputs of wrong and one: they differ by 1")
	require.Len(t, r.Measures[1].Rounds, 2)
	require.Equal(t, 1.0, r.Agreement[0].MaxAbs)
}

func TestFailingRuntimeEndsTheContest(t *testing.T) {
	c, _ := fakeContest(t, "one", "fails")
	_, err := c.run(t.Context(), tiny(), 8)
	require.ErrorContains(t, err, "fails: run: no kernel")
	require.NotErrorAs(t, err, new(disagreement))

	c, _ = fakeContest(t, "one")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.run(ctx, tiny(), 8)
	require.ErrorIs(t, err, context.Canceled)
}

// TestPeersAgree runs the real runtimes on small networks with every kind of operation that needs care in exports:
// summed-area pooling, pixel unshuffle, reflection, exact GELU, multi-head attention.
func TestPeersAgree(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Python and Node.js many times")
	}
	tools := tools{python: "/usr/bin/python3", node: "node", folder: "."}
	runtimes := runtimeNames()
	if err := tools.check(runtimes); err != nil {
		t.Skipf("the peers are not installed: %v", err)
	}
	p := preparer{tools: tools, folder: t.TempDir(), seed: 1, threads: 1, export: true, log: t.Logf}
	c := &contest{
		runtimes: runtimes, prepare: p.prepare, threads: 1, rounds: 1, mode: modeEager, tolerance: 1e-4, log: t.Logf,
		launch: func(runtime string, threads int) launch {
			if runtime == ours {
				return fakeLaunch(t, "real")
			}
			return tools.launch(runtime, threads)
		},
	}
	small := []network{
		tiny(),
		{name: "restormer", architecture: "restormer", args: `{"dim":8,"num_blocks":[1,1,1,1],"num_refinement_blocks":1}`},
		{name: "dehazeformer", architecture: "dehazeformer", args: `{"embed_dims":[12,24,48,24,12],"depths":[4,2,2,1,1]}`},
		{name: "retinexformer", architecture: "retinexformer", args: `{"n_feat":8}`},
		{name: "estimator", architecture: "daclip", args: `{"embed_dim":32,"vision_cfg":{"image_size":32,"layers":2,"width":64,"head_width":32,"patch_size":8}}`},
	}
	for _, n := range small {
		t.Run(n.name, func(t *testing.T) {
			r, err := c.run(t.Context(), n, 32)
			require.NoError(t, err)
			require.Len(t, r.Agreement, 2)
			for _, m := range r.Measures {
				require.NotEmpty(t, m.Version)
				require.Positive(t, m.Median)
			}
		})
	}
}

func TestMissingInstallationsAreNamed(t *testing.T) {
	none := tools{python: filepath.Join(t.TempDir(), "python"), node: filepath.Join(t.TempDir(), "node"), folder: "."}
	require.NoError(t, none.check([]string{ours}))
	require.ErrorContains(t, none.check(runtimeNames()), "apt-get install python3-torch")
	none.folder = t.TempDir()
	require.ErrorContains(t, none.check(runtimeNames()), "--folder")
	truth, err := exec.LookPath("true")
	if err != nil {
		t.Skip("no program that succeeds whatever it is asked")
	}
	none.python, none.folder = truth, "."
	require.ErrorContains(t, none.check([]string{ours, onnxRuntime}), "Node.js")
}
