package jobs

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Server is a NATS server inside the program.
type Server struct{ s *server.Server }

// StartServer starts a server with JetStream at a URL, keeping everything in a folder.
func StartServer(at, store string) (*Server, error) {
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
	// The server ends the process where it cannot listen, so this is found out before.
	l, err := net.Listen("tcp", net.JoinHostPort(u.Hostname(), u.Port()))
	if err != nil {
		return nil, err
	}
	if err := l.Close(); err != nil {
		return nil, err
	}
	s, err := server.NewServer(&server.Options{
		Host: u.Hostname(), Port: port, JetStream: true, StoreDir: store, NoSigs: true, NoLog: true, ServerName: "unirestorer",
		MaxPayload: 1 << 20,
	})
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(10*time.Second) || !s.JetStreamEnabled() {
		s.Shutdown()
		return nil, errors.New("the NATS server inside the program did not start; is " + store + " writable?")
	}
	return &Server{s}, nil
}

// Close ends the server; what it keeps stays.
func (s *Server) Close() {
	s.s.Shutdown()
	s.s.WaitForShutdown()
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
