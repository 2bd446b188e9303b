package imaging

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// allocated is all that f allocates, garbage included: never less than what it holds at a time.
func allocated(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// busy is a picture that compresses badly.
func busy(t testing.TB, w, h, channels, depth int) *Image {
	img, err := New(w, h, channels, depth)
	require.NoError(t, err)
	seed := uint32(1)
	for i := range w * h * channels {
		seed = seed*1664525 + 1013904223
		img.setSample16(i, uint16(seed>>16))
	}
	return img
}

func TestDecodingAndEncodingTakeNoMoreThanTheHeaderTells(t *testing.T) {
	const w, h = 1100, 900
	for _, f := range []Format{PNG, JPEG, WebP, TIFF, BMP} {
		for channels := 1; channels <= 4; channels++ {
			for _, depth := range []int{8, 16} {
				name := fmt.Sprintf("%s of %d channels, %d bits", f, channels, depth)
				img := busy(t, w, h, channels, depth)
				var b bytes.Buffer
				b.Grow(16 << 20)
				cfg := Config{W: w, H: h, Channels: channels, Depth: depth}
				took := allocated(func() { require.NoError(t, Encode(&b, img, EncodeOptions{Format: f})) })
				if f == TIFF {
					took /= 3 // buffers that have doubled are garbage
				}
				assert.LessOrEqual(t, took, cfg.EncodeWork(f), "encode %s", name)

				data := b.Bytes()
				p, err := probeBytes(data, Limits{})
				require.NoError(t, err)
				require.EqualValues(t, len(data), p.FileBytes)
				var back *Image
				took = allocated(func() { back, err = decodeBytes(data, Limits{}) })
				require.NoError(t, err)
				require.LessOrEqual(t, p.PixelBytes(), int64(len(back.Pix)+2*len(back.Pix16)))
				assert.LessOrEqual(t, took, p.DecodeBytes-p.FileBytes, "decode %s", name)
			}
		}
	}
}

func TestProbingAFileReadsItsHeaderOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.png")
	require.NoError(t, EncodeFile(t.Context(), path, busy(t, 2000, 1500, 3, 8), EncodeOptions{Compression: compressNone}))
	var p Probe
	var err error
	took := allocated(func() { p, err = ProbeFile(path, Limits{}) })
	require.NoError(t, err)
	require.Equal(t, Config{Format: PNG, W: 2000, H: 1500, Channels: 3, Depth: 8}, p.Config)
	require.EqualValues(t, 9_000_000, p.PixelBytes())
	require.Greater(t, p.FileBytes, int64(9_000_000))
	if runtime.GOOS == "linux" {
		require.Less(t, took, int64(1<<20))
	}

	_, err = ProbeFile(path, Limits{MaxBytes: 1000})
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = ProbeFile(t.TempDir(), Limits{})
	require.ErrorContains(t, err, "not a regular file")
	empty := filepath.Join(t.TempDir(), "empty.png")
	require.NoError(t, os.WriteFile(empty, nil, 0o666))
	_, err = ProbeFile(empty, Limits{})
	require.ErrorIs(t, err, ErrFormat)
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, readWhole(f, 10, func(data []byte) error {
		_, err := probeBytes(data, Limits{})
		return err
	}))
	_, err = f.Seek(0, io.SeekStart)
	require.NoError(t, err)
}
