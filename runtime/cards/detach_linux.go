package cards

import (
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// widen has pipes hold more, if the system lets them.
func widen(pipes ...any) {
	for _, p := range pipes {
		if f, ok := p.(syscall.Conn); ok {
			if raw, err := f.SyscallConn(); err == nil {
				_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeBytes) })
			}
		}
	}
}

// detach keeps a terminal's interrupt from the process, whose supervisor ends it, and ends it with its supervisor.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
