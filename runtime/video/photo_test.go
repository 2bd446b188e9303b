package video

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/image/draw"
	"golang.org/x/image/math/f64"

	"unirestorer"
	"unirestorer/runtime/degrade"
	"unirestorer/runtime/paired"
	"unirestorer/runtime/proctime"
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

// photoClip is a clip of such a camera, each frame spoilt by a spec ("" for none). Rain, snow and noise of every sort are others in every
// frame, as they are before a camera; what else spoils a clip stays.
func photoClip(t *testing.T, f Format, img image.Image, frames int, spec string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := newWriter(&b, f)
	for n := range frames {
		var seen image.Image = view(img, f.Width, f.Height, n)
		if spec != "" {
			seed := 1
			if kind, _, _ := strings.Cut(spec, ":"); slices.Contains([]string{"rain", "snow", "noise", "poisson", "camera"}, kind) {
				seed = n + 1
			}
			s, err := degrade.ParseSpec(fmt.Sprintf("%s@%d", spec, seed))
			require.NoError(t, err)
			d, err := degrade.FromImage(seen)
			require.NoError(t, err)
			d, err = degrade.Apply(context.Background(), d, s)
			require.NoError(t, err)
			seen = d.ToNRGBA()
		}
		require.NoError(t, w.write(f.frameOf(seen)))
	}
	return b.Bytes()
}

// frameOf is a picture as a frame: the change from black to it.
func (f *Format) frameOf(img image.Image) *Frame {
	base := &Frame{Data: make([]byte, f.frameBytes())}
	black, _, _ := f.codes()
	for k, p := range f.planes()[:len(f.planes())-1] {
		for i := p; i < f.planes()[k+1]; i++ {
			f.add(base.Data, i, map[bool]float32{true: float32(black), false: float32(int(1) << (f.Depth - 1))}[k == 0])
		}
	}
	before, after := f.picture(base), f.picture(base)
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
	return f.changed(base, before, after)
}

func format420(w, h int) Format {
	f := Format{Width: w, Height: h, Chroma: chroma420, Depth: 8, Rate: Ratio{30, 1}, Aspect: Ratio{1, 1}, Interlacing: 'p'}
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

// TestRestoredClipsFlickerNoMoreThanTheyDid measures every kind of degradation on a moving view of a photo. What differs from
// frame to frame in the result is no more than what the clip's own differences become by the restoration's gain, but for
// degradations that take detail away and are alike in all frames: what experts bring back there is not quite the same in each.
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
	for _, kind := range degrade.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			in := photoClip(t, f, img, frames, fmt.Sprint(kind, ":0.6"))
			rep, err := pipe(context.Background(), r, bytes.NewReader(in), &bytes.Buffer{}, Options{Hysteresis: -1, Reference: clean, every: 2})
			require.NoError(t, err)
			c := rep.Consistency
			t.Logf("| %v | %s | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f |", kind, rep.Scenes[0].Name, c.Before, c.After, c.Gain, c.Ratio, c.Before/c.Clean, c.After/c.Clean)
			most := 1.0
			if slices.Contains([]degrade.Kind{degrade.Haze, degrade.Motion, degrade.Defocus}, kind) {
				most = 2
			}
			require.LessOrEqual(t, c.Ratio, most)
			require.Len(t, rep.Scenes, 1)
		})
	}
}

// TestSpeedIsThatOfRestore prints by how much more processor time a clip of 640×360 takes than restoring its frames one after
// the other, in turns, with and without measuring; and by how much longer it takes through ffmpeg, which computes in processes
// of its own. It asserts nothing about time.
func TestSpeedIsThatOfRestore(t *testing.T) {
	needLong(t)
	ctx := context.Background()
	r := restorer(t)
	f := format420(640, 360)
	const frames = 8
	in := photoClip(t, f, photo(t, "clean.png"), frames, "rain:0.6")
	expert := unirestorer.WithExpert(0)
	if name := os.Getenv("UNIRESTORER_TEST_EXPERT"); name != "" {
		n, err := strconv.Atoi(name)
		require.NoError(t, err)
		expert = unirestorer.WithExpert(n)
	}
	var pictures []*unirestorer.Picture
	d, err := newReader(bytes.NewReader(in))
	require.NoError(t, err)
	for range frames {
		var frame Frame
		require.NoError(t, d.Next(&frame))
		pictures = append(pictures, f.picture(&frame))
	}
	restore := func() error {
		for _, p := range pictures {
			if _, err := r.Restore(ctx, p, expert); err != nil {
				return err
			}
		}
		return nil
	}
	o := Options{Route: []unirestorer.CallOption{expert}, Hysteresis: -1}
	still := o
	still.NoMeasure = true
	pipe := func(o Options) func() error {
		return func() error {
			_, err := pipe(ctx, r, bytes.NewReader(in), io.Discard, o)
			return err
		}
	}
	timed := func(clock func() time.Duration, run func() error) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			began := clock()
			err := run()
			return clock() - began, err
		}
	}
	start := time.Now()
	wall := func() time.Duration { return time.Since(start) }
	ways := []struct {
		name  string
		clock func() time.Duration
		run   func() error
	}{{"y4m", proctime.Used, pipe(o)}, {"y4m, --no-measure", proctime.Used, pipe(still)}}
	if _, err := exec.LookPath("ffmpeg"); err == nil {
		dir := t.TempDir()
		clip, mp4 := filepath.Join(dir, "in.y4m"), filepath.Join(dir, "in.mp4")
		require.NoError(t, os.WriteFile(clip, in, 0o666))
		ffmpeg(t, "-i", clip, "-c:v", "libx264", "-crf", "18", mp4)
		ways = append(ways, struct {
			name  string
			clock func() time.Duration
			run   func() error
		}{"mp4, H.264, on the clock", wall, func() error {
			_, err := File(ctx, r, mp4, filepath.Join(dir, "out.mp4"), nil, nil, o)
			return err
		}})
	}
	require.NoError(t, restore()) // with the expert in memory
	for _, w := range ways {
		ratio, err := paired.Turns(ctx, 20*time.Second, paired.Least, 12, timed(w.clock, restore), timed(w.clock, w.run))
		require.NoError(t, err)
		t.Logf("%s: %+.1f %% time (%+.1f to %+.1f, %d pairs)", w.name, 100*ratio.Median, 100*ratio.Low, 100*ratio.High, ratio.Pairs)
	}
}

// TestTenSecondsWithSoundGoThroughInterruptions takes a clip of 10 s at 640×360 with sound and two scenes, interrupted twice:
// ffprobe tells the same of the result as of the clip, and it is the file that a run without interruption gives.
func TestTenSecondsWithSoundGoThroughInterruptions(t *testing.T) {
	needLong(t)
	needFFmpeg(t)
	r := restorer(t)
	o := Options{Route: []unirestorer.CallOption{unirestorer.WithExpert(7)}, Hysteresis: -1} // a quick one
	dir := t.TempDir()
	f := format420(640, 360)
	const half = 150
	one, two := photoClip(t, f, photo(t, "clean.png"), half, "noise:0.5"), photoClip(t, f, photo(t, "rain.png"), half, "")
	clip, in := filepath.Join(dir, "in.y4m"), filepath.Join(dir, "in.mp4")
	require.NoError(t, os.WriteFile(clip, append(one, two[bytes.IndexByte(two, '\n')+1:]...), 0o666))
	ffmpeg(t, "-i", clip, "-f", "lavfi", "-i", "sine=440:d=10", "-c:v", "libx264", "-crf", "18", "-c:a", "aac",
		"-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv", in)
	whole, pieces := filepath.Join(dir, "whole.mp4"), filepath.Join(dir, "pieces.mp4")
	runs, rep := interrupted(t, r, in, pieces, 110, o)
	require.Equal(t, 3, runs)
	require.Len(t, rep.Scenes, 2)
	require.EqualValues(t, half, rep.Scenes[1].First)
	before, after := facts(t, in), facts(t, pieces)
	require.Len(t, before["frames"], 2*half)
	require.Equal(t, before, after)
	_, err := File(context.Background(), r, in, whole, nil, nil, o)
	require.NoError(t, err)
	a, err := os.ReadFile(whole)
	require.NoError(t, err)
	b, err := os.ReadFile(pieces)
	require.NoError(t, err)
	require.True(t, bytes.Equal(a, b))
	t.Log(rep)
}
