// bulk.cu: mbarriers and bulk copies, each kernel with a defect (bug = 1) and correct (bug = 0).
#include <stdint.h>

#define KERNEL extern "C" __global__ void

__device__ __forceinline__ uint32_t at(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void init(uint64_t* bar, int count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at(bar)), "r"(count) : "memory");
}

__device__ __forceinline__ void arrive(uint64_t* bar) {
    asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(at(bar)) : "memory");
}

__device__ __forceinline__ void expect(uint64_t* bar, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(at(bar)), "r"(bytes) : "memory");
}

__device__ __forceinline__ void wait(uint64_t* bar, int parity) {
    asm volatile(
        "{\n\t.reg .pred done;\n\t"
        "again%=: mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 done, [%0], %1;\n\t"
        "@!done bra again%=;\n\t}" ::"r"(at(bar)), "r"(parity) : "memory");
}

__device__ __forceinline__ void load(void* dst, const void* src, int bytes, uint64_t* bar) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(at(dst)), "l"(src), "r"(bytes),
                 "r"(at(bar)) : "memory");
}

__device__ __forceinline__ void store(void* dst, const void* src, int bytes) {
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(dst), "r"(at(src)), "r"(bytes) : "memory");
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

__device__ __forceinline__ void stored() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }
__device__ __forceinline__ void sourceRead() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }
__device__ __forceinline__ void fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Everybody waits for the copy; with the defect nobody does.
KERNEL load_without_wait(const float* x, float* y, int bug) {
    __shared__ alignas(16) float s[64];
    __shared__ uint64_t bar;
    if (threadIdx.x == 0) init(&bar, 1);
    __syncthreads();
    if (threadIdx.x == 0) {
        expect(&bar, sizeof s);
        load(s, x, sizeof s, &bar);
    }
    if (!bug) wait(&bar, 0);
    y[threadIdx.x] = s[63 - threadIdx.x];
}

// With the defect only one thread waits.
KERNEL load_waited_for_by_one(const float* x, float* y, int bug) {
    __shared__ alignas(16) float s[64];
    __shared__ uint64_t bar;
    if (threadIdx.x == 0) {
        init(&bar, 1);
        load(s, x, sizeof s, &bar);
        expect(&bar, sizeof s);
    }
    __syncthreads();
    if (!bug || threadIdx.x == 0) wait(&bar, 0);
    y[threadIdx.x] = s[63 - threadIdx.x];
}

// A ring of two stages; with the defect a stage is given back before it was read.
KERNEL ring(const float* x, float* y, int bug) {
    __shared__ alignas(16) float s[2][64];
    __shared__ uint64_t ready[2], empty[2];
    if (threadIdx.x == 0) {
        for (int i = 0; i < 2; i++) { init(&ready[i], 1); init(&empty[i], 2); }
    }
    __syncthreads();
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (warp == 2) {
        if (lane == 0) {
            for (int k = 0; k < 8; k++) {
                wait(&empty[k % 2], (k / 2 & 1) ^ 1);
                expect(&ready[k % 2], sizeof s[0]);
                load(s[k % 2], x + 64 * k, sizeof s[0], &ready[k % 2]);
            }
        }
        return;
    }
    float sum = 0;
    for (int k = 0; k < 8; k++) {
        wait(&ready[k % 2], k / 2 & 1);
        if (bug && lane == 0) arrive(&empty[k % 2]);
        sum += s[k % 2][63 - threadIdx.x];
        __syncwarp();
        if (!bug && lane == 0) arrive(&empty[k % 2]);
    }
    y[threadIdx.x] = sum;
}

// Ordinary stores are seen by a bulk copy only behind a fence between the proxies.
KERNEL store_without_fence(float* y, int bug) {
    __shared__ alignas(16) float s[64];
    s[threadIdx.x] = threadIdx.x;
    if (!bug) fence();
    __syncthreads();
    if (threadIdx.x == 0) {
        store(y, s, sizeof s);
        stored();
    }
}

// The fence may also lie behind the barrier, in the thread that copies; before the stores it does nothing.
KERNEL store_with_fence_too_early(float* y, int bug) {
    __shared__ alignas(16) float s[64];
    if (bug) fence();
    s[threadIdx.x] = threadIdx.x;
    __syncthreads();
    if (threadIdx.x == 0) {
        if (!bug) fence();
        store(y, s, sizeof s);
        stored();
    }
}

KERNEL source_overwritten(float* y, int bug) {
    __shared__ alignas(16) float s[64];
    for (int k = 0; k < 2; k++) {
        s[threadIdx.x] = threadIdx.x + k;
        fence();
        __syncthreads();
        if (threadIdx.x == 0) {
            store(y + 64 * k, s, sizeof s);
            if (!bug) sourceRead();
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) stored();
}

KERNEL ends_before_source_is_read(float* y, int bug) {
    __shared__ alignas(16) float s[64];
    s[threadIdx.x] = threadIdx.x;
    fence();
    __syncthreads();
    if (threadIdx.x == 0) {
        store(y, s, sizeof s);
        if (!bug) sourceRead();
    }
}

// What a bulk copy wrote is read again before the copy was waited for.
KERNEL stored_and_read(float* x, float* y, int bug) {
    __shared__ alignas(16) float s[64];
    s[threadIdx.x] = threadIdx.x;
    fence();
    __syncthreads();
    if (threadIdx.x == 0) {
        store(x, s, sizeof s);
        if (!bug) stored();
        else sourceRead();
    }
    __syncthreads();
    y[threadIdx.x] = x[63 - threadIdx.x];
}

// An mbarrier as a barrier of the block.
KERNEL arrive_without_wait(float* y, int bug) {
    __shared__ float s[64];
    __shared__ uint64_t bar;
    if (threadIdx.x == 0) init(&bar, 64);
    __syncthreads();
    s[threadIdx.x] = threadIdx.x;
    arrive(&bar);
    if (!bug) wait(&bar, 0);
    y[threadIdx.x] = s[63 - threadIdx.x];
}

// One lane arrives for its warp, which must have met before.
KERNEL arrive_for_the_warp(float* y, int bug) {
    __shared__ float s[64];
    __shared__ uint64_t bar;
    if (threadIdx.x == 0) init(&bar, 2);
    __syncthreads();
    s[threadIdx.x] = threadIdx.x;
    if (!bug) __syncwarp();
    if (threadIdx.x % 32 == 0) arrive(&bar);
    wait(&bar, 0);
    y[threadIdx.x] = s[63 - threadIdx.x];
}

KERNEL too_many_arrive(float* y, int bug) {
    __shared__ uint64_t bar;
    if (threadIdx.x == 0) {
        init(&bar, 1);
        asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(at(&bar)), "r"(1 + bug) : "memory");
    }
    __syncthreads();
    wait(&bar, 0);
    y[threadIdx.x] = threadIdx.x;
}

KERNEL not_initialised(float* y, int bug) {
    __shared__ uint64_t bar;
    if (threadIdx.x == 0 && !bug) init(&bar, 64);
    __syncthreads();
    arrive(&bar);
    y[threadIdx.x] = threadIdx.x;
}

// A phase that nobody completes.
KERNEL waits_for_ever(float* y, int bug) {
    __shared__ uint64_t bar;
    if (threadIdx.x == 0) init(&bar, 64 + bug);
    __syncthreads();
    arrive(&bar);
    wait(&bar, 0);
    y[threadIdx.x] = threadIdx.x;
}

// Phases by token: the threads go round together.
KERNEL tokens(float* y, int bug) {
    __shared__ float s[64];
    __shared__ uint64_t bar;
    if (threadIdx.x == 0) init(&bar, 64);
    __syncthreads();
    float sum = 0;
    for (int k = 0; k < 4; k++) {
        s[threadIdx.x] = threadIdx.x + k;
        uint64_t token;
        asm volatile("mbarrier.arrive.shared.b64 %0, [%1];" : "=l"(token) : "r"(at(&bar)) : "memory");
        uint32_t done = 0;
        while (!done)
            asm volatile("{\n\t.reg .pred p;\n\tmbarrier.test_wait.shared.b64 p, [%1], %2;\n\tselp.u32 %0, 1, 0, p;\n\t}" : "=r"(done) : "r"(at(&bar)), "l"(token) : "memory");
        sum += s[63 - threadIdx.x];
        if (!bug) __syncthreads();
    }
    y[threadIdx.x] = sum;
}

// Copies by cp.async whose end an mbarrier tells.
KERNEL copies_at_mbarrier(const float* x, float* y, int bug) {
    __shared__ float s[64];
    __shared__ uint64_t bar;
    if (threadIdx.x == 0) init(&bar, 64);
    __syncthreads();
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(at(&s[threadIdx.x])), "l"(x + threadIdx.x) : "memory");
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(at(&bar)) : "memory");
    if (!bug) wait(&bar, 0);
    y[threadIdx.x] = s[63 - threadIdx.x];
}
