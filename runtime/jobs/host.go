package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"unirestorer/runtime/folders"
)

// Host keeps a server at an address for processes of one machine: whoever finds none starts one inside itself, and when
// that process ends, another that works on the same store takes its place. Clients reconnect by themselves.
type Host struct {
	// At is the address, DefaultURL if empty; Store the folder in which the server keeps everything.
	At, Store string
	Log       *slog.Logger

	server *embedded
	done   chan struct{}
}

const (
	// takeoverPoll is how often a process looks whether the server is gone.
	takeoverPoll = 500 * time.Millisecond
	// mendPoll is how often a server that ran out of disk is started again.
	mendPoll = 2 * time.Second
	// startTries is how often a process tries to start a server or to reach that of another, which has the store and so is
	// alive but may be slow, or may end and leave the store.
	startTries = 12
)

// Connect connects to the server, starting one if none answers, and sees to it from then on that there is one, until ctx is
// done. A server that others started for purposes of their own is used but never replaced.
func (h *Host) Connect(ctx context.Context, a Access, l Limits) (*Queue, error) {
	if h.At == "" {
		h.At = DefaultURL
	}
	if h.Log == nil {
		h.Log = slog.New(slog.DiscardHandler)
	}
	a.URL = h.At
	q, err := Connect(ctx, a, l)
	for try := 0; unanswered(ctx, err) && try < startTries; try++ {
		var trouble error
		if h.server == nil {
			if h.server, trouble = startServer(h.At, h.Store, h.Log); trouble == nil {
				h.Log.Info("started a queue inside this process", "address", h.At, "store", h.Store)
			}
		}
		// Where it did not start, another process may be starting it.
		a.Patience = max(a.Patience, 5*time.Second)
		if q, err = Connect(ctx, a, l); err == nil || trouble == nil {
			continue
		}
		claimed := errors.Is(trouble, folders.ErrClaimed)
		if errors.Is(err, ErrNoServer) && (!claimed || try == startTries-1) {
			err = fmt.Errorf("start a queue on this machine: %w", trouble)
		}
		if !claimed {
			break
		}
	}
	if err != nil {
		h.stop()
		return nil, err
	}
	own := q.nc.ConnectedServerName() == embeddedName
	h.done = make(chan struct{})
	go func() {
		defer close(h.done)
		if own {
			h.keep(ctx, q)
		}
	}()
	return q, nil
}

// unanswered tells that there is no server, or that the one there did not answer to the end: it may be ending.
func unanswered(ctx context.Context, err error) bool {
	return errors.Is(err, ErrNoServer) || ctx.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrNoResponders))
}

// keep takes the server's place when it is gone, and starts its own again when that has stopped keeping things.
func (h *Host) keep(ctx context.Context, q *Queue) {
	for ctx.Err() == nil {
		wait(ctx, takeoverPoll)
		switch {
		case ctx.Err() != nil:
			return
		case h.server != nil && !h.server.whole():
			h.Log.Error("the queue cannot write any more, trying again; is the disk full?", "store", h.Store)
			h.stop()
			wait(ctx, mendPoll)
		case h.server == nil && !q.nc.IsConnected():
			s, err := startServer(h.At, h.Store, h.Log)
			if err != nil {
				h.Log.Debug("take the queue over", "error", err) // another was faster, or will be
				continue
			}
			h.server = s
			h.Log.Info("took the queue over", "address", h.At, "store", h.Store)
		}
	}
}

func (h *Host) stop() {
	if h.server != nil {
		h.server.close()
		h.server = nil
	}
}

// Close ends the server, if this process has it. The context of Connect must be done.
func (h *Host) Close() {
	if h.done != nil {
		<-h.done
	}
	h.stop()
}
