// holes.cu: kernels whose defect hides behind something that looks like synchronisation, each with its correct twin
// (bug = 0).
#include <stdint.h>

#define KERNEL extern "C" __global__ void

__device__ __forceinline__ void copy4(float* dst, const float* src) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"((uint32_t)__cvta_generic_to_shared(dst)), "l"(src) : "memory");
}

// A shuffle exchanges registers and orders no memory.
KERNEL shuffle_is_no_fence(float* y, int bug) {
    __shared__ float s[32];
    s[threadIdx.x] = threadIdx.x;
    int v = __shfl_xor_sync(~0u, threadIdx.x, 1);
    if (!bug) __syncwarp();
    y[threadIdx.x] = s[31 - threadIdx.x] + v;
}

KERNEL vote_is_no_fence(float* y, int bug) {
    __shared__ float s[32];
    s[threadIdx.x] = threadIdx.x;
    unsigned v = __ballot_sync(~0u, threadIdx.x & 1);
    if (!bug) __syncwarp();
    y[threadIdx.x] = s[31 - threadIdx.x] + v;
}

KERNEL match_is_no_fence(float* y, int bug) {
    __shared__ float s[32];
    s[threadIdx.x] = threadIdx.x;
    unsigned v = __match_any_sync(~0u, threadIdx.x & 3);
    if (!bug) __syncwarp();
    y[threadIdx.x] = s[31 - threadIdx.x] + v;
}

// __syncwarp of one half says nothing about the other.
KERNEL half_warp_barrier(float* y, int bug) {
    __shared__ float s[32];
    s[threadIdx.x] = threadIdx.x;
    if (threadIdx.x < 16) __syncwarp(0xffff);
    else __syncwarp(0xffff0000);
    y[threadIdx.x] = s[threadIdx.x ^ (bug ? 16 : 8)];
}

// Halves that overlap in one lane order each other through it.
KERNEL barriers_of_overlapping_lanes(float* y, int bug) {
    __shared__ float s[32];
    s[threadIdx.x] = threadIdx.x;
    if (threadIdx.x < 16) __syncwarp(0x0000ffff);
    if (threadIdx.x >= 15 + bug) __syncwarp(bug ? 0xffff0000 : 0xffff8000);
    if (threadIdx.x == 31) y[0] = s[3];
}

KERNEL half_warp_broadcast(float* y, int bug) {
    __shared__ float s[2];
    if (threadIdx.x < 2) s[threadIdx.x] = threadIdx.x;
    __syncwarp();
    float v;
    if (threadIdx.x < 16) { v = s[0]; __syncwarp(0xffff); }
    else { v = s[1]; __syncwarp(0xffff0000); }
    if (threadIdx.x == 0) s[bug] = 5;
    __syncwarp();
    y[threadIdx.x] = v + s[0];
}

KERNEL global_race_in_block(float* x, float* y, int bug) {
    x[threadIdx.x] = threadIdx.x;
    if (!bug) __syncthreads();
    y[threadIdx.x] = x[threadIdx.x ^ 64];
}

KERNEL global_race_in_warp(float* x, float* y, int bug) {
    x[threadIdx.x] = threadIdx.x;
    if (!bug) __syncwarp();
    y[threadIdx.x] = x[threadIdx.x ^ 1];
}

KERNEL global_write_after_read(float* x, float* y, int bug) {
    float v = x[127 - threadIdx.x];
    if (!bug) __syncthreads();
    x[threadIdx.x] = v;
    y[threadIdx.x] = v;
}

KERNEL global_same_place(float* x, int bug) {
    if (threadIdx.x < 32) x[0 + bug * (threadIdx.x & 1)] = bug ? threadIdx.x : 1;
    __syncthreads();
    if (threadIdx.x == 40) x[0] = 2;
}

// Warps that hand data on by a flag need a release and an acquire, of the block's scope at least.
KERNEL flag_between_warps(float* x, unsigned* flag, float* y, int bug) {
    if (threadIdx.x == 0) {
        x[0] = 7;
        if (!bug) __threadfence_block();
        *(volatile unsigned*)flag = 1;
    }
    if (threadIdx.x == 32) {
        while (*(volatile unsigned*)flag == 0) {}
        __threadfence_block();
        y[0] = x[0];
    }
}

// What blocks exchange needs fences and atomics of the device's scope.
KERNEL fence_of_block_scope(float* part, unsigned* count, float* y, int bug) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        part[blockIdx.x] = blockIdx.x;
        if (bug) __threadfence_block();
        else __threadfence();
        last = atomicAdd(count, 1) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (last && threadIdx.x < gridDim.x) y[threadIdx.x] = part[threadIdx.x];
}

KERNEL atomic_of_block_scope(unsigned* count, int bug) {
    if (bug) atomicAdd_block(count, 1);
    else atomicAdd(count, 1);
}

KERNEL noncoherent_load(float* x, float* y, int bug) {
    float v;
    if (bug) asm volatile("ld.global.nc.f32 %0, [%1];" : "=f"(v) : "l"(x + threadIdx.x) : "memory");
    else asm volatile("ld.global.f32 %0, [%1];" : "=f"(v) : "l"(x + threadIdx.x) : "memory");
    x[threadIdx.x] = v + 1;
    y[threadIdx.x] = v;
}

// The source of cp.async is read at any time until the wait.
KERNEL async_source_overwritten(float* x, float* y, int bug) {
    __shared__ float s[64];
    copy4(s + threadIdx.x, x + threadIdx.x);
    asm volatile("cp.async.commit_group;" ::: "memory");
    if (bug) x[threadIdx.x] = 0;
    asm volatile("cp.async.wait_group 0;" ::: "memory");
    if (!bug) x[threadIdx.x] = 0;
    __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x];
}

// The overrun is longer than any gap between the arrays.
KERNEL overrun_into_neighbour(float* y, int bug) {
    __shared__ float s[32];
    __shared__ float t[4096];
    for (int i = threadIdx.x; i < 4096; i += 32) t[i] = 1;
    s[threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x + 1024 * bug] + t[threadIdx.x];
}

KERNEL unwritten_register(float* y, int bug) {
    asm volatile(
        "{\n\t.reg .pred p;\n\t.reg .f32 v;\n\t.reg .u32 t;\n\t"
        "mov.u32 t, %%tid.x;\n\t"
        "setp.lt.u32 p, t, %1;\n\t"
        "@p mov.f32 v, 0f3f800000;\n\t"
        "st.global.f32 [%0], v;\n\t}" ::"l"(y + threadIdx.x), "r"(bug ? 5 : 32) : "memory");
}

KERNEL unwritten_predicate(float* y, int bug) {
    asm volatile(
        "{\n\t.reg .pred p, q;\n\t"
        "setp.eq.u32 q, %1, 0;\n\t"
        "@q setp.eq.u32 p, 0, 0;\n\t"
        "@p st.global.f32 [%0], 0f3f800000;\n\t}" ::"l"(y + threadIdx.x), "r"(bug) : "memory");
}

// A sum that nobody set to zero.
KERNEL unwritten_sum(float* y, int bug) {
    asm volatile(
        "{\n\t.reg .pred p;\n\t.reg .f32 v;\n\t.reg .u32 i;\n\t"
        "setp.eq.u32 p, %1, 0;\n\t"
        "@p mov.f32 v, 0f00000000;\n\t"
        "mov.u32 i, 0;\n"
        "AGAIN:\n\t"
        "fma.rn.f32 v, v, 0f3f800000, 0f3f800000;\n\t"
        "add.u32 i, i, 1;\n\t"
        "setp.lt.u32 p, i, 4;\n\t"
        "@p bra AGAIN;\n\t"
        "st.global.f32 [%0], v;\n\t}" ::"l"(y + threadIdx.x), "r"(bug) : "memory");
}
