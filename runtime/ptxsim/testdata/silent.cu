// silent.cu: correct kernels that look suspicious. None may give a finding.
#include <stdint.h>

#define KERNEL extern "C" __global__ void

// Lanes that have exited count as arrived.
KERNEL exit_before_warp_barrier(float* y) {
    __shared__ float s[32];
    if (threadIdx.x >= 20) return;
    s[threadIdx.x] = threadIdx.x;
    __syncwarp();
    y[threadIdx.x] = s[19 - threadIdx.x];
}

KERNEL exit_while_others_wait(float* y) {
    __shared__ float s[32];
    if (threadIdx.x < 16) {
        s[threadIdx.x] = threadIdx.x;
        __syncwarp();
        y[threadIdx.x] = s[15 - threadIdx.x] + __shfl_sync(~0u, (int)threadIdx.x, 3);
    } else {
        for (int i = 0; i < (int)threadIdx.x; i++) asm volatile("" ::: "memory");
    }
}

KERNEL exit_before_barrier(float* y) {
    __shared__ float s[96];
    if (threadIdx.x >= 48) return;
    s[threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = s[47 - threadIdx.x];
}

// Lanes do something else and end while the others of their warp wait at a barrier that they never come to.
KERNEL work_before_exit(float* y) {
    __shared__ float s[96];
    if (threadIdx.x % 32 >= 16) {
        y[threadIdx.x] = 0;
        return;
    }
    s[threadIdx.x] = threadIdx.x;
    __syncthreads();
    float v = s[threadIdx.x ^ 1];
    for (int i = 0; i < 3; i++) {
        __syncthreads();
        s[threadIdx.x] = v + i;
        __syncthreads();
        v += s[threadIdx.x ^ 1];
    }
    y[threadIdx.x] = v;
}

KERNEL exit_while_block_waits(float* y) {
    __shared__ float s[96];
    if (threadIdx.x >= 32) {
        if (threadIdx.x < 64) {
            for (int i = 0; i < 100000; i++) asm volatile("" ::: "memory");
            return;
        }
        s[threadIdx.x] = 1;
    } else {
        s[threadIdx.x] = threadIdx.x;
    }
    __syncthreads();
    if (threadIdx.x < 32) y[threadIdx.x] = s[31 - threadIdx.x] + s[64 + threadIdx.x];
}

// A shuffle with absent lanes whose values nobody asks for.
KERNEL shuffle_without_exited(int* y) {
    if (threadIdx.x >= 16) return;
    y[threadIdx.x] = __shfl_xor_sync(~0u, (int)threadIdx.x, 1);
}

KERNEL generic_shared(float* y) {
    __shared__ float s[64];
    float* p = s;
    asm volatile("" : "+l"(p));
    p[threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = p[63 - threadIdx.x];
}

KERNEL borrow(const unsigned* a, unsigned* y) {
    unsigned lo, hi;
    asm volatile("sub.cc.u32 %0, %2, %4;\n\tsubc.u32 %1, %3, %5;"
                 : "=r"(lo), "=r"(hi) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]));
    y[0] = lo;
    y[1] = hi;
}

// All lanes of a warp take a lock in turn.
KERNEL spin_lock(unsigned* lock, unsigned* y) {
    bool done = false;
    while (!done) {
        if (atomicCAS(lock, 0, 1) == 0) {
            __threadfence();
            volatile unsigned* p = y;
            *p = *p + 1;
            __threadfence();
            atomicExch(lock, 0);
            done = true;
        }
    }
}

// The unlucky form: whoever fails goes round at once.
KERNEL spin_lock_tight(unsigned* lock, unsigned* y) {
    while (atomicCAS(lock, 0, 1) != 0) {}
    __threadfence();
    volatile unsigned* p = y;
    *p = *p + 1;
    __threadfence();
    atomicExch(lock, 0);
}

KERNEL grid_barrier(unsigned* count, float* x, float* y) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, n = gridDim.x * blockDim.x;
    x[i] = i;
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(count, 1);
        while (*(volatile unsigned*)count < gridDim.x) {}
        __threadfence();
    }
    __syncthreads();
    y[i] = x[n - 1 - i];
}

KERNEL flag_within_block(float* x, unsigned* flag, float* y) {
    if (threadIdx.x == 40) {
        x[0] = 7;
        __threadfence_block();
        *(volatile unsigned*)flag = 1;
    }
    if (threadIdx.x == 3) {
        while (*(volatile unsigned*)flag == 0) {}
        __threadfence_block();
        y[0] = x[0];
    }
}

// In place, each thread its own elements, by accesses of different widths.
KERNEL in_place(float* x) {
    float4* p = (float4*)x + threadIdx.x;
    float4 v = *p;
    x[4 * threadIdx.x] = v.x + 1;
    x[4 * threadIdx.x + 1] = v.y + 1;
    x[4 * threadIdx.x + 2] = v.z + 1;
    x[4 * threadIdx.x + 3] = v.w + 1;
    float4 u = *p;
    *p = make_float4(u.w, u.z, u.y, u.x);
}

KERNEL equal_stores(float* x) { x[0] = 3; }

KERNEL loop_in_place(float* x, int n) {
    for (int k = 0; k < 4; k++) {
        for (int i = threadIdx.x; i < n; i += blockDim.x) x[i] = x[i] * 2;
    }
}

KERNEL rotate_tiles(float* x, float* y, int n) {
    for (int k = 0; k < n; k++) {
        x[threadIdx.x] = k + threadIdx.x;
        __syncthreads();
        y[threadIdx.x] = x[(threadIdx.x + k) % blockDim.x];
        __syncthreads();
    }
}

// Written on every path that reads it.
KERNEL conditional_register(float* y, int n) {
    asm volatile(
        "{\n\t.reg .pred p;\n\t.reg .f32 v;\n\t"
        "setp.lt.s32 p, %1, 3;\n\t"
        "@p mov.f32 v, 0f3f800000;\n\t"
        "@!p mov.f32 v, 0f40000000;\n\t"
        "st.global.f32 [%0], v;\n\t}" ::"l"(y + threadIdx.x), "r"(n) : "memory");
}

// Computed ahead from what was not written, and then not used.
KERNEL discarded_register(float* y, int n) {
    asm volatile(
        "{\n\t.reg .pred p;\n\t.reg .f32 v, w;\n\t"
        "setp.lt.s32 p, %1, 3;\n\t"
        "@p mov.f32 v, 0f3f800000;\n\t"
        "add.f32 w, v, 0f3f800000;\n\t"
        "selp.f32 w, w, 0f00000000, p;\n\t"
        "st.global.f32 [%0], w;\n\t}" ::"l"(y + threadIdx.x), "r"(n) : "memory");
}
