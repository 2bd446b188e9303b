//go:build cuda && cudasim && linux

package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"unirestorer"
)

// TestRequestsHopBetweenThreadsThroughCUDA has requests of several connections at a time use one card, each on a thread of
// its own that has never seen the card's context.
func TestRequestsHopBetweenThreadsThroughCUDA(t *testing.T) {
	r, err := unirestorer.Open(t.Context(), unirestorer.WithDevice("cuda"), unirestorer.WithLazyEstimator())
	require.NoError(t, err)
	defer r.Close()
	in := picture(t, 16, 16)
	want := map[string][]byte{}
	experts := []string{"2", "10"}
	for _, e := range experts {
		var out bytes.Buffer
		_, err := r.RestoreStream(t.Context(), bytes.NewBuffer(in), &out, unirestorer.WithExpertNamed(e))
		require.NoError(t, err)
		want[e] = out.Bytes()
	}
	pinned := &fakeThreads{Restorer: r}
	_, url := start(t, pinned, Config{Active: 6})
	var all sync.WaitGroup
	var mu sync.Mutex
	batches := map[int]int{}
	answers := make([][]byte, 10)
	for i := range answers {
		all.Go(func() {
			c := &http.Client{Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			e := experts[i%2]
			res, got := sendTo(t, c, "POST", url+"/v1/restore?report=json&expert="+e, bytes.NewReader(in))
			if res.StatusCode != 200 {
				t.Errorf("status %d: %s", res.StatusCode, got)
				return
			}
			var answer struct {
				Image  []byte
				Report unirestorer.Report
			}
			if err := json.Unmarshal(got, &answer); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			batches[answer.Report.Batch]++
			answers[i] = answer.Image
			if answer.Report.Batch < 2 && !bytes.Equal(want[e], answer.Image) {
				t.Errorf("expert %s gave another picture", e)
			}
		})
	}
	all.Wait()
	for i, image := range answers {
		require.LessOrEqual(t, furthest(t, want[experts[i%2]], image), 1, "picture %d", i)
	}
	t.Logf("pictures by size of their batch: %v", batches)
	require.Greater(t, pinned.threads(), 1)
}

// furthest is the largest difference of two pictures of one size, in levels of 255.
func furthest(t *testing.T, a, b []byte) (most int) {
	t.Helper()
	one, err := png.Decode(bytes.NewReader(a))
	require.NoError(t, err)
	other, err := png.Decode(bytes.NewReader(b))
	require.NoError(t, err)
	require.Equal(t, one.Bounds(), other.Bounds())
	for y := range one.Bounds().Dy() {
		for x := range one.Bounds().Dx() {
			p, q := color.NRGBAModel.Convert(one.At(x, y)).(color.NRGBA), color.NRGBAModel.Convert(other.At(x, y)).(color.NRGBA)
			for _, d := range []int{int(p.R) - int(q.R), int(p.G) - int(q.G), int(p.B) - int(q.B)} {
				most = max(most, d, -d)
			}
		}
	}
	return most
}

// fakeThreads keeps every call on a thread of its own, which ends with it.
type fakeThreads struct {
	*unirestorer.Restorer
	mu   sync.Mutex
	seen map[int]bool
}

func (f *fakeThreads) SetAside(int64) {}

func (f *fakeThreads) threads() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.seen)
}

func (f *fakeThreads) RestoreStream(ctx context.Context, in io.Reader, out io.Writer, opts ...unirestorer.CallOption) (res *unirestorer.Result, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		f.mu.Lock()
		if f.seen == nil {
			f.seen = map[int]bool{}
		}
		f.seen[unix.Gettid()] = true
		f.mu.Unlock()
		res, err = f.Restorer.RestoreStream(ctx, in, out, opts...)
	}()
	<-done
	return res, err
}
