package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer"
	"unirestorer/runtime/cards"
	"unirestorer/runtime/serve"
)

var _ serve.Restorer = (*Fleet)(nil)

// childVariable makes the test binary a worker with so much memory.
const childVariable = "FLEET_TEST_MEMORY"

func TestMain(m *testing.M) {
	var memory int64
	if _, err := fmt.Sscan(os.Getenv(childVariable), &memory); err == nil {
		if err := child(memory); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(memory int64) error {
	r, err := unirestorer.Open(context.Background(), bound(memory), unirestorer.WithLazyEstimator(), unirestorer.WithThreads(1))
	if err != nil {
		return err
	}
	w := Worker{Restorer: r, Device: fmt.Sprint("child ", memory), Broken: func(error) bool { return false }}
	return errors.Join(Serve(context.Background(), w, os.Stdin, os.Stdout), r.Close())
}

func bound(memory int64) unirestorer.Option {
	if memory > 0 {
		return unirestorer.WithMemory(memory)
	}
	return unirestorer.WithoutMemoryBound()
}

func startChild(ctx context.Context, _ string, memory int64) (cards.Worker, error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", childVariable, memory))
	return cards.StartProcess(ctx, cmd)
}

func startInside(ctx context.Context, device string, memory int64) (cards.Worker, error) {
	r, err := unirestorer.Open(ctx, bound(memory), unirestorer.WithLazyEstimator(), unirestorer.WithThreads(1))
	if err != nil {
		return nil, err
	}
	return Inside(Worker{Restorer: r, Device: device}), nil
}

func openModel(t testing.TB) *unirestorer.Restorer {
	r, err := unirestorer.Open(context.Background(), unirestorer.WithLazyEstimator(), unirestorer.WithThreads(1))
	require.NoError(t, err)
	return r
}

func openFleet(t testing.TB, c Config) *Fleet {
	f := New(openModel(t), c)
	t.Cleanup(func() { require.NoError(t, f.Shutdown(context.Background())) })
	return f
}

// sample is a small picture.
func sample() *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, 32, 24))
	for y := range 24 {
		for x := range 32 {
			img.SetNRGBA(x, y, color.NRGBA{uint8(7 * x), uint8(9 * y), uint8(5 * (x ^ y)), 255})
		}
	}
	return img
}

func fileOf(t testing.TB, img image.Image) []byte {
	var b bytes.Buffer
	require.NoError(t, unirestorer.Encode(&b, img, "png"))
	return b.Bytes()
}

// Whatever way a picture goes, the result is that of a Restorer, and so are errors.
func TestFleetEqualsRestorer(t *testing.T) {
	ctx := context.Background()
	plain := openModel(t)
	defer plain.Close()
	file := fileOf(t, sample())
	options := []unirestorer.CallOption{unirestorer.WithDegradation("noise"), unirestorer.WithFormat("bmp"), unirestorer.WithClient("me"), unirestorer.WithTile(16), unirestorer.WithOverlap(4)}
	var want bytes.Buffer
	result, err := plain.RestoreStream(ctx, bytes.NewReader(file), &want, options...)
	require.NoError(t, err)
	wantImage, err := plain.Restore(ctx, sample(), unirestorer.WithExpert(3))
	require.NoError(t, err)
	for name, start := range map[string]func(context.Context, string, int64) (cards.Worker, error){"processes": startChild, "inside": startInside} {
		f := openFleet(t, Config{Devices: []string{"one", "two"}, Start: start, Memory: 2 << 30})
		f.SetAside(1 << 20)
		require.NoError(t, f.Check(options...))
		var got bytes.Buffer
		var done []float64
		r, err := f.RestoreStream(ctx, bytes.NewReader(file), &got, append(options, unirestorer.WithProgress(func(d float64) { done = append(done, d) }))...)
		require.NoError(t, err, name)
		require.Equal(t, want.Bytes(), got.Bytes(), name)
		require.Equal(t, result.Route, r.Route)
		require.Equal(t, result.Report.TilesX, r.Report.TilesX)
		require.NotEmpty(t, done)

		img, err := f.Restore(ctx, sample(), unirestorer.WithExpert(3))
		require.NoError(t, err, name)
		require.Equal(t, wantImage.Image, img.Image, name)

		route, err := f.RouteStream(ctx, bytes.NewBuffer(file), options...)
		require.NoError(t, err)
		require.Equal(t, result.Route.Expert, route.Expert)

		out := filepath.Join(t.TempDir(), "x.bmp")
		in := filepath.Join(t.TempDir(), "x.png")
		require.NoError(t, os.WriteFile(in, file, 0o600))
		_, device, err := f.RestoreJob(ctx, unirestorer.Job{In: in, Out: out}, options...)
		require.NoError(t, err)
		require.NotEmpty(t, device)
		written, err := os.ReadFile(out)
		require.NoError(t, err)
		require.Equal(t, want.Bytes(), written)

		host, _ := f.Memory()
		require.Positive(t, host.Peak)
		require.EqualValues(t, 2<<30, host.Bound)
		for _, s := range f.States() {
			require.Zero(t, s.Failures)
		}

		_, err = f.RestoreStream(ctx, bytes.NewReader([]byte("no picture")), io.Discard)
		require.ErrorIs(t, err, unirestorer.ErrFormat, name)
		var picture *unirestorer.PictureError
		require.ErrorAs(t, err, &picture)
		require.ErrorContains(t, err, "picture")
		_, err = f.RestoreStream(ctx, bytes.NewReader(file), io.Discard, unirestorer.WithMaxPixels(9))
		require.ErrorIs(t, err, unirestorer.ErrTooLarge, name)
		_, err = f.RestoreStream(ctx, bytes.NewReader(file), io.Discard, unirestorer.WithExpert(99))
		var option *unirestorer.OptionError
		require.ErrorAs(t, err, &option)
		_, _, err = f.RestoreJob(ctx, unirestorer.Job{In: "/no/such/file.png", Out: out})
		require.ErrorContains(t, err, "/no/such/file.png")
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		_, err = f.RestoreStream(canceled, bytes.NewReader(file), io.Discard)
		require.ErrorIs(t, err, context.Canceled)
	}
}

// A picture that no worker's share of the memory can hold is refused, after each was asked.
func TestFleetRefusesWhatNoDeviceHasTheMemoryFor(t *testing.T) {
	f := openFleet(t, Config{Devices: []string{"one", "two"}, Start: startInside, Memory: 2 << 20})
	_, err := f.RestoreStream(context.Background(), bytes.NewReader(fileOf(t, sample())), io.Discard, unirestorer.WithExpert(3))
	require.ErrorIs(t, err, unirestorer.ErrMemory)
	require.NoError(t, f.Start(context.Background()))
}

func TestFleetWithoutDevicesIsUnavailable(t *testing.T) {
	lost := func(context.Context, string, int64) (cards.Worker, error) { return nil, errors.New("no such card") }
	f := openFleet(t, Config{Devices: []string{"one"}, Start: lost, Cards: cards.Options{Backoff: 1, MostBackoff: 1, Eager: true}})
	err := f.Start(context.Background())
	require.ErrorIs(t, err, unirestorer.ErrUnavailable)
	require.ErrorContains(t, err, "no such card")
	_, err = f.RestoreStream(context.Background(), bytes.NewReader(nil), io.Discard)
	require.ErrorIs(t, err, unirestorer.ErrUnavailable)
}

func TestClosedFleetSaysSo(t *testing.T) {
	f := New(openModel(t), Config{Devices: []string{"one"}, Start: startInside})
	require.NoError(t, f.Shutdown(context.Background()))
	_, err := f.RestoreStream(context.Background(), bytes.NewReader(nil), io.Discard)
	require.ErrorIs(t, err, unirestorer.ErrClosed)
}

func TestFingerprintOfAFleetNamesItsDevices(t *testing.T) {
	of := func(devices ...string) string {
		s, err := openFleet(t, Config{Devices: devices, Start: startInside}).Fingerprint()
		require.NoError(t, err)
		return s
	}
	require.Equal(t, of("a", "b"), of("b", "a"))
	require.NotEqual(t, of("a"), of("b"))
}

// Orders that are damaged are errors of their own.
func FuzzOrders(f *testing.F) {
	r, err := unirestorer.Open(context.Background(), unirestorer.WithLazyEstimator())
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, r.Close()) })
	f.Add(`{"Kind":"picture","Picture":{"W":1,"H":1,"Channels":3,"Depth":8},"Options":{}}`, []byte{1, 2})
	f.Add(`{"Kind":"stream","Options":{"File":{"Tile":-9}}}`, []byte("\x89PNG"))
	f.Add(`{"Kind":"file","Options":null}`, []byte(nil))
	f.Fuzz(func(t *testing.T, spec string, data []byte) {
		w := Worker{Restorer: r, Device: "cpu"}
		_, err := w.do(context.Background(), cards.Job{Spec: []byte(spec), Data: data}, cards.Under{Progress: func(float64) {}, Choose: func(string) error { return cards.ErrElsewhere }})
		if err != nil {
			require.NotEmpty(t, err.Error())
		}
	})
}

// BenchmarkIsolation measures a small picture through a worker in this process and through one in a process of its own.
func BenchmarkIsolation(b *testing.B) {
	file := fileOf(b, sample())
	for name, start := range map[string]func(context.Context, string, int64) (cards.Worker, error){"inside": startInside, "process": startChild} {
		b.Run(name, func(b *testing.B) {
			f := openFleet(b, Config{Devices: []string{"one"}, Start: start})
			for b.Loop() {
				if _, err := f.RestoreStream(b.Context(), bytes.NewReader(file), io.Discard, unirestorer.WithExpert(3)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
