// guard.cu: how many values of a tensor are infinite or NaN.
//
// guard_f16, guard_f32: x [n] 16-byte aligned; the padding of activations may be part of it. state is two counters that
// are zero before the first launch; the block that finishes last writes the number of non-finite values to *result and
// leaves the counters at zero, so that one launch does it all and a captured graph can be replayed. *overflow, unless null, is
// the flag of overflow.cuh: it is added to the number and cleared.
//   Grid: at most 264 blocks. Block: 256 threads. Reads x once and does an integer operation a byte: memory sets the pace.
#include "dependent.cuh"
#include <stdint.h>

struct GuardState {
    unsigned bad, arrived;
};

__device__ __forceinline__ unsigned bad_f16(uint32_t two) {
    return ((two & 0x7c00u) == 0x7c00u) + ((two & 0x7c000000u) == 0x7c000000u);
}

__device__ __forceinline__ unsigned bad_f32(uint32_t one) { return (one & 0x7f800000u) == 0x7f800000u; }

template <bool HALF>
__device__ __forceinline__ void guard(const unsigned char *x, long long bytes, GuardState *state, unsigned *overflow, unsigned *result) {
    unsigned bad = 0;
    const uint4 *quads = reinterpret_cast<const uint4 *>(x);
    long long n = bytes / 16, step = static_cast<long long>(gridDim.x) * 256;
    for (long long i = static_cast<long long>(blockIdx.x) * 256 + threadIdx.x; i < n; i += step) {
        uint4 v = quads[i];
        if (HALF)
            bad += bad_f16(v.x) + bad_f16(v.y) + bad_f16(v.z) + bad_f16(v.w);
        else
            bad += bad_f32(v.x) + bad_f32(v.y) + bad_f32(v.z) + bad_f32(v.w);
    }
    if (blockIdx.x == 0) {
        long long at = n * 16 + threadIdx.x * (HALF ? 2 : 4);
        if (at < bytes) {
            if (HALF)
                bad += bad_f16(*reinterpret_cast<const uint16_t *>(x + at));
            else
                bad += bad_f32(*reinterpret_cast<const uint32_t *>(x + at));
        }
    }
    int any = __syncthreads_or(bad != 0);
    if (any) {
        bad = __reduce_add_sync(0xffffffffu, bad);
        if (threadIdx.x % 32 == 0 && bad) atomicAdd(&state->bad, bad);
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        __threadfence();
        if (atomicInc(&state->arrived, gridDim.x - 1) == gridDim.x - 1)
            *result = atomicExch(&state->bad, 0u) + (overflow ? atomicExch(overflow, 0u) : 0);
    }
}

extern "C" __global__ void __launch_bounds__(256) guard_f16(const unsigned char *x, long long bytes, GuardState *state, unsigned *overflow, unsigned *result) {
    await_predecessors();
    guard<true>(x, bytes, state, overflow, result);
}

extern "C" __global__ void __launch_bounds__(256) guard_f32(const unsigned char *x, long long bytes, GuardState *state, unsigned *overflow, unsigned *result) {
    await_predecessors();
    guard<false>(x, bytes, state, overflow, result);
}
