package results

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/folders"
)

func key(n int) string { return fmt.Sprintf("%032x", n) }

func TestResultsAreFoundAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	c, err := Open(dir, 1<<20)
	require.NoError(t, err)
	_, err = Open(dir, 1<<20)
	require.ErrorIs(t, err, folders.ErrClaimed)
	_, _, ok := c.Get(key(1))
	require.False(t, ok)
	require.NoError(t, c.Put(t.Context(), key(1), []byte("about"), []byte("data")))
	require.NoError(t, c.Put(t.Context(), key(2), nil, nil))
	require.Error(t, c.Put(t.Context(), "../../etc/passwd", nil, nil))
	c.Close()

	temp := filepath.Join(dir, key(1)[:2], "."+key(3)+".0123.tmp")
	other := filepath.Join(dir, "00", "somebody's")
	require.NoError(t, os.WriteFile(temp, []byte("x"), 0o666))
	require.NoError(t, os.WriteFile(other, []byte("x"), 0o666))
	c, err = Open(dir, 1<<20)
	require.NoError(t, err)
	defer c.Close()
	require.NoFileExists(t, temp)
	require.FileExists(t, other)
	about, data, ok := c.Get(key(1))
	require.True(t, ok)
	require.Equal(t, "about data", string(about)+" "+string(data))
	about, data, ok = c.Get(key(2))
	require.True(t, ok)
	require.Empty(t, append(about, data...))
	s := c.Stats()
	require.Equal(t, Stats{Entries: 2, Bytes: s.Bytes, Hits: 2}, s)
}

func TestTheOldestMakeRoom(t *testing.T) {
	dir := t.TempDir()
	c, err := Open(dir, 1000)
	require.NoError(t, err)
	data := make([]byte, 200-len(magic)-4-32)
	for n := range 5 {
		require.NoError(t, c.Put(t.Context(), key(n), nil, data))
	}
	_, _, ok := c.Get(key(0)) // used last from now on
	require.True(t, ok)
	require.NoError(t, c.Put(t.Context(), key(5), nil, data))
	_, _, ok = c.Get(key(1))
	require.False(t, ok)
	require.NoFileExists(t, c.path(key(1)))
	require.NoError(t, c.Put(t.Context(), key(6), nil, make([]byte, 300)), "what is too large is not kept")
	require.Equal(t, 5, c.Stats().Entries)
	require.Equal(t, int64(1000), c.Stats().Bytes)
	for n, age := range map[int]time.Duration{0: 0, 5: time.Minute, 2: time.Hour, 3: 2 * time.Hour, 4: 3 * time.Hour} {
		at := time.Now().Add(-age)
		require.NoError(t, os.Chtimes(c.path(key(n)), at, at))
	}
	c.Close()
	c, err = Open(dir, 500)
	require.NoError(t, err)
	defer c.Close()
	require.Equal(t, int64(400), c.Stats().Bytes)
	for n, want := range map[int]bool{0: true, 5: true, 2: false, 3: false, 4: false} {
		_, _, ok := c.Get(key(n))
		require.Equal(t, want, ok, n)
	}
}

func TestWhatIsDamagedIsMissing(t *testing.T) {
	c, err := Open(t.TempDir(), 1<<20)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.Put(t.Context(), key(1), []byte("about"), bytes.Repeat([]byte("x"), 100)))
	whole, err := os.ReadFile(c.path(key(1)))
	require.NoError(t, err)
	for _, bad := range [][]byte{nil, whole[:50], append(bytes.Clone(whole[:80]), 'y'), append(bytes.Clone(whole), 0)} {
		require.NoError(t, c.Put(t.Context(), key(1), nil, nil))
		require.NoError(t, os.WriteFile(c.path(key(1)), bad, 0o666))
		_, _, ok := c.Get(key(1))
		require.False(t, ok)
		require.NoFileExists(t, c.path(key(1)))
	}
	require.Equal(t, uint64(4), c.Stats().Damage)
	require.Zero(t, c.Stats().Bytes)
}

func TestManyAtOnceStayWithinTheBound(t *testing.T) {
	c, err := Open(t.TempDir(), 4000)
	require.NoError(t, err)
	defer c.Close()
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 40 {
				n := (g*7 + i) % 13
				if err := c.Put(t.Context(), key(n), []byte{byte(n)}, make([]byte, 100*(n%5))); err != nil {
					t.Error(err)
				}
				if about, data, ok := c.Get(key((n + 3) % 13)); ok && (len(about) != 1 || len(data) != 100*(int(about[0])%5)) {
					t.Errorf("%d bytes of %v", len(data), about)
				}
				if b := c.Stats().Bytes; b < 0 || b > 4000 {
					t.Errorf("%d bytes", b)
				}
			}
		})
	}
	all.Wait()
}

func FuzzParse(f *testing.F) {
	var b bytes.Buffer
	require.NoError(f, write(&b, []byte("about"), []byte("data")))
	f.Add(b.Bytes())
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, all []byte) {
		about, data, err := parse(all)
		if err != nil {
			return
		}
		var again bytes.Buffer
		require.NoError(t, write(&again, about, data))
		require.Equal(t, all, again.Bytes())
	})
}

func TestAFolderWithOtherThingsIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "letter.txt"), []byte("dear"), 0o666))
	_, err := Open(dir, 1<<20)
	require.ErrorContains(t, err, "letter.txt")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)

	// The root of a file system, and a folder whose tag was deleted, are taken.
	dir = t.TempDir()
	for _, name := range []string{"lost+found", ".snapshots", "a7"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o777))
	}
	for range 2 {
		c, err := Open(dir, 1<<20)
		require.NoError(t, err)
		c.Close()
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "letter.txt"), []byte("dear"), 0o666))
	c, err := Open(dir, 1<<20)
	require.NoError(t, err, "it is tagged already")
	c.Close()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "CACHEDIR.TAG"), []byte("Signature: 8a477f597d28d172789f06886806bc55\n# of another program\n"), 0o666))
	_, err = Open(dir, 1<<20)
	require.ErrorContains(t, err, "a folder of its own")
}
