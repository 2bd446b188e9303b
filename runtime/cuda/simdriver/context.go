//go:build cuda && cudasim && linux

package simdriver

// #include "thread.h"
import "C"

import (
	"fmt"
	"time"
)

//export cuDevicePrimaryCtxRetain
func cuDevicePrimaryCtxRetain(handle *C.uintptr_t, n C.int) C.int {
	g, r := card(n)
	if r != success {
		return r
	}
	if r := broken(); r != success {
		return r
	}
	if gone(int(n)) {
		return fail(devicesUnavailable, nil)
	}
	state.mu.Lock()
	defer state.mu.Unlock()
	if g.ctx == nil {
		c, err := g.open(int(n))
		if err != nil {
			state.details[launchFailed] = err.Error()
			return launchFailed
		}
		state.next += 16
		c.handle = state.next
		state.handles[c.handle] = c
		g.ctx = c
	}
	g.users++
	*handle = C.uintptr_t(g.ctx.handle)
	return success
}

//export cuDevicePrimaryCtxRelease_v2
func cuDevicePrimaryCtxRelease_v2(n C.int) C.int {
	g, r := card(n)
	if r != success {
		return r
	}
	state.mu.Lock()
	if g.users == 0 {
		state.mu.Unlock()
		return fail(invalidContext, fmt.Errorf("the primary context of GPU %d is released more often than retained", n))
	}
	g.users--
	var last *context
	if g.users == 0 {
		last, g.ctx = g.ctx, nil
	}
	state.mu.Unlock()
	if last != nil {
		last.close()
	}
	return success
}

//export cuDevicePrimaryCtxGetState
func cuDevicePrimaryCtxGetState(n C.int, flags *C.uint, active *C.int) C.int {
	g, r := card(n)
	if r != success {
		return r
	}
	state.mu.Lock()
	defer state.mu.Unlock()
	*flags, *active = 0, 0
	if g.ctx != nil {
		*active = 1
	}
	return success
}

// cuCtxSetCurrent itself is in thread.c.
//
//export sim_set_current_checked
func sim_set_current_checked(handle C.uintptr_t) C.int {
	if _, ok := lookup[*context](handle); !ok && handle != 0 {
		return fail(invalidContext, nil)
	}
	C.sim_set_current(handle)
	return success
}

// Restless makes every cuCtxSetCurrent take so long, in which a goroutine that is not locked to its thread may lose it;
// 0 goes back to one in sixteen calls taking a little.
func Restless(d time.Duration) { C.sim_restless(C.int(d.Microseconds())) }

//export cuCtxGetCurrent
func cuCtxGetCurrent(handle *C.uintptr_t) C.int {
	*handle = C.sim_current()
	return success
}

//export cuCtxGetDevice
func cuCtxGetDevice(n *C.int) C.int {
	c, r := enter()
	if r == success {
		*n = C.int(c.gpu)
	}
	return r
}

//export cuCtxSynchronize
func cuCtxSynchronize() C.int {
	c, r := enter()
	if r != success {
		return r
	}
	c.mu.Lock()
	captured := len(c.into) > 0
	for into := range c.into {
		into.invalid = true
	}
	c.mu.Unlock()
	if captured {
		return fail(captureUnsupported, nil)
	}
	c.time.WaitAll()
	return broken()
}
