//go:build cuda && cudasim && linux

package simdriver

import "C"

import (
	"fmt"
	"os"
	"strconv"

	"unirestorer/runtime/cuda/simdriver/timeline"
)

// blame makes err the fault that ends the driver's work: CUDA documents of errors like an illegal address that they leave
// the process in an inconsistent state in which every further call returns the same error, and that the process must be
// started anew.
func blame(err error) {
	code := resultOf(err)
	if code < illegalAddress && code != eccUncorrectable {
		code = launchFailed
	}
	state.mu.Lock()
	defer state.mu.Unlock()
	state.findings = append(state.findings, err.Error())
	if state.fault == success {
		state.fault, state.why = code, err
	}
}

// found is blame for a call that returns the fault.
func found(format string, args ...any) C.int {
	blame(fmt.Errorf(format, args...))
	return broken()
}

// broken is the result of every call after a fault.
func broken() C.int {
	state.mu.Lock()
	fault, why := state.fault, state.why
	state.mu.Unlock()
	if fault == success {
		return success
	}
	return fail(fault, why)
}

// Findings describes the faults so far: what kernels did wrong, and how the program used the driver in ways that only the
// order of this run forgave, or not even that.
func Findings() []string {
	state.mu.Lock()
	defer state.mu.Unlock()
	return append([]string(nil), state.findings...)
}

// OrderVariable is the environment variable that says when enqueued work runs: late (the default), early, reverse, or a
// number for random orders.
const OrderVariable = "CUDASIM_ORDER"

// order returns the timeline's seed.
func order() (int64, error) {
	switch v := os.Getenv(OrderVariable); v {
	case "", "late":
		return timeline.Late, nil
	case "early":
		return timeline.Early, nil
	case "reverse":
		return timeline.Reverse, nil
	default:
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil || n < 0 {
			return 0, fmt.Errorf("%s=%s: want late, early, reverse or a number", OrderVariable, v)
		}
		return timeline.Reverse + 1 + n, nil
	}
}
