package blob

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func writeFile(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

// everyKind returns the same bytes behind each kind of blob.
func everyKind(t *testing.T, data []byte) map[string]*Blob {
	t.Helper()
	mapped, err := Open(writeFile(t, data))
	require.NoError(t, err)
	return map[string]*Blob{
		"file":   mapped,
		"reader": New("reader", bytes.NewReader(data), int64(len(data)), nil),
		"memory": FromBytes("memory", data),
	}
}

func TestAllKindsReadTheSameBytes(t *testing.T) {
	data := []byte("0123456789")
	for kind, b := range everyKind(t, data) {
		t.Run(kind, func(t *testing.T) {
			require.EqualValues(t, 10, b.Size())
			view, release, err := b.View(2, 3)
			require.NoError(t, err)
			require.Equal(t, "234", string(view))
			require.Equal(t, 3, cap(view), "a view must not reach further bytes")

			p := make([]byte, 4)
			n, err := b.ReadAt(p, 8)
			require.Equal(t, 2, n)
			require.ErrorIs(t, err, io.EOF)
			n, err = b.ReadAt(p, 6)
			require.NoError(t, err)
			require.Equal(t, "6789", string(p[:n]))

			require.NoError(t, b.Do(9, 1, nil, func(d []byte) error {
				require.Equal(t, "9", string(d))
				return nil
			}))
			for _, r := range [][2]int64{{-1, 1}, {0, -1}, {0, 11}, {11, 0}, {5, 1 << 62}} {
				_, _, err := b.View(r[0], r[1])
				require.ErrorContains(t, err, "outside the 10 bytes")
				require.ErrorContains(t, b.Do(r[0], r[1], nil, nil), "outside the 10 bytes")
			}

			require.NoError(t, b.Close())
			require.NoError(t, b.Close())
			require.Equal(t, "234", string(view), "a view outlives Close")
			release()
			release()
			_, err = b.ReadAt(p, 0)
			require.ErrorIs(t, err, fs.ErrClosed)
			_, _, err = b.View(0, 1)
			require.ErrorIs(t, err, fs.ErrClosed)
			require.ErrorIs(t, b.Do(0, 1, nil, nil), fs.ErrClosed)
		})
	}
}

func TestMappingGoesWithTheLastView(t *testing.T) {
	released := 0
	b := FromBytes("memory", []byte("abc"))
	b.release = func() error { released++; return nil }
	_, first, err := b.View(0, 1)
	require.NoError(t, err)
	_, second, err := b.View(0, 1)
	require.NoError(t, err)
	require.NoError(t, b.Close())
	first()
	first()
	require.Zero(t, released)
	second()
	require.Equal(t, 1, released)
}

func TestFileCutShortWhileOpenIsAnError(t *testing.T) {
	path := writeFile(t, make([]byte, 1<<20))
	b, err := Open(path)
	require.NoError(t, err)
	defer b.Close()
	require.NoError(t, os.Truncate(path, 10))
	p := make([]byte, 100)
	_, err = b.ReadAt(p, 1<<19)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorContains(t, err, path)
	err = b.Do(1<<19, 100, nil, func(d []byte) error {
		p[0] = d[50]
		return nil
	})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, _, err = b.View(1<<19, 100)
	if b.Addressable() {
		require.ErrorContains(t, err, "cut short")
	} else {
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	}
}

func TestFileCutInItsLastPageIsAnError(t *testing.T) {
	path := writeFile(t, bytes.Repeat([]byte{1}, 1000))
	b, err := Open(path)
	require.NoError(t, err)
	defer b.Close()
	require.NoError(t, os.Truncate(path, 900))
	require.ErrorIs(t, b.Do(800, 200, nil, func([]byte) error { return nil }), io.ErrUnexpectedEOF)
	_, err = b.ReadAt(make([]byte, 200), 800)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestPanicsOfTheCallerPassThrough(t *testing.T) {
	b := FromBytes("memory", []byte("abc"))
	require.PanicsWithValue(t, "mine", func() {
		_ = b.Do(0, 1, nil, func([]byte) error { panic("mine") })
	})
	require.Zero(t, b.views)
}

func TestOnlyRegularFilesOpen(t *testing.T) {
	_, err := Open(t.TempDir())
	require.ErrorContains(t, err, "not a regular file")
	_, err = Open(filepath.Join(t.TempDir(), "missing"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	empty, err := Open(writeFile(t, nil))
	require.NoError(t, err)
	require.NoError(t, empty.Do(0, 0, nil, func(d []byte) error {
		require.Empty(t, d)
		return nil
	}))
	require.NoError(t, empty.Close())
}
