package restore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/router"
)

// fallback restores on another backend, opened when it is first needed, what the
// device has no memory for, or what leaves the range of its numbers.
type fallback struct {
	open func(context.Context) (backend.Backend, error)

	mu       sync.Mutex
	backend  backend.Backend
	restorer *Restorer
}

// of gives the fallback's Restorer, which shares model and memory with r.
func (f *fallback) of(ctx context.Context, r *Restorer) (*Restorer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.restorer != nil {
		return f.restorer, nil
	}
	b, err := f.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the fallback: %w", err)
	}
	c := r.config
	c.Ledger, c.Fallback, c.Wide, c.DeviceMemory, c.Lazy, c.Predictor = r.host, nil, nil, 0, true, nil
	own, err := New(ctx, r.model, b, c)
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	f.backend, f.restorer = b, own
	return own, nil
}

// run restores a picture whose expert is chosen; cause is why the device did not.
// The picture's reservation holds what it has for itself, but no claim on the
// fallback's lane, so that there may be no room: that is an error, not waited
// for.
func (f *fallback) run(ctx context.Context, r *Restorer, expert int, img *imaging.Image, p picture, opt Options, rep *Report, why string, cause error) (*imaging.Image, error) {
	own, err := f.of(ctx, r)
	if err != nil {
		return nil, errors.Join(cause, err)
	}
	rep.note(fmt.Sprintf("%s, so %s restored it", why, own.backend.Info().Name))
	rep.Device = own.backend.Info().Name
	out, err := own.dispatch(ctx, expert, img, p, opt, rep)
	if err != nil {
		return nil, errors.Join(cause, err)
	}
	return out, nil
}

// decide estimates a picture's degradation; cause is why the device did not.
func (f *fallback) decide(ctx context.Context, r *Restorer, input []float32, o router.Override, cause error) (router.Decision, error) {
	own, err := f.of(ctx, r)
	if err != nil {
		return router.Decision{}, errors.Join(cause, err)
	}
	d, err := own.decide(ctx, input, o)
	if err != nil {
		err = errors.Join(cause, err)
	}
	return d, err
}

func (f *fallback) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.restorer == nil {
		return nil
	}
	err := errors.Join(f.restorer.Close(), f.backend.Close())
	f.restorer, f.backend = nil, nil
	return err
}
