// gemv.cu: y = epilogue(norm(x)·Wᵀ + b) for at most 8 rows: squeeze gating, the router's heads, a class token.
//
//   x  [M][K] fp16 or fp32, or partial sums [M][shares][K] fp32 that are added and multiplied by `factor` on the way in,
//      so that a mean over the image needs no launch of its own
//   W  [N][K] fp16 or fp32     b, scale [N] fp32     y [M][P] fp16 or fp32, P at least N, values after N set to zero
//
// A warp computes one column for all rows, reading its row of W once, 16 bytes a lane. The block first puts x into shared
// memory as fp32 and normalises it there, so nothing is folded into W and the router runs in full precision.
//   Grid: x = ⌈P/8⌉. Block: 256 threads. Shared: 4·M·K bytes (dynamic).
//
// Moves the bytes of W and does 2·MNK operations: pure memory, one pass over the weights.
#include "activation.cuh"
#include "dependent.cuh"
#include "half.cuh"
#include "reduce.cuh"

struct Gemv {
    const __half *x;
    const float *x32;
    const float *partial;
    const void *w;
    const float *bias, *scale, *norm_weight, *norm_bias;
    const __half *residual;
    __half *y;
    float *y32;
    int rows, depth, channels, columns, pitch;
    int shares;
    int norm;   // 0 none, 1 with bias, 2 bias-free
    int act, gate;
    float factor, eps;
};

__device__ __forceinline__ Octet weights8(const __half *w) { return load8(w); }
__device__ __forceinline__ Octet weights8(const float *w) { return load8(w); }

template <class W>
__device__ __forceinline__ void dot(const Gemv &p, const float *x, int column, float (&sum)[8]) {
    const W *w = static_cast<const W *>(p.w) + static_cast<size_t>(column) * p.depth;
#pragma unroll
    for (int m = 0; m < 8; m++) sum[m] = 0;
    for (int k = threadIdx.x % 32 * 8; k < p.depth; k += 256) {
        Octet v = weights8(w + k);
#pragma unroll
        for (int m = 0; m < 8; m++) {
            if (m >= p.rows) break;
            Octet u = load8(x + m * p.depth + k);
#pragma unroll
            for (int i = 0; i < 8; i++) sum[m] += u.v[i] * v.v[i];
        }
    }
#pragma unroll
    for (int m = 0; m < 8; m++) {
        if (m >= p.rows) break;
        sum[m] = warp_sum(sum[m]) + (p.bias ? p.bias[column] : 0.0f);
    }
}

template <class W>
__device__ __forceinline__ void gemv_body(const Gemv &p) {
    await_predecessors();
    extern __shared__ __align__(16) float x[];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int i = threadIdx.x; i < p.rows * p.depth; i += 256) {
        float v = 0;
        if (p.partial) {
            int m = i / p.depth, k = i - m * p.depth;
            const float *from = p.partial + static_cast<size_t>(m) * p.shares * p.depth + k;
#pragma unroll 8
            for (int s = 0; s < p.shares; s++) v += from[static_cast<size_t>(s) * p.depth];
            v *= p.factor;
        } else {
            v = p.x32 ? p.x32[i] : __half2float(p.x[i]);
        }
        x[i] = v;
    }
    __syncthreads();
    if (p.norm) {
        if (warp < p.rows) {
            float *r = x + warp * p.depth, s = 0, ss = 0;
            for (int k = lane; k < p.channels; k += 32) s += r[k];
            float mean = warp_sum(s) / p.channels;
            for (int k = lane; k < p.channels; k += 32) ss += (r[k] - mean) * (r[k] - mean);
            float rstd = rsqrtf(warp_sum(ss) / p.channels + p.eps);
            if (p.norm == 2) mean = 0;
            for (int k = lane; k < p.channels; k += 32) r[k] = (r[k] - mean) * rstd * p.norm_weight[k] + (p.norm == 1 ? p.norm_bias[k] : 0.0f);
        }
        __syncthreads();
    }
    const int out = blockIdx.x * 8 + warp, channels = p.gate ? p.columns / 2 : p.columns;
    if (out >= p.pitch) return;
    float a[8] = {}, b[8] = {};
    if (out < channels) {
        dot<W>(p, x, out, a);
        if (p.gate) dot<W>(p, x, out + channels, b);
    }
    // Lane m takes row m.
    float v = 0, u = 0;
#pragma unroll
    for (int m = 0; m < 8; m++)
        if (lane == m) v = a[m], u = b[m];
    if (lane >= p.rows) return;
    size_t at = static_cast<size_t>(lane) * p.pitch + out;
    if (out < channels) {
        v = p.gate ? gated(v, u, p.gate) : activate(v, p.act);
        if (p.scale) v *= p.scale[out];
        if (p.residual) v += __half2float(p.residual[at]);
    }
    if (p.y32)
        p.y32[at] = v;
    else
        p.y[at] = __float2half_rn(v);
}

extern "C" __global__ void __launch_bounds__(256) gemv_f16(const __grid_constant__ Gemv p) { gemv_body<__half>(p); }
extern "C" __global__ void __launch_bounds__(256) gemv_f32(const __grid_constant__ Gemv p) { gemv_body<float>(p); }
