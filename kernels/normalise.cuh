// normalise.cuh: normalisation over channels of rows that lie in shared memory.
#pragma once
#include "half.cuh"

// Moments are sums over a row, shifted by its first value, which bounds the cancellation in E[x²]-E[x]² by the number of channels
// however large the mean is.
struct Moments {
    float shift, sum = 0, squares = 0;
    float mean, deviation;  // the inverse of it

    __device__ __forceinline__ explicit Moments(const unsigned char *row) : shift(__half2float(*reinterpret_cast<const __half *>(row))) {}
    // take adds eight channels, or as many of them as are left.
    __device__ __forceinline__ void take(const Octet &o, int left) {
        float d[8], q[4];
#pragma unroll
        for (int i = 0; i < 8; i++) d[i] = o.v[i] - shift;
        if (left < 8) {
            for (int i = 0; i < 8; i++) d[i] = i < left ? d[i] : 0.0f;
        }
        // Sums in pairs, so that one addition a chunk depends on the one before.
#pragma unroll
        for (int i = 0; i < 4; i++) q[i] = fmaf(d[i], d[i], d[i + 4] * d[i + 4]);
        sum += ((d[0] + d[1]) + (d[2] + d[3])) + ((d[4] + d[5]) + (d[6] + d[7]));
        squares += (q[0] + q[1]) + (q[2] + q[3]);
    }
    // finish takes the sums of PARTS neighbouring lanes of a warp together, all of whose lanes must come.
    template <int PARTS>
    __device__ __forceinline__ void finish(int channels, float eps, bool bias_free) {
#pragma unroll
        for (int d = 1; d < PARTS; d *= 2) {
            sum += __shfl_xor_sync(0xffffffffu, sum, d);
            squares += __shfl_xor_sync(0xffffffffu, squares, d);
        }
        const float m = sum / channels, variance = squares / channels - m * m;
        deviation = rsqrtf(fmaxf(variance, 0.0f) + eps), mean = bias_free ? 0.0f : shift + m;
        if (PARTS > 1) __syncwarp();  // all of a row's threads have read its first value
    }
    __device__ __forceinline__ uint4 apply(uint4 v) const {
        Octet o = unpack(v);
#pragma unroll
        for (int i = 0; i < 8; i++) o.v[i] = (o.v[i] - mean) * deviation;
        return pack(o);
    }
};
