package atomicfile

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func write(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

// requireOnly checks that a folder holds these files and nothing else, temporary files least of all.
func requireOnly(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	got := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		got[e.Name()] = string(b)
	}
	require.Equal(t, want, got)
}

func TestFileAppearsWholeOrNotAtAll(t *testing.T) {
	bad := errors.New("encoder broke")
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	midway, cancelMidway := context.WithCancel(context.Background())
	defer cancelMidway()
	late, cancelLate := context.WithCancel(context.Background())
	defer cancelLate()
	for name, c := range map[string]struct {
		ctx   context.Context
		write func(io.Writer) error
		want  error
	}{
		"error":                {context.Background(), func(w io.Writer) error { _ = write("half")(w); return bad }, bad},
		"cancelled before":     {cancelled, write("new"), context.Canceled},
		"cancelled midway":     {midway, func(w io.Writer) error { _ = write("half")(w); cancelMidway(); return write("rest")(w) }, context.Canceled},
		"cancelled at the end": {late, func(w io.Writer) error { err := write("all")(w); cancelLate(); return err }, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "out.png")
			err := Write(c.ctx, path, c.write)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, path)
			requireOnly(t, dir, map[string]string{})

			require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
			require.ErrorIs(t, Write(c.ctx, path, c.write), c.want)
			requireOnly(t, dir, map[string]string{"out.png": "old"})
		})
	}
}

func TestPanicLeavesNoTemporaryFile(t *testing.T) {
	dir := t.TempDir()
	require.Panics(t, func() {
		_ = Write(context.Background(), filepath.Join(dir, "x"), func(io.Writer) error { panic("bug") })
	})
	requireOnly(t, dir, map[string]string{})
}

func TestReplacedFileKeepsItsMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits on Windows")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "out.png")
	require.NoError(t, Write(context.Background(), path, write("1")))
	st, err := os.Stat(path)
	require.NoError(t, err)
	plain := filepath.Join(dir, "plain")
	require.NoError(t, os.WriteFile(plain, nil, 0o666))
	same, err := os.Stat(plain)
	require.NoError(t, err)
	require.Equal(t, same.Mode(), st.Mode(), "a new file obeys the umask")

	require.NoError(t, os.Chmod(path, 0o640))
	require.NoError(t, Write(context.Background(), path, write("2")))
	st, err = os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o640), st.Mode().Perm())
}

func TestSymbolicLinkStays(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	require.NoError(t, os.WriteFile(target, []byte("old"), 0o600))
	if err := os.Symlink(target, link); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	require.NoError(t, Write(context.Background(), link, write("new")))
	requireOnly(t, dir, map[string]string{"target": "new", "link": "new"})
	st, err := os.Lstat(link)
	require.NoError(t, err)
	require.NotZero(t, st.Mode()&os.ModeSymlink)

	require.NoError(t, os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "dangling")))
	require.ErrorContains(t, Write(context.Background(), filepath.Join(dir, "dangling"), write("x")), "nowhere")
}

func TestDevicesAreWrittenNotReplaced(t *testing.T) {
	st, err := os.Stat(os.DevNull)
	if err != nil || st.Mode().IsRegular() {
		t.Skip("no null device here")
	}
	require.NoError(t, Write(context.Background(), os.DevNull, write("x")))
	after, err := os.Stat(os.DevNull)
	require.NoError(t, err)
	require.Equal(t, st.Mode(), after.Mode())
}

func TestImpossibleTargetsAreRefused(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		"":                                "empty file name",
		dir:                               "is a directory",
		filepath.Join(dir, "no", "x.png"): "no such file",
		filepath.Join(dir, strings.Repeat("n", 300)): "name too long",
	} {
		if runtime.GOOS == "windows" && path != "" && path != dir {
			continue
		}
		require.ErrorContains(t, Write(context.Background(), path, write("x")), want)
	}
	requireOnly(t, dir, map[string]string{})
}

func TestOthersMayWriteAndRemoveTheSameFileMeanwhile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a file that is open can't be replaced on Windows")
	}
	path := filepath.Join(t.TempDir(), "x")
	done := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				_ = os.WriteFile(path, nil, 0o666)
				_ = os.Remove(path)
			}
		}
	})
	for range 300 {
		if err := Write(t.Context(), path, write("new")); err != nil {
			t.Error(err)
		}
	}
	close(done)
	others.Wait()
}
