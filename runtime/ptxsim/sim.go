// Package ptxsim is a device that executes PTX in pure Go: it runs the very code a GPU runs, checks it, and counts
// what it does.
//
// The interpreter executes a warp at a time, 32 lanes for each decoded instruction, and thread blocks in parallel.
// Results do not depend on the machine: approximate functions are computed within the bounds of the PTX manual by
// the same arithmetic everywhere, and kernels whose result depends on the order of atomics run their blocks one
// after another.
//
// While a kernel runs, the checker looks for accesses out of bounds, misaligned, to freed memory or to memory that
// nobody wrote; for races on shared memory between barriers and on global memory between blocks; for asynchronous
// copies read before they were waited for; and for barriers and shuffles that not all their threads reach. See
// shadow.go and globalrace.go for what is and is not a race. A launch with findings returns a *[FindingsError]
// inside a *[device.LaunchError].
//
// Counters of each launch (instructions by class, memory sectors, bank conflicts, tensor-core operations) are the
// same on every machine.
package ptxsim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"unirestorer/runtime/device"
)

// Options configures a simulated device. The zero value is a checked H200-like device on all cores.
type Options struct {
	Arch        int   // compute capability, 80, 86, 89, 90, 100 or 120; 0 means 90
	Memory      int64 // bytes of device memory; 0 means 8 GiB
	Workers     int   // goroutines that run blocks; 0 means all cores
	Seed        int64 // not 0: run blocks and interleave warps in an order drawn from it
	NoCheck     bool  // skip the checker, except for bounds and alignment
	MaxFindings int   // stop a launch after this many; 0 means 20
	MaxSteps    int64 // instructions a warp may execute; 0 means 2^27

	// Sample, if not 0, runs only so many blocks of a launch, spread over its grid; results are then of no use, counters
	// are those of the blocks that ran. Latencies, if not nil, adds the blocks' critical paths to reports.
	Sample    int
	Latencies *Latencies

	// Rough makes approximate functions as inaccurate as the PTX manual allows, and sums of tensor cores as cards make
	// them: what passes is not only right with better arithmetic than a card's.
	Rough bool

	// Registers gives the registers per thread by kernel name, from the assembler's report. Kernels it does not
	// name get an estimate.
	Registers map[string]int

	// Footprints has checked launches report the ranges of memory they touched.
	Footprints bool

	// Output gets what kernels print; nil discards it.
	Output io.Writer

	// OnLaunch, if not nil, is called after every launch.
	OnLaunch func(Report)
}

// Device is a simulated device. It implements [device.Device]; work runs to its end inside the call that enqueues
// it, so that errors appear where they are caused.
type Device struct {
	mu      sync.Mutex
	opt     Options
	arch    Arch
	mem     *memory
	others  int64 // bytes that other processes hold
	modules map[*Module]bool
	last    Report
	closed  bool
}

var _ device.Device = (*Device)(nil)

// New makes a simulated device.
func New(opt Options) (*Device, error) {
	if opt.Arch == 0 {
		opt.Arch = 90
	}
	arch, ok := ArchOf(opt.Arch)
	if !ok {
		return nil, fmt.Errorf("simulate sm_%d: unknown architecture", opt.Arch)
	}
	if opt.Memory == 0 {
		opt.Memory = 8 << 30
	}
	if opt.Workers <= 0 {
		opt.Workers = runtime.GOMAXPROCS(0)
	}
	if opt.MaxFindings <= 0 {
		opt.MaxFindings = 20
	}
	if opt.MaxSteps <= 0 {
		opt.MaxSteps = 1 << 27
	}
	return &Device{opt: opt, arch: arch, mem: newMemory(!opt.NoCheck), modules: map[*Module]bool{}}, nil
}

// Info returns the limits of the simulated architecture.
func (d *Device) Info() device.Info {
	sms := map[int]int{80: 108, 86: 84, 89: 128, 90: 132, 100: 148, 120: 170}[d.opt.Arch]
	return device.Info{
		Name: fmt.Sprintf("PTX simulator (sm_%d)", d.opt.Arch), Major: d.opt.Arch / 10, Minor: d.opt.Arch % 10,
		SMs: sms, TotalMemory: d.opt.Memory, MaxThreadsPerBlock: 1024, MaxThreadsPerSM: d.arch.MaxThreads,
		SharedPerBlock: 48 << 10, SharedPerBlockOptin: d.arch.SharedPerBlock, SharedPerSM: d.arch.Shared,
		RegistersPerSM: d.arch.Registers, Simulated: true, MaxGridX: 1<<31 - 1, MaxGridYZ: 65535,
	}
}

var errClosed = errors.New("device is closed")

// lock takes the device's lock; it fails if the device is closed.
func (d *Device) lock() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return errClosed
	}
	return nil
}

// Memory returns the free and total simulated memory.
func (d *Device) Memory() (free, total int64, err error) {
	if err := d.lock(); err != nil {
		return 0, 0, err
	}
	defer d.mu.Unlock()
	return max(d.opt.Memory-d.mem.used-d.others, 0), d.opt.Memory, nil
}

// Occupy takes bytes of the device's memory as other processes do, instead of what they took before: they are not free,
// and allocations that would need them fail.
func (d *Device) Occupy(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.others = bytes
}

// Alloc reserves memory. Until something is written there, the checker reports reads, and what they return is NaN
// in every format. Accesses beyond the end are reported even when they are inside another buffer's reach, because
// buffers are far apart.
func (d *Device) Alloc(size int64) (device.Buffer, error) {
	if err := d.lock(); err != nil {
		return device.Buffer{}, err
	}
	defer d.mu.Unlock()
	if size <= 0 {
		return device.Buffer{}, fmt.Errorf("allocate %d bytes: size must be positive", size)
	}
	if free := d.opt.Memory - d.mem.used - d.others; size > free {
		return device.Buffer{}, fmt.Errorf("allocate %d bytes: %w (%d of %d free)", size, device.ErrOutOfMemory, max(free, 0), d.opt.Memory)
	}
	a := d.mem.alloc(size)
	return device.Buffer{Ptr: device.Ptr(a.base), Size: size}, nil
}

// Free releases a buffer. Its addresses are not used again; later accesses are reported.
func (d *Device) Free(b device.Buffer) error {
	if b.IsZero() {
		return nil
	}
	if err := d.lock(); err != nil {
		return err
	}
	defer d.mu.Unlock()
	a := d.mem.near(uint64(b.Ptr))
	if a == nil || a.base != uint64(b.Ptr) || a.name != "" {
		return fmt.Errorf("free 0x%x: not the start of an allocation", uint64(b.Ptr))
	}
	if a.freed {
		return fmt.Errorf("free 0x%x: already freed", uint64(b.Ptr))
	}
	d.mem.free(a)
	return nil
}

// Poison makes the bytes of b undefined again: the checker reports reads of them until they are written, and what
// the reads return is NaN. It finds reads of stale content in memory that is used over and over.
func (d *Device) Poison(b device.Buffer) error {
	if err := d.lock(); err != nil {
		return err
	}
	defer d.mu.Unlock()
	a, p, err := d.mem.hostRange(uint64(b.Ptr), b.Size)
	if err != nil {
		return fmt.Errorf("poison: %w", err)
	}
	fillByte(p, 0xff)
	a.forget(uint64(b.Ptr)-a.base, uint64(b.Size))
	return nil
}

// LastReport returns the report of the launch that finished last.
func (d *Device) LastReport() Report {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// AllocHost returns ordinary memory, which is all a simulator needs.
func (d *Device) AllocHost(size int) (device.HostBuffer, error) {
	if size <= 0 {
		return nil, fmt.Errorf("allocate %d bytes of host memory: size must be positive", size)
	}
	return &hostBuffer{make([]byte, size)}, nil
}

type hostBuffer struct{ data []byte }

func (h *hostBuffer) Bytes() []byte { return h.data }
func (h *hostBuffer) Free() error   { h.data = nil; return nil }

// NewStream makes a stream.
func (d *Device) NewStream() (device.Stream, error) {
	if err := d.lock(); err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	return &stream{dev: d}, nil
}

// NewEvent makes an event.
func (d *Device) NewEvent() (device.Event, error) { return &event{}, nil }

// Synchronize returns at once, as all work is done when the call that enqueued it returns.
func (d *Device) Synchronize(ctx context.Context) error { return ctx.Err() }

// Close releases all memory.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.mem = newMemory(false)
	d.modules = nil
	return nil
}

// event is a moment of wall-clock time.
type event struct {
	at  time.Time
	set bool
}

var errNotRecorded = errors.New("event was not recorded")

func (e *event) Synchronize(ctx context.Context) error {
	if !e.set {
		return errNotRecorded
	}
	return ctx.Err()
}

func (e *event) Since(start device.Event) (time.Duration, error) {
	s, ok := start.(*event)
	if !ok {
		return 0, fmt.Errorf("start event is a %T of another device", start)
	}
	if !e.set || !s.set {
		return 0, errNotRecorded
	}
	return e.at.Sub(s.at), nil
}

func (e *event) Close() error { return nil }
