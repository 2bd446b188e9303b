//go:build !unix

package main

import "time"

// cpuTime is the time that f takes.
func cpuTime(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}
