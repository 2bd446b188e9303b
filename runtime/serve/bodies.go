package serve

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"unirestorer/runtime/queue"
)

// body is what a request brought, or an answer takes: bytes that are counted among those of all requests.
type body struct {
	bytes.Buffer
	s    *Server
	held int64
}

// release gives back what is held.
func (b *body) release() {
	b.s.bodies.Release(b.held)
	b.held = 0
	b.Buffer = bytes.Buffer{}
}

// trim gives back what the bytes do not take.
func (b *body) trim() {
	if slack := b.Available(); slack > 64<<10 && slack > b.Len()/4 {
		b.Buffer = *bytes.NewBuffer(bytes.Clone(b.Bytes()))
	}
	b.keep(int64(b.Len()))
}

// keep gives back what is held beyond n bytes.
func (b *body) keep(n int64) {
	if n < b.held {
		b.s.bodies.Release(b.held - n)
		b.held = n
	}
}

// reserve waits until there is room for n bytes, unless as many wait for that as may wait in the queue.
func (s *Server) reserve(ctx context.Context, n int64) (*body, error) {
	b := &body{s: s}
	return b, b.hold(ctx, n)
}

// hold has a body hold n bytes more, as reserve.
func (b *body) hold(ctx context.Context, n int64) error {
	s := b.s
	if !s.bodies.TryAcquire(n) {
		defer s.wanting.Add(-1)
		if s.wanting.Add(1) > int64(s.c.Queue) {
			return queue.ErrFull
		}
		if err := s.bodies.Acquire(ctx, n); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				err = errBusy
			}
			return err
		}
	}
	b.held += n
	return nil
}

// result takes the place of a request's body with an answer's bytes.
func (b *body) result(ctx context.Context, out *bytes.Buffer) (*body, error) {
	s := b.s
	b.release()
	res, err := s.reserve(ctx, min(int64(out.Len()), s.c.Bodies))
	if err != nil {
		return nil, err
	}
	res.Buffer = *out
	return res, nil
}

// read takes a request's body: the picture as it is, or a form with the picture in a part "image" and options in others,
// which are added to options.
func (s *Server) read(ctx context.Context, w http.ResponseWriter, r *http.Request, options url.Values) (*body, error) {
	encoding := strings.ToLower(r.Header.Get("Content-Encoding"))
	n := r.ContentLength
	if n > s.c.MaxBody {
		w.Header().Set("Connection", "close") // rather than read what is of no use
		return nil, &http.MaxBytesError{Limit: s.c.MaxBody}
	}
	if _, waiting := s.gate.Len(); waiting >= s.c.Queue && s.results == nil { // rather than after the body is read
		return nil, queue.ErrFull
	}
	rate := float64(s.c.MinRate)
	deadline, bounded := ctx.Deadline()
	switch {
	case n < 0 || encoding != "": // how long it is shows at its end
		n = min(s.c.MaxBody, 1<<20)
	case bounded: // who has room kept must use it: the body must come as fast as to be there in time
		rate = max(rate, float64(n)/max(time.Until(deadline).Seconds(), 1e-3))
	}
	b, err := s.reserve(ctx, n)
	if err != nil {
		return nil, err
	}
	rc := http.NewResponseController(w)
	src := &steady{from: http.MaxBytesReader(w, r.Body, s.c.MaxBody), rc: rc, s: s, start: time.Now(), rate: rate, deadline: deadline}
	plain, err := s.decompress(src, encoding)
	if err == nil {
		err = b.fill(&growing{from: plain, b: b, ctx: ctx, src: src}, r, options)
	}
	if err == nil { // what may be behind a form or a compressed body; only at its end is the connection watched
		if _, err = io.Copy(io.Discard, src); err != nil {
			err = broken(err)
		}
	}
	if err != nil { // the deadline stays for what may be left of the body
		b.release()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			w.Header().Set("Connection", "close")
			err = errSlow
			if bounded && !time.Now().Before(deadline) {
				err = context.DeadlineExceeded
			}
		}
		return nil, err
	}
	_ = rc.SetReadDeadline(time.Time{}) // from now on the connection is only watched for its end
	b.trim()
	return b, nil
}

// decompress undoes an encoding of a body. What comes out is bounded like what comes in.
func (s *Server) decompress(src io.Reader, encoding string) (plain io.Reader, err error) {
	switch encoding {
	case "", "identity":
		return src, nil
	case "gzip", "x-gzip":
		plain, err = gzip.NewReader(src)
	case "deflate": // which means the format of zlib
		plain, err = zlib.NewReader(src)
	default:
		return nil, &requestError{http.StatusUnsupportedMediaType, fmt.Errorf("content encoding %q is not taken; gzip and deflate are", encoding)}
	}
	if err != nil {
		return nil, broken(err)
	}
	return http.MaxBytesReader(nil, io.NopCloser(plain), s.c.MaxBody), nil
}

// fill reads a picture out of a request.
func (b *body) fill(src io.Reader, r *http.Request, options url.Values) error {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		if r.ContentLength > 0 && r.Header.Get("Content-Encoding") == "" {
			b.Grow(int(r.ContentLength) + bytes.MinRead)
		}
		if _, err := b.ReadFrom(src); err != nil {
			return broken(err)
		}
		if b.Len() == 0 {
			return badRequest("no picture: the body is empty")
		}
		return nil
	}
	form := multipart.NewReader(src, params["boundary"])
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return broken(err)
		}
		if err := b.part(part, options); err != nil {
			return err
		}
	}
	if b.Len() == 0 {
		return badRequest(`no picture: the form has no part "image"`)
	}
	return nil
}

// maxOption bounds an option in a form.
const maxOption = 1 << 10

func (b *body) part(part *multipart.Part, options url.Values) error {
	name := part.FormName()
	if part.FileName() == "" && name != "image" {
		text, err := io.ReadAll(io.LimitReader(part, maxOption+1))
		switch {
		case err != nil:
			return broken(err)
		case len(text) > maxOption:
			return badRequest("option %q is longer than %d bytes", name, maxOption)
		case len(options) >= 64:
			return badRequest("too many options")
		}
		options.Add(name, string(text))
		return nil
	}
	if b.Len() > 0 {
		return badRequest("the form has more than one picture")
	}
	if _, err := b.ReadFrom(part); err != nil {
		return broken(err)
	}
	if b.Len() == 0 {
		return badRequest("no picture: the part %q is empty", name)
	}
	return nil
}

// broken tells a body that is not what it says from one that is too large or too slow.
func broken(err error) error {
	var tooMuch *http.MaxBytesError
	if errors.As(err, &tooMuch) {
		return err
	}
	for _, own := range []error{os.ErrDeadlineExceeded, context.Canceled, errBusy, queue.ErrFull} {
		if errors.Is(err, own) {
			return err
		}
	}
	return badRequest("read the body: %w", err)
}

// steady reads from a client as long as it sends at a rate in bytes a second, until a deadline unless that is zero.
type steady struct {
	from     io.Reader
	rc       *http.ResponseController
	s        *Server
	start    time.Time
	rate     float64
	deadline time.Time
	n        int64
}

func (r *steady) Read(p []byte) (int, error) {
	until := r.start.Add(r.s.c.Grace + time.Duration(float64(r.n)/r.rate*float64(time.Second)))
	if !r.deadline.IsZero() && r.deadline.Before(until) {
		until = r.deadline
	}
	// Where there are no deadlines, as in tests without a connection, nobody is slow.
	_ = r.rc.SetReadDeadline(until)
	n, err := r.from.Read(p)
	r.n += int64(n)
	return n, err
}

// growing has a body hold room for what is read, twice as much each time.
type growing struct {
	from io.Reader
	b    *body
	ctx  context.Context
	src  *steady
	n    int64
}

func (g *growing) Read(p []byte) (int, error) {
	n, err := g.from.Read(p)
	if g.n += int64(n); g.n > g.b.held {
		began := time.Now()
		more := max(g.n-g.b.held, min(g.b.held, g.b.s.c.MaxBody-g.b.held))
		if err := g.b.hold(g.ctx, more); err != nil {
			return n, err
		}
		g.src.start = g.src.start.Add(time.Since(began)) // that was not the client's fault
	}
	return n, err
}

// allowance is until when a client that has moved n bytes since start may take for more.
func (s *Server) allowance(start time.Time, n int64) time.Time {
	return start.Add(s.c.Grace + time.Duration(float64(n)/float64(s.c.MinRate)*float64(time.Second)))
}

// steadyWriter writes to a client as long as it reads at a least speed.
type steadyWriter struct {
	to    io.Writer
	rc    *http.ResponseController
	s     *Server
	start time.Time
	n     int64
}

func (s *Server) steadyWriter(w http.ResponseWriter) *steadyWriter {
	return &steadyWriter{to: w, rc: http.NewResponseController(w), s: s, start: time.Now()}
}

func (w *steadyWriter) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		_ = w.rc.SetWriteDeadline(w.s.allowance(w.start, w.n))
		n, err := w.to.Write(p[:min(len(p), 64<<10)])
		total += n
		w.n += int64(n)
		if err != nil {
			return total, err
		}
		p = p[n:]
	}
	return total, nil
}

// done leaves the client its time for what is in buffers yet.
func (w *steadyWriter) done() { _ = w.rc.SetWriteDeadline(w.s.allowance(time.Now(), 0)) }
