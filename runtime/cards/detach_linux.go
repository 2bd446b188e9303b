package cards

import (
	"os/exec"
	"syscall"
)

// detach keeps a terminal's interrupt from the process, whose supervisor ends it, and ends it with its supervisor.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
