package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// errNoPeak says that the system does not tell a running process's peak memory.
var errNoPeak = errors.New("read on Linux only")

// highWater finds the largest resident set in the text of /proc/PID/status, in bytes.
//
// It is what getrusage calls ru_maxrss, except that the latter starts at the size of the process that started the
// worker.
func highWater(status []byte) (int64, error) {
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		value, found := strings.CutPrefix(lines.Text(), "VmHWM:")
		if !found {
			continue
		}
		number, unit, _ := strings.Cut(strings.TrimSpace(value), " ")
		n, err := strconv.ParseInt(number, 10, 48)
		if err != nil || n < 0 || unit != "kB" {
			return 0, fmt.Errorf("VmHWM is %q, want a number of kB", value)
		}
		return n << 10, nil
	}
	return 0, errors.New("no VmHWM in the process's status")
}
