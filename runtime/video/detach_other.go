//go:build !unix

package video

import "os/exec"

// detach does nothing where there are no process groups.
func detach(*exec.Cmd) {}
