// Package abi says what a kernel launch is made of (addresses and ranges of device memory, launch shapes, the
// parameter buffer) and what kernels need of a device: images that load, and functions in them.
//
// It stands on the ground floor, so that the kernels can be used on any device that meets these interfaces.
package abi

import (
	"context"
	"fmt"
)

// Ptr is an address in device memory. The zero Ptr points nowhere.
type Ptr uint64

// Buffer is a range of device memory: a view that owns nothing. The Buffer that an allocation returned must be
// freed; slices of it must not.
type Buffer struct {
	Ptr  Ptr   // address of the first byte
	Size int64 // length in bytes
}

// Slice returns the n bytes of b that start at byte off. It fails when they are not all inside b.
func (b Buffer) Slice(off, n int64) (Buffer, error) {
	if off < 0 || n < 0 || off > b.Size || n > b.Size-off {
		return Buffer{}, fmt.Errorf("slice %d bytes at offset %d of a buffer of %d bytes", n, off, b.Size)
	}
	return Buffer{Ptr: b.Ptr + Ptr(off), Size: n}, nil
}

// IsZero reports whether b is the zero Buffer, which stands for an absent optional operand.
func (b Buffer) IsZero() bool { return b == Buffer{} }

// Dim3 is the size of a grid in blocks or of a block in threads. Every component is at least 1.
type Dim3 struct {
	X uint32 `json:"x"`
	Y uint32 `json:"y"`
	Z uint32 `json:"z"`
}

// D1 returns the one-dimensional size x.
func D1(x int) Dim3 { return Dim3{uint32(x), 1, 1} }

// D2 returns the two-dimensional size x by y.
func D2(x, y int) Dim3 { return Dim3{uint32(x), uint32(y), 1} }

// D3 returns the three-dimensional size x by y by z.
func D3(x, y, z int) Dim3 { return Dim3{uint32(x), uint32(y), uint32(z)} }

// Count returns the number of blocks or threads in d.
func (d Dim3) Count() uint64 { return uint64(d.X) * uint64(d.Y) * uint64(d.Z) }

// String formats d as "(x,y,z)".
func (d Dim3) String() string { return fmt.Sprintf("(%d,%d,%d)", d.X, d.Y, d.Z) }

// Attributes are a compiled function's resources and limits. Sizes are in bytes.
type Attributes struct {
	Registers          int `json:"registers"` // per thread; an estimate where no assembler ran
	StaticShared       int `json:"static_shared"`
	MaxDynamicShared   int `json:"max_dynamic_shared"`
	LocalBytes         int `json:"local_bytes"` // per thread
	ConstBytes         int `json:"const_bytes"`
	ParamBytes         int `json:"param_bytes"`
	MaxThreadsPerBlock int `json:"max_threads_per_block"`
	PTXVersion         int `json:"ptx_version"` // target the code was written for, 80 for sm_80
}

// Module is a loaded image.
type Module interface {
	// Function returns the kernel with the given name, as it is spelled in the PTX.
	Function(name string) (Function, error)
	// Global returns the memory of a .global or .const variable.
	Global(name string) (Buffer, error)
	// Close unloads the module. Its functions must not be launched afterwards.
	Close() error
}

// Function is a kernel of a loaded module.
type Function interface {
	// Name returns the kernel's name.
	Name() string
	// Attributes returns the kernel's resources and limits.
	Attributes() (Attributes, error)
	// SetMaxDynamicShared allows launches with up to n bytes of dynamic shared memory. Launches above the
	// 48 KiB that every device gives without asking fail unless it was called.
	SetMaxDynamicShared(n int) error
}

// Shape is the launch shape of a kernel.
type Shape struct {
	Grid   Dim3 `json:"grid"`   // blocks
	Block  Dim3 `json:"block"`  // threads per block
	Shared int  `json:"shared"` // dynamic shared memory per block in bytes

	// Cluster is the shape of a cluster in blocks, of devices of compute capability 9.0 and up. It is zero where the kernel
	// says itself what it needs, or needs none.
	Cluster Dim3 `json:"cluster,omitzero"`

	// Programmatic launches the kernel dependent on the kernel before it in the stream by program (programmatic
	// stream serialization): it may start once every block of that kernel has executed
	// griddepcontrol.launch_dependents or ended, and must execute griddepcontrol.wait before it reads what that
	// kernel writes or writes what it reads. Devices before compute capability 9.0 launch it as any other.
	Programmatic bool `json:"programmatic,omitempty"`

	// Cooperative launches a grid whose blocks all run at the same time, so that they may wait for each other (grid.sync of
	// cooperative groups). A grid that does not fit the device at once is refused.
	Cooperative bool `json:"cooperative,omitempty"`
}

// String formats s for messages, "grid (4,1,1), block (128,1,1), 1024 bytes shared".
func (s Shape) String() string {
	return fmt.Sprintf("grid %v, block %v, %d bytes shared", s.Grid, s.Block, s.Shared)
}

// Device is what the kernels' library needs of a device: that it loads images.
type Device interface {
	// LoadModule compiles a PTX image (or loads a cubin, where the implementation can). name says in errors which
	// image is meant.
	LoadModule(name string, image []byte) (Module, error)
}

// Stream is what a launch needs of a queue of work.
type Stream interface {
	// Launch enqueues a kernel. args is copied before Launch returns and may be reset and used again.
	Launch(ctx context.Context, f Function, shape Shape, args *Args) error
}
