// checks.cu: kernels with a planted defect that a flag turns on, so that each has its correct twin.
#include <stdint.h>

#define KERNEL extern "C" __global__ void

KERNEL past_end(float* y, int n, int bug) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n + bug) y[i] = i;
}

KERNEL before_start(const float* x, float* y, int n, int bug) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i - bug];
}

KERNEL misaligned(const char* x, float* y, int bug) { y[threadIdx.x] = *(const float*)(x + 4 * threadIdx.x + 2 * bug); }

KERNEL unwritten_global(float* tmp, float* y, int n, int bug) {
    int i = threadIdx.x;
    if (i < n - bug) tmp[i] = i;
    y[i] = tmp[i];
}

KERNEL unwritten_shared(float* y, int bug) {
    __shared__ float s[64];
    if (threadIdx.x < 64 - bug) s[threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x];
}

KERNEL unwritten_local(const int* idx, int* y, int bug) {
    int a[8];
    for (int i = 0; i < 8 - bug; i++) a[idx[i]] = i;
    y[threadIdx.x] = a[idx[threadIdx.x % 8]];
}

KERNEL shared_past_variable(float* y, int bug) {
    __shared__ float s[32];
    __shared__ float t[32];
    s[threadIdx.x + bug] = threadIdx.x;
    t[threadIdx.x] = 1;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x ^ 1] + t[threadIdx.x ^ 1];
}

KERNEL race_read_after_write(float* y, int bug) {
    __shared__ float s[128];
    s[threadIdx.x] = threadIdx.x;
    if (!bug) __syncthreads();
    y[threadIdx.x] = s[threadIdx.x ^ 64];
}

KERNEL race_write_after_read(float* y, int bug) {
    __shared__ float s[128];
    s[threadIdx.x] = threadIdx.x;
    __syncthreads();
    float v = s[threadIdx.x ^ 64];
    if (!bug) __syncthreads();
    s[threadIdx.x] = v + 1;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x];
}

KERNEL race_write_after_write(float* y, int bug) {
    __shared__ float s[32];
    if (threadIdx.x < 32) s[threadIdx.x] = 1;
    if (!bug) __syncthreads();
    if (threadIdx.x >= 32) s[threadIdx.x - 32] = 2;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x % 32];
}

KERNEL race_in_warp(float* y, int bug) {
    __shared__ float s[32];
    s[threadIdx.x] = threadIdx.x;
    if (!bug) __syncwarp();
    y[threadIdx.x] = s[31 - threadIdx.x];
}

KERNEL race_broadcast(float* y, int bug) {
    __shared__ float s;
    if (threadIdx.x == 0) s = 1;
    __syncthreads();
    float v = s;
    if (!bug) __syncthreads();
    if (threadIdx.x == 40) s = 2;
    __syncthreads();
    y[threadIdx.x] = v + s;
}

KERNEL race_partial_barrier(float* y, int bug) {
    __shared__ float s[96];
    int warp = threadIdx.x / 32;
    s[threadIdx.x] = threadIdx.x;
    if (warp < 2 || !bug) {
        if (bug)
            asm volatile("bar.sync 1, 64;" ::: "memory");
        else
            asm volatile("bar.sync 1, 96;" ::: "memory");
    }
    if (warp == 0) y[threadIdx.x] = s[threadIdx.x + 64];
}

KERNEL blocks_overlap(float* y, int bug) { y[blockIdx.x * (blockDim.x - bug) + threadIdx.x] = 1.f + blockIdx.x; }

KERNEL blocks_read_neighbour(float* x, float* y, int bug) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (bug) x[i] = i;
    y[i] = x[(i + 1) % (gridDim.x * blockDim.x)];
}

KERNEL blocks_without_fence(float* part, unsigned* count, float* y, int bug) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        part[blockIdx.x] = blockIdx.x;
        if (!bug) __threadfence();
        last = atomicAdd(count, 1) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (last && threadIdx.x < gridDim.x) y[threadIdx.x] = part[threadIdx.x];
}

KERNEL blocks_without_second_fence(float* part, unsigned* count, float* y, int bug) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        part[blockIdx.x] = blockIdx.x;
        __threadfence();
        last = atomicAdd(count, 1) == gridDim.x - 1;
        if (!bug) __threadfence();
    }
    __syncthreads();
    if (last && threadIdx.x < gridDim.x) y[threadIdx.x] = part[threadIdx.x];
}

// Lane 0's fence is not one for what lane 1 wrote, unless they meet before.
KERNEL blocks_fence_of_another_lane(float* part, unsigned* count, float* y, int bug) {
    __shared__ bool last;
    if (threadIdx.x == 1) part[blockIdx.x] = blockIdx.x;
    if (!bug) __syncwarp();
    if (threadIdx.x == 0) {
        __threadfence();
        last = atomicAdd(count, 1) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (last && threadIdx.x < gridDim.x) y[threadIdx.x] = part[threadIdx.x];
}

// A fence before the barrier that others' writes come in by does not release them.
KERNEL blocks_fence_too_early(float* part, unsigned* count, float* y, int bug) {
    __shared__ bool last;
    if (threadIdx.x == 32) part[blockIdx.x] = blockIdx.x;
    if (bug && threadIdx.x == 0) __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        if (!bug) __threadfence();
        last = atomicAdd(count, 1) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (last && threadIdx.x < gridDim.x) y[threadIdx.x] = part[threadIdx.x];
}

// Thread 32 of the last block sees by itself that all blocks are done.
KERNEL blocks_polled(float* part, unsigned* count, float* y, int bug) {
    if (threadIdx.x == 0) {
        part[blockIdx.x] = blockIdx.x;
        __threadfence();
        atomicAdd(count, 1);
    }
    if (threadIdx.x == 32 && blockIdx.x == gridDim.x - 1) {
        unsigned n = 0;
        for (int i = 0; i < 2000 && n < gridDim.x; i++) n = *(volatile unsigned*)count;
        if (!bug) __threadfence();
        for (int i = 0; n == gridDim.x && i < n; i++) y[i] = part[i];
    }
}

// Block 2 sees what block 0 wrote by way of block 1; the blocks must start in order.
KERNEL blocks_chain(float* x, unsigned* flags, float* y, int bug) {
    volatile unsigned* f = flags;
    if (blockIdx.x == 0) {
        *x = 1;
        __threadfence();
        f[0] = 1;
    } else if (blockIdx.x == 1 && f[0] == 1) {
        if (!bug) __threadfence();
        f[1] = 1;
    } else if (blockIdx.x == 2 && f[1] == 1) {
        __threadfence();
        *y = *x;
    }
}

__device__ __forceinline__ void copy4(float* dst, const float* src) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"((uint32_t)__cvta_generic_to_shared(dst)), "l"(src) : "memory");
}

KERNEL async_without_wait(const float* x, float* y, int bug) {
    __shared__ float s[64];
    copy4(s + threadIdx.x, x + threadIdx.x);
    asm volatile("cp.async.commit_group;" ::: "memory");
    if (!bug) asm volatile("cp.async.wait_group 0;" ::: "memory");
    __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x];
}

KERNEL async_waits_for_fewer(const float* x, float* y, int bug) {
    __shared__ float s[2][64];
    for (int i = 0; i < 2; i++) {
        copy4(s[i] + threadIdx.x, x + threadIdx.x + 64 * i);
        asm volatile("cp.async.commit_group;" ::: "memory");
    }
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    __syncthreads();
    float v = s[bug][63 - threadIdx.x];
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();
    y[threadIdx.x] = v + s[1][63 - threadIdx.x];
}

KERNEL async_without_barrier(const float* x, float* y, int bug) {
    __shared__ float s[64];
    copy4(s + threadIdx.x, x + threadIdx.x);
    asm volatile("cp.async.wait_all;" ::: "memory");
    if (!bug) __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x];
}

KERNEL async_refill_too_early(const float* x, float* y, int bug) {
    __shared__ float s[64];
    copy4(s + threadIdx.x, x + threadIdx.x);
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();
    float v = s[63 - threadIdx.x];
    if (!bug) __syncthreads();
    copy4(s + threadIdx.x, x + 64 + threadIdx.x);
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();
    y[threadIdx.x] = v + s[63 - threadIdx.x];
}

KERNEL barrier_in_branch(float* y, int bug) {
    __shared__ float s[64];
    s[threadIdx.x] = 1;
    if (threadIdx.x < 64 - 16 * bug) __syncthreads();
    y[threadIdx.x] = s[threadIdx.x];
}

KERNEL barrier_after_return(float* y, int bug) {
    __shared__ float s[64];
    if (threadIdx.x >= 64 - 32 * bug) return;
    s[threadIdx.x] = 1;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x ^ 1];
}

KERNEL barrier_never_complete(float* y, int bug) {
    if (threadIdx.x < 64 - 32 * bug) asm volatile("bar.sync 3, 64;" ::: "memory");
    y[threadIdx.x] = 1;
}

KERNEL barriers_crossed(float* y, int bug) {
    asm volatile("bar.sync %0, 64;" ::"r"(bug ? 1 + threadIdx.x / 32 : 1) : "memory");
    asm volatile("bar.sync %0, 64;" ::"r"(bug ? 2 - threadIdx.x / 32 : 2) : "memory");
    y[threadIdx.x] = 1;
}

KERNEL shuffle_in_branch(int* y, int bug) {
    int v = threadIdx.x;
    if (threadIdx.x % 2 == 0 || !bug) v = __shfl_sync(~0u, v, 1);
    y[threadIdx.x] = v;
}

KERNEL shuffle_inactive_source(int* y, int bug) {
    int v = threadIdx.x;
    if (threadIdx.x < 16) v = __shfl_sync(0xffff, v, 8 + 12 * bug);
    y[threadIdx.x] = v;
}

KERNEL shuffle_mask_without_self(int* y, int bug) { y[threadIdx.x] = __shfl_sync(bug ? 0xffff : ~0u, threadIdx.x, 3); }

KERNEL spin(volatile int* flag, int* y, int bug) {
    while (bug && *flag == 0) {}
    y[threadIdx.x] = 1;
}

KERNEL stops(int* y, int bug) {
    if (bug && threadIdx.x == 5) __trap();
    y[threadIdx.x] = 1;
}
