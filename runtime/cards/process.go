package cards

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// message is what a worker's process and its supervisor write each other: a line of JSON, and as many bytes behind it as that
// says.
type message struct {
	ID       int64           `json:"id,omitempty"`
	Job      json.RawMessage `json:"job,omitempty"`      // to the worker
	Cancel   bool            `json:"cancel,omitempty"`   // to the worker: nobody waits for the job any more
	Go       bool            `json:"go,omitempty"`       // to the worker, like Away: the answer to Ask
	Away     bool            `json:"away,omitempty"`     //
	Ready    bool            `json:"ready,omitempty"`    // from the worker, once
	Progress float64         `json:"progress,omitempty"` // from the worker, like all that follow but Bytes
	Waits    string          `json:"waits,omitempty"`    // why the job waits
	Ask      string          `json:"ask,omitempty"`      // may the job go on with this key, which has to be loaded?
	Reply    json.RawMessage `json:"reply,omitempty"`
	Key      string          `json:"key,omitempty"`
	Costs    *Costs          `json:"costs,omitempty"`
	Error    string          `json:"error,omitempty"`
	Kinds    []string        `json:"kinds,omitempty"` // of the error
	Bytes    int64           `json:"bytes,omitempty"`

	data []byte // Bytes of them
}

// Kinds of errors that a supervisor knows; others are its caller's.
const (
	KindBroken    = "broken"
	KindNoRoom    = "no room"
	KindCrowded   = "crowded"
	kindElsewhere = "elsewhere"
)

// JobError is the error of a job as a worker's process told it.
type JobError struct {
	Text  string
	Kinds []string
}

// Error is the worker's text.
func (e *JobError) Error() string { return e.Text }

// Is knows the errors that a worker's process tells by their kinds.
func (e *JobError) Is(target error) bool {
	kind := map[error]string{ErrBroken: KindBroken, errNoRoom: KindNoRoom, errCrowded: KindCrowded, ErrElsewhere: kindElsewhere}[target]
	return kind != "" && slices.Contains(e.Kinds, kind)
}

// Bounds of a message: of its line, and of the bytes behind it.
const (
	longest = 16 << 20
	largest = 4 << 30
)

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

// pipeBytes is what a pipe should hold, so that pictures pass with few switches between processes.
const pipeBytes = 1 << 20

// process is a worker in a process of its own, which runs [Serve].
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	errors tail
	kill   func() error
	// patience is how long the process may take to end.
	patience time.Duration
	ready    chan error
	ending   sync.Once
	ended    chan struct{} // or given up

	writing sync.Mutex // never held while mu is taken

	mu      sync.Mutex
	started bool
	next    int64
	pending map[int64]*request
	failure error // once the process has ended
}

type request struct {
	under Under
	done  chan result
}

// StartProcess starts a worker's process and waits until it is ready. The process must serve standard input and output with
// [Serve]; it ends when its input does.
func StartProcess(ctx context.Context, cmd *exec.Cmd) (Worker, error) {
	p := &process{cmd: cmd, patience: closing, ready: make(chan error, 1), ended: make(chan struct{}), pending: map[int64]*request{}}
	p.kill = func() error { return cmd.Process.Kill() }
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
	widen(p.stdin, stdout)
	began := make(chan error, 1)
	go func() {
		// A process that should end with its supervisor ends with the thread that started it.
		runtime.LockOSThread()
		err := cmd.Start()
		began <- err
		if err == nil {
			p.read(stdout)
		}
	}()
	if err := <-began; err != nil {
		return nil, err
	}
	select {
	case err = <-p.ready:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		p.Kill()
		<-p.ended
		return nil, err
	}
	return p, nil
}

// read passes on what the process writes until it ends.
func (p *process) read(stdout io.Reader) {
	err := readMessages(stdout, func(m message) {
		p.mu.Lock()
		first := m.Ready && !p.started
		p.started = p.started || first
		p.mu.Unlock()
		if first {
			p.ready <- nil
			return
		}
		p.take(m)
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
	p.end(text)
}

// end fails whatever waits for the process.
func (p *process) end(why string) {
	p.ending.Do(func() {
		if said := p.errors.String(); said != "" {
			why += ": " + said
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		defer close(p.ended)
		p.failure = fmt.Errorf("%w: %s", ErrBroken, why)
		for _, r := range p.pending {
			r.done <- result{err: p.failure}
		}
		clear(p.pending)
		if !p.started {
			p.ready <- p.failure
		}
	})
}

// take passes on a message.
func (p *process) take(m message) {
	p.mu.Lock()
	r := p.pending[m.ID]
	final := m.Reply != nil || m.Error != ""
	if final {
		delete(p.pending, m.ID)
	}
	p.mu.Unlock()
	switch {
	case r == nil: // nobody waits for it any more
	case m.Ask != "":
		// Not here: while this writes, nothing would be read.
		go func() {
			err := r.under.Choose(m.Ask)
			_ = p.write(message{ID: m.ID, Go: err == nil, Away: err != nil}) // if it fails, the process has ended
		}()
	case m.Waits != "":
		if r.under.Waits != nil {
			r.under.Waits(m.Waits)
		}
	case !final:
		r.under.Progress(m.Progress)
	case slices.Contains(m.Kinds, KindBroken):
		r.done <- result{err: fmt.Errorf("%w: %s", ErrBroken, m.Error)}
	case m.Error != "":
		r.done <- result{err: &JobError{m.Error, m.Kinds}}
	default:
		reply := Reply{Spec: m.Reply, Data: m.data, Key: m.Key}
		if m.Costs != nil {
			reply.Costs = *m.Costs
		}
		r.done <- result{reply: reply}
	}
}

// readMessages calls take for each message in r.
func readMessages(r io.Reader, take func(message)) error {
	lines := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := readLine(lines)
		if err == io.EOF && len(line) == 0 {
			return nil
		}
		if err != nil && err != io.EOF {
			return err
		}
		var m message
		if err := json.Unmarshal(line, &m); err != nil {
			return fmt.Errorf("not a message: %w", err)
		}
		if m.Bytes < 0 || m.Bytes > largest {
			return fmt.Errorf("not a message: it has %d bytes", m.Bytes)
		}
		if m.data, err = readBytes(lines, m.Bytes); err != nil {
			return fmt.Errorf("a message ends after %d of its %d bytes: %w", len(m.data), m.Bytes, err)
		}
		take(m)
	}
}

// readLine reads up to the end of a line, or of the input, but no more than longest bytes.
func readLine(r *bufio.Reader) (line []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if line = append(line, part...); len(line) > longest {
			return nil, fmt.Errorf("not a message: a line of more than %d bytes", longest)
		}
		if err != bufio.ErrBufferFull {
			return line, err
		}
	}
}

// readBytes reads n bytes. What is told but does not come takes no memory beyond twice what does.
func readBytes(r io.Reader, n int64) ([]byte, error) {
	const trusted = 16 << 20
	if n <= trusted {
		data := make([]byte, n)
		got, err := io.ReadFull(r, data)
		return data[:got], err
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, r, n); err != nil {
		return b.Bytes(), err
	}
	return b.Bytes(), nil
}

// writeMessage writes m and its bytes.
func writeMessage(w io.Writer, m message) error {
	m.Bytes = int64(len(m.data))
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if _, err = w.Write(append(line, '\n')); err == nil && len(m.data) > 0 {
		_, err = w.Write(m.data)
	}
	return err
}

func (p *process) write(m message) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	return writeMessage(p.stdin, m)
}

// Do implements Worker.
func (p *process) Do(ctx context.Context, job Job, under Under) (Reply, error) {
	r := &request{under: under, done: make(chan result, 1)}
	if job.Spec == nil {
		job.Spec = json.RawMessage("null")
	}
	p.mu.Lock()
	if p.failure != nil {
		p.mu.Unlock()
		return Reply{}, p.failure
	}
	p.next++
	id := p.next
	p.pending[id] = r
	p.mu.Unlock()
	if err := p.write(message{ID: id, Job: job.Spec, data: job.Data}); err != nil {
		p.Kill() // it does not read, or the job is none that can be written
		<-p.ended
		return Reply{}, errors.Join((<-r.done).err, err)
	}
	select {
	case out := <-r.done:
		return out.reply, out.err
	case <-ctx.Done():
	}
	_ = p.write(message{ID: id, Cancel: true}) // if it fails, the process has ended
	if out := <-r.done; errors.Is(out.err, ErrBroken) {
		return Reply{}, out.err
	}
	return Reply{}, ctx.Err()
}

// Kill implements Worker. A process that waits inside a driver whose card is gone may not end: it is left behind.
func (p *process) Kill() {
	_ = p.kill()
	time.AfterFunc(p.patience, func() { p.end("the worker's process does not end, though it was killed") })
}

// Close implements Worker.
func (p *process) Close() error {
	_ = p.stdin.Close()
	select {
	case <-p.ended:
	case <-time.After(p.patience):
		p.Kill()
		<-p.ended
	}
	return nil
}
