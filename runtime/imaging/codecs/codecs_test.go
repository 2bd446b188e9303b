package codecs

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func file(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("../testdata/cases/" + name)
	require.NoError(t, err)
	return data
}

func anySize(JPEGHeader) error { return nil }

func TestRowsBeforeADamagedPlaceAreKept(t *testing.T) {
	data := file(t, "444.jpg")
	whole, err := DecodeJPEG(t.Context(), data, anySize)
	require.NoError(t, err)
	require.Empty(t, whole.Warning)
	require.Equal(t, whole.Height, whole.Rows)
	sos := bytes.Index(data, []byte{0xff, 0xda})
	require.Positive(t, sos)
	cut, err := DecodeJPEG(t.Context(), data[:(sos+len(data))/2], anySize)
	require.NoError(t, err)
	require.NotEmpty(t, cut.Warning)
	require.Positive(t, cut.FaultRow)
	require.Less(t, cut.FaultRow, cut.Height)
	n := cut.FaultRow / 8 * 8 * cut.Width * cut.Channels / 2
	require.Equal(t, whole.Pix[:n], cut.Pix[:n])
}

func TestAHeaderThatIsRefusedCostsNoPixels(t *testing.T) {
	refused := context.Canceled
	_, err := DecodeJPEG(t.Context(), file(t, "444.jpg"), func(h JPEGHeader) error {
		require.Equal(t, [2]int{96, 64}, [2]int{h.Width, h.Height})
		return refused
	})
	require.ErrorIs(t, err, refused)
}

func TestInstancesWorkAtOnce(t *testing.T) {
	data := file(t, "arith.jpg")
	want, err := DecodeJPEG(t.Context(), data, anySize)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got, err := DecodeJPEG(t.Context(), data, anySize)
			if err != nil || !bytes.Equal(want.Pix, got.Pix) {
				t.Errorf("another picture: %v", err)
			}
		})
	}
	wg.Wait()
}

func TestMemoryInsideIsBounded(t *testing.T) {
	data := file(t, "big.tif")
	_, err := OpenTIFF(t.Context(), append(bytes.Clone(data), make([]byte, 8<<20)...), baseMemory)
	require.ErrorIs(t, err, errMemory)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = OpenTIFF(done, data, TIFFMemory(len(data), 1<<20))
	require.ErrorIs(t, err, context.Canceled)
}

// TestOneDamagedStripCostsThatStripOnly spoils the first of a zstd picture's strips.
func TestOneDamagedStripCostsThatStripOnly(t *testing.T) {
	data := bytes.Clone(file(t, "c_zstd.tif"))
	at := bytes.Index(data, []byte{0x28, 0xb5, 0x2f, 0xfd}) // zstd's magic number
	require.Positive(t, at)
	data[at] ^= 0xff
	f, err := OpenTIFF(t.Context(), data, TIFFMemory(len(data), 1<<20))
	require.NoError(t, err)
	defer f.Close()
	h, err := f.Directory(uint64(binary.LittleEndian.Uint32(data[4:])))
	require.NoError(t, err)
	bad := 0
	for i := range h.Blocks {
		if block, err := f.Block(h, i); err != nil {
			bad++
			require.Len(t, block, h.BlockBytes)
		}
	}
	require.Equal(t, 1, bad)
	_, err = f.Directory(uint64(len(data)) + 100)
	require.Error(t, err)
}

func TestRubbishIsAnError(t *testing.T) {
	for _, data := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte{0xff, 0xd8}, 100), bytes.Repeat([]byte("II*\x00"), 100)} {
		_, err := DecodeJPEG(t.Context(), data, anySize)
		require.Error(t, err)
		if f, err := OpenTIFF(t.Context(), data, 8<<20); err == nil {
			_, err = f.Directory(8)
			require.Error(t, err)
			require.NoError(t, f.Close())
		}
		_, err = OpenAnimation(t.Context(), data, 1, 1)
		require.Error(t, err)
		_, rows, err := DecodePartialWebP(t.Context(), data, 4, 4)
		require.NoError(t, err)
		require.Zero(t, rows)
	}
}

// TestCost reports what compiling the modules takes; it asserts nothing but that they compile.
func TestCost(t *testing.T) {
	for name, packed := range map[string][]byte{"jpeg": jpegFile, "tiff": tiffFile, "webp": webpFile} {
		start := time.Now()
		code, err := newModule(packed).code()
		require.NoError(t, err)
		t.Logf("%s: %d bytes packed, %d unpacked, %v the first time or from the cache", name, len(packed), len(code), time.Since(start))
	}
}
