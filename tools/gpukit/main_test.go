package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/tools/gpukit/kit"
	"unirestorer/tools/gpukit/networks"
	"unirestorer/tools/gpukit/results"
)

func gpukit(t *testing.T, args ...string) {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, run(context.Background(), append([]string{"gpukit"}, args...), &out, &out), out.String())
}

func read[T any](t *testing.T, path string) T {
	t.Helper()
	var v T
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &v))
	return v
}

// python finds an interpreter with PyTorch, or gives an empty text.
func python() string {
	for _, p := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(p, "-c", "import numpy, torch.nn").Run() == nil {
			return p
		}
	}
	return ""
}

// Everything that measures on a card runs on a simulated one, and PyTorch agrees with what the networks gave.
//
// With the tag cudasim that is one behind the CUDA driver's interface; the simulator by itself takes as long and shows less.
func TestMeasurementsRunOnASimulatedDevice(t *testing.T) {
	if simulated == "sim" && os.Getenv("UNIRESTORER_TEST_LONG") == "" {
		t.Skip("make cuda-test runs it through CUDA; UNIRESTORER_TEST_LONG=1 here too")
	}
	work := t.TempDir()
	file := func(name string) string { return filepath.Join(work, name) }
	gpukit(t, "prepare", "--work", work, "--quick")

	t.Run("at a time", func(t *testing.T) {
		t.Run("kernels", func(t *testing.T) {
			t.Parallel()
			gpukit(t, "bench", "--quick", "--device", simulated, "--out", file("bench.json"))
			k := read[results.Kernels](t, file("bench.json"))
			require.Positive(t, k.LaunchUS)
			seen := map[string]bool{}
			for _, r := range k.Rows {
				seen[r.Network] = true
				require.Positive(t, r.WarmUS, r.Kernel)
				require.Positive(t, r.ColdUS, r.Kernel)
				require.Positive(t, r.PredictedUS, r.Kernel)
			}
			require.Len(t, seen, len(networks.Small()))
		})
		t.Run("experts", func(t *testing.T) {
			t.Parallel()
			gpukit(t, "experts", "--quick", "--device", simulated, "--work", work, "--out", file("experts.json"))
			runs := read[[]results.Run](t, file("experts.json"))
			require.Len(t, runs, 2*len(networks.Small()), "with a graph and without")
			for _, r := range runs {
				require.Empty(t, r.Error, r.Network)
				require.Positive(t, r.Device.Median, r.Network)
			}
		})
		t.Run("switches and starts", func(t *testing.T) {
			t.Parallel()
			gpukit(t, "switch", "--quick", "--device", simulated, "--work", work, "--out", file("switch.json"))
			for _, s := range read[[]results.Start](t, file("switch.json")) {
				require.Positive(t, s.Wall.Median, s.What)
			}
			gpukit(t, "once", "--device", simulated, "--work", work, "--network", "nafnet_local")
			require.Error(t, run(context.Background(), []string{"gpukit", "once", "--device", simulated, "--work", work, "--network", "x"}, io.Discard, io.Discard))
		})
	})

	interpreter := python()
	if interpreter == "" {
		t.Skip("PyTorch is not installed: results are not compared")
	}
	cmd := exec.Command(interpreter, filepath.Join("pytorch", "peers.py"), file("plan.json"), file("peers.jsonl"), "--device", "cpu", "--runtime", "eager")
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	data, err := os.ReadFile(file("peers.jsonl"))
	require.NoError(t, err)
	compared := 0
	for line := range bytes.Lines(data) {
		var r results.Run
		require.NoError(t, json.Unmarshal(line, &r))
		require.Empty(t, r.Error, r.Network)
		psnr, err := strconv.ParseFloat(r.PSNR, 64)
		require.NoError(t, err)
		require.GreaterOrEqual(t, psnr, 60.0, "%s on %s", r.Network, r.Runtime)
		if r.Runtime == results.Graph {
			compared++
		}
	}
	twins := 0 // architectures that tools/nets has in PyTorch
	for _, n := range networks.Small() {
		switch n.Architecture {
		case "nafnet_baseline", "nafnet_baseline_local", "promptir", "airnet":
		default:
			twins++
		}
	}
	require.Equal(t, twins, compared)
}

// A kit made without a GPU in sight runs to its end, says what is not available and why, and does the rest.
func TestKitRunsWithoutAGPU(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	folder, out := filepath.Join(t.TempDir(), "kit"), t.TempDir()
	require.NoError(t, kit.Build(context.Background(), folder, kit.BuildOptions{Repository: filepath.Join("..", ".."), Most: maxKit, Log: io.Discard}))
	args := []string{"--quick", "--out", out, "--work", t.TempDir()}
	interpreter := python()
	if interpreter == "" {
		interpreter = "python3"
	}
	cmd := exec.Command(filepath.Join(folder, "run.sh"), append(args, "--python", interpreter)...)
	cmd.Env = append(os.Environ(), "CUDA_VISIBLE_DEVICES=") // whatever the machine has
	log, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", log)

	r, err := results.Read(filepath.Join(out, "report.json"))
	require.NoError(t, err)
	require.True(t, r.Quick)
	require.NotEmpty(t, r.Kit)
	require.Len(t, r.Stages, len(kit.StageNames()))
	for _, s := range r.Stages {
		switch {
		case s.Name == "peers" && python() != "":
			require.Equal(t, results.OK, s.Status, "%s\n%s", s.Reason, s.Log)
		default:
			require.Equal(t, results.Unavailable, s.Status, s.Name)
			require.NotEmpty(t, s.Reason, s.Name)
		}
	}
	if python() != "" {
		require.NotEmpty(t, r.Peers)
	}
	text, err := os.ReadFile(filepath.Join(out, "report.md"))
	require.NoError(t, err)
	require.Contains(t, string(text), "None of its times mean anything")

	// Its own report, put together with itself, is the same.
	again := t.TempDir()
	gpukit(t, "report", "--out", again, filepath.Join(out, "report.json"), filepath.Join(out, "report.json"))
	same, err := results.Read(filepath.Join(again, "report.json"))
	require.NoError(t, err)
	require.Equal(t, r.Stages, same.Stages)
	require.Equal(t, r.Peers, same.Peers)
}

func TestCommandLinesAreChecked(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"report"}, "no report given"},
		{[]string{"report", "nowhere.json"}, "nowhere.json"},
		{[]string{"run", "--kit", t.TempDir(), "--work", t.TempDir(), "fly"}, `no stage "fly"`},
		{[]string{"bench", "--out", filepath.Join(t.TempDir(), "x"), "--device", "abacus"}, `device "abacus"`},
		{[]string{"experts", "--out", "x", "--work", t.TempDir()}, "plan.json"},
	} {
		err := run(context.Background(), append([]string{"gpukit"}, c.args...), io.Discard, io.Discard)
		require.ErrorContains(t, err, c.want)
	}
}
