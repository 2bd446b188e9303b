//go:build unix

package main

import "golang.org/x/sys/unix"

// processorTime is how long this process had a processor, in seconds.
func processorTime() float64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		panic("peers: " + err.Error()) // It fails for unknown clocks alone.
	}
	return float64(t.Nano()) / 1e9
}
