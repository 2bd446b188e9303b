//go:build cuda && linux

package cuda

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"gorgonia.org/cu"

	"unirestorer/runtime/cuda/internal/cuext"
	"unirestorer/runtime/device"
)

// maxHeld is how many host slices a stream keeps reachable before it waits for their copies.
const maxHeld = 256

var errCapturing = errors.New("the stream is being captured")

// stream is a queue of work.
type stream struct {
	gpu       *gpu
	s         cu.Stream
	res       *resource
	capturing bool

	// held keeps ordinary host memory reachable while a copy may read it: the driver usually stages such memory
	// before it returns, but not where the GPU can read the host's pages itself.
	held [][]byte

	// What ran since the stream was last known to be idle, to say which kernel an error is about.
	last     *function
	shape    device.Shape
	launches int
}

// NewStream makes a queue of work that runs in order, apart from every other stream.
func (g *gpu) NewStream() (device.Stream, error) {
	s := &stream{gpu: g}
	err := g.do("cuStreamCreate", func() (err error) {
		s.s, err = cu.MakeStream(cu.NonBlocking)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("new stream: %w", err)
	}
	s.res = g.own(&resource{kind: kindStream, name: "stream", call: "cuStreamDestroy", free: s.s.Destroy,
		stop: s.abandon})
	return s, nil
}

// CopyHtoD copies src to the start of dst. While the stream is captured, src must be page-locked memory of AllocHost:
// the graph reads it again at every launch.
func (s *stream) CopyHtoD(dst device.Buffer, src []byte) error {
	if int64(len(src)) > dst.Size {
		return fmt.Errorf("copy %d bytes to a buffer of %d", len(src), dst.Size)
	}
	if len(src) == 0 {
		return nil
	}
	if err := s.hold(src); err != nil {
		return fmt.Errorf("copy %d bytes to the device: %w", len(src), err)
	}
	err := s.gpu.do("cuMemcpyHtoDAsync", func() error {
		return cu.MemcpyHtoDAsync(cu.DevicePtr(dst.Ptr), unsafe.Pointer(unsafe.SliceData(src)), int64(len(src)), s.s)
	})
	return s.explain(fmt.Sprintf("copy %d bytes to the device", len(src)), err)
}

// CopyDtoH copies the start of src to dst. While the stream is captured, dst must be page-locked memory of AllocHost.
func (s *stream) CopyDtoH(dst []byte, src device.Buffer) error {
	if int64(len(dst)) > src.Size {
		return fmt.Errorf("copy %d bytes from a buffer of %d", len(dst), src.Size)
	}
	if len(dst) == 0 {
		return nil
	}
	if err := s.hold(dst); err != nil {
		return fmt.Errorf("copy %d bytes from the device: %w", len(dst), err)
	}
	err := s.gpu.do("cuMemcpyDtoHAsync", func() error {
		return cu.MemcpyDtoHAsync(unsafe.Pointer(unsafe.SliceData(dst)), cu.DevicePtr(src.Ptr), int64(len(dst)), s.s)
	})
	return s.explain(fmt.Sprintf("copy %d bytes from the device", len(dst)), err)
}

// hold keeps ordinary memory reachable until the stream is synchronized.
func (s *stream) hold(b []byte) error {
	if s.gpu.pageLocked(b) {
		return nil
	}
	var capturing bool
	err := s.gpu.do("cuStreamIsCapturing", func() (err error) {
		capturing, err = cuext.IsCapturing(s.s)
		return err
	})
	if err != nil {
		return err
	}
	if capturing {
		return errors.New("a captured copy needs host memory of AllocHost")
	}
	if len(s.held) == maxHeld {
		if err := s.Synchronize(context.Background()); err != nil {
			return err
		}
	}
	s.held = append(s.held, b)
	return nil
}

// CopyDtoD copies the whole of src to the start of dst.
func (s *stream) CopyDtoD(dst, src device.Buffer) error {
	if src.Size > dst.Size {
		return fmt.Errorf("copy %d bytes to a buffer of %d", src.Size, dst.Size)
	}
	if src.Size == 0 {
		return nil
	}
	err := s.gpu.do("cuMemcpyDtoDAsync", func() error {
		return cu.MemcpyDtoDAsync(cu.DevicePtr(dst.Ptr), cu.DevicePtr(src.Ptr), src.Size, s.s)
	})
	return s.explain(fmt.Sprintf("copy %d bytes on the device", src.Size), err)
}

// Memset sets every byte of dst to value.
func (s *stream) Memset(dst device.Buffer, value byte) error {
	if dst.Size == 0 {
		return nil
	}
	err := s.gpu.do("cuMemsetD8Async", func() error {
		return cu.MemsetD8Async(cu.DevicePtr(dst.Ptr), value, dst.Size, s.s)
	})
	return s.explain(fmt.Sprintf("fill %d bytes", dst.Size), err)
}

// Launch enqueues a kernel. A ctx that is done keeps it from being enqueued; a kernel handed over runs to its end.
func (s *stream) Launch(ctx context.Context, f device.Function, shape device.Shape, args *device.Args) error {
	fn, ok := f.(*function)
	if !ok {
		return fmt.Errorf("launch: %T is a kernel of another device", f)
	}
	if err := s.launch(ctx, fn, &shape, args); err != nil {
		return &device.LaunchError{Kernel: fn.name, Shape: shape, Err: err}
	}
	return nil
}

// noArgs is what a nil *device.Args stands for.
var noArgs = new(device.Args)

func (s *stream) launch(ctx context.Context, fn *function, shape *device.Shape, args *device.Args) error {
	switch {
	case s.gpu.closed.Load():
		return errClosed
	case fn.mod.gpu != s.gpu:
		return errors.New("the kernel was loaded on another device")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if args == nil {
		args = noArgs
	}
	if err := fn.check(shape, args); err != nil {
		return err
	}
	programmatic := shape.Programmatic && s.gpu.info.Major >= 9 // older devices do not know the attribute
	if err := cuext.Launch(s.gpu.ctx, fn.fn, shape, s.s, args.Bytes(), programmatic); err != nil {
		return s.blame(failed("cuLaunchKernel", err))
	}
	if s.capturing {
		return nil
	}
	s.last, s.shape = fn, *shape
	s.launches++
	if s.gpu.opt.Synchronous {
		if err := cuext.Synchronize(s.gpu.ctx, s.s); err != nil {
			return failed("cuStreamSynchronize", err)
		}
		s.idle()
	}
	return nil
}

// idle notes that everything enqueued is done.
func (s *stream) idle() {
	s.held, s.last, s.launches = nil, nil, 0
}

// faulted reports whether err tells that a kernel went wrong while it ran: CUDA says so at a later call.
func faulted(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Code >= codeIllegalAddress && e.Code <= codeLaunchFailed)
}

// blame says that err is about an earlier launch, when it is.
func (s *stream) blame(err error) error {
	if s.last == nil || !faulted(err) {
		return err
	}
	return fmt.Errorf("%w (of this kernel or one launched before it; with synchronous launches the error names the kernel)", err)
}

// explain adds to the error of an operation which kernel it may be about.
func (s *stream) explain(operation string, err error) error {
	if err == nil {
		return nil
	}
	if s.last != nil && faulted(err) {
		if s.launches > 1 {
			err = s.blame(err)
		}
		err = &device.LaunchError{Kernel: s.last.name, Shape: s.shape, Err: err}
	}
	return fmt.Errorf("%s: %w", operation, err)
}

// Record marks the present end of the stream with e.
func (s *stream) Record(e device.Event) error {
	ev, err := s.gpu.event(e)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if err := s.gpu.do("cuEventRecord", func() error { return ev.e.Record(s.s) }); err != nil {
		return s.explain("record", err)
	}
	ev.recorded.Store(true)
	return nil
}

// Wait makes work enqueued after it wait until the work marked by e is done.
func (s *stream) Wait(e device.Event) error {
	ev, err := s.gpu.event(e)
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	if !ev.recorded.Load() {
		return fmt.Errorf("wait: %w", errNotRecorded) // the driver would not wait
	}
	return s.explain("wait", s.gpu.do("cuStreamWaitEvent", func() error { return s.s.Wait(ev.e, 0) }))
}

// Synchronize waits until the stream is idle or ctx is done.
func (s *stream) Synchronize(ctx context.Context) error {
	if s.capturing {
		return fmt.Errorf("synchronize: %w", errCapturing) // the driver would end the capture
	}
	err := await(ctx, &s.res.waits, func() error {
		if s.gpu.closed.Load() {
			return errClosed
		}
		return wrap("cuStreamSynchronize", cuext.Synchronize(s.gpu.ctx, s.s))
	})
	if err != nil {
		return s.explain("synchronize", err)
	}
	s.idle()
	return nil
}

// Close waits for the stream's work and releases the stream. The error of that work is Synchronize's to tell.
func (s *stream) Close() error {
	if !s.gpu.closed.Load() {
		s.abandon()
		_ = cuext.Synchronize(s.gpu.ctx, s.s)
	}
	s.idle()
	return s.gpu.release(s.res)
}
