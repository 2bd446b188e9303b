//go:build cuda && cudasim && linux

package simdriver

// #include <stddef.h>
// #include "thread.h"
import "C"

import (
	"slices"
	"unsafe"
)

// nodeKind is a CUgraphNodeType.
type nodeKind C.int

const (
	nodeKernel nodeKind = 0
	nodeCopy   nodeKind = 1
	nodeFill   nodeKind = 2
	nodeGraph  nodeKind = 4
)

// node is one operation of a graph, to run after others of the graph; child is the graph that a nodeGraph launches.
type node struct {
	kind  nodeKind
	work  work
	after []int
	child *graph
}

// graph is captured work.
type graph struct {
	ctx     *context
	nodes   []node
	handles []C.uintptr_t // of the nodes and child graphs that were asked for
}

// exec is a graph that is ready to launch.
type exec struct {
	ctx   *context
	nodes []node
}

// The values of CUstreamCaptureMode. A capture that is not relaxed must end on the thread that began it.
const (
	global      = 0
	threadLocal = 1
	relaxed     = 2
)

//export cuStreamBeginCapture_v2
func cuStreamBeginCapture_v2(handle C.uintptr_t, mode C.int) C.int {
	s, r := streamOf(handle)
	if r != success {
		return r
	}
	switch {
	case mode < global || mode > relaxed:
		return fail(invalidValue, nil)
	case s == s.ctx.null, s.into != nil:
		return fail(captureUnsupported, nil)
	}
	s.into, s.at = &capture{origin: s, mode: mode, thread: C.sim_thread()}, nil
	s.ctx.mu.Lock()
	s.ctx.into[s.into] = true
	s.ctx.mu.Unlock()
	return success
}

//export cuStreamEndCapture
func cuStreamEndCapture(handle C.uintptr_t, to *C.uintptr_t) C.int {
	*to = 0
	s, r := streamOf(handle)
	if r != success {
		return r
	}
	c := s.into
	switch {
	case c == nil || c.origin != s:
		return fail(captureUnmatched, nil)
	case c.mode != relaxed && c.thread != C.sim_thread():
		return fail(captureWrongThread, nil)
	}
	s.ctx.mu.Lock()
	delete(s.ctx.into, c)
	s.ctx.mu.Unlock()
	unjoined := c.unjoined()
	for _, f := range append(c.forked, s) {
		f.into, f.at = nil, nil
	}
	switch {
	case c.invalid:
		return fail(captureUnsupported, nil)
	case unjoined:
		return fail(captureUnjoined, nil)
	}
	made := &graph{ctx: s.ctx, nodes: c.nodes}
	s.ctx.own(made, "graph")
	*to = C.uintptr_t(put(made))
	return success
}

// unjoined reports whether there is work that the end of the origin does not come after.
func (c *capture) unjoined() bool {
	joined := make([]bool, len(c.nodes))
	for _, i := range c.origin.at {
		joined[i] = true
	}
	for i := len(c.nodes) - 1; i >= 0; i-- {
		if !joined[i] {
			return true
		}
		for _, j := range c.nodes[i].after {
			joined[j] = true
		}
	}
	return false
}

//export cuStreamIsCapturing
func cuStreamIsCapturing(handle C.uintptr_t, status *C.int) C.int {
	s, r := streamOf(handle)
	if r != success {
		return r
	}
	switch {
	case s.into == nil:
		*status = 0
	case s.into.invalid:
		*status = 2
	default:
		*status = 1
	}
	return success
}

// graphOf returns a graph of the current context.
func graphOf(handle C.uintptr_t) (*graph, C.int) { return own[*graph](handle) }

func (g *graph) context() *context { return g.ctx }

//export cuGraphDestroy
func cuGraphDestroy(handle C.uintptr_t) C.int {
	g, r := graphOf(handle)
	if r != success {
		return r
	}
	if !g.ctx.disown(g) {
		return fail(invalidValue, nil) // a child graph belongs to its parent
	}
	drop(handle)
	for _, h := range g.handles {
		drop(h)
	}
	return success
}

//export cuGraphGetNodes
func cuGraphGetNodes(handle C.uintptr_t, nodes *C.uintptr_t, n *C.size_t) C.int {
	g, r := graphOf(handle)
	if r != success {
		return r
	}
	if nodes == nil {
		*n = C.size_t(len(g.nodes))
		return success
	}
	to := unsafe.Slice(nodes, *n)
	*n = C.size_t(min(len(to), len(g.nodes)))
	for i := range to[:*n] {
		to[i] = g.handle(g.nodes[i])
	}
	return success
}

// handle gives something of the graph a handle that lives as long as the graph.
func (g *graph) handle(v any) C.uintptr_t {
	h := C.uintptr_t(put(v))
	g.handles = append(g.handles, h)
	return h
}

//export cuGraphNodeGetType
func cuGraphNodeGetType(handle C.uintptr_t, kind *C.int) C.int {
	n, ok := lookup[node](handle)
	if !ok {
		return fail(invalidHandle, nil)
	}
	*kind = C.int(n.kind)
	return success
}

//export cuGraphChildGraphNodeGetGraph
func cuGraphChildGraphNodeGetGraph(handle C.uintptr_t, child *C.uintptr_t) C.int {
	n, ok := lookup[node](handle)
	if !ok || n.child == nil {
		return fail(invalidValue, nil)
	}
	*child = n.child.handle(n.child)
	return success
}

//export cuGraphInstantiateWithFlags
func cuGraphInstantiateWithFlags(to *C.uintptr_t, of C.uintptr_t, flags C.ulonglong) C.int {
	g, r := graphOf(of)
	if r != success {
		return r
	}
	e := &exec{ctx: g.ctx, nodes: slices.Clone(g.nodes)}
	g.ctx.own(e, "graph instance")
	*to = C.uintptr_t(put(e))
	return success
}

// execOf returns a graph instance of the current context.
func execOf(handle C.uintptr_t) (*exec, C.int) { return own[*exec](handle) }

func (e *exec) context() *context { return e.ctx }

//export cuGraphExecUpdate_v2
func cuGraphExecUpdate_v2(handle, from C.uintptr_t, info unsafe.Pointer) C.int {
	e, r := execOf(handle)
	if r != success {
		return r
	}
	g, r := graphOf(from)
	if r != success {
		return r
	}
	if !slices.EqualFunc(e.nodes, g.nodes, func(a, b node) bool { return a.kind == b.kind && slices.Equal(a.after, b.after) }) {
		return fail(updateFailure, nil)
	}
	e.nodes = slices.Clone(g.nodes)
	return success
}

//export cuGraphExecDestroy
func cuGraphExecDestroy(handle C.uintptr_t) C.int {
	return destroy[*exec](handle)
}

//export cuGraphLaunch
func cuGraphLaunch(handle, on C.uintptr_t) C.int {
	e, r := execOf(handle)
	if r != success {
		return r
	}
	s, r := streamOf(on)
	if r != success {
		return r
	}
	return s.enqueue(node{kind: nodeGraph, child: &graph{ctx: e.ctx, nodes: e.nodes}})
}
