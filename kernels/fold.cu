// fold.cu: the attention of transposed attention and the projection after it as one matrix an image.
//
//   A = softmax over j of temperature[h]·G[h][i][j]      M[o][h·d+j] = Σ_i W[o][h·d+i]·A[h][i][j]
//
//   G from partial sums [image][head][splits][D·D + 2D] (see gram.cu), which are added and normalised here, or given
//   as [image][head][d][D] fp32; D is d padded to a multiple of 8
//   W [outputs][pitch] fp16       M [image][outputs][pitch] fp16, the padding zero: the dynamic weight of a pointwise product
//
// fold: d ≤ 104, A stays in shared memory and every block makes it anew.
//   Grid: x = tiles of 32 outputs, y = heads, z = images. Block: 256 threads. Shared: 4(d·(d+1) + 2D) bytes (dynamic).
// attention_rows and fold_wide: any d, A goes through memory as [image][head][d][d] fp32.
//   Grids: a warp a row; 256 values of M a block.
//
// Reads 4·splits·(D·D+2D) bytes for each head and tile and does 2·C·C·d operations: microseconds, latency bound.
#include "half.cuh"
#include "reduce.cuh"

struct Fold {
    const float *partial;      // or null
    const float *gram;         // or null
    const float *temperature;  // [heads]
    const __half *w;
    __half *out;
    float *attention;          // [image][head][d][d], the wide path
    int splits, head, channels, heads;  // head: D, channels: d
    int outputs, pitch;
};

// logit is temperature·G[i][j]; q and k are the squared norms where G is not normalised yet.
__device__ __forceinline__ float normalised(float v, float q, float k) {
    return v * (1.0f / fmaxf(sqrtf(q), 1e-12f)) * (1.0f / fmaxf(sqrtf(k), 1e-12f));
}

__device__ __forceinline__ float added(const float *p, int splits, int size) {
    float s = 0;
#pragma unroll 4
    for (int i = 0; i < splits; i++) s += p[static_cast<size_t>(i) * size];
    return s;
}

// softmax_row makes a row of n logits a distribution, by one warp.
__device__ __forceinline__ void softmax_row(float *row, int n) {
    int lane = threadIdx.x % 32;
    float most = -INFINITY, sum = 0;
    for (int j = lane; j < n; j += 32) most = fmaxf(most, row[j]);
    most = warp_max(most);
    for (int j = lane; j < n; j += 32) {
        float e = __expf(row[j] - most);
        row[j] = e;
        sum += e;
    }
    sum = 1.0f / warp_sum(sum);
    for (int j = lane; j < n; j += 32) row[j] *= sum;
}

__device__ __forceinline__ void clear_padding(const Fold &p, int image, int o0, int o1) {
    int used = p.heads * p.channels, pad = p.pitch - used;
    if (pad)
        for (int i = threadIdx.x; i < (o1 - o0) * pad; i += blockDim.x)
            p.out[(static_cast<size_t>(image) * p.outputs + o0 + i / pad) * p.pitch + used + i % pad] = __float2half_rn(0.0f);
}

extern "C" __global__ void __launch_bounds__(256) fold(const __grid_constant__ Fold p) {
    extern __shared__ float attention[];
    const int d = p.channels, pitch = d + 1, size = p.head * p.head + 2 * p.head, head = blockIdx.y, image = blockIdx.z;
    float *norms = attention + d * pitch;
    const size_t which = static_cast<size_t>(image) * p.heads + head;
    const float t = p.temperature[head];
    if (p.partial) {
        const float *from = p.partial + which * p.splits * size;
        for (int i = threadIdx.x; i < 2 * p.head; i += 256) norms[i] = added(from + p.head * p.head + i, p.splits, size);
        __syncthreads();
        for (int e = threadIdx.x; e < d * d; e += 256) {
            int i = e / d, j = e % d;
            attention[i * pitch + j] = t * normalised(added(from + i * p.head + j, p.splits, size), norms[i], norms[p.head + j]);
        }
    } else {
        const float *from = p.gram + which * d * p.head;
        for (int e = threadIdx.x; e < d * d; e += 256) attention[e / d * pitch + e % d] = t * from[e / d * p.head + e % d];
    }
    __syncthreads();
    for (int i = threadIdx.x / 32; i < d; i += 8) softmax_row(attention + i * pitch, d);
    __syncthreads();
    const int o0 = blockIdx.x * 32, o1 = min(o0 + 32, p.outputs);
    for (int e = threadIdx.x; e < (o1 - o0) * d; e += 256) {
        int o = o0 + e / d, j = e % d;
        const __half *w = p.w + static_cast<size_t>(o) * p.pitch + head * d;
        float s = 0;
        for (int i = 0; i < d; i++) s += __half2float(w[i]) * attention[i * pitch + j];
        p.out[(static_cast<size_t>(image) * p.outputs + o) * p.pitch + head * d + j] = __float2half_rn(s);
    }
    if (head == p.heads - 1) clear_padding(p, image, o0, o1);
}

extern "C" __global__ void __launch_bounds__(128) attention_rows(const __grid_constant__ Fold p) {
    const int d = p.channels, size = p.head * p.head + 2 * p.head, i = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (i >= d) return;
    const size_t which = blockIdx.y;
    float *row = p.attention + (which * d + i) * d;
    const float t = p.temperature[which % p.heads];
    if (p.partial) {
        const float *from = p.partial + which * p.splits * size;
        float q = added(from + p.head * p.head + i, p.splits, size);
        for (int j = lane; j < d; j += 32)
            row[j] = t * normalised(added(from + i * p.head + j, p.splits, size), q, added(from + p.head * p.head + p.head + j, p.splits, size));
    } else {
        for (int j = lane; j < d; j += 32) row[j] = t * p.gram[(which * d + i) * p.head + j];
    }
    softmax_row(row, d);
}

extern "C" __global__ void __launch_bounds__(256) fold_wide(const __grid_constant__ Fold p) {
    const int d = p.channels, image = blockIdx.z;
    long at = static_cast<long>(blockIdx.x) * 256 + threadIdx.x;
    if (at >= static_cast<long>(p.outputs) * p.pitch) return;
    int o = static_cast<int>(at / p.pitch), c = static_cast<int>(at % p.pitch), head = c / d, j = c % d;
    float s = 0;
    if (head < p.heads) {
        const __half *w = p.w + static_cast<size_t>(o) * p.pitch + head * d;
        const float *a = p.attention + (static_cast<size_t>(image) * p.heads + head) * d * d + j;
        for (int i = 0; i < d; i++) s += __half2float(w[i]) * a[static_cast<size_t>(i) * d];
    }
    p.out[static_cast<size_t>(image) * p.outputs * p.pitch + at] = __float2half_rn(s);
}
