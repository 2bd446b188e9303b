package gpu

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/device"
)

// arena is the memory that all programs of a backend use while they run, one at
// a time: on the device for intermediate results, and page-locked on the host
// for what goes in and out. Both grow to what a run needs and stay until they
// are trimmed.
type arena struct {
	dev  device.Device
	turn backend.Turn // a program has it while it runs

	memory   device.Buffer
	host     device.HostBuffer
	moved    int                     // counts new memory, of which bound programs must learn
	settling sync.Mutex              // held while busy's stream is waited for
	busy     atomic.Pointer[Program] // whose stream may still be at work on a cancelled run
}

func newArena(dev device.Device) *arena { return &arena{dev: dev, turn: backend.NewTurn()} }

// placeholder is the arena that launches are made with before there is one.
func placeholder(bytes int64) device.Buffer { return device.Buffer{Ptr: 1 << 40, Size: bytes} }

// enter waits for the turn, in the order in which callers asked, and for the
// work that a cancelled run left.
func (a *arena) enter(ctx context.Context) error {
	if err := a.turn.Take(ctx); err != nil {
		return err
	}
	if err := a.settle(ctx); err != nil {
		a.leave()
		return fmt.Errorf("wait for the run before: %w", err)
	}
	return nil
}

func (a *arena) leave() { a.turn.Leave() }

// settle waits for the work of a cancelled run, which still uses the memory.
func (a *arena) settle(ctx context.Context) error {
	a.settling.Lock()
	defer a.settling.Unlock()
	p := a.busy.Load()
	if p == nil {
		return nil
	}
	err := p.stream.Synchronize(ctx)
	if ctx.Err() == nil {
		a.busy.CompareAndSwap(p, nil)
	}
	return err
}

// forget waits for what a cancelled run of p left, so that p can be closed. Its
// failure was reported by the run. The caller holds p.mu.
func (a *arena) forget(p *Program) {
	a.settling.Lock()
	defer a.settling.Unlock()
	if a.busy.Load() == p {
		_ = p.stream.Synchronize(context.Background())
		a.busy.CompareAndSwap(p, nil)
	}
}

// grow makes the arena large enough for a program; what was in it is lost. The
// caller has the turn.
func (a *arena) grow(bytes, host int64) error {
	if a.memory.Size < bytes {
		if err := a.freeMemory(); err != nil { // first, so that both are never there together
			return err
		}
		m, err := a.dev.Alloc(bytes)
		if err != nil {
			return fmt.Errorf("arena of %d bytes: %w", bytes, outOfMemory(err))
		}
		a.memory = m
		a.moved++
	}
	if a.host == nil || int64(len(a.host.Bytes())) < host {
		if err := a.freeHost(); err != nil {
			return err
		}
		h, err := a.dev.AllocHost(int(host))
		if err != nil {
			return fmt.Errorf("page-locked memory of %d bytes: %w", host, outOfMemory(err))
		}
		a.host = h
		a.moved++
	}
	return nil
}

func (a *arena) freeMemory() error {
	m := a.memory
	a.memory = device.Buffer{}
	a.moved++
	if m.IsZero() {
		return nil
	}
	return a.dev.Free(m)
}

func (a *arena) freeHost() error {
	h := a.host
	a.host = nil
	a.moved++
	if h == nil {
		return nil
	}
	return h.Free()
}

// trim frees the memory unless a program runs.
func (a *arena) trim() (freed int64, idle bool) {
	if !a.turn.TryTake() {
		return 0, false
	}
	defer a.leave()
	freed = a.memory.Size
	// The next work on the device reports again whatever is wrong with it.
	_ = errors.Join(a.settle(context.Background()), a.freeMemory(), a.freeHost())
	return freed, true
}

func (a *arena) close() error { return errors.Join(a.freeMemory(), a.freeHost()) }

// Trim implements backend.Backend.
func (b *Backend) Trim() (freed int64, idle bool) { return b.arena.trim() }

// bind makes the arena large enough and, if it has moved since the last run,
// makes all launches anew. The caller has the arena's turn.
func (p *Program) bind() error {
	a, l := p.backend.arena, p.lowered
	inputs, outputs, total, err := l.hostBytes()
	if err != nil {
		return err
	}
	if err := a.grow(l.arenaBytes(), total); err != nil {
		return err
	}
	if p.bound == a.moved {
		return nil
	}
	if p.exec != nil { // it holds the old addresses
		err := p.exec.Close()
		p.exec = nil
		if err != nil {
			return err
		}
	}
	memory := a.host.Bytes()
	p.inputs, p.outputs = hostViews(l.graph.Inputs, memory, inputs), hostViews(l.graph.Outputs, memory, outputs)
	p.counts = memory[total-l.countBytes():]
	if err := p.launch(a.memory); err != nil {
		return err
	}
	p.bound = a.moved
	return nil
}

// launch makes the commands of all nodes for an arena.
func (p *Program) launch(arena device.Buffer) error {
	l := p.lowered
	commands, err := l.bind(arena, p.memoryOf)
	if err != nil {
		return err
	}
	steps := make([][]call, len(commands))
	for i, cs := range commands {
		for _, c := range cs {
			ready := call{command: c}
			if c.launch != nil {
				if ready.function, err = p.backend.library.Function(c.launch.Module, c.launch.Kernel, c.launch.Shape.Shared); err != nil {
					return fmt.Errorf("%s: %w", l.graph.Nodes[i].Name, err)
				}
			}
			steps[i] = append(steps[i], ready)
		}
	}
	p.steps = steps
	return nil
}

// host is the host's side of a copy.
func (p *Program) host(c *command) []byte {
	switch {
	case c.guard:
		return p.counts[4*c.port:][:4]
	case c.input:
		return asBytes(p.inputs[c.port])
	default:
		return asBytes(p.outputs[c.port])
	}
}
