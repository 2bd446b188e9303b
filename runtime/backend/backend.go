// Package backend defines what every backend meets: compile a graph, run it,
// time it.
package backend

import (
	"context"
	"errors"
	"time"

	"unirestorer/graph"
)

// Backend compiles graphs for one device. Its methods may be called from
// several goroutines.
type Backend interface {
	// Info describes the backend and its device.
	Info() Info
	// Plan tells what running g would take, without reading any weight.
	Plan(g *graph.Graph) (Memory, error)
	// Holdings lists what a program of g would hold, without reading any weight:
	// Plan's weights, part by part. The arena is not a program's, see Trim.
	Holdings(g *graph.Graph) ([]Holding, error)
	// Resident is the number of bytes that open programs hold at present, counted
	// where they are allocated.
	Resident() int64
	// Trim gives the arena back to the system and tells its size. All programs of
	// the backend share one: it grows to what the largest run so far needs, and
	// stays until it is trimmed. While a program runs nothing happens, and idle is
	// false.
	Trim() (freed int64, idle bool)
	// Compile reads the graph's weights and prepares it to run. Parameters with
	// equal keys are kept once, shared with other programs of this backend.
	Compile(ctx context.Context, g *graph.Graph) (Program, error)
	// Close frees what the backend holds. Programs must be closed before.
	Close() error
}

// ErrOutOfMemory is wrapped by the error of a device that would not give memory,
// though the plan had it fit: other processes use the device too.
var ErrOutOfMemory = errors.New("out of device memory")

// Card is a Backend on a device that has memory of its own.
type Card interface {
	Backend
	// DeviceMemory is what the device has free at present, all processes counted,
	// and in all, in bytes. shared says that it is the host's memory.
	DeviceMemory() (free, total int64, shared bool, err error)
}

// Crowded is a Card that can tell which other processes hold its memory.
type Crowded interface {
	Card
	// Holders names them, "42 (python3) 70 GiB", as far as is known. It may take milliseconds.
	Holders() []string
}

// Filled is a Backend on a device that a single image may leave partly idle, so that a batch can be faster than as many runs.
type Filled interface {
	Backend
	// Rounds is about how long a run of g takes, in a unit that means something only beside other graphs of the network.
	// It reads no weights.
	Rounds(g *graph.Graph) (float64, error)
}

// Program is a compiled graph: a plan and its weights. Runs of all programs of a
// backend take turns, in the order in which they were asked for.
type Program interface {
	// Graph is what was compiled.
	Graph() *graph.Graph
	// Memory is what the program holds, and what it needs of the arena while it
	// runs.
	Memory() Memory
	// Run computes the outputs from the inputs, both in the order, shape and
	// layout of the graph's ports. A cancelled run returns promptly with ctx's
	// error, wrapped; the outputs are then undefined. Outputs that are not all
	// finite are as computed, and the error is ErrNotFinite, wrapped.
	Run(ctx context.Context, inputs, outputs [][]float32, opt RunOptions) error
	// Close frees the program. Closing twice is harmless.
	Close() error
}

// RunOptions are the optional parts of a run.
type RunOptions struct {
	// Progress gets the fraction of the work done, from 0 to 1; may be nil.
	Progress func(done float64)
	// Node gets each node with the time it took; may be nil. A device may run
	// slower while it is set.
	Node func(n *graph.Node, took time.Duration)
}

// Memory counts bytes, on the device but for Host.
type Memory struct {
	// Arena holds all intermediate tensors during a run; it is the plan's peak.
	Arena int64 `json:"arena_bytes"`
	// Weights is what the graph's parameters take, those shared with other
	// programs included.
	Weights int64 `json:"weight_bytes"`
	// Host is page-locked memory that inputs and outputs pass through during a
	// run; 0 on the host itself.
	Host int64 `json:"host_bytes,omitempty"`
}

// Total is arena and weights together.
func (m Memory) Total() int64 { return m.Arena + m.Weights }

// Info describes a device.
type Info struct {
	// Name selects the backend: "cpu", "cuda", "sim".
	Name string `json:"name"`
	// Device says what the hardware is.
	Device string `json:"device"`
	// UUID is that of a GPU, or of a slice of one; empty elsewhere.
	UUID string `json:"uuid,omitempty"`
	// Threads is the number of threads that compute, 0 where that says nothing.
	Threads int `json:"threads,omitempty"`
	// Half says that activations are fp16.
	Half bool `json:"half"`
}
