// Package device defines the few verbs the GPU backend needs from a machine that runs PTX: memory, copies,
// kernels, streams, events and captured graphs.
//
// Two implementations exist: runtime/cuda drives a card through gorgonia.org/cu, runtime/ptxsim executes the
// same PTX in pure Go and checks it. Code written against this package cannot tell them apart except by time.
//
// Errors are wrapped from the outside in. An error that concerns a kernel is a *[LaunchError] and carries the
// kernel's name and launch shape.
package device

import (
	"context"
	"time"

	"unirestorer/kernels/abi"
)

// The vocabulary of a launch is the kernels' own, see [abi].
type (
	// Ptr is an address in device memory. The zero Ptr points nowhere.
	Ptr = abi.Ptr
	// Buffer is a range of device memory. The one that [Device.Alloc] returned must be passed to [Device.Free]; slices
	// of it must not.
	Buffer = abi.Buffer
	// Dim3 is the size of a grid in blocks or of a block in threads.
	Dim3 = abi.Dim3
	// Shape is the launch shape of a kernel.
	Shape = abi.Shape
	// Args is the parameter buffer of a launch.
	Args = abi.Args
	// Field is the place of one argument in the parameter buffer, in bytes.
	Field = abi.Field
	// Attributes are a compiled function's resources and limits.
	Attributes = abi.Attributes
	// Module is a loaded image.
	Module = abi.Module
	// Function is a kernel of a loaded module.
	Function = abi.Function
)

// D1 returns the one-dimensional size x.
func D1(x int) Dim3 { return abi.D1(x) }

// D2 returns the two-dimensional size x by y.
func D2(x, y int) Dim3 { return abi.D2(x, y) }

// D3 returns the three-dimensional size x by y by z.
func D3(x, y, z int) Dim3 { return abi.D3(x, y, z) }

// Info describes a device: identity, and the limits that launch shapes are computed from. Sizes are in bytes.
type Info struct {
	Index int    `json:"index"` // position in the driver's enumeration
	Name  string `json:"name"`
	UUID  string `json:"uuid,omitempty"`

	Major int `json:"major"` // compute capability, 9.0 for Hopper
	Minor int `json:"minor"`

	SMs                  int   `json:"sms"`
	TotalMemory          int64 `json:"total_memory"`
	MaxThreadsPerBlock   int   `json:"max_threads_per_block"`
	MaxThreadsPerSM      int   `json:"max_threads_per_sm"`
	SharedPerBlock       int   `json:"shared_per_block"`       // without opting in
	SharedPerBlockOptin  int   `json:"shared_per_block_optin"` // after SetMaxDynamicShared
	SharedPerSM          int   `json:"shared_per_sm"`
	RegistersPerSM       int   `json:"registers_per_sm"`
	L2Bytes              int   `json:"l2_bytes"`
	ClockKHz             int   `json:"clock_khz"`
	MemoryClockKHz       int   `json:"memory_clock_khz"`
	MemoryBusWidthBits   int   `json:"memory_bus_width_bits"`
	Integrated           bool  `json:"integrated,omitempty"` // its memory is the host's
	Simulated            bool  `json:"simulated"`            // times say nothing about a card
	MaxGridX             int64 `json:"max_grid_x"`
	MaxGridYZ            int64 `json:"max_grid_yz"`
	ConcurrentCopyEngine int   `json:"concurrent_copy_engines"`
}

// Arch returns the compute capability as one number, 80 for sm_80.
func (i Info) Arch() int { return i.Major*10 + i.Minor }

// Device is one accelerator with its own memory. Its methods may be called from several goroutines.
type Device interface {
	// Info returns the device's identity and limits.
	Info() Info

	// Memory returns the free and total device memory in bytes.
	Memory() (free, total int64, err error)

	// Alloc reserves size bytes of device memory, aligned to at least 256 bytes, with undefined content.
	Alloc(size int64) (Buffer, error)

	// Free releases memory that Alloc returned. The zero Buffer is ignored.
	Free(b Buffer) error

	// AllocHost reserves size bytes of page-locked host memory, which copies asynchronously.
	AllocHost(size int) (HostBuffer, error)

	// LoadModule compiles a PTX image (or loads a cubin, where the implementation can). name says in errors
	// which image is meant.
	LoadModule(name string, image []byte) (Module, error)

	// NewStream makes a queue of work that runs in order.
	NewStream() (Stream, error)

	// NewEvent makes a marker for a point in a stream.
	NewEvent() (Event, error)

	// Synchronize waits until every stream of the device is idle, or ctx is done. It returns the first error of
	// the work waited for.
	Synchronize(ctx context.Context) error

	// Close releases everything the device still holds. Nothing of the device may be used afterwards.
	Close() error
}

// Crowded is a Device that can tell which other processes hold its memory.
type Crowded interface {
	Device
	// Holders names them, "42 (python3) 70 GiB", as far as is known.
	Holders() []string
}

// HostBuffer is page-locked host memory.
type HostBuffer interface {
	// Bytes returns the memory. It is invalid after Free.
	Bytes() []byte
	// Free releases the memory; no copy may be in flight.
	Free() error
}

// Stream is a queue of work that runs in order. Copies and launches may return before the work is done; host
// slices given to them must stay untouched until the stream is synchronized. A stream is used by one goroutine at
// a time.
type Stream interface {
	// CopyHtoD copies src to the start of dst, which must be at least as long.
	CopyHtoD(dst Buffer, src []byte) error
	// CopyDtoH copies the start of src to dst, which must not be longer.
	CopyDtoH(dst []byte, src Buffer) error
	// CopyDtoD copies the whole of src to the start of dst, which must be at least as long.
	CopyDtoD(dst, src Buffer) error
	// Memset sets every byte of dst to value.
	Memset(dst Buffer, value byte) error

	// Launch enqueues a kernel. args is copied before Launch returns and may be reset and used again.
	// A ctx that is done stops the launch where the implementation can (the simulator can, a card cannot once
	// the kernel has been handed over).
	Launch(ctx context.Context, f Function, shape Shape, args *Args) error

	// Record marks the present end of the stream with e.
	Record(e Event) error
	// Wait makes work enqueued after it wait until the work marked by e is done.
	Wait(e Event) error

	// BeginCapture makes the stream collect the following work into a graph instead of running it.
	BeginCapture() error
	// EndCapture ends the collection and returns the graph.
	EndCapture() (Graph, error)

	// Synchronize waits until the stream is idle or ctx is done, and returns the first error of its work.
	Synchronize(ctx context.Context) error
	// Close releases the stream after its work is done.
	Close() error
}

// Event marks a point in a stream.
type Event interface {
	// Synchronize waits until the marked work is done or ctx is done.
	Synchronize(ctx context.Context) error
	// Since returns the time from the point start marks to the point this event marks. Both must have been
	// recorded and reached. On a simulated device it is wall-clock time.
	Since(start Event) (time.Duration, error)
	// Close releases the event.
	Close() error
}

// Graph is captured work.
type Graph interface {
	// Nodes returns the number of copies, fills and launches in the graph.
	Nodes() int
	// Instantiate prepares the graph for launching.
	Instantiate() (Exec, error)
	// Close releases the graph; instances stay valid.
	Close() error
}

// Exec is a graph that is ready to launch any number of times. Every launch runs the captured work with the
// captured arguments and addresses.
type Exec interface {
	// Launch enqueues the graph's work on s.
	Launch(ctx context.Context, s Stream) error
	// Close releases the instance; none of its launches may be in flight.
	Close() error
}
