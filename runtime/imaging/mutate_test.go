package imaging

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var mutateFor = flag.Duration("mutate", 2*time.Second, "how long TestDamagedFilesNeverPanic damages files")

// TestDamagedFilesNeverPanic damages files of every kind at random, sandboxed decoders included, which coverage-guided
// fuzzing is too slow for. What decodes must be whole.
func TestDamagedFilesNeverPanic(t *testing.T) {
	seeds := sources(t)
	cases, err := filepath.Glob("testdata/cases/*.[a-z]*")
	require.NoError(t, err)
	for _, path := range cases {
		if data, err := os.ReadFile(path); err == nil && len(data) < 40000 && !strings.Contains(path, ".ref.") {
			seeds[filepath.Base(path)] = data
		}
	}
	seeds["lossy quality.webp"] = encoded(t, smooth(t, 40, 30, 4), EncodeOptions{Format: WebP, Quality: 60})
	for _, name := range []string{"prophoto.icc", "table.icc", "oneway.icc", "grey18.icc"} { // bare in TIFF
		img := noise(t, 5, 4, 3, 8)
		if name == "grey18.icc" {
			img = noise(t, 5, 4, 1, 8)
		}
		img.Meta.ICC = testProfile(t, name)
		seeds[name+".tif"] = encoded(t, img, EncodeOptions{Format: TIFF, Compression: compressNone})
	}
	var names []string
	for name := range seeds {
		names = append(names, name)
	}
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	limits := Limits{MaxPixels: 1 << 18}
	decodedFiles, tried := 0, 0
	for start := time.Now(); time.Since(start) < *mutateFor; tried++ {
		name := names[r.IntN(len(names))]
		data := damaged(r, seeds[name])
		check := func() {
			p, err := Open(data, limits)
			if err != nil {
				require.NotContains(t, err.Error(), "malformed file (", "a panic that the guard caught")
				return
			}
			defer p.Close()
			for range min(p.Count, 5) {
				img, _, err := p.Next()
				if err != nil {
					require.NotContains(t, err.Error(), "malformed file (", "a panic that the guard caught")
					return
				}
				require.NoError(t, img.Check())
				require.LessOrEqual(t, int64(img.W)*int64(img.H), limits.MaxPixels)
				decodedFiles++
			}
		}
		before := time.Now()
		if !t.Run("", func(t *testing.T) {
			defer func() {
				if p := recover(); p != nil || t.Failed() {
					path := filepath.Join(os.TempDir(), "damaged-"+name)
					require.NoError(t, os.WriteFile(path, data, 0o666))
					t.Fatalf("%s, seed %d: %v; kept as %s", name, seed, p, path)
				}
			}()
			check()
		}) {
			break
		}
		require.Less(t, time.Since(before), time.Minute, "%s, seed %d", name, seed)
	}
	t.Logf("%d damaged files, %d pictures decoded", tried, decodedFiles)
}

func damaged(r *rand.Rand, data []byte) []byte {
	data = bytes.Clone(data)
	for range 1 + r.IntN(6) {
		at := r.IntN(len(data))
		if r.IntN(2) == 0 {
			at = r.IntN(min(len(data), 200)) // headers are there
		}
		switch r.IntN(6) {
		case 0:
			data[at] = byte(r.Uint32())
		case 1:
			data[at] ^= 1 << r.IntN(8)
		case 2:
			data[at] = []byte{0, 1, 0x7f, 0x80, 0xff}[r.IntN(5)]
		case 3:
			data = data[:max(at, 1)]
		case 4:
			n := min(r.IntN(16), len(data)-at)
			copy(data[at:], data[r.IntN(len(data)-n+1):][:n])
		case 5:
			n := r.IntN(8)
			data = append(data[:at:at], append(bytes.Repeat([]byte{byte(r.Uint32())}, n), data[at:]...)...)
		}
	}
	return data
}
