// Package platform finds the devices of this machine and opens backends on
// them by name.
package platform

import (
	"errors"
	"fmt"
	"runtime"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/cpu"
)

// Device is a device that a backend can or could run on.
type Device struct {
	// Name opens it.
	Name string `json:"name"`
	// Description says what it is.
	Description string `json:"description"`
	// Available tells whether it can be opened; Reason why not, and what to do.
	Available bool   `json:"available"`
	Reason    string `json:"reason,omitempty"`
}

// Options shape a backend.
type Options struct {
	// Threads bounds the CPU threads; 0 means all cores.
	Threads int
}

// ErrUnknownDevice reports a name that no backend answers to.
var ErrUnknownDevice = errors.New("unknown device")

// Open opens the backend of that name; an empty name means the CPU.
func Open(name string, opt Options) (backend.Backend, error) {
	switch name {
	case "cpu", "":
		return cpu.New(cpu.Options{Threads: opt.Threads})
	default:
		return nil, fmt.Errorf("%w %q: the devices command lists those there are", ErrUnknownDevice, name)
	}
}

// List tells of every device this program knows to use.
func List() []Device {
	d := Device{Name: "cpu", Available: true}
	if b, err := cpu.New(cpu.Options{}); err != nil {
		d.Available, d.Reason = false, err.Error()
	} else {
		d.Description = fmt.Sprintf("%s, %d threads", b.Info().Device, runtime.GOMAXPROCS(0))
		b.Close() // nothing was compiled
	}
	return []Device{d}
}
