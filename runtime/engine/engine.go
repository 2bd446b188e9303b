// Package engine keeps a model ready on a device for callers that come and go: it opens both, says who is at work, and
// closes them when nobody is any more.
package engine

import (
	"context"
	"errors"
	"io"
	"sync"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/ledger"
	"unirestorer/runtime/platform"
	"unirestorer/runtime/restore"
	"unirestorer/runtime/router"
)

// ErrClosed is returned by calls on an engine that is closed or closing.
var ErrClosed = errors.New("closed")

// Engine is a model on a device. Its methods may be called from several goroutines.
type Engine struct {
	model    *experts.Model
	backend  backend.Backend
	restorer *restore.Restorer

	mu      sync.Mutex
	closed  bool
	working sync.WaitGroup // calls under way; grows only while closed is false
	cancel  context.CancelFunc
	ending  context.Context // done when calls under way should stop
	once    sync.Once
	err     error // of closing
}

// Config says what an engine runs on.
type Config struct {
	// Device is a name that platform.Open knows; Threads bounds CPU threads, 0 for all cores.
	Device  string
	Threads int
	// Fallback is a device for pictures that the first has no memory for; empty means none.
	Fallback string
	// Precision says in which numbers networks compute.
	Precision Precision
	// Restore shapes the pipeline.
	Restore restore.Config
}

// Open puts a model on a device. The model belongs to the engine from then on, and is closed if this fails.
func Open(ctx context.Context, m *experts.Model, c Config) (*Engine, error) {
	b, err := platform.Open(c.Device, platform.Options{Threads: c.Threads})
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if err := c.Precision.fits(b.Info()); err != nil {
		return nil, errors.Join(err, b.Close(), m.Close())
	}
	if b.Info().Half && c.Precision.auto() {
		c.Restore.Wide = func(context.Context) (backend.Backend, error) {
			return platform.Open("cpu", platform.Options{Threads: c.Threads})
		}
	}
	if c.Fallback != "" {
		c.Restore.Fallback = func(context.Context) (backend.Backend, error) {
			return platform.Open(c.Fallback, platform.Options{Threads: c.Threads})
		}
	}
	r, err := restore.New(ctx, m, b, c.Restore)
	if err != nil {
		return nil, errors.Join(err, b.Close(), m.Close())
	}
	e := &Engine{model: m, backend: b, restorer: r}
	e.ending, e.cancel = context.WithCancel(context.Background())
	return e, nil
}

// Model is the model in use.
func (e *Engine) Model() *experts.Model { return e.model }

// DeviceName is what the device calls itself.
func (e *Engine) DeviceName() string { return e.backend.Info().Name }

// Memory tells what is held of the host's memory and, of a device that has its own, of that; who waits for memory too.
func (e *Engine) Memory() (host ledger.Usage, device *ledger.Usage) { return e.restorer.Memory() }

// SetAside takes bytes of the host's memory off its bound for good, for what the caller holds itself.
func (e *Engine) SetAside(bytes int64) { e.restorer.SetAside(bytes) }

// Restore is [restore.Restorer.Restore].
func (e *Engine) Restore(ctx context.Context, img *imaging.Image, opt restore.Options) (out *imaging.Image, rep restore.Report, err error) {
	err = e.Work(ctx, func(ctx context.Context, _ backend.Backend) error {
		out, rep, err = e.restorer.Restore(ctx, img, opt)
		return err
	})
	return out, rep, err
}

// File is [restore.Restorer.File].
func (e *Engine) File(ctx context.Context, j restore.Job, opt restore.FileOptions, stdin io.Reader, stdout io.Writer) (rep restore.Report, err error) {
	err = e.Work(ctx, func(ctx context.Context, _ backend.Backend) error {
		rep, err = e.restorer.File(ctx, j, opt, stdin, stdout)
		return err
	})
	return rep, err
}

// RouteFile is [restore.Restorer.RouteFile].
func (e *Engine) RouteFile(ctx context.Context, path string, opt restore.FileOptions, stdin io.Reader) (d router.Decision, err error) {
	err = e.Work(ctx, func(ctx context.Context, _ backend.Backend) error {
		d, err = e.restorer.RouteFile(ctx, path, opt, stdin)
		return err
	})
	return d, err
}

// Route is [restore.Restorer.Route].
func (e *Engine) Route(ctx context.Context, img *imaging.Image, o router.Override) (d router.Decision, err error) {
	err = e.Work(ctx, func(ctx context.Context, _ backend.Backend) error {
		d, err = e.restorer.Route(ctx, img, o)
		return err
	})
	return d, err
}

// Work runs f as a call of the engine, which stays open until f returns. f's context ends with ctx, or when [Engine.Close]
// has waited long enough.
func (e *Engine) Work(ctx context.Context, f func(context.Context, backend.Backend) error) error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return ErrClosed
	}
	e.working.Add(1)
	e.mu.Unlock()
	defer e.working.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(e.ending, func() { cancel(ErrClosed) })()
	err := f(ctx, e.backend)
	if err != nil && context.Cause(ctx) == ErrClosed {
		return ErrClosed
	}
	return err
}

// Close refuses new calls, waits for those under way until ctx is done and cancels them then, and frees everything when
// the last has returned. Further calls of Close wait too, and return the first one's error.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	defer context.AfterFunc(ctx, e.cancel)()
	e.working.Wait()
	e.once.Do(func() {
		e.cancel()
		e.err = errors.Join(e.restorer.Close(), e.backend.Close(), e.model.Close())
	})
	return e.err
}
