package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// server is a process that answers HTTP.
type server struct {
	cmd   *exec.Cmd
	url   string
	ended chan struct{} // closed when the process has ended

	mu   sync.Mutex
	said []string // its last lines that are no record of an answered request
}

// lastLines is how many lines of a server are kept.
const lastLines = 40

func (s *server) hear(line string) {
	if strings.Contains(line, "msg=request") && strings.Contains(line, "status=200") {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said[max(0, len(s.said)+1-lastLines):], line)
}

// lately is what the server said of late, and whether it still runs.
func (s *server) lately() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := "it runs"
	select {
	case <-s.ended:
		state = "it ended: " + s.cmd.ProcessState.String()
	case <-time.After(time.Second):
	}
	return strings.Join(append(s.said, state), "\n")
}

// startServer starts a program and waits until a line of what it says has " http://…", behind the word ready.
func startServer(ctx context.Context, argv ...string) (*server, error) {
	s := &server{cmd: exec.CommandContext(ctx, argv[0], argv[1:]...), ended: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.cmd.Stdout, s.cmd.Stderr = w, w
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = 20 * time.Second
	err = s.cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, err
	}
	go func() {
		_ = s.cmd.Wait() // by a signal, where it was asked to end
		close(s.ended)
	}()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		s.hear(line)
		if _, address, ok := strings.Cut(line, "http://"); ok && strings.Contains(line, "ready") {
			address, _, _ = strings.Cut(address, " ")
			s.url = "http://" + address
			go func() {
				for lines.Scan() {
					s.hear(lines.Text())
				}
				r.Close()
			}()
			return s, nil
		}
	}
	r.Close()
	<-s.ended
	return nil, fmt.Errorf("%s ended:\n%s", argv[0], s.lately())
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	<-s.ended
}

// serveArgs start the program on a free port, without gRPC and log.
func serveArgs(program string, more ...string) []string {
	return append([]string{program, "serve", "--listen", "127.0.0.1:0", "--grpc-listen", "off"}, more...)
}

// status reads a figure in kB of /proc/PID/status, in bytes.
func (s *server) status(name string) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

// metric reads a figure of GET /metrics.
func (s *server) metric(name string) (float64, error) {
	res, err := http.Get(s.url + "/metrics")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(rest, 64)
		}
	}
	return 0, fmt.Errorf("no %s in the metrics", name)
}
