//go:build cuda && linux

package nvml

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestChildReads runs in a process that has a library of its own.
func TestChildReads(t *testing.T) {
	out := os.Getenv("NVML_CHILD")
	if out == "" {
		t.Skip("runs in a process that has a library of its own")
	}
	var all []System
	for range 2 {
		s, err := Read()
		require.NoError(t, err)
		all = append(all, s)
		time.Sleep(10 * time.Millisecond)
	}
	b, err := json.Marshal(all)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(out, b, 0o600))
}

// Energy is counted between two readings; a card that does not tell it leaves it unknown.
func TestEnergyArrives(t *testing.T) {
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("needs a C compiler")
	}
	dir := t.TempDir()
	out, err := exec.Command("cc", "-w", "-shared", "-fPIC", "-o", filepath.Join(dir, "libnvidia-ml.so.1"), "testdata/nvml.c").CombinedOutput()
	require.NoError(t, err, "%s", out)
	read := func(env ...string) (all []System) {
		file := filepath.Join(t.TempDir(), "systems.json")
		cmd := exec.Command(os.Args[0], "-test.run=^TestChildReads$")
		cmd.Env = append(os.Environ(), append(env, "LD_LIBRARY_PATH="+dir, "NVML_CHILD="+file)...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(b, &all))
		return all
	}
	all := read()
	require.GreaterOrEqual(t, *all[1].GPUs[0].Energy, *all[0].GPUs[0].Energy+9)
	require.Nil(t, read("FAKE_NVML_NO_ENERGY=1")[0].GPUs[0].Energy)
}
