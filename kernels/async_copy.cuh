// async_copy.cuh: 16-byte copies from global to shared memory that bypass registers (sm_80 cp.async).
#pragma once
#include <stdint.h>

__device__ __forceinline__ uint32_t shared_address(const void *p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// copy16 copies 16 bytes, or writes 16 zero bytes where valid is false; source is then not read.
__device__ __forceinline__ void copy16(uint32_t shared, const void *source, bool valid) {
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared), "l"(source), "r"(bytes) : "memory");
}

__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }

// wait_copies waits until at most Pending of the latest groups are under way.
template <int Pending>
__device__ __forceinline__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(Pending) : "memory");
}
