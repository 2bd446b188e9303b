// router.cu: the router's decision from its gates, so that only the decision crosses to the host.
//
//   leaves [image][pitch] fp16 or fp32     logits of the tree's leaves; further values of a row are ignored
//   levels [image][pitch] fp16 or fp32     logits of its levels
//   allowed [leaves] bytes                 0 masks a leaf; null allows all
//   experts [leaves][levels] int           the tree's table
//   out    [image][8 + leaves + levels]    leaf, level, expert, finite (ints); leaf entropy, level entropy, gate, 0;
//                                          probabilities of leaves, of levels (floats)
//
// Probabilities are computed in double precision, added in order and rounded to fp32 once, and the most probable, the
// first of equals, is taken by the rounded values: the rule of the host's router, so that both decide alike. A logit that
// is not finite, or a mask without a leaf, makes leaf, level, expert -1 and finite 0. level ≥ 0 overrides the chosen level.
//
// router_f16, router_f32. Grid: x = images. Block: 64 threads. Shared: 8·(leaves + levels) bytes (dynamic). Microseconds
// of latency, no bandwidth to speak of.
#include <cuda_fp16.h>

__device__ __forceinline__ double logit(const __half *p, int i) { return __half2float(p[i]); }
__device__ __forceinline__ double logit(const float *p, int i) { return p[i]; }

// distribute makes p[0, n) the softmax of the allowed logits, rounded to fp32 in out; one thread gives entropy and argmax.
template <class T>
__device__ __forceinline__ void distribute(const T *logits, int n, const unsigned char *allowed, double *p, float *out) {
    double top = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++)
        if (!allowed || allowed[i]) top = fmax(top, logit(logits, i));
    for (int i = threadIdx.x; i < n; i += blockDim.x) p[i] = !allowed || allowed[i] ? exp(logit(logits, i) - top) : 0.0;
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

template <class T>
__device__ __forceinline__ void route(const T *leaves, const T *levels, const unsigned char *allowed, const int *experts, int *out,
                                      int leaf_pitch, int level_pitch, int leaf_count, int level_count, int level) {
    extern __shared__ double p[];
    leaves += static_cast<size_t>(blockIdx.x) * leaf_pitch;
    levels += static_cast<size_t>(blockIdx.x) * level_pitch;
    out += static_cast<size_t>(blockIdx.x) * (8 + leaf_count + level_count);
    float *values = reinterpret_cast<float *>(out), *leaf_out = values + 8, *level_out = leaf_out + leaf_count;

    int bad = 0, open = !allowed;
    for (int i = threadIdx.x; i < leaf_count; i += blockDim.x) {
        bad |= !isfinite(logit(leaves, i));
        if (allowed) open |= allowed[i];
    }
    for (int i = threadIdx.x; i < level_count; i += blockDim.x) bad |= !isfinite(logit(levels, i));
    if (__syncthreads_or(bad) || !__syncthreads_or(open)) {
        for (int i = threadIdx.x; i < 8 + leaf_count + level_count; i += blockDim.x) out[i] = i < 3 ? -1 : 0;
        return;
    }
    distribute(leaves, leaf_count, allowed, p, leaf_out);
    distribute(levels, level_count, nullptr, p + leaf_count, level_out);
    if (threadIdx.x != 0) return;
    int leaf = argmax(leaf_out, leaf_count);
    if (level < 0) level = argmax(level_out, level_count);
    out[0] = leaf;
    out[1] = level;
    out[2] = experts[leaf * level_count + level];
    out[3] = 1;
    values[4] = total(p, leaf_count);
    values[5] = total(p + leaf_count, level_count);
    values[6] = static_cast<float>(static_cast<double>(leaf_out[leaf]) + static_cast<double>(level_out[level]));
    out[7] = 0;
}

extern "C" __global__ void __launch_bounds__(64, 1)
    router_f16(const __half *leaves, const __half *levels, const unsigned char *allowed, const int *experts, int *out, int leaf_pitch,
               int level_pitch, int leaf_count, int level_count, int level) {
    route(leaves, levels, allowed, experts, out, leaf_pitch, level_pitch, leaf_count, level_count, level);
}

extern "C" __global__ void __launch_bounds__(64, 1)
    router_f32(const float *leaves, const float *levels, const unsigned char *allowed, const int *experts, int *out, int leaf_pitch,
               int level_pitch, int leaf_count, int level_count, int level) {
    route(leaves, levels, allowed, experts, out, leaf_pitch, level_pitch, leaf_count, level_count, level);
}
