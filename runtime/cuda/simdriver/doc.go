//go:build cuda && cudasim && linux

// Package simdriver is a CUDA driver without a GPU: it defines the driver's functions as Go functions over
// [unirestorer/runtime/ptxsim], in the binary that imports it. With it the real gorgonia.org/cu and everything built
// on it run end to end: contexts, modules, copies, launches, streams, events, captured graphs.
//
// Two GPUs are there, GPU 0 of compute capability 9.0 and GPU 1 of 8.0. Where a program could get by with less care
// than a card demands, the simulation demands it too:
//
//   - a context must be current on the calling OS thread, and streams, functions and memory must be that context's;
//   - a kernel that faults gives no error at its launch but at every later call, until the context is destroyed;
//   - synchronizing a captured stream or its context ends the capture with an error, and so does leaving a forked stream unjoined;
//   - a capture that is not relaxed must end on the thread where it began;
//   - freeing or using something twice is an error.
//
// What the simulator's checker finds comes out of cuGetErrorString. Work runs inside the call that enqueues it.
// Functions of the driver that are not simulated return CUDA_ERROR_NOT_SUPPORTED.
//
// The state is global because the driver's is: the functions are the process's only ones of their names. cuInit is
// called before this package's variables are initialised, and therefore does nothing.
package simdriver
