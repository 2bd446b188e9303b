// Package cuda drives NVIDIA GPUs through the CUDA driver and gorgonia.org/cu: the implementation of
// [unirestorer/runtime/device] that runs on real hardware.
//
// It is compiled in with the build tag cuda on Linux and needs a C compiler then, but no toolkit, no libcuda to link
// and no driver to start: the driver is loaded when the program starts, and [List] and [Open] say what
// is missing. Without the tag they return [ErrNotBuilt]. With the tags cuda and cudasim the driver is a simulated one
// (package simdriver), which runs the whole of this package without a GPU.
//
// # Building
//
// gorgonia.org/cu includes cuda.h. The folder include has one that suffices; CGO_CFLAGS puts it before the places where
// gorgonia.org/cu looks, so that an installed toolkit, of whatever version, does not matter:
//
//	export CGO_CFLAGS="-O2 -g -I$PWD/runtime/cuda/include"
//	go build -tags cuda ./...
//	go test -tags "cuda cudasim" ./runtime/cuda/...
//
// The PTX of this project needs a driver for CUDA 12.4, release 550, or newer.
//
// # Errors
//
// A driver call that fails is an [Error] with CUDA's name and text. CUDA reports a fault of a kernel at a later call:
// the error then names the last kernel launched on the stream and says whether it could be an earlier one;
// [Options].Synchronous makes it exact. After a fault the GPU's context is lost, and every call says so.
//
// # gorgonia.org/cu
//
// Contexts, modules, functions, memory, copies, streams and events are those of gorgonia.org/cu. What it lacks, and
// the launch itself, is in internal/cuext, on the same types.
package cuda
