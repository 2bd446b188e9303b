package engine_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/engine"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/imaging"
	"unirestorer/runtime/platform"
	"unirestorer/runtime/restore"
	"unirestorer/runtime/router"
	"unirestorer/weights/nano"
)

func open(t *testing.T) *engine.Engine {
	t.Helper()
	m, err := experts.OpenModelFS(nano.Name, nano.Files())
	require.NoError(t, err)
	e, err := engine.Open(context.Background(), m, engine.Config{Restore: restore.Config{Lazy: true}})
	require.NoError(t, err)
	return e
}

// hold starts a call that lasts until its context ends or release is closed.
func hold(t *testing.T, e *engine.Engine, release <-chan struct{}) (done <-chan error) {
	t.Helper()
	started, result := make(chan struct{}), make(chan error, 1)
	go func() {
		result <- e.Work(context.Background(), func(ctx context.Context, _ backend.Backend) error {
			close(started)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-release:
				return nil
			}
		})
	}()
	<-started
	return result
}

func TestCloseWaitsForCallsUnderWay(t *testing.T) {
	e := open(t)
	release := make(chan struct{})
	call := hold(t, e, release)
	closed := make(chan error)
	go func() { closed <- e.Close(context.Background()) }()
	require.Eventually(t, func() bool {
		return errors.Is(e.Work(context.Background(), func(context.Context, backend.Backend) error { return nil }), engine.ErrClosed)
	}, 5*time.Second, time.Millisecond, "new calls are refused while closing")
	select {
	case <-closed:
		t.Fatal("closed under a call")
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	require.NoError(t, <-call)
	require.NoError(t, <-closed)
	require.NoError(t, e.Close(context.Background()), "a second time")
}

func TestCloseCancelsWhenItHasWaitedEnough(t *testing.T) {
	e := open(t)
	call := hold(t, e, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	require.NoError(t, e.Close(ctx))
	require.ErrorIs(t, <-call, engine.ErrClosed)
	img, err := imaging.New(32, 32, 3, 8)
	require.NoError(t, err)
	_, _, err = e.Restore(context.Background(), img, restore.Options{})
	require.ErrorIs(t, err, engine.ErrClosed)
	_, err = e.Route(context.Background(), img, router.Override{})
	require.ErrorIs(t, err, engine.ErrClosed)
	_, err = e.File(context.Background(), restore.Job{}, restore.FileOptions{}, nil, nil)
	require.ErrorIs(t, err, engine.ErrClosed)
}

func TestCallersGetTheirOwnErrors(t *testing.T) {
	e := open(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, e.Work(ctx, func(ctx context.Context, _ backend.Backend) error { return ctx.Err() }), context.Canceled)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { _ = e.Close(context.Background()) })
	}
	wg.Wait()
}

func TestUnknownDeviceIsAnError(t *testing.T) {
	m, err := experts.OpenModelFS(nano.Name, nano.Files())
	require.NoError(t, err)
	_, err = engine.Open(context.Background(), m, engine.Config{Device: "abacus"})
	require.ErrorIs(t, err, platform.ErrUnknownDevice)
}
