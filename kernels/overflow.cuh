// overflow.cuh: infinities and NaNs that a kernel's result need not show.
//
// What is stored in fp16 may overflow. Sums, products, norms and every activation of this library hand an infinity on as an
// infinity or NaN, to the output of the network, where guard.cu finds it. A sigmoid, a softmax and a position do not: kernels
// that have one look at what goes into it and raise a flag, which the guard reads. The flag is zero before a run.
#pragma once
#include <cuda_fp16.h>
#include <stdint.h>

struct Overflow {
    __half2 seen = __float2half2_rn(0.0f);  // zeros, or NaN once a value was not finite

    __device__ __forceinline__ void take(uint32_t two) {
        seen = __hfma2(*reinterpret_cast<const __half2 *>(&two), __float2half2_rn(0.0f), seen);
    }
    __device__ __forceinline__ void take(uint4 v) { take(v.x), take(v.y), take(v.z), take(v.w); }
    __device__ __forceinline__ void take(__half v) { seen = __hfma2(__half2half2(v), __float2half2_rn(0.0f), seen); }
    __device__ __forceinline__ void report(unsigned *flag) const {
        float2 f = __half22float2(seen);
        if (!(f.x + f.y == 0.0f)) atomicOr(flag, 1u);
    }
};
