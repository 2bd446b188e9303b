//go:build unix

package kit

import (
	"os/exec"
	"syscall"
)

// together makes the end of a process's time the end of those it started.
func together(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
