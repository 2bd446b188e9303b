package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"unirestorer/tools/benchfiles"
)

// launch says how to start a runtime's worker.
type launch struct {
	runtime string
	argv    []string
	env     []string // beside the driver's own
}

// process is a running worker.
type process struct {
	launch
	ctx    context.Context
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	stderr *tail
	waited bool
}

// exitDelay is how long a worker may take to end once it was asked to, or killed.
const exitDelay = 10 * time.Second

// start starts a worker. It must be ended by quit or kill. When ctx ends the worker is killed.
func start(ctx context.Context, l launch) (*process, error) {
	p := &process{launch: l, ctx: ctx, cmd: exec.CommandContext(ctx, l.argv[0], l.argv[1:]...), stderr: &tail{limit: 2000}}
	p.cmd.Env = append(os.Environ(), l.env...)
	p.cmd.Stderr = p.stderr
	p.cmd.WaitDelay = exitDelay
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, p.wrap("start", err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, p.wrap("start", err)
	}
	p.out = bufio.NewScanner(out)
	p.out.Buffer(nil, maxLine)
	if err := p.cmd.Start(); err != nil {
		return nil, p.wrap("start", err)
	}
	return p, nil
}

// ask sends a request and reads its answer.
func (p *process) ask(r request) (reply, error) {
	line, err := json.Marshal(r)
	if err != nil {
		return reply{}, p.wrap(r.Op, err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return reply{}, p.died(r.Op, err)
	}
	if !p.out.Scan() {
		err := p.out.Err()
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return reply{}, p.died(r.Op, err)
	}
	answer, err := parseReply(p.out.Bytes())
	if err != nil {
		return reply{}, p.wrap(r.Op, err)
	}
	return answer, nil
}

// load prepares a network and tells the runtime's version and the seconds it took.
func (p *process) load(l load) (version string, seconds float64, err error) {
	r, err := p.ask(request{Op: opLoad, Load: &l})
	if err != nil {
		return "", 0, err
	}
	if len(r.Seconds) != 1 {
		return "", 0, p.wrap(opLoad, fmt.Errorf("%d times for one load", len(r.Seconds)))
	}
	return r.Version, r.Seconds[0], nil
}

// run runs the network count times and gives the seconds of each.
func (p *process) run(count int) ([]float64, error) {
	r, err := p.ask(request{Op: opRun, Count: count})
	if err != nil {
		return nil, err
	}
	if len(r.Seconds) != count {
		return nil, p.wrap(opRun, fmt.Errorf("%d times for %d runs", len(r.Seconds), count))
	}
	return r.Seconds, nil
}

// output fetches the last run's result through a file.
func (p *process) output(path string) (values []float32, shape []int, err error) {
	r, err := p.ask(request{Op: opWrite, Path: path})
	if err != nil {
		return nil, nil, err
	}
	n, err := r.elems()
	if err != nil {
		return nil, nil, p.wrap(opWrite, err)
	}
	if values, err = benchfiles.ReadRaw(path, n); err != nil {
		return nil, nil, p.wrap(opWrite, err)
	}
	return values, r.Shape, nil
}

// peak is the most memory the worker has held so far, in bytes.
func (p *process) peak() (int64, error) {
	n, err := peakMemory(p.cmd.Process.Pid)
	if err != nil {
		return 0, p.wrap("peak memory", err)
	}
	return n, nil
}

// quit asks the worker to end and waits for it.
func (p *process) quit() error {
	if _, err := p.ask(request{Op: opQuit}); err != nil {
		p.kill()
		return err
	}
	late := time.AfterFunc(exitDelay, func() { p.cmd.Process.Kill() }) // it may have ended
	defer late.Stop()
	if err := p.wait(); err != nil {
		return p.wrap(opQuit, err)
	}
	return nil
}

// kill ends the worker if it has not ended yet.
func (p *process) kill() {
	if !p.waited {
		p.cmd.Process.Kill() // it may have ended
		p.wait()             // reports the kill
	}
}

func (p *process) wait() error {
	p.waited = true
	p.in.Close() // closed twice at worst
	return p.cmd.Wait()
}

// died reports a worker that ended instead of answering.
func (p *process) died(doing string, err error) error {
	if ctxErr := p.ctx.Err(); ctxErr != nil {
		p.kill()
		return p.wrap(doing, ctxErr)
	}
	if errors.Is(err, bufio.ErrTooLong) {
		p.kill()
		return p.wrap(doing, fmt.Errorf("a reply longer than %d bytes", maxLine))
	}
	late := time.AfterFunc(exitDelay, func() { p.cmd.Process.Kill() })
	defer late.Stop()
	if !p.waited {
		if exit := p.wait(); exit != nil {
			err = exit
		}
	}
	if text := p.stderr.String(); text != "" {
		return p.wrap(doing, fmt.Errorf("the worker ended (%w):\n%s", err, text))
	}
	return p.wrap(doing, fmt.Errorf("the worker ended: %w", err))
}

func (p *process) wrap(doing string, err error) error {
	return fmt.Errorf("%s: %s: %w", p.runtime, doing, err)
}

// tail keeps the end of what is written to it.
type tail struct {
	limit int
	mu    sync.Mutex
	text  []byte
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if extra := len(t.text) - t.limit; extra > 0 {
		t.text = t.text[extra:]
	}
	return len(p), nil
}

// String is what was kept, without white space around it.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
