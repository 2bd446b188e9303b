package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a process that answers HTTP.
type server struct {
	cmd  *exec.Cmd
	url  string
	said *strings.Builder
}

// startServer starts a program and waits until a line of what it says has " http://…", behind the word ready.
func startServer(ctx context.Context, argv ...string) (*server, error) {
	s := &server{cmd: exec.CommandContext(ctx, argv[0], argv[1:]...), said: &strings.Builder{}}
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
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		fmt.Fprintln(s.said, line)
		if _, address, ok := strings.Cut(line, "http://"); ok && strings.Contains(line, "ready") {
			address, _, _ = strings.Cut(address, " ")
			s.url = "http://" + address
			go func() { _, _ = io.Copy(io.Discard, r); r.Close() }()
			return s, nil
		}
	}
	r.Close()
	return nil, errors.Join(fmt.Errorf("%s ended:\n%s", argv[0], s.said), s.cmd.Wait())
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait() // by a signal, which is what was asked for
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
