//go:build cuda && cudasim && linux

package simdriver

// #include "thread.h"
import "C"

import (
	"slices"

	"unirestorer/runtime/cuda/simdriver/timeline"
	"unirestorer/runtime/device"
)

// stream is a queue of work.
type stream struct {
	ctx      *context
	lane     *timeline.Lane
	sim      device.Stream
	blocking bool // ordered with the default stream

	// While work on the stream is captured, into is the capture, and its next node comes after those of at.
	into *capture
	at   []int
}

// capture is a graph in the making.
type capture struct {
	origin  *stream
	mode    C.int
	thread  C.uintptr_t // that began it
	nodes   []node
	forked  []*stream
	invalid bool
}

// streamOf returns a stream of the current context; handle 0 is the context's default stream.
func streamOf(handle C.uintptr_t) (*stream, C.int) {
	if handle != 0 {
		return own[*stream](handle)
	}
	c, r := enter()
	if r != success {
		return nil, r
	}
	return c.null, success
}

func (s *stream) context() *context { return s.ctx }

// enqueue puts work on a stream, or captures it.
func (s *stream) enqueue(n node) C.int {
	if s.into != nil {
		n.after = s.at
		s.at = []int{len(s.into.nodes)}
		s.into.nodes = append(s.into.nodes, n)
		return success
	}
	if s == s.ctx.null && s.ctx.capturesBlocking() {
		return fail(captureImplicit, nil)
	}
	if n.kind == nodeGraph {
		if err := s.launch(n.child.nodes); err != nil {
			return done(err)
		}
	} else {
		s.submit(n.work)
	}
	return success
}

// capturesBlocking reports whether a stream that the default stream waits for is captured.
func (c *context) capturesBlocking() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for into := range c.into {
		if into.origin.blocking {
			return true
		}
	}
	return false
}

// unsafeCall ends the captures that forbid a call because it may do work of its own, and returns the result then. A
// capture of the global mode forbids it to every thread, one of the thread-local mode to the thread that began it.
func (c *context) unsafeCall() C.int {
	c.mu.Lock()
	forbidden := false
	for into := range c.into {
		if into.mode == global || into.mode == threadLocal && into.thread == C.sim_thread() {
			into.invalid, forbidden = true, true
		}
	}
	c.mu.Unlock()
	if forbidden {
		return fail(captureUnsupported, nil)
	}
	return success
}

// The flags of streams that are served.
const nonBlocking = 1

//export cuStreamCreate
func cuStreamCreate(handle *C.uintptr_t, flags C.uint) C.int {
	c, r := enter()
	if r != success {
		return r
	}
	sim, err := c.sim.NewStream()
	if err != nil {
		return done(err)
	}
	s := &stream{ctx: c, lane: c.time.NewLane(), sim: sim, blocking: flags&nonBlocking == 0}
	c.own(s, "stream")
	*handle = C.uintptr_t(put(s))
	return success
}

// cuStreamDestroy_v2 returns at once, as CUDA's does: work on the stream still runs, and nothing waits for it.
//
//export cuStreamDestroy_v2
func cuStreamDestroy_v2(handle C.uintptr_t) C.int {
	s, r := streamOf(handle)
	if r != success {
		return r
	}
	if s == s.ctx.null {
		return fail(invalidHandle, nil)
	}
	drop(handle)
	s.ctx.disown(s)
	s.ctx.time.End(s.lane)
	return success
}

// ready returns a stream that may be waited for; waiting for one that is captured ends the capture.
func ready(handle C.uintptr_t) (*stream, C.int) {
	s, r := streamOf(handle)
	if r != success {
		return nil, r
	}
	if s.into != nil {
		s.into.invalid = true
		return nil, fail(captureUnsupported, nil)
	}
	return s, success
}

//export cuStreamSynchronize
func cuStreamSynchronize(handle C.uintptr_t) C.int {
	s, r := ready(handle)
	if r != success {
		return r
	}
	until := []*timeline.Op{s.ctx.time.Tail(s.lane)}
	if s == s.ctx.null {
		until = append(until, s.implicit()...)
	}
	for _, op := range until {
		if op != nil {
			s.ctx.time.Wait(op)
		}
	}
	return broken()
}

//export cuStreamQuery
func cuStreamQuery(handle C.uintptr_t) C.int {
	s, r := ready(handle)
	if r != success {
		return r
	}
	if !s.ctx.time.Idle(s.lane) {
		return fail(notReady, nil)
	}
	return broken()
}

//export cuStreamWaitEvent
func cuStreamWaitEvent(handle, of C.uintptr_t, flags C.uint) C.int {
	s, r := streamOf(handle)
	if r != success {
		return r
	}
	e, r := eventOf(of)
	if r != success {
		return r
	}
	switch {
	case e.into == nil && s.into != nil:
		s.into.invalid = true
		return fail(captureIsolation, nil) // a captured stream waits for work outside the capture
	case e.into == nil:
		if e.moment != nil { // CUDA does not wait for an event that was never recorded
			s.submit(work{name: "wait for an event", start: always(func(device.Stream) ([]timeline.Range, error) { return nil, nil })}, e.moment.op)
		}
	case s.into == nil:
		s.into, s.at = e.into, slices.Clone(e.nodes)
		e.into.forked = append(e.into.forked, s)
	case s.into == e.into:
		s.at = append(slices.Clone(s.at), e.nodes...)
	default:
		return fail(captureMerge, nil)
	}
	return success
}

// event is a moment, or a place in a graph in the making.
type event struct {
	ctx    *context
	moment *moment
	into   *capture
	nodes  []int
}

// eventOf returns an event of the current context.
func eventOf(handle C.uintptr_t) (*event, C.int) { return own[*event](handle) }

func (e *event) context() *context { return e.ctx }

//export cuEventCreate
func cuEventCreate(handle *C.uintptr_t, flags C.uint) C.int {
	c, r := enter()
	if r != success {
		return r
	}
	e := &event{ctx: c}
	c.own(e, "event")
	*handle = C.uintptr_t(put(e))
	return success
}

//export cuEventDestroy_v2
func cuEventDestroy_v2(handle C.uintptr_t) C.int {
	return destroy[*event](handle)
}

//export cuEventRecord
func cuEventRecord(handle, on C.uintptr_t) C.int {
	s, r := streamOf(on)
	if r != success {
		return r
	}
	e, r := eventOf(handle)
	if r != success {
		return r
	}
	if s.into != nil {
		e.into, e.nodes, e.moment = s.into, slices.Clone(s.at), nil
		return success
	}
	e.into, e.nodes = nil, nil
	e.moment = s.mark("record of an event")
	return success
}

//export cuEventSynchronize
func cuEventSynchronize(handle C.uintptr_t) C.int {
	e, r := eventOf(handle)
	if r != success {
		return r
	}
	if e.into != nil {
		return fail(capturedEvent, nil)
	}
	if e.moment != nil {
		e.ctx.time.Wait(e.moment.op)
	}
	return broken()
}

//export cuEventQuery
func cuEventQuery(handle C.uintptr_t) C.int {
	e, r := eventOf(handle)
	if r != success {
		return r
	}
	if e.into != nil {
		return fail(capturedEvent, nil)
	}
	if r := e.ctx.unsafeCall(); r != success {
		return r
	}
	if e.moment != nil && !e.ctx.time.Done(e.moment.op) {
		return fail(notReady, nil)
	}
	return broken()
}

//export cuEventElapsedTime
func cuEventElapsedTime(ms *C.float, from, to C.uintptr_t) C.int {
	start, r := eventOf(from)
	if r != success {
		return r
	}
	end, r := eventOf(to)
	if r != success {
		return r
	}
	switch {
	case start.into != nil || end.into != nil:
		return fail(capturedEvent, nil)
	case start.moment == nil || end.moment == nil:
		return fail(invalidHandle, nil)
	case !start.ctx.time.Done(start.moment.op) || !end.ctx.time.Done(end.moment.op):
		return fail(notReady, nil)
	}
	*ms = C.float(end.moment.at.Sub(start.moment.at).Seconds() * 1e3)
	return success
}
