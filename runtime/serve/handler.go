package serve

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// record is what is noted of a request, for the log and the metrics.
type record struct {
	handler  string
	client   string
	priority int
	oip      bool // errors as the Open Inference Protocol has them
	status   int
	bytes    int64
	queued   bool // waited says how long
	waited   time.Duration
	expert   string
	err      error
}

// answer notes what is answered.
type answer struct {
	http.ResponseWriter
	rec *record
	s   *Server
}

// begin is when an answer begins: however long the work took, the client has its time to read it.
func (a *answer) begin(status int) {
	if a.rec.status == 0 {
		a.rec.status = status
		_ = http.NewResponseController(a.ResponseWriter).SetWriteDeadline(a.s.allowance(time.Now(), 0))
	}
}

func (a *answer) WriteHeader(status int) {
	a.begin(status)
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	a.begin(http.StatusOK)
	n, err := a.ResponseWriter.Write(p)
	a.rec.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController find the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// handle answers a request; the record says who asks.
type handle func(w http.ResponseWriter, r *http.Request, rec *record) error

//go:embed page
var pageFiles embed.FS

//go:embed openapi.json
var openAPI []byte

// routes are all that is answered, as [http.ServeMux] has them.
func (s *Server) routes() map[string]handle {
	all := map[string]handle{
		"GET /livez":        s.live,
		"GET /readyz":       s.ready,
		"POST /v1/restore":  s.restore,
		"POST /v1/route":    s.route,
		"GET /v1/experts":   s.listExperts,
		"GET /openapi.json": s.describe,
		"GET /metrics":      s.exportMetrics,
	}
	maps.Copy(all, s.oipRoutes())
	return all
}

// handler answers all requests.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range s.routes() {
		mux.Handle(pattern, s.guard(pattern, h))
	}
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		panic(err) // the folder is embedded
	}
	static := http.FileServerFS(files)
	page := func(w http.ResponseWriter, r *http.Request, _ *record) error {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		http.StripPrefix("/page", static).ServeHTTP(w, r)
		return nil
	}
	mux.Handle("GET /{$}", s.guard("GET /", func(w http.ResponseWriter, r *http.Request, rec *record) error {
		r.URL.Path = "/page/"
		return page(w, r, rec)
	}))
	mux.Handle("GET /page/", s.guard("GET /page/", page))
	mux.Handle("/", s.guard("/", func(w http.ResponseWriter, r *http.Request, rec *record) error {
		if allowed := methods(mux, r); allowed != "" {
			w.Header().Set("Allow", allowed)
			return &requestError{http.StatusMethodNotAllowed, fmt.Errorf("%s is not answered here; %s", r.Method, allowed)}
		}
		return &requestError{http.StatusNotFound, fmt.Errorf("nothing is at %s; /openapi.json says what there is", r.URL.Path)}
	}))
	// Pages of other origins may not have a browser send pictures here.
	var cross http.CrossOriginProtection
	cross.SetDenyHandler(s.guard("cross-origin", func(http.ResponseWriter, *http.Request, *record) error {
		return &requestError{http.StatusForbidden, fmt.Errorf("requests of other origins are not taken")}
	}))
	return cross.Handler(mux)
}

// methods are those by which a request's path is answered.
func methods(mux *http.ServeMux, r *http.Request) string {
	var all []string
	for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		if _, pattern := mux.Handler(&http.Request{Method: m, Host: r.Host, URL: r.URL}); pattern != "/" && pattern != "" {
			all = append(all, m)
		}
	}
	return strings.Join(all, ", ")
}

// guard is what every request passes: records, panics, names, tokens, deadlines.
func (s *Server) guard(pattern string, h handle) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &record{handler: pattern, oip: strings.Contains(pattern, " /v2")}
		ctx, _ := s.begin(r.Context(), propagation.HeaderCarrier(r.Header), pattern,
			attribute.String("http.request.method", r.Method), attribute.String("url.path", r.URL.Path))
		r = r.WithContext(ctx)
		a := &answer{w, rec, s}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					s.note(r, rec, time.Since(start))
					panic(p)
				}
				s.panicked(p)
				rec.err = fmt.Errorf("panic: %v", p)
				if rec.status == 0 {
					s.fail(a, rec, rec.err)
				} else { // the answer is under way, and must not look whole
					s.note(r, rec, time.Since(start))
					panic(http.ErrAbortHandler)
				}
			}
			s.note(r, rec, time.Since(start))
		}()
		if err := s.admit(a, r, rec, h); err != nil {
			s.fail(a, rec, err)
		}
	})
}

func (s *Server) admit(w http.ResponseWriter, r *http.Request, rec *record, h handle) (err error) {
	if r.ContentLength == 0 { // the connection is only watched for its end
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	}
	if len(r.TransferEncoding) > 0 {
		// A Content-Length beside it was passed over, which a proxy in front may see otherwise: nothing may follow on
		// this connection (RFC 9112, 6.3).
		w.Header().Set("Connection", "close")
	}
	if s.draining.Load() {
		w.Header().Set("Connection", "close") // while others still know the server, rather than all at once later
	}
	if !s.forUs(r) {
		return &requestError{http.StatusMisdirectedRequest, fmt.Errorf("this server does not go by the name %q", r.Host)}
	}
	if rec.client, err = s.client(r); err != nil {
		return err
	}
	timeout, err := s.timeout(r.Header.Get("X-Request-Timeout"))
	if err != nil {
		return err
	}
	if rec.priority, err = priority(r.Header.Get("Priority")); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	return h(w, r.WithContext(ctx), rec)
}

// timeout reads how long a request may take: seconds, or a number with a unit.
func (s *Server) timeout(header string) (time.Duration, error) {
	if header == "" {
		return s.c.Timeout, nil
	}
	d, err := time.ParseDuration(header)
	if seconds, errSeconds := strconv.ParseFloat(header, 64); errSeconds == nil {
		d, err = time.Duration(min(seconds, 1e6)*float64(time.Second)), nil
	}
	if err != nil || d <= 0 {
		return 0, badRequest("X-Request-Timeout %q: want seconds, or a time like 500ms", header)
	}
	return min(d, s.c.Timeout), nil
}

// priority reads the urgency of a Priority header (RFC 9218): u=0 is the most urgent, u=7 the least, 3 without it.
func priority(header string) (int, error) {
	for field := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		if name != "u" {
			continue
		}
		u, err := strconv.Atoi(value)
		if err != nil || u < 0 || u > 7 {
			return 0, badRequest("Priority %q: want u=0 to u=7", header)
		}
		return 3 - u, nil
	}
	return 0, nil
}

// panicked tells of a fault of the program's own.
func (s *Server) panicked(p any) {
	s.metrics.panics.Inc()
	s.c.Log.Error("panic", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}

// note logs a request.
func (s *Server) note(r *http.Request, rec *record, took time.Duration) {
	s.metrics.request(rec, took)
	endSpan(trace.SpanFromContext(r.Context()), rec, rec.status >= 500, attribute.Int("http.response.status_code", rec.status))
	level := slog.LevelInfo
	switch {
	case rec.status >= 500 && rec.status != http.StatusServiceUnavailable && rec.status != http.StatusGatewayTimeout:
		level = slog.LevelError
	case strings.HasSuffix(rec.handler, "z"), strings.Contains(rec.handler, "/health/"), strings.HasSuffix(rec.handler, "/metrics"):
		level = slog.LevelDebug
	}
	args := []any{"method", r.Method, "path", r.URL.Path, "status", rec.status, "bytes", rec.bytes,
		"client", rec.client, "took", took, "waited", rec.waited}
	if rec.expert != "" {
		args = append(args, "expert", rec.expert)
	}
	if rec.err != nil {
		args = append(args, "error", rec.err.Error())
	}
	s.c.Log.Log(r.Context(), level, "request", append(args, fields(r.Context())...)...)
}

func (s *Server) live(w http.ResponseWriter, _ *http.Request, _ *record) error {
	writeJSON(w, http.StatusOK, map[string]bool{"live": true})
	return nil
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request, _ *record) error {
	status := http.StatusOK
	if s.draining.Load() || !s.working() {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, map[string]bool{"ready": status == http.StatusOK})
	return nil
}

func (s *Server) describe(w http.ResponseWriter, _ *http.Request, _ *record) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPI)
	return nil
}
