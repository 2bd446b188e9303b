// Package nvml reads the state of a machine's NVIDIA GPUs through the driver's management library, which is loaded at
// run time if it is there: what the CUDA driver does not tell, such as who holds memory and why clocks are low.
//
// A binding exists (github.com/NVIDIA/go-nvml). It makes the linker accept undefined symbols in the whole program, which
// would hide a driver function that package lazy does not define, and this package needs 26 functions of 350.
package nvml

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"
)

// System is what the library tells of a machine.
type System struct {
	Driver string `json:"driver"` // release, "550.163.01"
	GPUs   []GPU  `json:"gpus"`
}

// GPU is what the library tells of a whole GPU, hidden ones included. What a GPU, driver or permission does not tell is nil.
type GPU struct {
	Index int    `json:"index"` // in the order of PCI addresses, as nvidia-smi counts
	Name  string `json:"name"`
	UUID  string `json:"uuid"` // "GPU-…"
	// Error says why nothing else is known: the GPU is lost, or needs a reset.
	Error string `json:"error,omitempty"`

	Memory      *Memory   `json:"memory,omitempty"`
	Processes   []Process `json:"processes,omitempty"`
	MIG         *Mode     `json:"mig,omitempty"`
	ECC         *Mode     `json:"ecc,omitempty"`
	ComputeMode *uint32   `json:"compute_mode,omitempty"` // of the modes below
	// Uncorrected counts uncorrectable memory errors since the driver was loaded.
	Uncorrected *uint64 `json:"uncorrected_errors,omitempty"`
	// RepairPending tells that a reset is due to retire pages or remap rows, RepairFailed that rows could not be remapped.
	RepairPending *bool   `json:"repair_pending,omitempty"`
	RepairFailed  *bool   `json:"repair_failed,omitempty"`
	Throttle      *uint64 `json:"throttle,omitempty"` // of the reasons below
	Temperature   *uint32 `json:"temperature_c,omitempty"`
	// Energy is what the GPU has used since the driver was loaded, in millijoules; since Volta.
	Energy       *uint64 `json:"energy_mj,omitempty"`
	PowerLimit   *uint32 `json:"power_limit_mw,omitempty"`
	PowerDefault *uint32 `json:"power_default_mw,omitempty"`
	Link         *Link   `json:"pcie,omitempty"`
}

// Memory is a GPU's memory in bytes.
type Memory struct {
	Total uint64 `json:"total"`
	Free  uint64 `json:"free"`
}

// Process holds memory of a GPU. In a container, processes outside may be missing.
type Process struct {
	PID   uint32 `json:"pid"`
	Name  string `json:"name,omitempty"`
	Bytes uint64 `json:"bytes,omitempty"` // 0 where the driver does not tell
	MPS   bool   `json:"mps,omitempty"`   // through the multi-process service
}

// String names the process: "42 (python3) 70 GiB".
func (p Process) String() string {
	text := fmt.Sprint(p.PID)
	if p.Name != "" {
		text += " (" + p.Name[strings.LastIndexByte(p.Name, '/')+1:] + ")"
	}
	if p.Bytes > 0 {
		text += " " + humanize.IBytes(p.Bytes)
	}
	return text
}

// Mode is a switch of a GPU; Pending is what it becomes at the next reset.
type Mode struct {
	Current bool `json:"current"`
	Pending bool `json:"pending"`
}

// Link is the connection to the host.
type Link struct {
	Width, MaxWidth           uint32 // lanes
	Generation, MaxGeneration uint32
}

// Compute modes.
const (
	Default          = 0
	Prohibited       = 2
	ExclusiveProcess = 3
)

// Reasons for clocks below what was asked for.
const (
	ApplicationClocks = 1 << 1
	PowerCap          = 1 << 2
	HardwareSlowdown  = 1 << 3
	ThermalSlowdown   = 1 << 5
	HardwareThermal   = 1 << 6
	PowerBrake        = 1 << 7
)
