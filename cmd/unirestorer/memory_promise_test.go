package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/degrade"
	"unirestorer/runtime/evaluate"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/ledger"
	"unirestorer/weights/weightstest"
)

// promised makes the tests below run: `make memory-check`. They restore 30 pictures with the built-in model several times.
func promised(t *testing.T) {
	t.Helper()
	if os.Getenv("UNIRESTORER_TEST_MEMORY") == "" {
		t.Skip("takes minutes; make memory-check runs it")
	}
}

// album30 is a folder of 30 pictures of ten sizes, 0.1 to 24 megapixels, of four degradations, in four formats.
func album30(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	photo := pixels(t, "../../testdata/photos/clean.png")
	kinds := []string{"rain:0.6", "haze:0.6", "noise:sigma=25", "lowlight:0.6"}
	formats := []imaging.Format{imaging.PNG, imaging.JPEG, imaging.TIFF, imaging.JPEG, imaging.WebP}
	n := 0
	for i, size := range []struct{ w, h, times int }{
		{400, 250, 5}, {512, 390, 4}, {640, 480, 4}, {1000, 700, 4}, {1280, 853, 3}, {1600, 1200, 3}, {2400, 1250, 3}, {3000, 2000, 2}, {4000, 3000, 1}, {6000, 4000, 1},
	} {
		large, err := photo.Resize(size.w, size.h)
		require.NoError(t, err)
		for k := range size.times {
			spec, err := degrade.ParseSpec(kinds[(i+k)%len(kinds)])
			require.NoError(t, err)
			img, err := evaluate.Degrade(t.Context(), large, spec)
			require.NoError(t, err)
			format := formats[n%len(formats)]
			if format == imaging.WebP && size.w > 2000 {
				format = imaging.PNG
			}
			path := filepath.Join(dir, fmt.Sprintf("%02d.%s", n, format))
			require.NoError(t, imaging.EncodeFile(t.Context(), path, img, imaging.EncodeOptions{Format: format}))
			n++
		}
	}
	require.Equal(t, 30, n)
	return dir
}

// asCommand is a command line in a process of its own, in a control group unless that is empty.
func asCommand(group string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	if group != "" {
		cmd = exec.Command("sh", append([]string{"-c", `echo $$ >` + group + `/cgroup.procs && exec "$0" "$@"`, os.Args[0]}, args...)...)
	}
	cmd.Env = append(os.Environ(), runAsCommand+"=1")
	return cmd
}

// controlGroup makes a memory control group of version 1.
func controlGroup(t *testing.T, limit int64) string {
	t.Helper()
	group := fmt.Sprintf("/sys/fs/cgroup/memory/unirestorer-%d", os.Getpid())
	if err := os.Mkdir(group, 0o777); err != nil {
		t.Skipf("no control group: %v", err)
	}
	t.Cleanup(func() {
		require.Eventually(t, func() bool { return os.Remove(group) == nil }, 5*time.Second, 50*time.Millisecond)
	})
	require.NoError(t, os.WriteFile(group+"/memory.limit_in_bytes", fmt.Append(nil, limit), 0o666))
	return group
}

func TestThirtyPicturesKeepTheMemoryPromise(t *testing.T) {
	promised(t)
	in := album30(t)
	for _, c := range []struct {
		name, memory string
		group, bound int64
		refused      int // pictures too large for the bound
	}{
		{"300 MiB", "300MiB", 0, 300 << 20, 0},
		{"auto in a control group of 400 MiB", "auto", 400 << 20, 200 << 20, 1},
		{"1 GiB", "1GiB", 0, 1 << 30, 0},
		{"auto", "auto", 0, ledger.Auto(), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			group := ""
			if c.group > 0 {
				group = controlGroup(t, c.group)
			}
			start := time.Now()
			cmd := asCommand(group, "restore", in, "-o", t.TempDir(), "--memory", c.memory, "--json", "--quiet")
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			stdout, peak, err := weightstest.PeakOf(cmd)
			t.Logf("bound %d MiB, peak %d MiB, %s", c.bound>>20, peak>>20, time.Since(start).Round(time.Second))
			require.LessOrEqual(t, peak, c.bound+32<<20)
			require.Equal(t, c.refused > 0, err != nil, stderr.String())
			var all []restored
			decodeJSON(t, string(stdout), &all)
			require.Len(t, all, 30)
			seen := map[string]bool{}
			for i, r := range all {
				if i >= len(all)-c.refused { // they are sorted by size
					require.Contains(t, r.Error, r.In)
					require.Contains(t, r.Error, "over the memory budget")
					continue
				}
				require.Empty(t, r.Error, r.In)
				seen[r.Report.Expert] = true
			}
			require.GreaterOrEqual(t, len(seen), 4, "several experts were at work")
		})
	}
}

// TestTheLargestPictureOfABoundSucceeds restores the largest PNG that docs/memory.md states, and has one refused that is
// a tenth larger.
func TestTheLargestPictureOfABoundSucceeds(t *testing.T) {
	promised(t)
	dir := t.TempDir()
	for _, c := range []struct {
		memory string
		bound  int64
		mp     float64
	}{{"200MiB", 200 << 20, 19}, {"300MiB", 300 << 20, 31}} {
		for name, mp := range map[string]float64{"taken": c.mp, "refused": c.mp * 1.1} {
			in := filepath.Join(dir, name+".png")
			w := 7000
			writePhoto(t, in, w, int(mp*1e6)/w)
			cmd := asCommand("", "restore", in, "-o", filepath.Join(dir, "out.png"), "--memory", c.memory, "--expert", "fine-1-snow", "--quiet")
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			_, peak, err := weightstest.PeakOf(cmd)
			t.Logf("%s: %.1f MP %s, peak %d MiB", c.memory, mp, name, peak>>20)
			require.LessOrEqual(t, peak, c.bound+32<<20)
			if name == "taken" {
				require.NoError(t, err, stderr.String())
			} else {
				require.Error(t, err)
				require.True(t, strings.Contains(stderr.String(), in) && strings.Contains(stderr.String(), "over the memory budget"), stderr.String())
			}
		}
	}
}
