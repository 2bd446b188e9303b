package cards

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// message is what a worker's process and its supervisor write each other, a line of JSON each.
type message struct {
	ID       int64           `json:"id,omitempty"`
	Job      json.RawMessage `json:"job,omitempty"`      // to the worker
	Cancel   bool            `json:"cancel,omitempty"`   // to the worker: nobody waits for the job any more
	Ready    bool            `json:"ready,omitempty"`    // from the worker, once
	Progress float64         `json:"progress,omitempty"` // from the worker, like all that follow
	Reply    json.RawMessage `json:"reply,omitempty"`
	Error    string          `json:"error,omitempty"`
	Broken   bool            `json:"broken,omitempty"`
}

// longest is the most bytes of a message.
const longest = 16 << 20

// closing is how long a worker may take to end by itself.
const closing = 10 * time.Second

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	const most = 2 << 10
	t.text = append(t.text, b...)
	if n := len(t.text); n > most {
		t.text = append([]byte(nil), t.text[n-most:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}

// process is a worker in a process of its own, which runs [Serve].
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	errors tail
	ended  chan struct{}

	mu      sync.Mutex
	next    int64
	pending map[int64]*request
	failure error // once the process has ended
}

type request struct {
	progress func(float64)
	done     chan result
}

// StartProcess starts a worker's process and waits until it is ready. The process must serve standard input and output with
// [Serve]; it ends when its input does.
func StartProcess(ctx context.Context, cmd *exec.Cmd) (Worker, error) {
	p := &process{cmd: cmd, ended: make(chan struct{}), pending: map[int64]*request{}}
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = &p.errors
	detach(cmd)
	began, ready := make(chan error, 1), make(chan error, 1)
	go func() {
		// A process that should end with its supervisor ends with the thread that started it.
		runtime.LockOSThread()
		err := cmd.Start()
		began <- err
		if err == nil {
			p.read(stdout, ready)
		}
	}()
	if err := <-began; err != nil {
		return nil, err
	}
	select {
	case err = <-ready:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		p.Kill()
		<-p.ended
		return nil, err
	}
	return p, nil
}

// read passes on what the process writes until it ends.
func (p *process) read(stdout io.Reader, ready chan<- error) {
	defer close(p.ended)
	started := false
	err := readMessages(stdout, func(m message) {
		if m.Ready && !started {
			started = true
			ready <- nil
			return
		}
		p.mu.Lock()
		r := p.pending[m.ID]
		final := m.Reply != nil || m.Error != ""
		if final {
			delete(p.pending, m.ID)
		}
		p.mu.Unlock()
		switch {
		case r == nil: // nobody waits for it any more
		case !final:
			r.progress(m.Progress)
		case m.Broken:
			r.done <- result{nil, fmt.Errorf("%w: %s", ErrBroken, m.Error)}
		case m.Error != "":
			r.done <- result{nil, errors.New(m.Error)}
		default:
			r.done <- result{m.Reply, nil}
		}
	})
	if err != nil {
		p.Kill() // it writes what is no message
	}
	if exit := p.cmd.Wait(); err == nil {
		err = exit
	}
	text := "the worker's process ended"
	if err != nil {
		text += ": " + err.Error()
	}
	if said := p.errors.String(); said != "" {
		text += ": " + said
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failure = fmt.Errorf("%w: %s", ErrBroken, text)
	for _, r := range p.pending {
		r.done <- result{nil, p.failure}
	}
	clear(p.pending)
	if !started {
		ready <- p.failure
	}
}

// readMessages calls take for each message in r.
func readMessages(r io.Reader, take func(message)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), longest)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return fmt.Errorf("not a message: %w", err)
		}
		take(m)
	}
	return lines.Err()
}

func (p *process) write(m message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err = p.stdin.Write(append(line, '\n'))
	return err
}

// Do implements Worker.
func (p *process) Do(ctx context.Context, job json.RawMessage, progress func(float64)) (json.RawMessage, error) {
	r := &request{progress: progress, done: make(chan result, 1)}
	p.mu.Lock()
	if p.failure != nil {
		p.mu.Unlock()
		return nil, p.failure
	}
	p.next++
	id := p.next
	p.pending[id] = r
	p.mu.Unlock()
	if err := p.write(message{ID: id, Job: job}); err != nil {
		<-p.ended // which says why
		return nil, (<-r.done).err
	}
	select {
	case out := <-r.done:
		return out.reply, out.err
	case <-ctx.Done():
		// The worker stops at its next node; what it then says nobody waits for.
		p.mu.Lock()
		delete(p.pending, id)
		p.mu.Unlock()
		_ = p.write(message{ID: id, Cancel: true})
		return nil, ctx.Err()
	}
}

// Kill implements Worker.
func (p *process) Kill() { _ = p.cmd.Process.Kill() }

// Close implements Worker.
func (p *process) Close() error {
	_ = p.stdin.Close()
	select {
	case <-p.ended:
	case <-time.After(closing):
		p.Kill()
		<-p.ended
	}
	return nil
}
