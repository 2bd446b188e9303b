// Package serve puts a model on the network: pictures in, restored pictures out, over HTTP, the Open Inference Protocol
// (REST and gRPC) and a page for people.
//
// Every request passes the same stations: who asks is known (tokens), its body is read within a bound on all bodies
// together and at a least speed, it waits in a queue that clients share evenly, the picture is decoded and restored within
// the bound on memory, and the result is written at a least speed. A request whose client is gone or whose deadline is
// over leaves at whatever station it is. No request names a file or an address: pictures come in bodies only.
package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"image"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"

	"unirestorer"
	"unirestorer/runtime/queue"
	"unirestorer/runtime/serve/results"
	"unirestorer/runtime/stage"
)

// Config shapes a server. The zero value is usable.
type Config struct {
	// MaxBody bounds a request's body in bytes, MaxPixels a picture; 0 means 64 MiB and 100 million.
	MaxBody   int64
	MaxPixels int64
	// Bodies bounds the bytes of all bodies and results together; 0 means a quarter of the bound on memory, and 1 GiB where
	// there is none. MaxBody is at most a half of it.
	Bodies int64
	// Active is how many pictures are decoded, restored or encoded at a time; 0 means one more than there are cores.
	Active int
	// Queue is how many requests wait for that; 0 means 64. More are refused.
	Queue int
	// Connections is how many there are at a time, by HTTP and by gRPC each; 0 means 1024. For one more, one that is idle is
	// closed, and where none is it waits.
	Connections int
	// Timeout is the deadline of requests that name none, and the longest that they may name; 0 means 1 minute.
	Timeout time.Duration
	// Grace is how long a client may keep the server waiting for bytes in or out, beside the time that they take at
	// MinRate bytes a second; 0 means 10 s and 16 KiB.
	Grace   time.Duration
	MinRate int64
	// Tokens is a file of bearer tokens, one a line; empty means that anybody who reaches the server may use it.
	Tokens string
	// Cert and Key are files with a certificate and its key; empty means no TLS. They are read anew when they change.
	Cert, Key string
	// Cache is a folder in which results are kept, CacheBytes at most; empty means that none are. 0 bytes means 1 GiB.
	Cache      string
	CacheBytes int64
	// Hosts are the names that requests may be for; empty means any.
	Hosts []string
	// Log gets a record of every request; nil means none.
	Log *slog.Logger
	// Tracer makes the spans of requests, as [Tracing] opens it; nil means none.
	Tracer trace.TracerProvider
}

func (c Config) withDefaults(bound int64) Config {
	set := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&c.MaxBody, 64<<20)
	set(&c.MaxPixels, 100_000_000)
	if bound > 0 {
		set(&c.Bodies, bound/4)
	}
	set(&c.Bodies, 1<<30)
	c.MaxBody = min(c.MaxBody, c.Bodies/2)
	set(&c.MinRate, 16<<10)
	set(&c.CacheBytes, 1<<30)
	if c.Active <= 0 {
		c.Active = runtime.GOMAXPROCS(0) + 1
	}
	if c.Queue <= 0 {
		c.Queue = 64
	}
	if c.Connections <= 0 {
		c.Connections = 1024
	}
	if c.Timeout <= 0 {
		c.Timeout = time.Minute
	}
	if c.Grace <= 0 {
		c.Grace = 10 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Restorer is what a server works with: a [unirestorer.Restorer].
type Restorer interface {
	RestoreStream(ctx context.Context, in io.Reader, out io.Writer, opts ...unirestorer.CallOption) (*unirestorer.Result, error)
	Restore(ctx context.Context, img image.Image, opts ...unirestorer.CallOption) (*unirestorer.Result, error)
	RouteStream(ctx context.Context, in io.Reader, opts ...unirestorer.CallOption) (*unirestorer.Route, error)
	Experts() []unirestorer.Expert
	Check(opts ...unirestorer.CallOption) error
	Model() string
	Device() string
	Fingerprint() (string, error)
	Memory() (host unirestorer.MemoryUsage, device *unirestorer.MemoryUsage)
	SetAside(bytes int64)
}

// Server answers requests with one Restorer, which stays the caller's to close.
type Server struct {
	c           Config
	r           Restorer
	experts     []unirestorer.Expert
	fingerprint string
	gate        *queue.Queue
	bodies      *semaphore.Weighted
	tokens      *tokens // nil for none
	cert        *certificate
	results     *results.Cache // nil for none
	http        *http.Server
	grpc        *grpc.Server
	health      *health.Server
	metrics     *metrics
	tracer      trace.Tracer

	draining atomic.Bool
	ending   context.Context // done from Shutdown on
	end      context.CancelFunc
	wanting  atomic.Int64 // requests that wait for room for their bodies
	speed    pace
	conns    connections // by HTTP
	callers  connections // by gRPC
}

// New makes a server. It sets aside what bodies may take of the Restorer's memory.
func New(r Restorer, c Config) (*Server, error) {
	host, _ := r.Memory()
	c = c.withDefaults(host.Bound)
	s := &Server{
		c: c, r: r, experts: r.Experts(),
		gate:   queue.New(queue.Options{Slots: c.Active, Limit: c.Queue, MaxDelay: -1}),
		bodies: semaphore.NewWeighted(c.Bodies), tracer: c.tracer(),
	}
	s.ending, s.end = context.WithCancel(context.Background())
	var err error
	if s.fingerprint, err = r.Fingerprint(); err != nil {
		return nil, err
	}
	if c.Tokens != "" {
		if s.tokens, err = openTokens(c.Tokens, c.Log); err != nil {
			return nil, err
		}
	}
	if (c.Cert == "") != (c.Key == "") {
		return nil, errors.New("TLS takes a certificate and its key, one of them was given")
	}
	if c.Cert != "" {
		if s.cert, err = openCertificate(c.Cert, c.Key, c.Log); err != nil {
			return nil, err
		}
	}
	if c.Cache != "" {
		if s.results, err = results.Open(c.Cache, c.CacheBytes); err != nil {
			return nil, err
		}
	}
	r.SetAside(c.Bodies)
	s.metrics = s.newMetrics()
	s.grpc, s.health = s.newGRPC()
	s.http = &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: c.Grace, ReadTimeout: c.Grace, WriteTimeout: c.Timeout + c.Grace, IdleTimeout: idleTimeout, MaxHeaderBytes: 64 << 10,
		ErrorLog:  slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: c.Active + c.Queue},
		ConnState: s.conns.note,
	}
	return s, nil
}

// Serve answers on a listener until [Server.Shutdown].
func (s *Server) Serve(l net.Listener) error {
	limited := s.conns.limit(l, s.c.Connections)
	l = limited
	if s.cert != nil { // the client speaks first, and at once
		s.http.TLSConfig = s.cert.config()
		l = tls.NewListener(l, s.cert.config())
	} else {
		limited.patience, limited.grace = idleTimeout, s.c.Grace
	}
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	}
	return nil
}

// Drain has the server call itself not ready, so that whoever spreads requests sends no more.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.health.Shutdown()
}

// Shutdown takes no new connections, waits for the requests under way until ctx is done and cuts them off then.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Drain()
	s.end()
	if s.results != nil {
		defer s.results.Close()
	}
	var calls sync.WaitGroup
	calls.Go(func() { s.stopGRPC(ctx) })
	defer calls.Wait()
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("requests were cut off: %w", err), s.http.Close())
	}
	return nil
}

// pace knows how long pictures take, to tell how long a queue is.
type pace struct {
	mu   sync.Mutex
	mean time.Duration // of late
}

func (p *pace) note(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mean == 0 {
		p.mean = d
	}
	p.mean += (d - p.mean) / 8
}

func (p *pace) now() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mean
}

// expectedWait is how long one that comes now will wait, as far as one can tell.
func (s *Server) expectedWait() time.Duration {
	active, waiting := s.gate.Len()
	if active < s.c.Active {
		return 0
	}
	return s.speed.now() * time.Duration(waiting+1) / time.Duration(s.c.Active)
}

// retryAfter is when to come again, in seconds.
func (s *Server) retryAfter() int {
	return int(min(max(math.Ceil(s.expectedWait().Seconds()), 1), 60))
}

// late tells whether a deadline will be over before a picture is done that still has to wait. Where there are free places
// nobody is late: only work done tells how long work takes.
func (s *Server) late(ctx context.Context, wait time.Duration) bool {
	d, ok := ctx.Deadline()
	return ok && wait+s.speed.now() > time.Until(d)
}

// work runs f when its turn has come.
func (s *Server) work(ctx context.Context, rec *record, f func(context.Context) error) error {
	if wait := s.expectedWait(); wait > 0 && s.late(ctx, wait) {
		return errNoTime
	}
	a := queue.Ask{Client: rec.client, Priority: rec.priority}
	start := time.Now()
	waiting, end := stage.Start(ctx, "queue", "")
	err := s.gate.Enter(waiting, a)
	end()
	rec.queued = true
	rec.waited += time.Since(start)
	if err != nil {
		return err
	}
	defer s.gate.Leave(a)
	if active, _ := s.gate.Len(); active >= s.c.Active && s.late(ctx, 0) {
		return errNoTime
	}
	start = time.Now()
	defer func() { s.speed.note(time.Since(start)) }()
	return f(ctx)
}
