// router.cu: the router's decision from its gates, so that only the decision crosses to the host.
//
//   leaves [image][pitch] fp16 or fp32     logits of the tree's leaves; further values of a row are ignored
//   levels [image][pitch] fp16 or fp32     logits of its levels
//   override [image][pitch] fp32           a value a leaf, 0 masks it, and a level that overrides the chosen one unless it is
//                                          negative; null allows all
//   experts [leaves][levels] int           the tree's table
//   out    [image][pitch] fp32             graph.Route's decision: leaf, level, expert, made, leaf entropy, level entropy,
//                                          gate, probabilities of leaves, of levels, zeros
//
// Probabilities are computed in double precision, added in order and rounded to fp32 once, and the most probable, the
// first of equals, is taken by the rounded values: the rule of graph.Route.Decide, so that host and device decide alike. A
// logit that is not finite, or a mask without a leaf, makes leaf, level, expert -1 and all else 0.
//
// router_f16, router_f32. Grid: x = images. Block: 64 threads. Shared: 8·(leaves + levels) bytes (dynamic). Microseconds
// of latency, no bandwidth to speak of.
#include "dependent.cuh"
#include <cuda_fp16.h>

constexpr int HEAD = 7;

__device__ __forceinline__ double logit(const __half *p, int i) { return __half2float(p[i]); }
__device__ __forceinline__ double logit(const float *p, int i) { return p[i]; }

// distribute makes p[0, n) the softmax of the allowed logits, rounded to fp32 in out; one thread gives entropy and argmax.
template <class T>
__device__ __forceinline__ void distribute(const T *logits, int n, const float *allowed, double *p, float *out) {
    double top = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++)
        if (!allowed || allowed[i] != 0) top = fmax(top, logit(logits, i));
    for (int i = threadIdx.x; i < n; i += blockDim.x) p[i] = !allowed || allowed[i] != 0 ? exp(logit(logits, i) - top) : 0.0;
    __syncthreads();
    for (int i = 0; i < n; i++) sum += p[i];
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        float v = static_cast<float>(p[i] / sum);
        out[i] = v;
        p[i] = v > 0 ? -static_cast<double>(v) * log(static_cast<double>(v)) : 0.0;
    }
    __syncthreads();
}

__device__ __forceinline__ float total(const double *p, int n) {
    double h = 0;
    for (int i = 0; i < n; i++) h += p[i];
    return static_cast<float>(h);
}

__device__ __forceinline__ int argmax(const float *p, int n) {
    int best = 0;
    for (int i = 1; i < n; i++)
        if (p[i] > p[best]) best = i;
    return best;
}

struct Shape {
    int leaf_pitch, level_pitch, override_pitch, out_pitch, leaves, levels;
};

template <class T>
__device__ __forceinline__ void route(const T *leaves, const T *levels, const float *override, const int *experts, float *out, Shape s) {
    extern __shared__ double p[];
    leaves += static_cast<size_t>(blockIdx.x) * s.leaf_pitch;
    levels += static_cast<size_t>(blockIdx.x) * s.level_pitch;
    out += static_cast<size_t>(blockIdx.x) * s.out_pitch;
    if (override) override += static_cast<size_t>(blockIdx.x) * s.override_pitch;
    float *leaf_out = out + HEAD, *level_out = leaf_out + s.leaves;

    for (int i = HEAD + s.leaves + s.levels + threadIdx.x; i < s.out_pitch; i += blockDim.x) out[i] = 0;
    int bad = 0, open = !override;
    for (int i = threadIdx.x; i < s.leaves; i += blockDim.x) {
        bad |= !isfinite(logit(leaves, i));
        if (override) open |= override[i] != 0;
    }
    for (int i = threadIdx.x; i < s.levels; i += blockDim.x) bad |= !isfinite(logit(levels, i));
    if (__syncthreads_or(bad) || !__syncthreads_or(open)) {
        for (int i = threadIdx.x; i < HEAD + s.leaves + s.levels; i += blockDim.x) out[i] = i < 3 ? -1 : 0;
        return;
    }
    distribute(leaves, s.leaves, override, p, leaf_out);
    distribute(levels, s.levels, nullptr, p + s.leaves, level_out);
    if (threadIdx.x != 0) return;
    int leaf = argmax(leaf_out, s.leaves), level = argmax(level_out, s.levels);
    if (override && override[s.leaves] >= 0 && override[s.leaves] < s.levels) level = static_cast<int>(override[s.leaves]);
    out[0] = leaf;
    out[1] = level;
    out[2] = experts[leaf * s.levels + level];
    out[3] = 1;
    out[4] = total(p, s.leaves);
    out[5] = total(p + s.leaves, s.levels);
    out[6] = static_cast<float>(static_cast<double>(leaf_out[leaf]) + static_cast<double>(level_out[level]));
}

extern "C" __global__ void __launch_bounds__(64, 1)
    router_f16(const __half *leaves, const __half *levels, const float *override, const int *experts, float *out, Shape s) {
    await_predecessors();
    route(leaves, levels, override, experts, out, s);
}

extern "C" __global__ void __launch_bounds__(64, 1)
    router_f32(const float *leaves, const float *levels, const float *override, const int *experts, float *out, Shape s) {
    await_predecessors();
    route(leaves, levels, override, experts, out, s);
}
