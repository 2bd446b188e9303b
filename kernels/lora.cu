// lora.cu: out = base + strength·scale·reshape(B·A) for every tensor of an adapter in one launch.
//
//   table  Entry[entries], in order of their first block
//   LOW_RANK: base, out [rows][k·k][P] fp16, packed as the products want them: row r is filter row_of[r] of the original,
//     position p of a tap its channel channel_of[p] (-1: none, copied as it is; no table: r, and p below `channels`).
//     A [inner][channels·k] and B [filters·k][inner] fp16 are loralib's matrices as stored; the product, read row by row
//     as [filters][channels][k][k], is the adapter. factor [channels] fp32, of a normalisation in front, multiplies the
//     columns of the sum. norm_sum [rows] becomes the sum of out's row. bias [rows] = base_bias plus, where given, what the
//     normalisation's bias norm_bias [channels] contributes: the row of base + adapter times it. All biases fp32.
//   DENSE_F16, DENSE_F32: base, out and A (the adapter, in the base's layout) are plain vectors of `rows` values.
//
// out is always made from base, never from itself: strength 0 gives the base's own weights, without factor bit for bit, and
// no sequence of merges drifts. The result is rounded once.
//
// merge_adapter. Grid: x = blocks of all entries: eight rows, or 2048 values of a vector. Block: 256 threads.
// Shared: 4·8·k·inner bytes of the largest entry (dynamic). Moves 4 bytes a weight and does 2·inner operations a weight:
// at rank 8, 4 op/byte, memory sets the pace; a value of A, from L2, serves eight rows.
#include <cuda_fp16.h>

#include "dependent.cuh"
#include "reduce.cuh"

enum { LOW_RANK = 0, DENSE_F16 = 1, DENSE_F32 = 2 };

struct __align__(16) Entry {
    const void *base;
    void *out;
    const __half *a, *b;
    const int *row_of, *channel_of;
    const float *factor;
    float *norm_sum;
    const float *base_bias;
    float *bias;
    const float *norm_bias;
    int first_block, kind;
    int rows;
    int kernel, inner;    // k, and the rows of A
    int channels, pitch;  // of a tap
    float scale;
};

constexpr int ROWS = 8, VALUES = 2048;

__device__ __forceinline__ void merge_rows(const Entry &e, float strength, int row0, float *factors) {
    __shared__ float scratch[32];
    const int k = e.kernel, taps = k * k, cols = e.channels * k, depth = taps * e.pitch, part = k * e.inner;
    const float scale = strength * e.scale;
    int filter[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) filter[r] = row0 + r < e.rows ? (e.row_of ? e.row_of[row0 + r] : row0 + r) : -1;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        for (int i = threadIdx.x; i < part; i += 256)
            factors[r * part + i] = filter[r] >= 0 ? __half2float(e.b[static_cast<size_t>(filter[r]) * part + i]) : 0.0f;
    __syncthreads();
    const __half *base = static_cast<const __half *>(e.base) + static_cast<size_t>(row0) * depth;
    __half *out = static_cast<__half *>(e.out) + static_cast<size_t>(row0) * depth;
    float sum[ROWS] = {}, shift[ROWS] = {};
    for (int p = threadIdx.x; p < depth; p += 256) {
        int tap = p / e.pitch, c = p - tap * e.pitch;
        if (e.channel_of)
            c = e.channel_of[c];
        else if (c >= e.channels)
            c = -1;
        float delta[ROWS] = {};
        if (c >= 0) {
            int f = c * taps + tap, i = f / cols;
            const __half *a = e.a + (f - i * cols);
            const float *b = factors + i * e.inner;
            for (int n = 0; n < e.inner; n++, a += cols) {
                float v = __half2float(*a);
#pragma unroll
                for (int r = 0; r < ROWS; r++) delta[r] += b[r * part + n] * v;
            }
#pragma unroll
            for (int r = 0; r < ROWS; r++) delta[r] *= scale;
        }
        const float factor = e.factor && c >= 0 ? e.factor[c] : 1.0f, norm_bias = e.norm_bias && c >= 0 ? e.norm_bias[c] : 0.0f;
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (row0 + r >= e.rows) break;
            size_t at = static_cast<size_t>(r) * depth + p;
            __half v = base[at];
            if (filter[r] >= 0 && c >= 0) {
                float w = strength != 0 ? __half2float(v) + delta[r] : __half2float(v);
                shift[r] += w * norm_bias;
                v = __float2half_rn(w * factor);
            }
            out[at] = v;
            sum[r] += __half2float(v);
        }
    }
    if (e.norm_sum) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            float s = block_sum(sum[r], scratch);
            if (threadIdx.x == 0 && row0 + r < e.rows) e.norm_sum[row0 + r] = s;
        }
    }
    if (e.bias) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            float s = e.norm_bias ? block_sum(shift[r], scratch) : 0.0f;
            if (threadIdx.x == 0 && row0 + r < e.rows) e.bias[row0 + r] = e.base_bias[row0 + r] + s;
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) merge_adapter(const Entry *table, int entries, float strength) {
    await_predecessors();
    extern __shared__ float factors[];
    int low = 0, high = entries;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (table[middle].first_block <= static_cast<int>(blockIdx.x))
            low = middle;
        else
            high = middle;
    }
    const Entry &e = table[low];
    int block = blockIdx.x - e.first_block;
    if (e.kind == LOW_RANK) {
        merge_rows(e, strength, block * ROWS, factors);
        return;
    }
    float scale = strength * e.scale;
    int end = min((block + 1) * VALUES, e.rows);
    for (int i = block * VALUES + threadIdx.x; i < end; i += 256) {
        float delta = strength != 0 ? scale * __half2float(e.a[i]) : -0.0f;  // -0 adds nothing, not even to -0
        if (e.kind == DENSE_F16)
            static_cast<__half *>(e.out)[i] = __float2half_rn(__half2float(static_cast<const __half *>(e.base)[i]) + delta);
        else
            static_cast<float *>(e.out)[i] = static_cast<const float *>(e.base)[i] + delta;
    }
}
