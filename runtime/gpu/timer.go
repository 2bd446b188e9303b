package gpu

import (
	"context"
	"errors"
	"time"

	"unirestorer/runtime/device"
)

// timer measures work on a stream by events.
type timer struct{ start, end device.Event }

func newTimer(dev device.Device) (*timer, error) {
	start, err := dev.NewEvent()
	if err != nil {
		return nil, err
	}
	end, err := dev.NewEvent()
	if err != nil {
		return nil, errors.Join(err, start.Close())
	}
	return &timer{start, end}, nil
}

// time waits until what enqueue adds to the stream is done.
func (t *timer) time(ctx context.Context, s device.Stream, enqueue func() error) (time.Duration, error) {
	if err := s.Record(t.start); err != nil {
		return 0, err
	}
	if err := enqueue(); err != nil {
		return 0, err
	}
	if err := s.Record(t.end); err != nil {
		return 0, err
	}
	if err := t.end.Synchronize(ctx); err != nil {
		return 0, err
	}
	return t.end.Since(t.start)
}

func (t *timer) close() error { return errors.Join(t.start.Close(), t.end.Close()) }
