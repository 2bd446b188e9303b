//go:build unix

package jobs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer"
)

// local is a queue on a server inside the test.
func local(t *testing.T) *Queue {
	t.Helper()
	at := fmt.Sprintf("nats://127.0.0.1:%d", freePorts(t, 1)[0])
	s, err := startServer(at, t.TempDir(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(s.close)
	q, err := Connect(context.Background(), Access{URL: at, Patience: 5 * time.Second}, Limits{AckWait: 2 * time.Second})
	require.NoError(t, err)
	t.Cleanup(q.Close)
	return q
}

func opened(t *testing.T) *unirestorer.Restorer {
	t.Helper()
	r, err := unirestorer.Open(context.Background(), unirestorer.WithLazyEstimator())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// drain works until nothing is left.
func drain(t *testing.T, q *Queue, r *unirestorer.Restorer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w := &Worker{Queue: q, Restorer: r, UntilEmpty: true, Tries: 2}
	require.NoError(t, w.Run(ctx))
	require.NoError(t, ctx.Err())
}

func TestJobsFromSubmissionToResult(t *testing.T) {
	ctx := context.Background()
	q, r := local(t), opened(t)
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	picture := pictureFile(t, filepath.Join(in, "one.png"), 1)
	require.NoError(t, os.WriteFile(filepath.Join(in, "twin.png"), picture, 0o666))
	pictureFile(t, filepath.Join(in, "deep", "two.png"), 2)
	require.NoError(t, os.WriteFile(filepath.Join(in, "bad.png"), []byte("\x89PNG\r\n\x1a\nx"), 0o666))
	expert := 9
	s := Submission{Inputs: []string{in}, To: out, Model: r.ModelDigest(), Options: Options{Expert: "9"}, Expert: &expert}
	res, err := q.Submit(ctx, s)
	require.NoError(t, err)
	require.Equal(t, 3, res.New, "the twin is no job of its own")
	require.Equal(t, 1, res.Known)
	again, err := q.Submit(ctx, s)
	require.NoError(t, err)
	require.Equal(t, []int{0, 4, 0}, []int{again.New, again.Known, again.Done}, "what waits is not put in twice")
	drain(t, q, r)

	var want bytes.Buffer
	_, err = r.RestoreStream(ctx, bytes.NewReader(picture), &want, unirestorer.WithExpert(9))
	require.NoError(t, err)
	for _, name := range []string{"one.png", "twin.png"} {
		got, err := os.ReadFile(filepath.Join(out, name))
		require.NoError(t, err)
		require.True(t, bytes.Equal(want.Bytes(), got))
	}
	require.FileExists(t, filepath.Join(out, "deep", "two.png"))
	require.NoFileExists(t, filepath.Join(out, "bad.png"))

	all, err := q.All(ctx, again.Batch)
	require.NoError(t, err)
	require.Equal(t, Counts{Done: 2, Failed: 1}, Count(all))
	require.Equal(t, "2 of 3 done, 1 failed", Count(all).String())
	last, err := q.Submit(ctx, Submission{Inputs: []string{filepath.Join(in, "one.png")}, To: out, Model: r.ModelDigest(), Options: s.Options, Expert: &expert})
	require.NoError(t, err)
	require.Equal(t, 1, last.Done)

	// A result that was taken away is made again; of a place that the worker does not see, it waits in the object store.
	require.NoError(t, os.Remove(filepath.Join(out, "one.png")))
	last, err = q.Submit(ctx, s)
	require.NoError(t, err)
	require.Equal(t, 2, last.New, "and so is what failed")
	_, err = q.change(ctx, last.Jobs[3], func(r *Record) (*Record, error) {
		for i := range r.Outs {
			r.Outs[i].Token = "of another machine"
		}
		return r, nil
	})
	require.NoError(t, err)
	drain(t, q, r)
	found, err := q.Find(ctx, []string{last.Jobs[3][:8]})
	require.NoError(t, err)
	if o := found[0].Outs[0]; o.Object != "" {
		require.NoFileExists(t, o.To)
		token, err := mark(ctx, out)
		require.NoError(t, err)
		_, err = q.change(ctx, found[0].ID, func(r *Record) (*Record, error) {
			for i := range r.Outs {
				r.Outs[i].Token = token
			}
			return r, nil
		})
		require.NoError(t, err)
		n, err := q.Fetch(ctx, "")
		require.NoError(t, err)
		require.Positive(t, n)
	}
	got, err := os.ReadFile(filepath.Join(out, "one.png"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(want.Bytes(), got))
}

func TestJobsAreCancelledRetriedAndFoundAgain(t *testing.T) {
	ctx := context.Background()
	q, r := local(t), opened(t)
	dir := t.TempDir()
	pictureFile(t, filepath.Join(dir, "in", "a.png"), 3)
	expert := 9
	s := Submission{Inputs: []string{filepath.Join(dir, "in")}, To: filepath.Join(dir, "out"), Model: r.ModelDigest(), Options: Options{Expert: "9"}, Expert: &expert}
	res, err := q.Submit(ctx, s)
	require.NoError(t, err)
	jobs, err := q.Find(ctx, []string{res.Batch})
	require.NoError(t, err)
	n, err := q.Cancel(ctx, jobs)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	drain(t, q, r)
	require.NoFileExists(t, filepath.Join(dir, "out", "a.png"))
	n, err = q.Retry(ctx, jobs)
	require.NoError(t, err)
	require.Equal(t, 1, n)

	// The message is lost, as when a submitter dies in between or it grows too old: a look for those brings it back.
	require.NoError(t, q.stream.Purge(ctx))
	q.limits.AckWait = 0
	n, err = q.sweep(ctx, jobs[0].Model)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	n, err = q.sweep(ctx, jobs[0].Model)
	require.NoError(t, err)
	require.Zero(t, n, "what is there is left alone")
	q.limits.AckWait = 2 * time.Second
	seen := 0
	done := make(chan error, 1)
	go func() {
		_, err := q.Watch(ctx, res.Batch, nil, func(*Record, Counts) { seen++ })
		done <- err
	}()
	drain(t, q, r)
	require.NoError(t, <-done)
	require.FileExists(t, filepath.Join(dir, "out", "a.png"))
	_, err = q.Find(ctx, []string{"nothing"})
	require.ErrorContains(t, err, "no job or batch")
	_, err = Connect(ctx, Access{URL: "nats://127.0.0.1:1"}, Limits{})
	require.ErrorIs(t, err, ErrNoServer)
}

func TestPlacesThatMakeNoSenseAreRefused(t *testing.T) {
	s := Submission{To: "s3://bucket/x"}
	require.ErrorContains(t, s.place([]pair{{in: "a", out: "../a"}}), "leads out")
	require.ErrorContains(t, s.place([]pair{{in: "a", out: "c"}, {in: "b", out: "c"}}), "both be written")
	require.ErrorContains(t, s.place([]pair{{in: "s3://bucket/x/c", out: "c"}}), "would replace it")
	_, _, err := splitS3("s3:///key")
	require.ErrorContains(t, err, "want s3://")
	_, _, err = splitS3("s3://a_b!/key")
	require.ErrorContains(t, err, "s3://a_b!/key: Bucket name")
}

func TestIdentityIsContentOptionsAndModel(t *testing.T) {
	a := sha256.Sum256([]byte("a"))
	id := func(c [32]byte, o Options, m string) string {
		s, err := identity(c, o, m)
		require.NoError(t, err)
		return s
	}
	half := 0.5
	base := id(a, Options{}, "m")
	require.Len(t, base, 32)
	require.Equal(t, base, id(a, Options{}, "m"))
	for _, other := range []string{id(sha256.Sum256([]byte("b")), Options{}, "m"), id(a, Options{Strength: &half}, "m"), id(a, Options{}, "n")} {
		require.NotEqual(t, base, other)
	}
}

func TestFilesOfSeveralPicturesKeepTheirOwnRoutes(t *testing.T) {
	for head, want := range map[string]bool{"GIF89a": true, "II*\x00rest": true, "\x89PNG....acTL": true, "\x89PNG....IDAT": false, "\xff\xd8\xff": false, "RIFF....WEBPVP8X....ANIM": true, "RIFF....WEBPVP8 ": false} {
		require.Equal(t, want, several([]byte(head)), head)
	}
	m := message{Route: json.RawMessage(`{"Expert":{"Index":3}}`)}
	require.Equal(t, 3, m.found([]byte("\xff\xd8\xff")).Expert.Index)
	require.Nil(t, m.found([]byte("GIF89a")))
}

func TestPicturesComeFromAndGoToS3(t *testing.T) {
	ctx := context.Background()
	fakeS3(t)
	q, r := local(t), opened(t)
	st := &storage{q: q}
	dir := t.TempDir()
	picture := pictureFile(t, filepath.Join(dir, "a.png"), 5)
	require.NoError(t, st.putS3(ctx, "s3://bucket/in/deep/a.png", picture))
	back, err := st.read(ctx, "s3://bucket/in/deep/a.png", maxBytes)
	require.NoError(t, err)
	require.Equal(t, picture, back)
	expert := 9
	s := Submission{Inputs: []string{"s3://bucket/in", filepath.Join(dir, "a.png")}, To: "s3://bucket/out/", Model: r.ModelDigest(), Options: Options{Expert: "9"}, Expert: &expert}
	res, err := q.Submit(ctx, s)
	require.NoError(t, err)
	require.Empty(t, res.Errors)
	drain(t, q, r)
	one, err := st.read(ctx, "s3://bucket/out/deep/a.png", maxBytes)
	require.NoError(t, err)
	two, err := st.read(ctx, "s3://bucket/out/a.png", maxBytes)
	require.NoError(t, err)
	require.Equal(t, one, two)
	_, err = st.read(ctx, "s3://bucket/gone", maxBytes)
	require.True(t, missing(err), "%v", err)
	require.True(t, refused(st.putS3(ctx, "s3://nosuchbucket/x", picture)))
}
