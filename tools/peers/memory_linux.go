package main

import (
	"fmt"
	"os"
)

// peakMemory is the largest resident set a running process has had, in bytes: memory of its own and pages of files
// that it has mapped and touched.
func peakMemory(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return highWater(status)
}
