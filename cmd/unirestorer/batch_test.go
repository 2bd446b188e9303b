package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/folders"
)

// album is a folder with two pictures.
func album(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "album")
	require.NoError(t, os.Mkdir(dir, 0o777))
	raw, err := os.ReadFile(photo(5))
	require.NoError(t, err)
	for _, n := range []string{"a.png", "b.png"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, n), raw, 0o666))
	}
	return dir
}

func TestResultsThatAreNoneAreMadeAgain(t *testing.T) {
	in, out := album(t), t.TempDir()
	args := []string{"restore", in, "-o", out, "-m", tinyModel(t), "--expert", "0"}
	ok(t, args...)
	_, stderr := ok(t, args...)
	require.Equal(t, 2, strings.Count(stderr, "exists, skipped"))

	require.NoError(t, os.Truncate(filepath.Join(out, "a.png"), 200))
	_, stderr = ok(t, args...)
	require.Contains(t, stderr, "a.png is no whole picture, restored again")
	require.Equal(t, 1, strings.Count(stderr, "exists, skipped"))

	_, stderr = ok(t, append(args, "--overlap", "8", "--keep-times", "--compare")...)
	require.Equal(t, 2, strings.Count(stderr, "was made with another model or other options, restored again"))
	before, err := os.Stat(filepath.Join(in, "a.png"))
	require.NoError(t, err)
	after, err := os.Stat(filepath.Join(out, "a.png"))
	require.NoError(t, err)
	require.WithinDuration(t, before.ModTime(), after.ModTime(), time.Millisecond)

	require.NoError(t, os.Remove(filepath.Join(out, "b.png")))
	require.NoError(t, os.Mkdir(filepath.Join(out, "b.png"), 0o777))
	code, _, stderr := command(args...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "b.png is a folder, not a file")
}

func TestInterruptedBatchReportsWhatIsDone(t *testing.T) {
	in, out := album(t), t.TempDir()
	// The second result is claimed: the run waits for it until it is interrupted.
	claim, err := folders.TakeClaim(filepath.Join(out, "b.png"))
	require.NoError(t, err)
	defer claim.Release()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for ctx.Err() == nil {
			if raw, err := os.ReadFile(filepath.Join(out, ".unirestorer-results")); err == nil && len(raw) > 0 {
				time.Sleep(300 * time.Millisecond) // until the run has noted it
				cancel()
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	defer cancel()
	code, stdout, _ := commandIn(ctx, nil, "restore", in, "-o", out, "-m", tinyModel(t), "--expert", "0", "--json")
	require.Equal(t, exitInterrupted, code)
	var all []restored
	decodeJSON(t, stdout, &all)
	require.Len(t, all, 1)
	require.Equal(t, filepath.Join(in, "a.png"), all[0].In)
	require.NotNil(t, all[0].Report)
}

func TestFullDiskEndsTheBatch(t *testing.T) {
	b := &batch{results: make([]*restored, 2), errs: make([]error, 2)}
	require.NoError(t, b.stopped())
	full := &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	b.note(context.Background(), 0, &restored{}, full)
	require.ErrorIs(t, b.stopped(), full)
}

func TestRouteTakesFolders(t *testing.T) {
	in := album(t)
	require.NoError(t, os.WriteFile(filepath.Join(in, "._a.png"), []byte("x"), 0o666))
	stdout, stderr := ok(t, "route", in, "-m", tinyModel(t))
	require.Contains(t, stdout, filepath.Join(in, "a.png"))
	require.Contains(t, stdout, filepath.Join(in, "b.png"))
	require.Contains(t, stderr, "sidecar")
}
