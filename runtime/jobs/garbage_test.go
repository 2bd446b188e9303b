//go:build unix

package jobs

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestGarbageInTheStreamsStopsNobody has a worker meet messages and records that nobody of this program wrote.
func TestGarbageInTheStreamsStopsNobody(t *testing.T) {
	ctx := bounded(t)
	q, r := local(t), opened(t)
	dir := t.TempDir()
	s := submission(t, dir, 2, r.ModelDigest())
	model := modelKey(r.ModelDigest())
	id := func(c string) string { return strings.Repeat(c, 32) }
	secret := filepath.Join(dir, "secret.png")
	pictureFile(t, secret, 99)
	token, err := mark(ctx, s.To)
	require.NoError(t, err)
	record := func(id string, change func(*Record)) {
		rec := &Record{ID: id, Name: "x", State: Queued, Model: model, Options: Options{Format: "png"}, Input: "object:none", Outs: []Out{{To: filepath.Join(s.To, "x.png"), Folder: s.To, Token: token}}}
		change(rec)
		text, err := json.Marshal(rec)
		require.NoError(t, err)
		_, err = q.kv.Put(ctx, id, text)
		require.NoError(t, err)
	}
	send := func(stage, id, data string) {
		_, err := q.js.Publish(ctx, subject(model, stage, id), []byte(data))
		require.NoError(t, err)
	}
	for _, stage := range []string{"route", "e9"} {
		send(stage, "x", "")
		send(stage, id("a"), "{")
		send(stage, id("b"), `{"id":"`+id("a")+`"}`)
		send(stage, "y", `{"id":"../../y"}`)
		send(stage, id("c"), `{"id":"`+id("c")+`"}`) // without a record
	}
	_, err = q.kv.Put(ctx, id("d"), []byte("no record"))
	require.NoError(t, err)
	send("e9", id("d"), `{"id":"`+id("d")+`"}`)
	record(id("e"), func(r *Record) { r.Input = secret }) // no worker reads its own files for others
	record(id("f"), func(r *Record) { r.Options = Options{Expert: "99", Format: "exe"} })
	record(id("1"), func(r *Record) { r.Outs[0].To = filepath.Join(dir, "outside.png") })
	input := "picture-x"
	picture, err := os.ReadFile(secret)
	require.NoError(t, err)
	require.NoError(t, (&storage{q: q}).putObject(ctx, input, picture))
	record(id("1"), func(r *Record) {
		r.Input, r.Options.Expert, r.Outs[0].To = objectScheme+input, "9", filepath.Join(dir, "outside.png")
	})
	record(id("2"), func(r *Record) { r.Input = objectScheme + input })
	for _, i := range []string{"e", "f", "1"} {
		send("e9", id(i), `{"id":"`+id(i)+`"}`)
	}
	send("e9", id("2"), `{"id":"`+id("2")+`","route":{"Expert":{"Index":-7},"Decision":{"Expert":999,"Leaf":-3}}}`)

	_, err = q.Submit(ctx, s)
	require.NoError(t, err)
	drain(t, q, r)
	for _, name := range []string{"p00.png", "p01.png"} {
		require.FileExists(t, filepath.Join(s.To, name))
	}
	require.NoFileExists(t, filepath.Join(dir, "outside.png"), "results stay in their folder")
	state := map[string]State{}
	all, err := q.All(ctx, "")
	require.NoError(t, err)
	for _, r := range all {
		state[r.ID] = r.State
	}
	require.Equal(t, Failed, state[id("e")])
	require.Equal(t, Failed, state[id("f")])
	require.Equal(t, Done, state[id("1")], "it waits in the object store")
	require.True(t, state[id("2")].final())
	info, err := q.stream.Info(ctx)
	require.NoError(t, err)
	require.Zero(t, info.State.Msgs)
}

func FuzzMessage(f *testing.F) {
	id := strings.Repeat("0a", 16)
	f.Add("unirestorer.m.e1."+id, []byte(`{"id":"`+id+`","route":{"Expert":{"Index":3}}}`), []byte("\x89PNG"))
	f.Add("x", []byte("{"), []byte("GIF8"))
	f.Fuzz(func(t *testing.T, subject string, data, picture []byte) {
		m, ok := parseMessage(subject, data)
		if !ok {
			return
		}
		require.Len(t, m.ID, 32)
		m.found(picture)
		again, err := json.Marshal(m)
		require.NoError(t, err)
		back, ok := parseMessage(subject, again)
		require.True(t, ok)
		require.Equal(t, m.ID, back.ID)
	})
}

func FuzzRecord(f *testing.F) {
	id := strings.Repeat("0b", 16)
	text, _ := json.Marshal(&Record{ID: id, State: Running, Outs: []Out{{To: "/a/b", Folder: "/a"}}, Options: Options{Level: "fine"}})
	f.Add(id, text)
	f.Add("short", []byte("{}"))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		r := parseRecord(key, value)
		if r == nil {
			return
		}
		require.Equal(t, 1, Count([]*Record{r}).Total())
		_, _ = r.Options.route(), r.Options.picture()
		for i := range r.Outs {
			sees(&r.Outs[i])
		}
		again, err := json.Marshal(r)
		require.NoError(t, err)
		require.NotNil(t, parseRecord(key, again))
	})
}

func TestKeysThatS3RefusesAreNoFaultOfPictures(t *testing.T) {
	ctx := bounded(t)
	q, r := local(t), opened(t)
	q.limits.AckWait = 500 * time.Millisecond
	fakeS3(t)
	in := filepath.Join(t.TempDir(), "a.png")
	pictureFile(t, in, 4)
	expert := 9
	s := Submission{Inputs: []string{in}, To: "s3://bucket/out", Model: r.ModelDigest(), Options: Options{Expert: "9"}, Expert: &expert}
	res, err := q.Submit(ctx, s)
	require.NoError(t, err)
	require.Len(t, res.Jobs, 1, res.Errors)

	closed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`<?xml version="1.0"?><Error><Code>InvalidAccessKeyId</Code><Message>no such key</Message></Error>`))
	}))
	defer closed.Close()
	right := os.Getenv("AWS_ENDPOINT_URL")
	t.Setenv("AWS_ENDPOINT_URL", closed.URL)
	w := &Worker{Queue: q, Restorer: r, Tries: 1}
	require.NoError(t, w.prepare(ctx))
	for range 2 { // more often than it may be tried
		for n := 0; n == 0 && ctx.Err() == nil; {
			n, err = w.fetch(ctx, "e9", 1, time.Second)
			require.NoError(t, err)
		}
	}
	got, _, err := q.record(ctx, res.Jobs[0])
	require.NoError(t, err)
	require.Equal(t, []any{Queued, 0, 2}, []any{got.State, got.Tries, got.Deferred})
	require.Contains(t, got.Error, "no such key")
	refusal, err := q.Submit(ctx, Submission{Inputs: []string{in}, To: "s3://bucket/other", Model: "m"})
	require.NoError(t, err)
	require.Contains(t, strings.Join(refusal.Errors, " "), "no such key")

	t.Setenv("AWS_ENDPOINT_URL", right)
	drain(t, q, r)
	finished(ctx, t, q, 1)
}

func TestSubmittersAtTheSameTimeShareJobs(t *testing.T) {
	ctx := bounded(t)
	q, r := local(t), opened(t)
	dir := t.TempDir()
	s := submission(t, dir, 6, r.ModelDigest())
	type answer struct {
		res *Submitted
		err error
	}
	answers := make(chan answer, 4)
	for _, to := range []string{"out", "out", "two", "three"} {
		s := s
		s.To = filepath.Join(dir, to)
		go func() {
			res, err := q.Submit(ctx, s)
			answers <- answer{res, err}
		}()
	}
	fresh := 0
	for range 4 {
		a := <-answers
		require.NoError(t, a.err)
		require.Empty(t, a.res.Errors)
		require.Len(t, a.res.Jobs, 6)
		fresh += a.res.New
	}
	require.Equal(t, 6, fresh, "every picture is one job")
	drain(t, q, r)
	finished(ctx, t, q, 6)
	for _, to := range []string{"out", "two", "three"} {
		for i := range 6 {
			require.FileExists(t, filepath.Join(dir, to, fmt.Sprintf("p%02d.png", i)))
		}
	}
}
