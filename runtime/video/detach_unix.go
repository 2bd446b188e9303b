//go:build unix

package video

import (
	"os/exec"
	"syscall"
)

// detach keeps Ctrl-C of a terminal from a tool, which is ended when its work is.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
