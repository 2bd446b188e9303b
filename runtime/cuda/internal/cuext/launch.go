//go:build cuda && linux

package cuext

/*
#include <cuda.h>

static CUresult launch(CUcontext ctx, CUfunction f, unsigned gx, unsigned gy, unsigned gz,
                       unsigned bx, unsigned by, unsigned bz, unsigned shared, CUstream s, void *args, size_t size)
{
	CUresult r = cuCtxSetCurrent(ctx);
	if (r != CUDA_SUCCESS)
		return r;
	void *packed[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, args, CU_LAUNCH_PARAM_BUFFER_SIZE, &size, CU_LAUNCH_PARAM_END};
	return cuLaunchKernel(f, gx, gy, gz, bx, by, bz, shared, s, NULL, size ? packed : NULL);
}

static CUresult launch_with(int programmatic, int cooperative, CUcontext ctx, CUfunction f, unsigned gx, unsigned gy, unsigned gz,
                            unsigned bx, unsigned by, unsigned bz, unsigned shared, CUstream s, void *args, size_t size)
{
	CUresult r = cuCtxSetCurrent(ctx);
	if (r != CUDA_SUCCESS)
		return r;
	void *packed[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, args, CU_LAUNCH_PARAM_BUFFER_SIZE, &size, CU_LAUNCH_PARAM_END};
	CUlaunchAttribute attributes[2];
	unsigned n = 0;
	if (programmatic)
		attributes[n++] = (CUlaunchAttribute){
			.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
			.value = {.programmaticStreamSerializationAllowed = 1},
		};
	if (cooperative)
		attributes[n++] = (CUlaunchAttribute){.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE, .value = {.cooperative = 1}};
	CUlaunchConfig config = {
		.gridDimX = gx, .gridDimY = gy, .gridDimZ = gz, .blockDimX = bx, .blockDimY = by, .blockDimZ = bz,
		.sharedMemBytes = shared, .hStream = s, .attrs = attributes, .numAttrs = n,
	};
	return cuLaunchKernelEx(&config, f, NULL, size ? packed : NULL);
}

static CUresult launch_graph(CUcontext ctx, CUgraphExec e, CUstream s)
{
	CUresult r = cuCtxSetCurrent(ctx);
	return r == CUDA_SUCCESS ? cuGraphLaunch(e, s) : r;
}

static CUresult synchronize(CUcontext ctx, CUstream s)
{
	CUresult r = cuCtxSetCurrent(ctx);
	return r == CUDA_SUCCESS ? cuStreamSynchronize(s) : r;
}
*/
import "C"

import (
	"unsafe"

	"gorgonia.org/cu"

	"unirestorer/runtime/device"
)

// Launch enqueues f on s in context ctx. args is the parameter buffer, every argument at the offset the kernel
// gives it; the driver copies it before Launch returns. programmatic allows programmatic stream serialization.
//
// cu.Function.Launch is not used: it allocates and frees C memory twice a launch and reads exactly eight bytes for
// every argument, too many for a float and too few for a struct.
func Launch(ctx cu.CUContext, f cu.Function, shape *device.Shape, s cu.Stream, args []byte, programmatic bool) error {
	grid, block := shape.Grid, shape.Block
	if programmatic || shape.Cooperative {
		flag := func(set bool) C.int {
			if set {
				return 1
			}
			return 0
		}
		return check(C.launch_with(flag(programmatic), flag(shape.Cooperative), context(ctx), function(f), C.uint(grid.X), C.uint(grid.Y), C.uint(grid.Z),
			C.uint(block.X), C.uint(block.Y), C.uint(block.Z), C.uint(shape.Shared), stream(s),
			unsafe.Pointer(unsafe.SliceData(args)), C.size_t(len(args))))
	}
	return check(C.launch(context(ctx), function(f), C.uint(grid.X), C.uint(grid.Y), C.uint(grid.Z),
		C.uint(block.X), C.uint(block.Y), C.uint(block.Z), C.uint(shape.Shared), stream(s),
		unsafe.Pointer(unsafe.SliceData(args)), C.size_t(len(args))))
}

// LaunchGraph enqueues e on s in context ctx.
func LaunchGraph(ctx cu.CUContext, e cu.ExecGraph, s cu.Stream) error {
	return check(C.launch_graph(context(ctx), exec(e), stream(s)))
}

// Synchronize waits in context ctx until s is idle.
func Synchronize(ctx cu.CUContext, s cu.Stream) error {
	return check(C.synchronize(context(ctx), stream(s)))
}
