package serve

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer"
)

var opened = sync.OnceValues(func() (*unirestorer.Restorer, error) {
	return unirestorer.Open(context.Background(), unirestorer.WithMemory(1<<30))
})

// model is the built-in one, opened once for all tests.
func model(t testing.TB) *unirestorer.Restorer {
	r, err := opened()
	require.NoError(t, err)
	return r
}

// fake restores by copying, when it is let.
type fake struct {
	*unirestorer.Restorer
	restore func(ctx context.Context) error
}

func (f *fake) RestoreStream(ctx context.Context, in io.Reader, out io.Writer, opts ...unirestorer.CallOption) (*unirestorer.Result, error) {
	if err := f.restore(ctx); err != nil {
		return nil, err
	}
	_, err := io.Copy(out, in)
	return &unirestorer.Result{Route: &unirestorer.Route{}}, err
}

func (f *fake) SetAside(int64) {}

// shared is a Restorer of several servers, which is more than they know.
type shared struct{ *unirestorer.Restorer }

func (shared) SetAside(int64) {}

// start answers on a port of this machine until the end of the test.
func start(t testing.TB, r Restorer, c Config) (*Server, string) {
	if own, ok := r.(*unirestorer.Restorer); ok {
		r = shared{own}
	}
	s, err := New(r, c)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		require.NoError(t, s.Shutdown(ctx))
		require.NoError(t, <-done)
	})
	return s, "http://" + l.Addr().String()
}

// startGRPC is start for gRPC.
func startGRPC(t testing.TB, r Restorer, c Config) (s *Server, address string) {
	if own, ok := r.(*unirestorer.Restorer); ok {
		r = shared{own}
	}
	s, err := New(r, c)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.ServeGRPC(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		require.NoError(t, s.Shutdown(ctx))
		require.NoError(t, <-done)
	})
	return s, l.Addr().String()
}

// picture is a small PNG.
func picture(t testing.TB, w, h int) []byte {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.SetNRGBA(x, y, color.NRGBA{uint8(5 * x), uint8(7 * y), uint8(x * y), 255})
		}
	}
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, img))
	return b.Bytes()
}

func send(t testing.TB, url string, body []byte, headers ...string) (*http.Response, []byte) {
	return sendTo(t, http.DefaultClient, "POST", url, bytes.NewReader(body), headers...)
}

func sendTo(t testing.TB, c *http.Client, method, url string, body io.Reader, headers ...string) (*http.Response, []byte) {
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	res, err := c.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, text
}

func TestPictureIn_PictureOut(t *testing.T) {
	r := model(t)
	_, url := start(t, r, Config{})
	in := picture(t, 40, 24)
	var want bytes.Buffer
	result, err := r.RestoreStream(t.Context(), bytes.NewReader(in), &want)
	require.NoError(t, err)

	res, got := send(t, url+"/v1/restore", in)
	require.Equal(t, 200, res.StatusCode, string(got))
	require.Equal(t, want.Bytes(), got)
	require.Equal(t, "image/png", res.Header.Get("Content-Type"))
	require.Equal(t, result.Route.Expert.Name, res.Header.Get("X-Unirestorer-Expert"))
	require.Equal(t, result.Route.String(), res.Header.Get("X-Unirestorer-Route"))
	require.Contains(t, res.Header.Get("Server-Timing"), "run;dur=")
	tag := res.Header.Get("ETag")
	require.NotEmpty(t, tag)

	t.Run("a tag that the client has", func(t *testing.T) {
		res, _ := send(t, url+"/v1/restore", in, "If-None-Match", tag)
		require.Equal(t, 412, res.StatusCode)
		res, _ = send(t, url+"/v1/restore?level=coarse", in, "If-None-Match", tag)
		require.Equal(t, 200, res.StatusCode)
	})
	t.Run("formats", func(t *testing.T) {
		for format, kind := range mediaTypes {
			res, got := send(t, url+"/v1/restore?level=coarse&format="+format, in)
			require.Equal(t, 200, res.StatusCode, string(got))
			require.Equal(t, kind, res.Header.Get("Content-Type"))
			res, got = send(t, url+"/v1/restore?level=coarse", in, "Accept", "text/html;q=0.9, "+kind)
			require.Equal(t, 200, res.StatusCode)
			require.Equal(t, format, formatOf(got))
		}
		res, _ := send(t, url+"/v1/restore", in, "Accept", "image/avif")
		require.Equal(t, 406, res.StatusCode)
	})
	t.Run("json", func(t *testing.T) {
		res, got := send(t, url+"/v1/restore?report=json", in)
		require.Equal(t, 200, res.StatusCode, string(got))
		var answer struct {
			Image string
			apiResult
		}
		require.NoError(t, json.Unmarshal(got, &answer))
		data, err := base64.StdEncoding.DecodeString(answer.Image)
		require.NoError(t, err)
		require.Equal(t, want.Bytes(), data)
		require.Equal(t, result.Route.Expert.Index, answer.Route.Expert.Index)
		require.Equal(t, 40, answer.Report.Width)
		require.Len(t, answer.Route.Degradations, len(result.Route.Degradations))
	})
	t.Run("multipart", func(t *testing.T) {
		var form bytes.Buffer
		w := multipart.NewWriter(&form)
		require.NoError(t, w.WriteField("format", "bmp"))
		part, err := w.CreateFormFile("image", "../../etc/passwd")
		require.NoError(t, err)
		_, err = part.Write(in)
		require.NoError(t, err)
		require.NoError(t, w.WriteField("level", "coarse"))
		require.NoError(t, w.Close())
		res, got := send(t, url+"/v1/restore", form.Bytes(), "Content-Type", w.FormDataContentType(), "Accept", "multipart/mixed")
		require.Equal(t, 200, res.StatusCode, string(got))
		kind, params, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
		require.NoError(t, err)
		require.Equal(t, "multipart/mixed", kind)
		parts := multipart.NewReader(bytes.NewReader(got), params["boundary"])
		report, err := parts.NextPart()
		require.NoError(t, err)
		var answer apiResult
		require.NoError(t, json.NewDecoder(report).Decode(&answer))
		require.Equal(t, "bmp", answer.Format)
		data, err := parts.NextPart()
		require.NoError(t, err)
		restored, err := unirestorer.Decode(data)
		require.NoError(t, err)
		require.Equal(t, 40, restored.W)
	})
	t.Run("route", func(t *testing.T) {
		res, got := send(t, url+"/v1/route", in)
		require.Equal(t, 200, res.StatusCode, string(got))
		var route apiRoute
		require.NoError(t, json.Unmarshal(got, &route))
		require.Equal(t, routeOf(result.Route), route)
	})
	t.Run("experts", func(t *testing.T) {
		res, got := sendTo(t, http.DefaultClient, "GET", url+"/v1/experts", nil)
		require.Equal(t, 200, res.StatusCode)
		var answer struct{ Experts []apiExpert }
		require.NoError(t, json.Unmarshal(got, &answer))
		require.Len(t, answer.Experts, len(r.Experts()))
	})
}

func TestWhatMakesNoSenseIsTold(t *testing.T) {
	r := model(t)
	s, url := start(t, r, Config{MaxBody: 1 << 16, MaxPixels: 5_000})
	in := picture(t, 8, 8)
	for _, c := range []struct {
		path   string
		body   []byte
		header string
		value  string
		status int
		says   string
	}{
		{"/v1/restore?sharpness=3", in, "", "", 400, `no option "sharpness"`},
		{"/v1/restore?format=gif", in, "", "", 400, "want png, jpeg"},
		{"/v1/restore?expert=none", in, "", "", 400, "expert"},
		{"/v1/restore?level=9", in, "", "", 400, "level"},
		{"/v1/restore?quality=101", in, "", "", 400, "quality 101"},
		{"/v1/restore?tile=x", in, "", "", 400, "tile"},
		{"/v1/restore?tile=1", in, "", "", 400, "too small for an overlap"},
		{"/v1/restore?tile=6&overlap=6", in, "", "", 400, "too small for an overlap"},
		{"/v1/restore?%zz", in, "", "", 400, "query"},
		{"/v1/restore?strength=0.5;format=bmp", in, "", "", 400, "query"},
		{"/v1/route?a;b", in, "", "", 400, "query"},
		{"/v1/restore?strict=perhaps", in, "", "", 400, "strict"},
		{"/v1/restore?report=pdf", in, "", "", 400, "report"},
		{"/v1/restore?format=png&format=png", in, "", "", 400, "2 times"},
		{"/v1/restore", nil, "", "", 400, "the body is empty"},
		{"/v1/restore", []byte("hello"), "", "", 415, "not a PNG"},
		{"/v1/restore", in[:40], "", "", 422, "picture"},
		{"/v1/restore", picture(t, 100, 60), "", "", 413, "pixels"},
		{"/v1/restore", make([]byte, 70_000), "", "", 413, "too large: 64 KiB"},
		{"/v1/restore", in, "Content-Encoding", "br", 415, "gzip"},
		{"/v1/restore", in, "Content-Encoding", "gzip", 400, "gzip"},
		{"/v1/restore", gzipped(t, make([]byte, 10<<20)), "Content-Encoding", "gzip", 413, "too large"},
		{"/v1/restore?strength=2", in, "", "", 400, "0 to 1"},
		{"/v1/restore?strength=NaN", in, "", "", 400, "0 to 1"},
		{"/v1/restore?no-guard=x", in, "", "", 400, "no-guard"},
		{"/v1/restore", in, "X-Request-Timeout", "soon", 400, "seconds"},
		{"/v1/restore", in, "Priority", "u=9", 400, "u=7"},
		{"/v1/restore", in, "Content-Type", "multipart/form-data; boundary=x", 400, "no part"},
		{"/v1/restore", in, "Origin", "http://evil.example", 403, "origins"},
		{"/v1/other", in, "", "", 404, "openapi.json"},
		{"/v1/experts", in, "", "", 405, "POST is not answered here; GET, HEAD"},
		{"/page/", in, "", "", 405, "GET, HEAD"},
	} {
		headers := []string{}
		if c.header != "" {
			headers = []string{c.header, c.value}
		}
		res, text := send(t, url+c.path, c.body, headers...)
		require.Equal(t, c.status, res.StatusCode, "%s: %s", c.path, text)
		require.Equal(t, "application/problem+json", res.Header.Get("Content-Type"))
		if c.status == 405 {
			require.Equal(t, "GET, HEAD", res.Header.Get("Allow"))
		}
		var p problem
		require.NoError(t, json.Unmarshal(text, &p))
		require.Contains(t, p.Detail, c.says)
	}
	require.True(t, s.bodies.TryAcquire(s.c.Bodies), "all bodies are given back")
	s.bodies.Release(s.c.Bodies)
}

func gzipped(t testing.TB, data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

// held is a fake whose calls wait until they are let.
func held() (f *fake, entered chan struct{}, let chan struct{}) {
	entered, let = make(chan struct{}, 100), make(chan struct{})
	f = &fake{restore: func(ctx context.Context) error {
		entered <- struct{}{}
		select {
		case <-let:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	return f, entered, let
}

func TestFullQueueRefusesAndDeadlinesDropWork(t *testing.T) {
	f, entered, let := held()
	f.Restorer = model(t)
	s, url := start(t, f, Config{Active: 1, Queue: 1})
	in := picture(t, 8, 8)
	var waiting sync.WaitGroup
	for range 2 {
		waiting.Go(func() {
			res, text := send(t, url+"/v1/restore", in)
			require.Equal(t, 200, res.StatusCode, string(text))
		})
	}
	<-entered
	require.Eventually(t, func() bool { _, n := s.gate.Len(); return n == 1 }, 5*time.Second, time.Millisecond)
	res, _ := send(t, url+"/v1/restore", in)
	require.Equal(t, 429, res.StatusCode)
	require.NotEmpty(t, res.Header.Get("Retry-After"))
	close(let)
	waiting.Wait()
	<-entered

	f.restore = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	res, text := send(t, url+"/v1/restore", in, "X-Request-Timeout", "50ms")
	require.Equal(t, 504, res.StatusCode, string(text))
}

func TestNoTimeForTheQueueIsToldAtOnce(t *testing.T) {
	f, entered, let := held()
	f.Restorer = model(t)
	s, url := start(t, f, Config{Active: 1})
	s.speed.note(10 * time.Second)
	var waiting sync.WaitGroup
	in := picture(t, 8, 8)
	waiting.Go(func() { send(t, url+"/v1/restore", in) })
	<-entered
	res, text := send(t, url+"/v1/restore", in, "X-Request-Timeout", "2")
	require.Equal(t, 503, res.StatusCode, string(text))
	require.Equal(t, "10", res.Header.Get("Retry-After"))
	close(let)
	waiting.Wait()
}

func TestWorkStopsWhenTheClientIsGone(t *testing.T) {
	f, entered, _ := held()
	f.Restorer = model(t)
	stopped := make(chan struct{})
	inner := f.restore
	f.restore = func(ctx context.Context) error { defer close(stopped); return inner(ctx) }
	s, url := start(t, f, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", url+"/v1/restore", bytes.NewReader(picture(t, 8, 8)))
	require.NoError(t, err)
	go func() { <-entered; cancel() }()
	_, err = http.DefaultClient.Do(req)
	require.ErrorIs(t, err, context.Canceled)
	select {
	case <-stopped:
	case <-time.After(10 * time.Second):
		t.Fatal("the work goes on")
	}
	require.Eventually(t, func() bool { n, _ := s.gate.Len(); return n == 0 && s.bodies.TryAcquire(s.c.Bodies) }, 5*time.Second, time.Millisecond)
}

func TestSlowClientsAreCutOff(t *testing.T) {
	f := &fake{Restorer: model(t), restore: func(context.Context) error { return nil }}
	s, url := start(t, f, Config{Grace: time.Second, MinRate: 4 << 20, MaxBody: 32 << 20, Bodies: 128 << 20})
	t.Run("slow to send", func(t *testing.T) {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, "POST /v1/restore HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
		require.NoError(t, err)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
		answer, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Contains(t, string(answer), "408 Request Timeout")
	})
	t.Run("slow to read", func(t *testing.T) {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.(*net.TCPConn).SetReadBuffer(4096))
		size := 30 << 20
		body := append([]byte("\x89PNG"), make([]byte, size-4)...) // before the server waits for it
		_, err = fmt.Fprintf(c, "POST /v1/restore HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size)
		require.NoError(t, err)
		_, err = c.Write(body)
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			ok := s.bodies.TryAcquire(s.c.Bodies)
			if ok {
				s.bodies.Release(s.c.Bodies)
			}
			return ok
		}, 60*time.Second, 10*time.Millisecond)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Second)))
		answer, _ := io.ReadAll(c)
		require.Less(t, len(answer), size, "the answer is cut off")
	})
}

func TestDrainLetsRequestsFinish(t *testing.T) {
	f, entered, let := held()
	f.Restorer = model(t)
	s, url := start(t, f, Config{})
	answered := make(chan int)
	go func() {
		res, _ := send(t, url+"/v1/restore", picture(t, 8, 8))
		answered <- res.StatusCode
	}()
	<-entered
	get := func(path string) int {
		res, _ := sendTo(t, http.DefaultClient, "GET", url+path, nil)
		return res.StatusCode
	}
	require.Equal(t, 200, get("/readyz"))
	s.Drain()
	require.Equal(t, 503, get("/readyz"))
	require.Equal(t, 200, get("/livez"))
	res, _ := sendTo(t, http.DefaultClient, "GET", url+"/livez", nil)
	require.True(t, res.Close, "connections end with their next answer")
	down := make(chan error)
	go func() { down <- s.Shutdown(context.Background()) }()
	time.Sleep(20 * time.Millisecond)
	close(let)
	require.Equal(t, 200, <-answered)
	require.NoError(t, <-down)
}

func TestShutdownCutsOffWhatTakesTooLong(t *testing.T) {
	f, entered, _ := held()
	f.Restorer = model(t)
	s, err := New(f, Config{})
	require.NoError(t, err)
	server := httptest.NewServer(s.handler())
	server.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	failed := make(chan error, 1)
	go func() {
		_, err := http.Post("http://"+l.Addr().String()+"/v1/restore", "image/png", bytes.NewReader(picture(t, 8, 8)))
		failed <- err
	}()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Shutdown(ctx), context.DeadlineExceeded)
	require.Error(t, <-failed)
	require.NoError(t, <-done)
}

func TestPanicIsAnswered(t *testing.T) {
	f := &fake{Restorer: model(t), restore: func(context.Context) error { panic("a fault") }}
	s, url := start(t, f, Config{})
	for range 2 {
		res, text := send(t, url+"/v1/restore", picture(t, 8, 8))
		require.Equal(t, 500, res.StatusCode)
		require.NotContains(t, string(text), "a fault")
	}
	n, _ := s.gate.Len()
	require.Zero(t, n)
	f.restore = func(context.Context) error { return errors.New("secret path") }
	res, text := send(t, url+"/v1/restore", picture(t, 8, 8))
	require.Equal(t, 500, res.StatusCode)
	require.NotContains(t, string(text), "secret")
}

func TestTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(file, []byte("# ours\nalice s3cret\nother\n"), 0o600))
	var logged bytes.Buffer
	s, url := start(t, model(t), Config{Tokens: file, Log: slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	get := func(path, token string) *http.Response {
		res, _ := sendTo(t, http.DefaultClient, "GET", url+path, nil, "Authorization", token)
		return res
	}
	require.Equal(t, 401, get("/v1/experts", "").StatusCode)
	require.NotEmpty(t, get("/v1/experts", "").Header.Get("WWW-Authenticate"))
	require.Equal(t, 401, get("/v1/experts", "Bearer s3cre").StatusCode)
	require.Equal(t, 401, get("/v1/experts", "Basic s3cret").StatusCode)
	require.Equal(t, 200, get("/v1/experts", "Bearer s3cret").StatusCode)
	require.Equal(t, 200, get("/v1/experts", "bearer other").StatusCode)
	require.Equal(t, 200, get("/readyz", "").StatusCode)
	name, ok := s.tokens.owner("Bearer s3cret")
	require.True(t, ok)
	require.Equal(t, "alice", name)

	require.NoError(t, os.WriteFile(file, []byte("changed\n"), 0o600))
	s.tokens.looked = time.Time{}
	require.Equal(t, 401, get("/v1/experts", "Bearer s3cret").StatusCode)
	require.Equal(t, 200, get("/v1/experts", "Bearer changed").StatusCode)
	require.NoError(t, os.WriteFile(file, []byte("a b c\n"), 0o600))
	s.tokens.looked = time.Time{}
	require.Equal(t, 200, get("/v1/experts", "Bearer changed").StatusCode, "what was good stays")
	s.tokens.looked = time.Time{}
	s.tokens.get()
	require.NoError(t, os.Remove(file))
	s.tokens.looked = time.Time{}
	s.tokens.get()
	told := strings.Split(strings.TrimSpace(logged.String()), "\n")
	require.Len(t, told, 2, "each state of the file is told once")
	require.Contains(t, told[0], "line 1: want a token")
	require.Contains(t, told[1], "no such file")

	_, err := New(model(t), Config{Tokens: filepath.Join(t.TempDir(), "none")})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestOtherNamesAreRefused(t *testing.T) {
	_, url := start(t, model(t), Config{Hosts: []string{"127.0.0.1", "localhost"}})
	res, _ := sendTo(t, http.DefaultClient, "GET", url+"/livez", nil)
	require.Equal(t, 200, res.StatusCode)
	req, err := http.NewRequest("GET", url+"/livez", nil)
	require.NoError(t, err)
	req.Host = "rebound.example"
	res, err = http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, 421, res.StatusCode)
}

func TestDocumentNamesEveryPath(t *testing.T) {
	s, url := start(t, model(t), Config{})
	_, text := sendTo(t, http.DefaultClient, "GET", url+"/openapi.json", nil)
	var doc struct {
		Paths map[string]map[string]struct {
			Parameters []struct{ Name, In string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &doc))
	n := 0
	for pattern := range s.routes() {
		method, path, _ := strings.Cut(pattern, " ")
		if strings.HasPrefix(path, "/v2") || path == "/metrics" {
			continue // described elsewhere
		}
		require.Contains(t, doc.Paths, path)
		require.Contains(t, doc.Paths[path], strings.ToLower(method))
		n++
	}
	require.Len(t, doc.Paths, n)
	var names []string
	for _, p := range doc.Paths["/v1/restore"]["post"].Parameters {
		if p.In == "query" {
			names = append(names, p.Name)
		}
	}
	require.ElementsMatch(t, optionNames, names)
}
