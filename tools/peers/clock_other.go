//go:build !unix

package main

import "time"

// processorTime is the watch's time where there is nothing better.
func processorTime() float64 { return time.Since(started).Seconds() }
