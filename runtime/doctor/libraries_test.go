//go:build cuda && !cudasim && linux

package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestChildExamines prints the report of this machine with the libraries that the parent made.
func TestChildExamines(t *testing.T) {
	if os.Getenv("DOCTOR_CHILD") == "" {
		t.Skip("runs in a process that has libraries of its own")
	}
	r, err := Run(context.Background(), Options{NoTest: true})
	require.NoError(t, err)
	b, err := json.Marshal(r)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(os.Getenv("DOCTOR_CHILD"), b, 0o600))
}

// What libraries tell arrives in the report: a driver and a management library are made that tell of faults.
func TestWhatLibrariesTellArrives(t *testing.T) {
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("needs a C compiler")
	}
	dir := t.TempDir()
	for library, source := range map[string]string{"libcuda.so.1": "../cuda/testdata/driver.c", "libnvidia-ml.so.1": "../cuda/nvml/testdata/nvml.c"} {
		out, err := exec.Command("cc", "-w", "-shared", "-fPIC", "-o", filepath.Join(dir, library), source).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	examine := func(env ...string) Report {
		file := filepath.Join(t.TempDir(), "report.json")
		cmd := exec.Command(os.Args[0], "-test.run=^TestChildExamines$")
		cmd.Env = append(os.Environ(), append(env, "LD_LIBRARY_PATH="+dir, "DOCTOR_CHILD="+file)...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		var r Report
		require.NoError(t, json.NewDecoder(bytes.NewReader(b)).Decode(&r))
		return r
	}
	r := examine()
	require.Contains(t, find(t, r, "driver", "library").Text, dir)
	for _, check := range []string{"capability", "memory", "mode", "mps", "mig", "ecc", "repair", "clocks", "power", "pcie", "watchdog"} {
		require.Equal(t, OK, find(t, r, "cuda:0", check).Level, check)
	}
	require.Contains(t, find(t, r, "cuda:0", "memory").Text, "79 GiB of 80 GiB free")

	for _, f := range []struct {
		env, subject, check string
		level               Level
		text                string
	}{
		{"FAKE_VERSION=11080", "driver", "version", Fault, "CUDA 11.8"},
		{"FAKE_CUINIT=803", "driver", "start", Fault, "reboot"},
		{"FAKE_MAJOR=7", "cuda:0", "capability", Fault, "7.0"},
		{"FAKE_WATCHDOG=1", "cuda:0", "watchdog", Warning, "display"},
		{"FAKE_NVML_INIT=9", "driver", "nvml", Warning, "Driver Not Loaded"},
		{"FAKE_NVML_LOST=1", "GPU 0", "health", Fault, "GPU is lost"},
		{"FAKE_NVML_FREE=0x10000000", "cuda:0", "memory", Warning, "256 MiB of 80 GiB"},
		{"FAKE_NVML_PROCESSES=2", "cuda:0", "memory", OK, "held by 4000 (python3) 60 GiB, 4001 (python3) 60 GiB"},
		{"FAKE_NVML_MODE=2", "cuda:0", "mode", Fault, "prohibited"},
		{"FAKE_NVML_MIG=1", "cuda:0", "mig", Fault, "no slice"},
		{"FAKE_MIG=1", "cuda:0", "mig", OK, "a slice of GPU-abababab"},
		{"FAKE_NVML_MIG_PENDING=1", "cuda:0", "mig", Warning, "next reset"},
		{"FAKE_NVML_ERRORS=3", "cuda:0", "ecc", Fault, "3 uncorrectable"},
		{"FAKE_NVML_ECC=0", "cuda:0", "ecc", OK, "not protected"},
		{"FAKE_NVML_PENDING=1", "cuda:0", "repair", Warning, "next reset"},
		{"FAKE_NVML_FAILED=1", "cuda:0", "repair", Fault, "remapped"},
		{"FAKE_NVML_THROTTLE=0x40", "cuda:0", "clocks", Warning, "heat, 41 °C"},
		{"FAKE_NVML_POWER=300000", "cuda:0", "power", Warning, "300 W of 700 W"},
		{"FAKE_NVML_LANES=8", "cuda:0", "pcie", Warning, "8 of 16"},
		{"CUDA_VISIBLE_DEVICES=7", "environment", "visible", Fault, "shows none"},
	} {
		l := find(t, examine(f.env), f.subject, f.check)
		require.Equal(t, f.level, l.Level, "%s: %+v", f.env, l)
		require.Contains(t, l.Text, f.text, f.env)
	}
}
