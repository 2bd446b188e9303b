package unirestorer_test

import (
	"context"
	"errors"
	"image"
	"image/color"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer"
	"unirestorer/weights/nano"
)

func open(t testing.TB, opts ...unirestorer.Option) *unirestorer.Restorer {
	t.Helper()
	r, err := unirestorer.Open(context.Background(), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// checks draws a small pattern in any image type.
func checks(m interface {
	image.Image
	Set(x, y int, c color.Color)
}) image.Image {
	b := m.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			m.Set(x, y, color.NRGBA64{R: uint16(x * 997), G: uint16(y * 1501), B: uint16((x ^ y) * 331), A: uint16(0xffff - 100*x)})
		}
	}
	return m
}

func TestResultsAreOfTheKindThatWentIn(t *testing.T) {
	r := open(t, unirestorer.WithLazyEstimator())
	b := image.Rect(7, 9, 7+40, 9+36)
	for name, c := range map[string]struct{ in, out image.Image }{
		"grey":    {checks(image.NewGray(b)), &image.Gray{}},
		"grey 16": {checks(image.NewGray16(b)), &image.Gray16{}},
		"8 bits":  {checks(image.NewNRGBA(b)), &image.NRGBA{}},
		"16 bits": {checks(image.NewNRGBA64(b)), &image.NRGBA64{}},
		"any":     {checks(image.NewRGBA(b)), &image.NRGBA{}},
	} {
		t.Run(name, func(t *testing.T) {
			res, err := r.Restore(context.Background(), c.in, unirestorer.WithExpert(7))
			require.NoError(t, err)
			require.IsType(t, c.out, res.Image)
			require.Equal(t, image.Rect(0, 0, 40, 36), res.Image.Bounds())
			require.Equal(t, "fine-2-clean", res.Route.Expert.Name)
			require.Equal(t, 7, res.Route.Expert.Index)
			for _, x := range []int{0, 20, 39} { // alpha is kept
				_, _, _, want := c.in.At(b.Min.X+x, b.Min.Y+3).RGBA()
				_, _, _, got := res.Image.At(x, 3).RGBA()
				require.Equal(t, want, got)
			}
		})
	}
}

func TestPicturesKeepWhatTheirFileSaid(t *testing.T) {
	r := open(t, unirestorer.WithLazyEstimator())
	p, err := unirestorer.DecodeFile(photo)
	require.NoError(t, err)
	p.Meta.EXIF = []byte("II*\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	p.Meta.Orientation = 6
	res, err := r.Restore(context.Background(), p, unirestorer.WithExpert(7))
	require.NoError(t, err)
	out, ok := res.Image.(*unirestorer.Picture)
	require.True(t, ok)
	require.NotEmpty(t, out.Meta.EXIF)
	require.Equal(t, [2]int{p.H, p.W}, [2]int{out.W, out.H}, "upright")
}

func TestManyGoroutinesShareARestorer(t *testing.T) {
	r := open(t)
	p, err := unirestorer.DecodeFile(photo)
	require.NoError(t, err)
	small, err := p.CenterCrop(48, 40)
	require.NoError(t, err)
	ctx := context.Background()
	want := map[int]image.Image{}
	for _, e := range []int{0, 5, 7, 13} {
		res, err := r.Restore(ctx, small, unirestorer.WithExpert(e))
		require.NoError(t, err)
		want[e] = res.Image
	}
	route, err := r.Route(ctx, small)
	require.NoError(t, err)
	var wg sync.WaitGroup
	errs := make(chan error, 64)
	for i := range 12 {
		wg.Go(func() {
			e := []int{0, 5, 7, 13}[i%4]
			res, err := r.Restore(ctx, small, unirestorer.WithExpert(e))
			if err == nil && !samePixels(res.Image, want[e]) {
				err = errors.New("another picture than alone")
			}
			errs <- err
			again, err := r.Route(ctx, small)
			if err == nil && again.Expert.Index != route.Expert.Index {
				err = errors.New("another route than alone")
			}
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
}

func samePixels(a, b image.Image) bool {
	if a.Bounds() != b.Bounds() {
		return false
	}
	for y := a.Bounds().Min.Y; y < a.Bounds().Max.Y; y++ {
		for x := a.Bounds().Min.X; x < a.Bounds().Max.X; x++ {
			if a.At(x, y) != b.At(x, y) {
				return false
			}
		}
	}
	return true
}

func TestOptionsThatMakeNoSenseAreNamed(t *testing.T) {
	ctx := context.Background()
	for want, opt := range map[string]unirestorer.Option{
		"threads -1":  unirestorer.WithThreads(-1),
		"memory 0":    unirestorer.WithMemory(0),
		"adapters":    unirestorer.WithAdapters("glued"),
		"model empty": unirestorer.WithModelFS("empty", nil),
	} {
		_, err := unirestorer.Open(ctx, opt)
		var option *unirestorer.OptionError
		require.ErrorAs(t, err, &option)
		require.ErrorContains(t, err, want)
	}
	_, err := unirestorer.Open(ctx, unirestorer.WithModel("x"), unirestorer.WithModelFS("y", nano.Files()))
	require.ErrorContains(t, err, "more than one model")
	_, err = unirestorer.Open(ctx, unirestorer.WithDevice("abacus"))
	require.ErrorIs(t, err, unirestorer.ErrUnknownDevice)
	_, err = unirestorer.Open(ctx, unirestorer.WithModel("no/such/folder"))
	require.ErrorContains(t, err, "no/such/folder")

	r := open(t, unirestorer.WithLazyEstimator(), unirestorer.WithModelFS("mine", nano.Files()))
	require.Equal(t, "mine", r.Model())
	for want, opt := range map[string]unirestorer.CallOption{
		"expert 99":    unirestorer.WithExpert(99),
		"level":        unirestorer.WithLevel("finest"),
		"level 7":      unirestorer.WithLevel("7"),
		"degradation":  unirestorer.WithDegradation("boredom"),
		"tile 0":       unirestorer.WithTile(0),
		"overlap -3":   unirestorer.WithOverlap(-3),
		"quality 101":  unirestorer.WithQuality(101),
		`format "gif"`: unirestorer.WithFormat("gif"),
	} {
		var option *unirestorer.OptionError
		err := r.Check(opt)
		require.ErrorAs(t, err, &option, want)
		require.ErrorContains(t, err, want)
		_, err = r.Restore(ctx, image.NewGray(image.Rect(0, 0, 8, 8)), opt)
		require.ErrorAs(t, err, &option, want)
	}
	require.NoError(t, r.Check(unirestorer.WithDegradation("rain", "snow"), unirestorer.WithLevel("Fine")))
}

func TestClosedRestorerSaysSo(t *testing.T) {
	r, err := unirestorer.Open(context.Background(), unirestorer.WithLazyEstimator())
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NoError(t, r.Close())
	img := image.NewGray(image.Rect(0, 0, 32, 32))
	_, err = r.Restore(context.Background(), img)
	require.ErrorIs(t, err, unirestorer.ErrClosed)
	_, err = r.Route(context.Background(), img)
	require.ErrorIs(t, err, unirestorer.ErrClosed)
	_, err = r.RestoreFile(context.Background(), photo, filepath.Join(t.TempDir(), "x.png"))
	require.ErrorIs(t, err, unirestorer.ErrClosed)
	require.Len(t, r.Experts(), 15, "what is known stays known")
}

func TestCancelledCallsReturn(t *testing.T) {
	r := open(t, unirestorer.WithLazyEstimator())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := r.Restore(ctx, image.NewGray(image.Rect(0, 0, 32, 32)))
	require.ErrorIs(t, err, context.Canceled)
}

// Plotting and linear algebra belong to the lab.
func TestEmbeddingLinksNoLab(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	for _, room := range []string{"gonum.org/", "urfave/cli", "unirestorer/runtime/evaluate", "unirestorer/runtime/degrade", "unirestorer/runtime/lora", "unirestorer/tools", "stretchr/testify"} {
		require.False(t, strings.Contains(string(out), room), "the root package links %s", room)
	}
}

func TestProfileTellsWhatExpertsCost(t *testing.T) {
	r := open(t, unirestorer.WithLazyEstimator())
	ctx := context.Background()
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // the record of peaks
	quick := unirestorer.WithMethod(unirestorer.ProfileMethod{MinRuns: 2, MaxRuns: 2, MaxSeconds: 1, Precision: 1})
	stages := map[string]float64{}
	p, err := r.Profile(ctx, unirestorer.ProfileExperts("7"), unirestorer.ProfileSizes(unirestorer.Size{Width: 32, Height: 32}),
		unirestorer.ProfilePeaks(1e11, 1e10), quick, unirestorer.ProfileProgress(func(stage string, done float64) { stages[stage] = done }))
	require.NoError(t, err)
	require.Len(t, p.Networks, 1)
	require.Equal(t, "fine-2-clean", p.Networks[0].Name)
	require.Equal(t, 2, p.Networks[0].Measured.Latency.Runs)
	require.Equal(t, map[string]float64{"profile": 1}, stages)
	for want, opt := range map[string]unirestorer.ProfileOption{
		"expert":   unirestorer.ProfileExperts("15"),
		"gpu":      unirestorer.ProfileGPU("abacus"),
		"batch 0":  unirestorer.ProfileBatches(0),
		"size 0x3": unirestorer.ProfileSizes(unirestorer.Size{Height: 3}),
		"peaks":    unirestorer.ProfilePeaks(0, 1),
		"runs":     unirestorer.WithMethod(unirestorer.ProfileMethod{MinRuns: 3, MaxRuns: 2}),
	} {
		_, err := r.Profile(ctx, opt)
		var option *unirestorer.OptionError
		require.ErrorAs(t, err, &option, want)
		require.ErrorContains(t, err, want)
	}
}

func TestVersionIsTheOneOfTheChangelog(t *testing.T) {
	text, err := os.ReadFile("CHANGELOG.md")
	require.NoError(t, err)
	newest := regexp.MustCompile(`(?m)^## (\S+)$`).FindSubmatch(text)
	require.NotNil(t, newest)
	require.True(t, strings.HasPrefix(unirestorer.Version(), string(newest[1])+" ("), unirestorer.Version())
}
