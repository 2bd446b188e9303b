package video

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/image/draw"
	"golang.org/x/image/math/f64"

	"unirestorer"
	"unirestorer/runtime/degrade"
)

// photo reads one of the pictures of the tests.
func photo(t *testing.T, name string) image.Image {
	t.Helper()
	f, err := os.Open(filepath.Join("../../testdata/photos", name))
	require.NoError(t, err)
	defer f.Close()
	img, err := png.Decode(f)
	require.NoError(t, err)
	return img
}

// view is a camera that pans and zooms over a photo: frame n of it.
func view(img image.Image, w, h, n int) *image.RGBA {
	b := img.Bounds()
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	zoom := float64(w) / float64(b.Dx()) * (1.25 + 0.004*float64(n))
	x, y := 20+0.9*float64(n), 10+0.4*float64(n)
	draw.CatmullRom.Transform(out, f64.Aff3{zoom, 0, -x * zoom, 0, zoom, -y * zoom}, img, b, draw.Src, nil)
	return out
}

// photoClip is a clip of such a camera, each frame spoilt by a spec with a seed of its own ("" for none).
func photoClip(t *testing.T, f Format, img image.Image, frames int, spec string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, f)
	for n := range frames {
		var seen image.Image = view(img, f.Width, f.Height, n)
		if spec != "" {
			s, err := degrade.ParseSpec(fmt.Sprintf("%s@%d", spec, n+1))
			require.NoError(t, err)
			d, err := degrade.FromImage(seen)
			require.NoError(t, err)
			d, err = degrade.Apply(context.Background(), d, s)
			require.NoError(t, err)
			seen = d.ToNRGBA()
		}
		require.NoError(t, w.Write(f.frameOf(seen)))
	}
	return b.Bytes()
}

// frameOf is a picture as a frame: the change from black to it.
func (f *Format) frameOf(img image.Image) *Frame {
	base := &Frame{Data: make([]byte, f.frameBytes())}
	black, _, _ := f.codes()
	for k, p := range f.planes()[:len(f.planes())-1] {
		for i := p; i < f.planes()[k+1]; i++ {
			f.add(base.Data, i, map[bool]float32{true: black, false: float32(int(1) << (f.Depth - 1))}[k == 0])
		}
	}
	before, after := f.Picture(base), f.Picture(base)
	for y := range f.Height {
		for x := range f.Width {
			r, g, b, _ := img.At(x, y).RGBA()
			i := 3 * (y*f.Width + x)
			for k, v := range []uint32{r, g, b} {
				if f.Depth == 8 {
					after.Pix[i+k] = uint8(v >> 8)
				} else {
					after.Pix16[i+k] = uint16(v)
				}
			}
		}
	}
	return f.Changed(base, before, after)
}

func format420(w, h int) Format {
	f := Format{Width: w, Height: h, Chroma: Chroma420, Depth: 8, Rate: Ratio{30, 1}, Aspect: Ratio{1, 1}, Interlacing: 'p'}
	f.Matrix, _ = matrixOf("", w, h)
	return f
}

// needLong skips what takes minutes: make video-check runs it.
func needLong(t *testing.T) {
	t.Helper()
	if os.Getenv("UNIRESTORER_TEST_LONG") == "" {
		t.Skip("takes minutes: make video-check")
	}
}

// TestRestoredClipsFlickerNoMoreThanTheyDid measures every kind of degradation on a moving view of a photo. Rain, snow and
// noise are others in every frame, as they are before a camera.
func TestRestoredClipsFlickerNoMoreThanTheyDid(t *testing.T) {
	needLong(t)
	r, err := unirestorer.Open(context.Background())
	require.NoError(t, err)
	defer r.Close()
	img := photo(t, "clean.png")
	f := format420(320, 180)
	const frames = 16
	clean := filepath.Join(t.TempDir(), "clean.y4m")
	require.NoError(t, os.WriteFile(clean, photoClip(t, f, img, frames, ""), 0o666))
	t.Logf("| kind | expert | before | after | gain | of the clip's own | of the clean clip's, before and after |")
	for _, kind := range degrade.Kinds() {
		in := photoClip(t, f, img, frames, fmt.Sprint(kind, ":0.6"))
		rep, err := Pipe(context.Background(), r, bytes.NewReader(in), &bytes.Buffer{}, Options{Hysteresis: -1, Reference: clean})
		require.NoError(t, err)
		c := rep.Consistency
		t.Logf("| %v | %d %s | %.2f | %.2f | %.2f | %.2f | %.2f, %.2f |", kind, rep.Scenes[0].Expert, rep.Scenes[0].Name, c.Before, c.After, c.Gain, c.Ratio, c.Before/c.Clean, c.RatioClean)
		require.False(t, math.IsNaN(c.Ratio))
		require.LessOrEqual(t, c.Ratio, 1.0, "%v", kind)
		require.Len(t, rep.Scenes, 1, "%v", kind)
	}
}
