package ptxsim

import (
	"fmt"
	"strings"

	"unirestorer/runtime/device"
)

// Kind classifies findings.
type Kind string

// The kinds of findings.
const (
	OutOfBounds       Kind = "out-of-bounds access"
	Misaligned        Kind = "misaligned access"
	Uninitialised     Kind = "read of uninitialised memory"
	ReadOnly          Kind = "write to read-only memory"
	SharedRace        Kind = "shared-memory race"
	GlobalRace        Kind = "global-memory race between blocks"
	DependentLaunch   Kind = "access not ordered by griddepcontrol.wait"
	BlockRace         Kind = "global-memory race inside a block"
	NonCoherent       Kind = "non-coherent load of memory that is written"
	UnwrittenRegister Kind = "read of a register that was never written"
	AsyncHazard       Kind = "access to memory with an asynchronous copy in flight"
	ProxyFence        Kind = "read by the asynchronous proxy without a proxy fence"
	MbarrierMisuse    Kind = "misuse of an mbarrier"
	RegisterHazard    Kind = "access to registers of a matrix product in flight"
	TensorMapMisuse   Kind = "misuse of a tensor map"
	TextureMisuse     Kind = "misuse of a texture or surface object"
	BlockLifetime     Kind = "access to the shared memory of a block that may not run"
	BarrierDivergence Kind = "barrier divergence"
	WarpDivergence    Kind = "warp divergence"
	ShuffleSource     Kind = "shuffle from an inactive lane"
	Deadlock          Kind = "deadlock"
	InvalidCall       Kind = "call of an address that is no such function"
	StepLimit         Kind = "step limit"
	Trap              Kind = "trap"
)

// Finding is one defect that the checker saw.
type Finding struct {
	Kind    Kind        `json:"kind"`
	Kernel  string      `json:"kernel"`
	Line    int         `json:"line"`             // in the PTX
	Source  string      `json:"source,omitempty"` // "file:line" where the PTX says
	Op      string      `json:"op"`               // the instruction
	Block   device.Dim3 `json:"block"`            // index of the block (components from 0)
	Thread  device.Dim3 `json:"thread"`           // index of the thread in its block
	Space   string      `json:"space,omitempty"`
	Address uint64      `json:"address,omitempty"`
	Detail  string      `json:"detail"`
	Count   int         `json:"count"` // occurrences at the same instruction
}

// String describes the finding in one line.
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s line %d", f.Kind, f.Kernel, f.Line)
	if f.Source != "" {
		fmt.Fprintf(&b, " (%s)", f.Source)
	}
	fmt.Fprintf(&b, ": %s, block %v, thread %v", f.Op, f.Block, f.Thread)
	if f.Space != "" {
		fmt.Fprintf(&b, ", %s address 0x%x", f.Space, f.Address)
	}
	fmt.Fprintf(&b, ": %s", f.Detail)
	if f.Count > 1 {
		fmt.Fprintf(&b, " (%d times)", f.Count)
	}
	return b.String()
}

// FindingsError is the error of a launch with findings.
type FindingsError struct {
	Findings []Finding
	More     int // distinct findings beyond the limit
}

// Error lists the findings, one a line.
func (e *FindingsError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d finding", len(e.Findings)+e.More)
	if len(e.Findings)+e.More != 1 {
		b.WriteByte('s')
	}
	for _, f := range e.Findings {
		b.WriteString("\n  ")
		b.WriteString(f.String())
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "\n  and %d more", e.More)
	}
	return b.String()
}

// Has reports whether a finding of the kind is listed.
func (e *FindingsError) Has(k Kind) bool {
	for _, f := range e.Findings {
		if f.Kind == k {
			return true
		}
	}
	return false
}
