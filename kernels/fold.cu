// fold.cu: the attention of transposed attention and the projection after it as one matrix an image.
//
//   A = softmax over j of temperature[h]·G[h][i][j]      M[o][h·d+j] = Σ_i W[o][h·d+i]·A[h][i][j]
//
//   G from partial sums [image][head][splits][D·D + 2D] (see gram.cu), which are added and normalised here, or given
//   as [image][head][d][D] fp32; D is d padded to a multiple of 8
//   W [outputs][pitch] fp16       M [image][outputs][pitch] fp16, the padding zero: the dynamic weight of a pointwise product
//
// fold: d ≤ 104. A block adds the shares of four rows of G, makes them rows of A in fp16 and leaves them in memory; the one
//   that is last to finish a head multiplies them with W on tensor cores.
//   Grid: x = P/4, y = heads, z = images, P = d padded to a multiple of 16. Block: 512 threads. Shared: 26 KiB.
//   Scratch: [image][head][P][P] fp16.
// attention_rows and fold_wide: any d, A goes through memory as [image][head][d][d] fp32.
//   Grids: a warp a row; 256 values of M a block.
//
// Reads 4·splits·(D·D+2D) bytes for each head and the norms of k once a block, and does 2·C·C·d operations: microseconds,
// latency bound.
#include "arrival.cuh"
#include "async_copy.cuh"
#include "dependent.cuh"
#include "half.cuh"
#include "mma.cuh"
#include "reduce.cuh"

struct Fold {
    const float *partial;      // or null
    const float *gram;         // or null
    const float *temperature;  // [heads]
    const __half *w;
    __half *out;
    void *attention;           // [image][head][P][P] fp16; the wide path: [image][head][d][d] fp32
    unsigned *arrived;         // [image][head]
    int splits, head, channels, heads;  // head: D, channels: d
    int outputs, pitch;
};

// normalised divides by the norms, whose squares are given.
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

constexpr int ROWS = 4, FOLD_THREADS = 512, MOST = 112, STEPS = MOST / 16;

__device__ __forceinline__ float4 plus(float4 s, const float4 (&v)[8]) {
#pragma unroll
    for (int i = 0; i < 8; i++) s = make_float4(s.x + v[i].x, s.y + v[i].y, s.z + v[i].z, s.w + v[i].w);
    return s;
}

// add_rows leaves the sums of all shares in `values`: ROWS rows of D, the squared norms of k, those of q of the rows.
__device__ __forceinline__ void add_rows(const Fold &p, size_t which, int i0, float4 *sums, float4 *values) {
    const int d = p.head, rows = ROWS * d / 4, items = rows + d / 4 + 1, slices = FOLD_THREADS / items;
    const int item = threadIdx.x % items, slice = threadIdx.x / items;
    const int size = d * d + 2 * d;
    const float *from = p.partial + which * p.splits * size;
    from += item < rows ? i0 * d + 4 * item : item < items - 1 ? d * d + d + 4 * (item - rows) : d * d + i0;
    float4 s = make_float4(0, 0, 0, 0);
    if (slice < slices && i0 < d) {
        constexpr int AT_ONCE = 8;  // reads under way
        float4 v[AT_ONCE];
        int k = slice;
#pragma unroll 1
        for (; k + (AT_ONCE - 1) * slices < p.splits; k += AT_ONCE * slices) {
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) v[i] = *reinterpret_cast<const float4 *>(from + (k + i * slices) * size);
            s = plus(s, v);
        }
        if (k < p.splits) {
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) {
                const int at = k + i * slices;
                v[i] = *reinterpret_cast<const float4 *>(from + min(at, p.splits - 1) * size);
                if (at >= p.splits) v[i] = make_float4(0, 0, 0, 0);
            }
            s = plus(s, v);
        }
    }
    sums[threadIdx.x] = s;
    __syncthreads();
    if (threadIdx.x < items) {
        for (int k = 1; k < slices; k++) {
            float4 v = sums[k * items + threadIdx.x];
            s = make_float4(s.x + v.x, s.y + v.y, s.z + v.z, s.w + v.w);
        }
        values[threadIdx.x] = s;
    }
    __syncthreads();
}

// attend makes one row of A by one warp.
__device__ __forceinline__ void attend(const Fold &p, size_t which, int i, const float *values, __half *row, int padded) {
    const int lane = threadIdx.x % 32, d = p.channels, r = i % ROWS;
    const float t = p.temperature[which % p.heads];
    float v[4], most = -INFINITY, sum = 0;
    float q = 0;
    if (p.partial) q = 1.0f / fmaxf(sqrtf(values[(ROWS + 1) * p.head + r]), 1e-12f);
#pragma unroll
    for (int k = 0; k < 4; k++) {
        int j = lane + 32 * k;
        v[k] = -INFINITY;
        if (i < d && j < d) {
            if (p.partial)
                v[k] = t * (values[r * p.head + j] * q * (1.0f / fmaxf(sqrtf(values[ROWS * p.head + j]), 1e-12f)));
            else
                v[k] = t * p.gram[(which * d + i) * p.head + j];
        }
        most = fmaxf(most, v[k]);
    }
    most = warp_max(most);
#pragma unroll
    for (int k = 0; k < 4; k++) {
        v[k] = i < d ? __expf(v[k] - most) : 0.0f;
        sum += v[k];
    }
    sum = i < d ? 1.0f / warp_sum(sum) : 0.0f;
#pragma unroll
    for (int k = 0; k < 4; k++)
        if (lane + 32 * k < padded) row[lane + 32 * k] = __float2half_rn(lane + 32 * k < d ? v[k] * sum : 0.0f);
}

// pair reads two neighbouring values of W, which need not be aligned; from i = d on they are zero. It reads in any case, so that
// all pairs are on their way at the same time.
__device__ __forceinline__ uint32_t pair(const __half *w, int i, int d) {
    const __half a = w[min(i, d - 1)], b = w[min(i + 1, d - 1)], zero = __float2half_rn(0.0f);
    const __half2 v = __halves2half2(i < d ? a : zero, i + 1 < d ? b : zero);
    return *reinterpret_cast<const uint32_t *>(&v);
}

// store_pair writes two values, as far as they are among the `left` of a row.
__device__ __forceinline__ void store_pair(__half *to, const float *v, int left, bool aligned) {
    if (aligned) {
        if (left > 0) *reinterpret_cast<uint32_t *>(to) = pack2(v[0], v[1]);
    } else {
        if (left > 0) to[0] = __float2half_rn(v[0]);
        if (left > 1) to[1] = __float2half_rn(v[1]);
    }
}

// Outputs is how warps share a head's columns of M: 16 of the outputs each, or where there are few half of their columns.
struct Outputs {
    static constexpr int WARPS = FOLD_THREADS / 32;
    int parts, items, steps;

    __device__ __forceinline__ Outputs(const Fold &p, int padded) : steps(padded / 16) {
        const int tiles = (p.outputs + 15) / 16;
        parts = 2 * tiles <= WARPS ? 2 : 1;
        items = tiles * parts;
    }
    // read asks for an item's rows of W as left operands.
    __device__ __forceinline__ void read(const Fold &p, int item, int head, uint32_t (&a)[STEPS][4]) const {
        const int o = item / parts * 16 + threadIdx.x % 32 / 4, q = threadIdx.x % 4, d = p.channels;
        const __half *w = p.w + static_cast<size_t>(min(o, p.outputs - 1)) * p.pitch + head * d;
        const __half *w8 = p.w + static_cast<size_t>(min(o + 8, p.outputs - 1)) * p.pitch + head * d;
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            if (s >= steps) break;
            int i = 16 * s + 2 * q;
            a[s][0] = pair(w, i, d);
            a[s][1] = pair(w8, i, d);
            a[s][2] = pair(w, i + 8, d);
            a[s][3] = pair(w8, i + 8, d);
        }
    }
    // multiply makes an item's columns of M.
    __device__ __forceinline__ void multiply(const Fold &p, int item, int image, int head, const uint32_t (&a)[STEPS][4], const __half *attention) const {
        const int lane = threadIdx.x % 32, o = item / parts * 16 + lane / 4, q = lane % 4, d = p.channels, pitch = 16 * steps + 8;
        __half *y = p.out + (static_cast<size_t>(image) * p.outputs + o) * p.pitch + head * d;
#pragma unroll 2
        for (int n = item % parts; n < steps; n += parts) {
            float acc[2][4] = {};
#pragma unroll
            for (int s = 0; s < STEPS; s++) {
                if (s >= steps) break;
                uint32_t b[4];
                ldmatrix4_trans(b, shared_address(attention + (16 * s + lane % 16) * pitch + 16 * n + lane / 16 * 8));
                mma16816(acc[0], a[s], b[0], b[1]);
                mma16816(acc[1], a[s], b[2], b[3]);
            }
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int j = 16 * n + 8 * (e / 2) + 2 * q, row = e % 2 * 8;
                if (o + row < p.outputs) store_pair(y + row * p.pitch + j, acc[e / 2] + e % 2 * 2, d - j, d % 2 == 0);
            }
        }
    }
};

// clear_padding zeroes what follows the last channel in M's rows.
__device__ __forceinline__ void clear_padding(const Fold &p, int image) {
    const int used = p.heads * p.channels, pad = p.pitch - used;
    if (pad)
        for (int i = threadIdx.x; i < p.outputs * pad; i += FOLD_THREADS)
            p.out[(static_cast<size_t>(image) * p.outputs + i / pad) * p.pitch + used + i % pad] = __float2half_rn(0.0f);
}

extern "C" __global__ void __launch_bounds__(FOLD_THREADS) fold(const __grid_constant__ Fold p) {
    await_predecessors();
    __shared__ __align__(16) unsigned char memory[MOST * (MOST + 8) * 2];
    const int head = blockIdx.y, image = blockIdx.z, padded = (p.channels + 15) / 16 * 16, i0 = blockIdx.x * ROWS;
    const size_t which = static_cast<size_t>(image) * p.heads + head;
    float4 *sums = reinterpret_cast<float4 *>(memory), *values = sums + FOLD_THREADS;
    if (p.partial) add_rows(p, which, i0, sums, values);
    __half *rows = static_cast<__half *>(p.attention) + which * padded * padded;
    if (threadIdx.x < 32 * ROWS) {
        int i = i0 + threadIdx.x / 32;
        attend(p, which, i, reinterpret_cast<const float *>(values), rows + i * padded, padded);
    }
    // W is on its way while blocks arrive.
    const Outputs outputs(p, padded);
    const int first = threadIdx.x / 32;
    uint32_t a[STEPS][4];
    if (first < outputs.items) outputs.read(p, first, head, a);
    if (!last_to_arrive(p.arrived + which, gridDim.x)) return;
    __half *attention = reinterpret_cast<__half *>(memory);
    constexpr int EACH = (MOST * MOST / 8 + FOLD_THREADS - 1) / FOLD_THREADS;
    const int octets = padded / 8, all = padded * octets;
    uint4 v[EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++) v[i] = __ldcg(reinterpret_cast<const uint4 *>(rows) + min(threadIdx.x + i * FOLD_THREADS, all - 1));
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int e = threadIdx.x + i * FOLD_THREADS;
        if (e < all) *reinterpret_cast<uint4 *>(attention + e / octets * (padded + 8) + e % octets * 8) = v[i];
    }
    __syncthreads();
    for (int item = first; item < outputs.items; item += Outputs::WARPS) {
        if (item != first) outputs.read(p, item, head, a);
        outputs.multiply(p, item, image, head, a, attention);
    }
    if (head == p.heads - 1) clear_padding(p, image);
}

extern "C" __global__ void __launch_bounds__(128) attention_rows(const __grid_constant__ Fold p) {
    await_predecessors();
    const int d = p.channels, size = p.head * p.head + 2 * p.head, i = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (i >= d) return;
    const size_t which = blockIdx.y;
    float *row = static_cast<float *>(p.attention) + (which * d + i) * d;
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
    await_predecessors();
    const int d = p.channels, image = blockIdx.z;
    long at = static_cast<long>(blockIdx.x) * 256 + threadIdx.x;
    if (at >= static_cast<long>(p.outputs) * p.pitch) return;
    int o = static_cast<int>(at / p.pitch), c = static_cast<int>(at % p.pitch), head = c / d, j = c % d;
    float s = 0;
    if (head < p.heads) {
        const __half *w = p.w + static_cast<size_t>(o) * p.pitch + head * d;
        const float *a = static_cast<const float *>(p.attention) + (static_cast<size_t>(image) * p.heads + head) * d * d + j;
        for (int i = 0; i < d; i++) s += __half2float(w[i]) * a[static_cast<size_t>(i) * d];
    }
    p.out[static_cast<size_t>(image) * p.outputs * p.pitch + at] = __float2half_rn(s);
}
