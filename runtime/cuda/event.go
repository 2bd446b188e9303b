//go:build cuda && linux

package cuda

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"gorgonia.org/cu"

	"unirestorer/runtime/device"
)

var errNotRecorded = errors.New("event was not recorded")

// event marks a point in a stream.
type event struct {
	gpu      *gpu
	e        cu.Event
	res      *resource
	recorded atomic.Bool
}

// NewEvent makes a marker for a point in a stream.
func (g *gpu) NewEvent() (device.Event, error) {
	e := &event{gpu: g}
	err := g.do("cuEventCreate", func() (err error) {
		e.e, err = cu.MakeEvent(cu.DefaultEvent)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("new event: %w", err)
	}
	e.res = g.own(&resource{kind: kindEvent, name: "event", call: "cuEventDestroy",
		free: func() error { return cu.DestroyEvent(&e.e) }})
	return e, nil
}

// event returns e as an event of this device.
func (g *gpu) event(e device.Event) (*event, error) {
	ev, ok := e.(*event)
	if !ok || ev.gpu != g {
		return nil, fmt.Errorf("%T is an event of another device", e)
	}
	return ev, nil
}

// Synchronize waits until the marked work is done or ctx is done.
func (e *event) Synchronize(ctx context.Context) error {
	if !e.recorded.Load() {
		return fmt.Errorf("synchronize: %w", errNotRecorded)
	}
	err := await(ctx, &e.res.waits, func() error { return e.gpu.do("cuEventSynchronize", e.e.Synchronize) })
	if err != nil {
		return fmt.Errorf("synchronize event: %w", err)
	}
	return nil
}

// Since returns the time on the device from the point start marks to the point this event marks. The resolution is
// about half a microsecond.
func (e *event) Since(start device.Event) (time.Duration, error) {
	from, err := e.gpu.event(start)
	if err != nil {
		return 0, fmt.Errorf("elapsed time: start: %w", err)
	}
	if !e.recorded.Load() || !from.recorded.Load() {
		return 0, fmt.Errorf("elapsed time: %w", errNotRecorded)
	}
	var ms float64
	err = e.gpu.do("cuEventElapsedTime", func() (err error) {
		ms, err = from.e.Elapsed(e.e)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("elapsed time: %w", err)
	}
	return time.Duration(ms * float64(time.Millisecond)), nil
}

// Close releases the event.
func (e *event) Close() error { return e.gpu.release(e.res) }
