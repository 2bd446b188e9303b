//go:build cuda && cudasim && linux

package simdriver

// #include "thread.h"
import "C"

import (
	gocontext "context"

	"unirestorer/runtime/device"
)

// stream is a queue of work.
type stream struct {
	ctx *context
	s   device.Stream

	// While work on the stream is captured, into is the capture. A stream that joined the capture of another by
	// waiting for an event has unjoined work until one of the capture's streams waits for an event of it.
	into     *capture
	unjoined bool
}

// capture is a graph in the making. All its work goes through the origin's simulated stream, one after the other.
type capture struct {
	origin  *stream
	thread  C.uintptr_t // that must end it, 0 for any
	nodes   []node
	forked  []*stream
	invalid bool
}

// streamOf returns a stream of the current context; handle 0 is the context's default stream.
func streamOf(handle C.uintptr_t) (*stream, C.int) {
	c, r := enter()
	if r != success {
		return nil, r
	}
	if handle == 0 {
		return c.null, success
	}
	s, ok := lookup[*stream](handle)
	if !ok || s.ctx != c {
		return nil, fail(invalidHandle, nil)
	}
	return s, success
}

// enqueue runs or captures work on a stream.
func enqueue(on C.uintptr_t, kind nodeKind, work func(device.Stream) error) C.int {
	s, r := streamOf(on)
	if r != success {
		return r
	}
	return s.enqueue(node{kind: kind}, work)
}

func (s *stream) enqueue(n node, work func(device.Stream) error) C.int {
	if s.into == nil {
		return s.ctx.ran(work(s.s))
	}
	if err := work(s.into.origin.s); err != nil {
		return done(err)
	}
	s.into.nodes = append(s.into.nodes, n)
	s.unjoined = s != s.into.origin
	return success
}

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
	s := &stream{ctx: c, s: sim}
	c.own(s, "stream")
	*handle = C.uintptr_t(put(s))
	return success
}

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
	return done(s.s.Close())
}

// idle is the result of asking whether a stream is idle, which it always is unless it is captured.
func idle(handle C.uintptr_t) C.int {
	s, r := streamOf(handle)
	if r != success {
		return r
	}
	if s.into != nil {
		s.into.invalid = true
		return fail(captureUnsupported, nil)
	}
	return success
}

//export cuStreamSynchronize
func cuStreamSynchronize(handle C.uintptr_t) C.int { return idle(handle) }

//export cuStreamQuery
func cuStreamQuery(handle C.uintptr_t) C.int { return idle(handle) }

//export cuStreamWaitEvent
func cuStreamWaitEvent(handle, of C.uintptr_t, flags C.uint) C.int {
	s, r := streamOf(handle)
	if r != success {
		return r
	}
	e, r := eventOf(of)
	if r != success || e.into == nil {
		return r // all work before the event is done
	}
	switch s.into {
	case nil:
		s.into = e.into
		e.into.forked = append(e.into.forked, s)
	case e.into:
		e.from.unjoined = false
	default:
		return fail(captureUnsupported, nil)
	}
	return success
}

// event is a moment, or a place in a graph in the making.
type event struct {
	ctx  *context
	e    device.Event
	into *capture
	from *stream
}

// eventOf returns an event of the current context.
func eventOf(handle C.uintptr_t) (*event, C.int) {
	c, r := enter()
	if r != success {
		return nil, r
	}
	e, ok := lookup[*event](handle)
	if !ok || e.ctx != c {
		return nil, fail(invalidHandle, nil)
	}
	return e, success
}

//export cuEventCreate
func cuEventCreate(handle *C.uintptr_t, flags C.uint) C.int {
	c, r := enter()
	if r != success {
		return r
	}
	sim, err := c.sim.NewEvent()
	if err != nil {
		return done(err)
	}
	e := &event{ctx: c, e: sim}
	c.own(e, "event")
	*handle = C.uintptr_t(put(e))
	return success
}

//export cuEventDestroy_v2
func cuEventDestroy_v2(handle C.uintptr_t) C.int {
	e, r := eventOf(handle)
	if r != success {
		return r
	}
	drop(handle)
	e.ctx.disown(e)
	return done(e.e.Close())
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
		e.into, e.from = s.into, s
		return success
	}
	e.into, e.from = nil, nil
	return done(s.s.Record(e.e))
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
	return done(e.e.Synchronize(gocontext.Background()))
}

//export cuEventQuery
func cuEventQuery(handle C.uintptr_t) C.int { return cuEventSynchronize(handle) }

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
	if start.into != nil || end.into != nil {
		return fail(capturedEvent, nil)
	}
	d, err := end.e.Since(start.e)
	if err != nil {
		return fail(invalidHandle, err)
	}
	*ms = C.float(d.Seconds() * 1e3)
	return success
}
