// dependent.cuh: programmatic dependent launch. Every kernel is launched so that its blocks may start before the kernels in
// front of it have ended, and waits for them before it touches what they write or read. Blocks of the next kernel may then
// take the places that this one leaves free.
//
// The instructions are of sm_90; for older devices the library leaves their lines out of the PTX (library.go), and a kernel
// starts when the one in front has ended.
#pragma once

__device__ __forceinline__ void await_predecessors() {
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}
