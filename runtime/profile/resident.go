package profile

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// resetPeak makes the system forget the most memory the process has had
// resident, where it lets a process do so; elsewhere the peak of the whole
// process is reported, which is no less.
func resetPeak() {
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// peakResident is the most memory the process has had resident since resetPeak,
// in bytes; 0 where the system does not tell.
func peakResident() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	n, err := highWater(status)
	if err != nil {
		return 0
	}
	return n
}

// highWater reads the peak resident set from the text of /proc/PID/status.
func highWater(status []byte) (int64, error) {
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		value, ok := strings.CutPrefix(lines.Text(), "VmHWM:")
		if !ok {
			continue
		}
		kilobytes, ok := strings.CutSuffix(strings.TrimSpace(value), " kB")
		if !ok {
			return 0, fmt.Errorf("peak resident set %q is not in kB", value)
		}
		n, err := strconv.ParseInt(kilobytes, 10, 53)
		if err != nil || n < 0 {
			return 0, fmt.Errorf("peak resident set %q", value)
		}
		return n << 10, nil
	}
	return 0, fmt.Errorf("no peak resident set in it")
}
