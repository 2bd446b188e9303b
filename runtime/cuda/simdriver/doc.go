//go:build cuda && cudasim && linux

// Package simdriver is a CUDA driver without a GPU: it defines the driver's functions as Go functions over
// [unirestorer/runtime/ptxsim], in the binary that imports it. With it the real gorgonia.org/cu and everything built
// on it run end to end: contexts, modules, copies, launches, streams, events, captured graphs.
//
// Two GPUs are there, GPU 0 of compute capability 9.0 and GPU 1 of 8.0; [GPUsVariable] sets others, and [FaultVariable] makes
// one fail. Where a program could get by with less care
// than a card demands, the simulation demands it too:
//
//   - a context must be current on the calling OS thread, and streams, functions and memory must be that context's;
//   - enqueued work runs later, in an order that [OrderVariable] chooses among those that are allowed: when someone waits
//     for it, at once, or at random. Copies read and write page-locked memory when they run; of ordinary memory CUDA says
//     that the call may copy it aside and return early, so either happens, and memory that Go's garbage collector could
//     take meanwhile is a fault;
//   - whatever order work runs in, a fault are: work in no order that touches the same memory; memory freed, a module
//     unloaded or a context destroyed before the work that uses it was waited for; a host that writes to the memory of a
//     copy under way. Memory that a copy is to fill holds garbage until then;
//   - a fault, a kernel's or one of these, gives no error at its launch but at every later call, of any thread, context or
//     device, until the process ends;
//   - capture follows its rules: what an unfinished capture of the global or thread-local mode forbids ends it with an
//     error, as do synchronizing a captured stream and leaving a forked stream unjoined; one that is not relaxed must end
//     on the thread where it began;
//   - freeing or using something twice is an error.
//
// What the simulator's checker finds comes out of cuGetErrorString and of [Findings]. Functions of the driver that are
// not simulated return CUDA_ERROR_NOT_SUPPORTED.
//
// The state is global because the driver's is: the functions are the process's only ones of their names. cuInit is
// called before this package's variables are initialised, and therefore does nothing.
package simdriver
