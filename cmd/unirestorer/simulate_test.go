package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSimulateExitCodes(t *testing.T) {
	file := "../../runtime/simulate/testdata/saxpy.ptx"
	args := func(n string) []string {
		return []string{"simulate", file, "--grid", "5", "--block", "64", "--arg", "f32:256", "--arg", "f32:256:random", "--arg", "f32=2", "--arg", "i32=" + n, "--json"}
	}
	for n, want := range map[string]int{"255": exitOK, "256": exitFailed, "x": exitUsage} {
		code, out, _ := command(args(n)...)
		require.Equal(t, want, code, n)
		if want == exitUsage {
			continue
		}
		var report struct {
			Clean    bool
			Counters struct {
				Instructions int `json:"warp_instructions"`
			}
		}
		require.NoError(t, json.Unmarshal([]byte(out), &report))
		require.Equal(t, want == exitOK, report.Clean)
		require.Positive(t, report.Counters.Instructions)
	}
	code, _, stderr := command("simulate", file, "--arg", "f32:4")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "1 arguments for 4 parameters")
}
