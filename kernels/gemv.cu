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

// add_shares makes rows of partial sums: four values a thread, or where threads are left a part of the shares each, in the same order
// every time.
__device__ __forceinline__ void add_shares(const Gemv &p, float *x) {
    __shared__ float4 sums[256];
    const int quads = p.depth / 4, items = p.rows * quads, slices = max(1, 256 / items), slice = threadIdx.x / items;
    for (int i = slices > 1 ? threadIdx.x - slice * items : threadIdx.x; i < items; i += 256) {
        const int m = i / quads;
        const float4 *from = reinterpret_cast<const float4 *>(p.partial) + static_cast<size_t>(m) * p.shares * quads + (i - m * quads);
        float4 s = make_float4(0, 0, 0, 0);
#pragma unroll 8
        for (int k = slices > 1 ? slice : 0; k < p.shares; k += slices) {
            const float4 v = from[static_cast<size_t>(k) * quads];
            s = make_float4(s.x + v.x, s.y + v.y, s.z + v.z, s.w + v.w);
        }
        if (slices > 1)
            sums[threadIdx.x] = s;
        else
            reinterpret_cast<float4 *>(x)[i] = make_float4(s.x * p.factor, s.y * p.factor, s.z * p.factor, s.w * p.factor);
    }
    if (slices == 1) return;
    __syncthreads();
    if (threadIdx.x >= items) return;
    float4 s = sums[threadIdx.x];
    for (int k = 1; k < slices; k++) {
        const float4 v = sums[k * items + threadIdx.x];
        s = make_float4(s.x + v.x, s.y + v.y, s.z + v.z, s.w + v.w);
    }
    reinterpret_cast<float4 *>(x)[threadIdx.x] = make_float4(s.x * p.factor, s.y * p.factor, s.z * p.factor, s.w * p.factor);
}

template <class W>
__device__ __forceinline__ void gemv_body(const Gemv &p) {
    await_predecessors();
    extern __shared__ __align__(16) float x[];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (p.partial)
        add_shares(p, x);
    else
        for (int i = threadIdx.x; i < p.rows * p.depth; i += 256) x[i] = p.x32 ? p.x32[i] : __half2float(p.x[i]);
    __syncthreads();
    if (p.norm) {
        __shared__ float2 moments[8];  // mean and the inverse of the deviation
        if (warp < p.rows) {
            const float *r = x + warp * p.depth;
            float s = 0, ss = 0;
#pragma unroll 4
            for (int k = lane; k < p.channels; k += 32) s += r[k];
            const float mean = warp_sum(s) / p.channels;
#pragma unroll 4
            for (int k = lane; k < p.channels; k += 32) ss += (r[k] - mean) * (r[k] - mean);
            const float rstd = rsqrtf(warp_sum(ss) / p.channels + p.eps);
            if (lane == 0) moments[warp] = make_float2(p.norm == 2 ? 0.0f : mean, rstd);
        }
        __syncthreads();
        for (int i = threadIdx.x; i < p.rows * p.depth; i += 256) {
            const int m = i / p.depth, k = i - m * p.depth;
            if (k < p.channels) x[i] = (x[i] - moments[m].x) * moments[m].y * p.norm_weight[k] + (p.norm == 1 ? p.norm_bias[k] : 0.0f);
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

extern "C" __global__ void __launch_bounds__(256, 2) gemv_f16(const __grid_constant__ Gemv p) { gemv_body<__half>(p); }
extern "C" __global__ void __launch_bounds__(256, 2) gemv_f32(const __grid_constant__ Gemv p) { gemv_body<float>(p); }
