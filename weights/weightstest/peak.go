package weightstest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// PeakOf runs a command to its end and gives what it printed and the most memory it had resident, in bytes, looked up
// while it ran. What Linux reports of a process that has ended counts the process that started it too.
func PeakOf(cmd *exec.Cmd) (stdout []byte, peak int64, err error) {
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		return nil, 0, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case err := <-done:
			return out.Bytes(), peak, err
		case <-time.After(3 * time.Millisecond):
			peak = max(peak, highWater(cmd.Process.Pid))
		}
	}
}

// highWater reads a running process's peak, 0 where it cannot.
func highWater(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, after, _ := bytes.Cut(status, []byte("VmHWM:"))
	var kib int64
	if _, err := fmt.Sscan(string(after), &kib); err != nil {
		return 0
	}
	return kib << 10
}
