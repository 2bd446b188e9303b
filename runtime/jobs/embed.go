package jobs

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"unirestorer/runtime/folders"
)

// embedded is a NATS server inside the program.
type embedded struct {
	s     *server.Server
	claim *folders.Claim
	words *words
}

// words hears what the server says: that a stream could not be written is said nowhere else.
type words struct {
	log    *slog.Logger
	broken atomic.Bool
}

func (w *words) Noticef(string, ...any) {}
func (w *words) Debugf(string, ...any)  {}
func (w *words) Tracef(string, ...any)  {}

func (w *words) Warnf(format string, args ...any) {
	w.log.Debug("queue: " + fmt.Sprintf(format, args...))
}

func (w *words) Fatalf(format string, args ...any) { w.Errorf(format, args...) }

func (w *words) Errorf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.log.Error("queue: " + text)
	// A stream takes nothing more after the first failure, also when there is room again.
	for _, sign := range []string{"write error", "failed to store", "no space left"} {
		if strings.Contains(text, sign) {
			w.broken.Store(true)
		}
	}
}

// embeddedName is what a server inside the program calls itself.
const embeddedName = "unirestorer"

// startServer starts a server with JetStream at a URL, keeping everything in a folder, which no other may have at the same
// time: that is an error that wraps [folders.ErrClaimed].
func startServer(at, store string, log *slog.Logger) (_ *embedded, err error) {
	u, err := url.Parse(at)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return nil, fmt.Errorf("%s: no port", at)
	}
	if err := os.MkdirAll(store, 0o700); err != nil {
		return nil, err
	}
	claim, err := folders.TakeClaim(filepath.Join(store, "server"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", store, err)
	}
	defer func() {
		if err != nil {
			claim.Release()
		}
	}()
	// The server ends the process where it cannot listen, so this is found out before.
	l, err := net.Listen("tcp", net.JoinHostPort(u.Hostname(), u.Port()))
	if err != nil {
		return nil, err
	}
	if err := l.Close(); err != nil {
		return nil, err
	}
	s, err := server.NewServer(&server.Options{
		Host: u.Hostname(), Port: port, JetStream: true, StoreDir: store, NoSigs: true, NoLog: true, ServerName: embeddedName,
		MaxPayload: 1 << 20, SyncInterval: 10 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	w := &words{log: log}
	s.SetLogger(w, false, false)
	s.Start()
	if !s.ReadyForConnections(time.Minute) || !s.JetStreamEnabled() {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, errors.New("the NATS server inside the program did not start; is there room in " + store + ", and is it writable?")
	}
	return &embedded{s, claim, w}, nil
}

// whole tells whether the server keeps what it is given: one that has run out of disk does not any more.
func (s *embedded) whole() bool { return s.s.JetStreamEnabled() && !s.words.broken.Load() }

// close ends the server; what it keeps stays.
func (s *embedded) close() {
	s.s.Shutdown()
	s.s.WaitForShutdown()
	s.claim.Release()
}

// DefaultStore is the folder of the server inside the program: in the user's state folder.
func DefaultStore() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "unirestorer", "jobs"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no state folder, name one by --store: %w", err)
	}
	return filepath.Join(home, ".local", "state", "unirestorer", "jobs"), nil
}
