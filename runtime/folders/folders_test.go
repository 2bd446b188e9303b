package folders

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o666))
	return path
}

func reasons(passed []Passed, root string) map[string]string {
	m := map[string]string{}
	for _, p := range passed {
		rel, _ := filepath.Rel(root, p.Path)
		m[filepath.ToSlash(rel)] = p.Why
	}
	return m
}

func TestOddThingsAreNamed(t *testing.T) {
	root := t.TempDir()
	for _, n := range []string{"a.png", "b/c.jpg", "._a.png", "p.heic", "notes.txt", "b/.DS_Store", ".a.png.0123456789ab.tmp", ".a.png.claim"} {
		write(t, root, n, n)
	}
	require.NoError(t, os.Symlink(filepath.Join(root, "nowhere"), filepath.Join(root, "gone.png")))
	elsewhere := t.TempDir()
	write(t, elsewhere, "d.png", "d")
	require.NoError(t, os.Symlink(elsewhere, filepath.Join(root, "link")))
	require.NoError(t, os.Symlink(root, filepath.Join(root, "b", "up")))

	got, passed, err := Walk(root, WalkOptions{})
	require.NoError(t, err)
	require.Equal(t, []string{"a.png", filepath.Join("b", "c.jpg")}, got)
	require.Equal(t, map[string]string{"._a.png": sidecar, "p.heic": "HEIC, which is not read", "notes.txt": noPicture, "b/.DS_Store": sidecar,
		"gone.png": brokenLink, "link": linkedFolder, "b/up": linkedFolder}, reasons(passed, root))

	got, passed, err = Walk(root, WalkOptions{Follow: true})
	require.NoError(t, err)
	require.Equal(t, []string{"a.png", filepath.Join("b", "c.jpg"), filepath.Join("link", "d.png")}, got)
	require.Equal(t, linkedTwice, reasons(passed, root)["b/up"])
}

func TestResultsOfEarlierRunsAreLeftOut(t *testing.T) {
	root := t.TempDir()
	in := write(t, root, "a.png", "picture")
	out := filepath.Join(root, "out")
	result, compare := write(t, out, "a.png", "result"), write(t, out, "a.compare.png", "both")
	write(t, out, "mine.png", "put there by hand")
	require.NoError(t, OpenJournal(out).Add(result, in, "s", compare))

	got, passed, err := Walk(root, WalkOptions{Out: filepath.Join(root, "out2")})
	require.NoError(t, err)
	require.Equal(t, []string{"a.png", filepath.Join("out", "mine.png")}, got)
	require.Equal(t, map[string]string{"out/a.png": earlier, "out/a.compare.png": comparison}, reasons(passed, root))

	got, _, err = Walk(out, WalkOptions{Out: filepath.Join(root, "out2")})
	require.NoError(t, err)
	require.Equal(t, []string{"a.png", "mine.png"}, got, "results that are asked for by name are pictures like others")

	got, _, err = Walk(out, WalkOptions{Out: out})
	require.NoError(t, err)
	require.Equal(t, []string{"mine.png"}, got)
}

func TestStatesOfResults(t *testing.T) {
	dir := t.TempDir()
	in, out := write(t, dir, "in/a.png", "picture"), filepath.Join(dir, "out", "a.png")
	j := OpenJournal(filepath.Join(dir, "out"))
	state := func(settings string) State {
		s, err := OpenJournal(filepath.Join(dir, "out")).State(out, in, settings)
		require.NoError(t, err)
		same, err := j.State(out, in, settings)
		require.NoError(t, err)
		require.Equal(t, s, same)
		return s
	}
	require.Equal(t, Missing, state("s"))
	write(t, dir, "out/a.png", strings.Repeat("result", 9000))
	require.Equal(t, Unknown, state("s"))
	require.NoError(t, OpenJournal(filepath.Join(dir, "out")).Add(out, in, "s", ""), "by another process")
	require.Equal(t, Current, state("s"))
	require.Equal(t, Differs, state("t"))
	write(t, dir, "in/a.png", "another picture")
	require.Equal(t, Outdated, state("s"))
	require.NoError(t, os.Truncate(out, 100))
	require.Equal(t, Unknown, state("s"))
	require.NoError(t, os.Remove(out))
	require.NoError(t, os.Mkdir(out, 0o777))
	_, err := j.State(out, in, "s")
	require.ErrorContains(t, err, "is a folder, not a file")
}

func TestClaimsExcludeEachOther(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "deep", "a.png")
	c, err := TakeClaim(out)
	require.NoError(t, err)
	if c.file == nil {
		t.Skip("no locks here")
	}
	_, err = TakeClaim(out)
	require.ErrorIs(t, err, ErrClaimed)
	c.Release()
	entries, err := os.ReadDir(filepath.Dir(out))
	require.NoError(t, err)
	require.Empty(t, entries)
	write(t, dir, "deep/.a.png.claim", "of a run that was killed")
	c, err = TakeClaim(out)
	require.NoError(t, err)
	c.Release()
}

func TestLeftoversAreCleaned(t *testing.T) {
	dir := t.TempDir()
	stale := write(t, dir, ".a.png.0123456789ab.tmp", "half")
	other := write(t, dir, ".b.png.0123456789ab.tmp", "half")
	kept := write(t, dir, ".a.png.mine.tmp", "whole")
	left := FindLeftovers([]string{filepath.Join(dir, "a.png"), filepath.Join(dir, "nowhere", "a.png")})
	left.Clean(filepath.Join(dir, "a.png"))
	require.NoFileExists(t, stale)
	require.FileExists(t, other)
	require.FileExists(t, kept)
}

func TestFullDisksAreTold(t *testing.T) {
	if len(noRoom) == 0 {
		t.Skip("no such errors here")
	}
	full := &os.PathError{Op: "write", Path: "x", Err: noRoom[0]}
	require.True(t, NoRoom(fmt.Errorf("restore a: %w", full)))
	require.True(t, NoRoom(errors.New(full.Error())), "by its words, from another process")
	require.False(t, NoRoom(nil))
	require.False(t, NoRoom(&os.PathError{Op: "write", Path: "x", Err: syscall.EINVAL}))
}

func FuzzRecords(f *testing.F) {
	f.Add(`{"result":"a","mark":"1 x"}` + "\n{")
	f.Fuzz(func(t *testing.T, text string) {
		for name, r := range parseRecords(strings.NewReader(text)) {
			require.Equal(t, name, r.Result)
			require.NotEmpty(t, name)
		}
	})
}
