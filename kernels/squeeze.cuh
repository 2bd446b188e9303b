// squeeze.cuh: channel attention's matrix-vector product, done by blocks that have nothing else left to do.
//
// The factors s = A·mean(y) + b of an image are a sum over groups of channels: s = b + Σ_g A[:, g]·mean(y[g]). The
// block that is last to finish a group adds up the group's partial sums and multiplies them with its columns of A, so
// that no launch is needed and no block waits. Sums are taken in the order of memory, whichever block is last.
#pragma once
#include "half.cuh"

// last_to_arrive tells one block of `expected` that all others have arrived at the counter before, and shows it what
// they wrote. All threads of the block must come. The counter is zero before the first block and after the last one.
__device__ __forceinline__ bool last_to_arrive(unsigned *counter, unsigned expected) {
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();  // releases what the block wrote, which the barrier has ordered before
        last = atomicInc(counter, expected - 1) == expected - 1;
        __threadfence();  // acquires what the other blocks released
    }
    __syncthreads();
    return last;
}

struct Squeeze {
    const __half *w;    // [pitch][pitch], row k for channel k of the mean
    unsigned *arrived;  // [image][group]
    float *factors;     // [image][group][pitch]
    float mean;         // 1/pixels of an image
};

// prefetch sends for a share of the rows of A that belong to a group, so that its last block finds them in L2.
__device__ __forceinline__ void prefetch(const __half *rows, int values, int share, int shares) {
    for (int i = (share * 128 + threadIdx.x) * 64; i < values; i += shares * 128 * 64)
        asm volatile("prefetch.global.L2 [%0];" ::"l"(rows + i));
}

constexpr int SQUEEZE_SHARED = 256 + 32;  // float4

// squeeze multiplies one group of `quads` quads of channels. partial [shares][pitch] and rows are at the group's first
// channel, factors at the group's row; 128 threads, at most 32 quads, a pitch of at most 1024.
__device__ __forceinline__ void squeeze(const float *partial, const __half *rows, float *factors, float mean, int shares, int quads, int pitch,
                                        float4 *shared) {
    float4 *means = shared + 256;
    int slices = 128 / quads, quad = threadIdx.x % quads, slice = threadIdx.x / quads;
    float4 sum = make_float4(0, 0, 0, 0);
    if (slice < slices) {
#pragma unroll 16
        for (int s = slice; s < shares; s += slices) {
            // Not from L1, which may hold what was here before other blocks wrote.
            float4 v = __ldcg(reinterpret_cast<const float4 *>(partial + static_cast<size_t>(s) * pitch) + quad);
            sum = make_float4(sum.x + v.x, sum.y + v.y, sum.z + v.z, sum.w + v.w);
        }
    }
    shared[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x < quads) {
        for (int i = 1; i < slices; i++) {
            float4 v = shared[i * quads + threadIdx.x];
            sum = make_float4(sum.x + v.x, sum.y + v.y, sum.z + v.z, sum.w + v.w);
        }
        means[threadIdx.x] = make_float4(sum.x * mean, sum.y * mean, sum.z * mean, sum.w * mean);
    }
    __syncthreads();
    const float *m = reinterpret_cast<const float *>(means);
    int octets = pitch / 8, octet = threadIdx.x % octets;
    slices = 128 / octets;
    slice = threadIdx.x / octets;
    Octet o = {};
    if (slice < slices) {
#pragma unroll 16
        for (int k = slice; k < 4 * quads; k += slices) {
            Octet w = load8(rows + static_cast<size_t>(k) * pitch + 8 * octet);
            float f = m[k];
#pragma unroll
            for (int i = 0; i < 8; i++) o.v[i] += f * w.v[i];
        }
    }
    float *parts = reinterpret_cast<float *>(shared);
    store8(parts + 8 * threadIdx.x, o);
    __syncthreads();
    if (threadIdx.x < octets) {
        for (int i = 1; i < slices; i++) {
            Octet v = load8(parts + 8 * (i * octets + threadIdx.x));
#pragma unroll
            for (int j = 0; j < 8; j++) o.v[j] += v.v[j];
        }
        store8(factors + 8 * threadIdx.x, o);
    }
}
