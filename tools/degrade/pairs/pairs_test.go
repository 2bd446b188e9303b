package pairs

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/degrade"
)

// photoFolder writes a PNG of 200×150, a JPEG of 90×120 in a subfolder, a photo that is too small and a text file.
func photoFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "more"), 0o755))
	write := func(name string, w, h int, encode func(io.Writer, image.Image) error) {
		img := image.NewNRGBA(image.Rect(0, 0, w, h))
		for y := range h {
			for x := range w {
				img.SetNRGBA(x, y, color.NRGBA{R: uint8(x), G: uint8(y), B: uint8(x*y/16 + 40), A: 255})
			}
		}
		file, err := os.Create(filepath.Join(dir, filepath.FromSlash(name)))
		require.NoError(t, err)
		require.NoError(t, encode(file, img))
		require.NoError(t, file.Close())
	}
	write("b.png", 200, 150, png.Encode)
	write("more/a.JPG", 90, 120, func(w io.Writer, img image.Image) error { return jpeg.Encode(w, img, nil) })
	write("small.png", 20, 200, png.Encode)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("no photo"), 0o644))
	return dir
}

func newTestSource(t *testing.T, config Config) *Source {
	t.Helper()
	photos, err := LoadPhotos(t.Context(), photoFolder(t), 4096, config.Size, 2)
	require.NoError(t, err)
	source, err := NewSource(photos, nil, config)
	require.NoError(t, err)
	return source
}

func TestPhotosAreKeptInOrderAtTheResolutionsThatFit(t *testing.T) {
	photos, err := LoadPhotos(t.Context(), photoFolder(t), 150, 32, 3)
	require.NoError(t, err)
	require.Len(t, photos, 2)
	require.Equal(t, "b.png", photos[0].Name)
	require.Equal(t, "more/a.JPG", photos[1].Name)
	require.Equal(t, 2, photos[0].resolutions(), "100×75 and 50×37")
	w, h := photos[0].size(1)
	require.Equal(t, [2]int{50, 37}, [2]int{w, h})
	// 2×2 averages of the red ramp x: (0+1+0+1)/4 rounds up to 1, (2+3+2+3)/4 to 3.
	require.Equal(t, []uint8{1, 3}, []uint8{photos[0].levels[0].pix[0], photos[0].levels[0].pix[3]})
}

func TestBadPhotoFoldersAreReported(t *testing.T) {
	_, err := LoadPhotos(t.Context(), filepath.Join(t.TempDir(), "none"), 100, 10, 1)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = LoadPhotos(t.Context(), t.TempDir(), 100, 10, 1)
	require.ErrorContains(t, err, "no PNG, JPEG or WebP photo of at least 10×10")
	_, err = LoadPhotos(t.Context(), t.TempDir(), 5, 10, 1)
	require.Error(t, err)

	dir := photoFolder(t)
	broken := filepath.Join(dir, "zz.png")
	require.NoError(t, os.WriteFile(broken, []byte("\x89PNG\r\n\x1a\nnothing"), 0o644))
	_, err = LoadPhotos(t.Context(), dir, 4096, 32, 1)
	require.ErrorContains(t, err, broken)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = LoadPhotos(ctx, photoFolder(t), 4096, 32, 1)
	require.ErrorIs(t, err, context.Canceled)
}

func TestRecordsShowThePatchTheyName(t *testing.T) {
	source := newTestSource(t, Config{Size: 32, Seed: 5, Specs: []degrade.Spec{{}}})
	flips := 0
	for index := range uint64(60) {
		r, err := source.record(t.Context(), index)
		require.NoError(t, err)
		require.Equal(t, r.Clean, r.Degraded, "nothing was applied")
		from := source.photos[r.Photo].levels[r.Level]
		for y := range 32 {
			for x := range 32 {
				at := x
				if r.Flip {
					at = 31 - x
				}
				for c := range 3 {
					require.Equal(t, from.pix[((r.Y+y)*from.w+r.X+at)*3+c], r.Clean[(y*32+x)*3+c])
				}
			}
		}
		if r.Flip {
			flips++
		}
	}
	require.InDelta(t, 30, flips, 18)
}

// TestPatchesLookCutFromTheDegradedPhoto degrades the whole photo and expects the same patch: blur must bring in what lies
// beside the patch.
func TestPatchesLookCutFromTheDegradedPhoto(t *testing.T) {
	spec, err := degrade.ParseSpec("defocus:0.6")
	require.NoError(t, err)
	source := newTestSource(t, Config{Size: 32, Seed: 5, Specs: []degrade.Spec{spec}})
	for index := range uint64(20) {
		r, err := source.record(t.Context(), index)
		require.NoError(t, err)
		from := source.photos[r.Photo].levels[r.Level]
		photo, err := from.crop(0, 0, from.w, from.h, r.Flip)
		require.NoError(t, err)
		whole, err := degrade.Apply(t.Context(), photo, r.Spec)
		require.NoError(t, err)
		x := r.X
		if r.Flip {
			x = from.w - 32 - r.X
		}
		want, err := whole.Crop(x, r.Y, 32, 32)
		require.NoError(t, err)
		for i, v := range want.Bytes() {
			require.InDelta(t, v, r.Degraded[i], 1, "record %d", index)
		}
	}
}

// half checks a share of 0.5 of records whose photo is changed before it is degraded: about half of them must differ from
// those of plain, and be degraded as they are, here not at all. It calls check with the clean patches that differ.
func half(t *testing.T, plain, changing Config, check func(was, is []uint8)) {
	t.Helper()
	plain.Specs, changing.Specs = []degrade.Spec{{}}, []degrade.Spec{{}}
	from, to := newTestSource(t, plain), newTestSource(t, changing)
	changed := 0
	for index := range uint64(80) {
		was, err := from.record(t.Context(), index)
		require.NoError(t, err)
		is, err := to.record(t.Context(), index)
		require.NoError(t, err)
		require.Equal(t, is.Clean, is.Degraded, "nothing was applied")
		if !bytes.Equal(was.Clean, is.Clean) {
			changed++
			check(was.Clean, is.Clean)
		}
	}
	require.InDelta(t, 40, changed, 20)
}

func TestOtherTonesAreDegradedLikeTheCleanPatch(t *testing.T) {
	half(t, Config{Size: 32, Seed: 5}, Config{Size: 32, Seed: 5, Tones: 0.5}, func(was, is []uint8) {
		// A tone is a rising curve for each channel: what was darker stays no lighter.
		var curve [3][256]uint8
		for i, v := range was {
			curve[i%3][v] = is[i]
		}
		for c := range curve {
			last := uint8(0)
			for _, v := range curve[c] {
				if v > 0 {
					require.GreaterOrEqual(t, v, last)
					last = v
				}
			}
		}
	})
}

func TestBackdropsLeaveWhatIsInFront(t *testing.T) {
	kept, covered := 0, 0
	half(t, Config{Size: 64, Seed: 5}, Config{Size: 64, Seed: 5, Backdrops: 0.5}, func(was, is []uint8) {
		for i, v := range was {
			if is[i] == v {
				kept++
			} else {
				covered++
			}
		}
	})
	share := float64(covered) / float64(kept+covered)
	require.True(t, share > 0.3 && share < 0.9, "%.2f of the pixels are background", share)
}

func TestSurfacesStayBetweenTheirNodes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		s := newSurface(random, 0.2, 0.7)
		for i := range 41 {
			for j := range 41 {
				v := s.at(nodeAt(float64(i)/40), nodeAt(float64(j)/40))
				require.True(t, v >= 0.2-1e-12 && v <= 0.7+1e-12, "%g", v)
			}
		}
		for i := range surfaceNodes {
			for j := range surfaceNodes {
				require.InDelta(t, s[i][j], s.at(nodeAt(float64(j)/(surfaceNodes-1)), nodeAt(float64(i)/(surfaceNodes-1))), 1e-12)
			}
		}
	}
}

func TestOtherKindsAreDrawnAsOftenAsAsked(t *testing.T) {
	spec, err := degrade.ParseSpec("jpeg:0.5")
	require.NoError(t, err)
	source := newTestSource(t, Config{Size: 32, Seed: 5, Specs: []degrade.Spec{spec}, Others: 0.25})
	others := map[degrade.Kind]int{}
	for index := range uint64(400) {
		r, err := source.record(t.Context(), index)
		require.NoError(t, err)
		require.NotEmpty(t, r.Spec.Terms)
		if len(r.Spec.Terms) > 1 || r.Spec.Terms[0].Severity != 0.5 {
			others[r.Spec.Terms[0].Kind]++
		}
	}
	total := 0
	for _, n := range others {
		total += n
	}
	require.InDelta(t, 100, total, 30)
	require.Greater(t, len(others), 6, "kinds other than the one asked for")
}

func TestStreamsCanBeResumedAnywhere(t *testing.T) {
	source := newTestSource(t, Config{Size: 24, Seed: 9, Sampler: degrade.DefaultSampler()})
	var whole bytes.Buffer
	require.NoError(t, source.Write(t.Context(), &whole, 0, 150))
	require.Equal(t, 150*source.recordBytes(), whole.Len())
	for _, c := range [][2]int{{0, 1}, {1, 149}, {37, 70}, {149, 1}} {
		var part bytes.Buffer
		require.NoError(t, source.Write(t.Context(), &part, uint64(c[0]), uint64(c[1])))
		size := source.recordBytes()
		require.True(t, bytes.Equal(whole.Bytes()[c[0]*size:(c[0]+c[1])*size], part.Bytes()), "records %d to %d", c[0], c[0]+c[1])
	}
	other := newTestSource(t, Config{Size: 24, Seed: 10, Sampler: degrade.DefaultSampler()})
	var different bytes.Buffer
	require.NoError(t, other.Write(t.Context(), &different, 0, 150))
	require.NotEqual(t, whole.Bytes(), different.Bytes())
}

func TestStreamFollowsItsDescription(t *testing.T) {
	spec, err := degrade.ParseSpec("rain:0.5+noise:sigma=25")
	require.NoError(t, err)
	source := newTestSource(t, Config{Size: 16, Seed: 2, Specs: []degrade.Spec{spec}})
	var stream bytes.Buffer
	require.NoError(t, source.Write(t.Context(), &stream, 41, 2))
	second := stream.Bytes()[source.recordBytes():]

	format := source.Format()
	require.Equal(t, "haze", format.Kinds[degrade.Haze])
	require.Len(t, format.Photos, 3)
	fields := map[string][]byte{}
	at := 0
	for _, f := range format.Fields {
		size := int(f.Type[2] - '0')
		for _, n := range f.Shape {
			size *= n
		}
		fields[f.Name] = second[at : at+size]
		at += size
	}
	require.Equal(t, format.RecordBytes, at, "the fields fill the record")

	want, err := source.record(t.Context(), 42)
	require.NoError(t, err)
	le := binary.LittleEndian
	require.Equal(t, uint64(42), le.Uint64(fields["index"]))
	require.Equal(t, want.Spec.Seed, le.Uint64(fields["seed"]))
	require.Equal(t, uint32(want.Photo), le.Uint32(fields["photo"]))
	require.Equal(t, uint32(want.X), le.Uint32(fields["x"]))
	require.Equal(t, uint32(want.Y), le.Uint32(fields["y"]))
	require.Equal(t, uint16(want.Level), le.Uint16(fields["level"]))
	require.Equal(t, want.Clean, fields["clean"])
	require.Equal(t, want.Degraded, fields["degraded"])
	for k := range kindSlots {
		severity := math.Float32frombits(le.Uint32(fields["severity"][4*k:]))
		switch degrade.Kind(k) {
		case degrade.Rain:
			require.Equal(t, float32(0.5), severity)
		case degrade.Noise:
			require.InDelta(t, 1.0/3, severity, 1e-3)
		default:
			require.Zero(t, severity)
		}
	}

	text, err := json.Marshal(format)
	require.NoError(t, err)
	var back struct{ Fields [][]any }
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, []any{"clean", "|u1", []any{16.0, 16.0, 3.0}}, back.Fields[8])
}

func TestEveryKindFitsItsSlot(t *testing.T) {
	for _, k := range append(degrade.Kinds(), degrade.HeldOutKinds()...) {
		require.Less(t, int(k), kindSlots)
	}
}

func TestBadConfigurationsAreRefused(t *testing.T) {
	photos, err := LoadPhotos(t.Context(), photoFolder(t), 4096, 32, 1)
	require.NoError(t, err)
	good := degrade.DefaultSampler()
	for message, config := range map[string]Config{
		"patch size 0":           {Size: 0, Sampler: good},
		"patch size 9000":        {Size: 9000, Sampler: good},
		"too few for patches":    {Size: 100, Sampler: good},
		"no degradation kinds":   {Size: 32},
		"other tones 1.5":        {Size: 32, Sampler: good, Tones: 1.5},
		"backdrops -1":           {Size: 32, Sampler: good, Backdrops: -1},
		"other degradations NaN": {Size: 32, Sampler: good, Others: math.NaN()},
		"kind 55 does not exist": {Size: 32, Specs: []degrade.Spec{{Terms: []degrade.Term{{Kind: 55}}}}},
	} {
		_, err := NewSource(photos, nil, config)
		require.ErrorContains(t, err, message)
	}
	_, err = NewSource(nil, nil, Config{Size: 32, Sampler: good})
	require.ErrorContains(t, err, "no photos")
}

type failingWriter struct{ after int }

var errFull = errors.New("disk full")

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.after--; w.after < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestEndlessStreamsEndWithTheirReaderOrContext(t *testing.T) {
	source := newTestSource(t, Config{Size: 8, Seed: 1, Sampler: degrade.DefaultSampler()})
	require.ErrorIs(t, source.Write(t.Context(), &failingWriter{after: 3}, 0, 0), errFull)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, source.Write(ctx, io.Discard, 0, 0), context.Canceled)
	require.Error(t, source.Write(t.Context(), io.Discard, math.MaxUint64, 5))
}
