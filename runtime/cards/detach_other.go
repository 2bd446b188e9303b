//go:build !linux

package cards

import "os/exec"

// detach does nothing: the process ends when its input does.
func detach(*exec.Cmd) {}

func widen(...any) {}
