// cluster.cu: clusters and distributed shared memory, each kernel with a defect (bug = 1) and correct (bug = 0).
#include <stdint.h>
#include <cooperative_groups.h>

namespace cg = cooperative_groups;

#define KERNEL(blocks) extern "C" __global__ void __cluster_dims__(blocks, 1, 1)

__device__ __forceinline__ uint32_t at(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }

__device__ __forceinline__ uint32_t rank() {
    uint32_t r;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
    return r;
}

__device__ __forceinline__ uint32_t map(uint32_t address, uint32_t rank) {
    uint32_t a;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(a) : "r"(address), "r"(rank));
    return a;
}

__device__ __forceinline__ void arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ __forceinline__ void arriveRelaxed() { asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory"); }
__device__ __forceinline__ void wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
__device__ __forceinline__ void meet() { arrive(); wait(); }

__device__ __forceinline__ void init(uint64_t* bar, int count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at(bar)), "r"(count) : "memory");
}

__device__ __forceinline__ void expect(uint64_t* bar, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(at(bar)), "r"(bytes) : "memory");
}

__device__ __forceinline__ void waitFor(uint64_t* bar, int parity) {
    asm volatile(
        "{\n\t.reg .pred done;\n\t"
        "again%=: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n\t"
        "@!done bra again%=;\n\t}" ::"r"(at(bar)), "r"(parity) : "memory");
}

// Every block reads what its neighbour wrote; the cluster's barrier lies between, or only the block's.
KERNEL(4) neighbour(float* y, int bug) {
    __shared__ float s[64];
    cg::cluster_group cluster = cg::this_cluster();
    s[threadIdx.x] = blockIdx.x * 64 + threadIdx.x;
    if (bug) __syncthreads();
    else cluster.sync();
    float* other = cluster.map_shared_rank(s, (cluster.block_rank() + 1) % 4);
    y[blockIdx.x * 64 + threadIdx.x] = other[63 - threadIdx.x];
    cluster.sync();
}

// The owner may end before its neighbour has read.
KERNEL(4) owner_ends(float* y, int bug) {
    __shared__ float s[64];
    cg::cluster_group cluster = cg::this_cluster();
    s[threadIdx.x] = blockIdx.x * 64 + threadIdx.x;
    cluster.sync();
    y[blockIdx.x * 64 + threadIdx.x] = cluster.map_shared_rank(s, (cluster.block_rank() + 1) % 4)[threadIdx.x];
    if (!bug) cluster.sync();
}

// A block writes to its neighbour's memory without knowing that it has begun.
KERNEL(2) owner_not_begun(float* y, int bug) {
    __shared__ float s[64];
    if (!bug) { arriveRelaxed(); wait(); }
    uint32_t other = map(at(&s[threadIdx.x]), rank() ^ 1);
    asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(other), "f"(1.0f * threadIdx.x) : "memory");
    meet();
    y[blockIdx.x * 64 + threadIdx.x] = s[threadIdx.x];
}

// An arrival that releases nothing.
KERNEL(2) relaxed_arrival(float* y, int bug) {
    __shared__ float s[64];
    s[threadIdx.x] = threadIdx.x;
    if (bug) arriveRelaxed();
    else arrive();
    wait();
    float v;
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(v) : "r"(map(at(&s[63 - threadIdx.x]), rank() ^ 1)) : "memory");
    y[blockIdx.x * 64 + threadIdx.x] = v;
    meet();
}

// A histogram in the memory of the first block, by atomics of all.
KERNEL(4) histogram(float* y, int bug) {
    __shared__ unsigned counts[64];
    if (rank() == 0) counts[threadIdx.x] = 0;
    if (bug) { arriveRelaxed(); wait(); }
    else meet();
    asm volatile("red.relaxed.cluster.shared::cluster.add.u32 [%0], %1;" ::"r"(map(at(&counts[(threadIdx.x * 7) % 64]), 0)), "r"(1) : "memory");
    meet();
    if (rank() == 0) y[threadIdx.x] = counts[threadIdx.x];
}

// One block of the cluster does not come to the barrier.
KERNEL(2) barrier_of_some(float* y, int bug) {
    if (!bug || rank() == 0) arrive();
    if (!bug || rank() == 0) wait();
    else if (threadIdx.x < 32) asm volatile("bar.sync 1, 64;");
    y[blockIdx.x * 64 + threadIdx.x] = 1;
}

KERNEL(2) arrives_twice(float* y, int bug) {
    arrive();
    if (bug) arrive();
    wait();
    y[blockIdx.x * 64 + threadIdx.x] = 1;
}

// Global memory between the blocks of a cluster.
KERNEL(2) through_global(float* x, float* y, int bug) {
    x[blockIdx.x * 64 + threadIdx.x] = threadIdx.x;
    if (bug) __syncthreads();
    else meet();
    y[blockIdx.x * 64 + threadIdx.x] = x[(blockIdx.x ^ 1) * 64 + 63 - threadIdx.x];
}

// The blocks of two clusters are not ordered by the barriers of their clusters.
KERNEL(2) between_clusters(float* x, float* y, int bug) {
    x[blockIdx.x * 64 + threadIdx.x] = threadIdx.x;
    meet();
    y[blockIdx.x * 64 + threadIdx.x] = x[(blockIdx.x ^ (bug ? 2 : 1)) * 64 + threadIdx.x];
}

// The first block copies to all; each waits for its own mbarrier, or only the first does.
KERNEL(4) multicast(const float* x, float* y, int bug) {
    __shared__ alignas(128) float s[64];
    __shared__ uint64_t bar;
    if (threadIdx.x == 0) {
        init(&bar, 1);
        expect(&bar, sizeof s);
    }
    meet();
    if (rank() == 0 && threadIdx.x == 0) {
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;" ::"r"(at(s)),
                     "l"(x), "r"((int)sizeof s), "r"(at(&bar)), "h"((unsigned short)15) : "memory");
    }
    if (bug) meet();
    if (!bug || rank() != 2) waitFor(&bar, 0);
    y[blockIdx.x * 64 + threadIdx.x] = s[63 - threadIdx.x];
    meet();
}

// A block's shared memory goes to its neighbour as a whole.
KERNEL(2) block_to_block(float* y, int bug) {
    __shared__ alignas(128) float s[64], t[64];
    __shared__ uint64_t bar;
    if (threadIdx.x == 0) {
        init(&bar, 1);
        expect(&bar, sizeof s);
    }
    s[threadIdx.x] = blockIdx.x * 64 + threadIdx.x;
    if (!bug) asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    meet();
    if (threadIdx.x == 0) {
        uint32_t other = rank() ^ 1;
        asm volatile("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(map(at(t), other)),
                     "r"(at(s)), "r"((int)sizeof s), "r"(map(at(&bar), other)) : "memory");
    }
    waitFor(&bar, 0);
    y[blockIdx.x * 64 + threadIdx.x] = t[threadIdx.x];
    meet();
}

// Single values stored in the neighbour's memory, counted by its mbarrier.
KERNEL(2) stores_that_count(float* y, int bug) {
    __shared__ float s[64];
    __shared__ uint64_t bar;
    if (threadIdx.x == 0) {
        init(&bar, 1);
        expect(&bar, sizeof s);
    }
    meet();
    uint32_t other = rank() ^ 1;
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];" ::"r"(map(at(&s[threadIdx.x]), other)),
                 "f"(1.0f * threadIdx.x), "r"(map(at(&bar), other)) : "memory");
    if (!bug) waitFor(&bar, 0);
    y[blockIdx.x * 64 + threadIdx.x] = s[63 - threadIdx.x];
    meet();
}

// The consumer tells the producer, which is another block, that a buffer is free.
KERNEL(2) arrives_far(float* y, int bug) {
    __shared__ float s[64];
    __shared__ uint64_t bar;
    if (threadIdx.x == 0) init(&bar, 2);
    meet();
    uint32_t other = rank() ^ 1;
    asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(map(at(&s[threadIdx.x]), other)), "f"(2.0f * threadIdx.x) : "memory");
    if (!bug) __syncwarp();
    if (threadIdx.x % 32 == 0)
        asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(map(at(&bar), other)) : "memory");
    waitFor(&bar, 0);
    y[blockIdx.x * 64 + threadIdx.x] = s[63 - threadIdx.x];
}

KERNEL(2) address_of_another(float* y, int bug) {
    __shared__ float s[64];
    s[threadIdx.x] = threadIdx.x;
    meet();
    float v;
    uint32_t a = map(at(&s[threadIdx.x]), bug ? rank() ^ 1 : rank());
    asm volatile("ld.shared::cta.f32 %0, [%1];" : "=f"(v) : "r"(a) : "memory");
    y[blockIdx.x * 64 + threadIdx.x] = v;
    meet();
}

KERNEL(2) no_such_block(float* y, int bug) {
    __shared__ float s[64];
    s[threadIdx.x] = threadIdx.x;
    meet();
    float v;
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(v) : "r"(map(at(&s[threadIdx.x]), rank() + bug * 2)) : "memory");
    y[blockIdx.x * 64 + threadIdx.x] = v;
    meet();
}

// What the registers of a cluster say, for a cluster that the launch shapes.
extern "C" __global__ void registers(int* y) {
    cg::cluster_group c = cg::this_cluster();
    int* at = y + 8 * ((blockIdx.y * gridDim.x + blockIdx.x));
    if (threadIdx.x == 0) {
        dim3 i = c.block_index(), n = c.dim_blocks();
        at[0] = c.block_rank(), at[1] = c.num_blocks(), at[2] = i.x, at[3] = i.y, at[4] = n.x, at[5] = n.y;
        at[6] = __clusterIdx().x, at[7] = __clusterIdx().y;
    }
}
