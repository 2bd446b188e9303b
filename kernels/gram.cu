// gram.cu: Gram matrices of transposed attention, G[i][j] = Σ_p q[p][i]·k[p][j] over all pixels p of an image, and the
// squared norms Σ q², Σ k², one matrix a head, on tensor cores.
//
// D is a head's channels, padded to a multiple of 8. Every block adds up its share of the pixels in registers and writes
// one partial result of D·D + 2D floats (the matrix, then the norms of q and of k) to partial[image][head][split].
// The splits are added in order afterwards: no atomics, the same bits every time.
//
// depthwise_gram: q, k and v first pass a 3×3 depthwise convolution; q and k exist only in shared memory, rounded to
// fp16, and v = channels [2C, 3C) is stored. D ≤ 96.
//   x [image][height][width][in] fp16, q at 0, k at C, v at 2C, heads one after the other   w [9][in] fp32
//   y [image][height][width][out] fp16
//   Grid: x = splits, y = heads, z = images. Block: pairs of channels of q, k and v by four groups of four columns, three
//   groups beyond D = 80 so that registers suffice; at most 480 threads. A block takes every splits-th tile of so many columns
//   by `strip` rows. A row of a tile is one step of the product, 16 pixels; `per` parts of 16×16 of the matrix belong to one
//   warp. Shared: 12.5 KiB, two rows in turns.
//   Moves 2HW(3C + C) bytes and does 54·HWC + 2·HWCD operations.
//
// gram: q and k come from memory as rows [pixel][2·heads·D], all of q before all of k.
//   Grid: x = splits, y = heads × 64-row tiles × 64-column tiles, z = images. Block: 128 threads.
//   Moves 4·HW·heads·D bytes for each 64 columns, does 2·HW·heads·D·D operations.
//
// gram_normalise divides by the norms, G/(max(‖q‖,1e-12)·max(‖k‖,1e-12)), to [image·head][d][D] fp32, for those who want
// the matrix itself. Grid: x = ⌈d·D/256⌉, y = image·heads. Block: 256 threads.
#include "activation.cuh"
#include "async_copy.cuh"
#include "dependent.cuh"
#include "depthwise.cuh"
#include "mma.cuh"

struct DepthwiseGram {
    const __half *x;
    const float *w, *bias;
    __half *y;
    float *partial;
    int height, width;
    int in, out;  // pitches
    int head, heads;
    int act, strip;
    int groups, per;
};

// gram_step multiplies 16 pixels: 16 columns of q by 16·PAIRS columns of k. q and k point at the first pixel's row.
template <int PAIRS>
__device__ __forceinline__ void gram_step(float (&acc)[2 * PAIRS][4], const __half *q, const __half *k, int pitch, int columns) {
    int lane = threadIdx.x % 32, r = lane % 8;
    uint32_t a[4];
    ldmatrix4_trans(a, shared_address(q + (r + lane / 16 * 8) * pitch + lane / 8 % 2 * 8));
#pragma unroll
    for (int j = 0; j < PAIRS; j++) {
        if (16 * j >= columns) break;
        uint32_t b[4];
        ldmatrix4_trans(b, shared_address(k + (r + lane / 8 % 2 * 8) * pitch + 16 * j + lane / 16 * 8));
        mma16816(acc[2 * j], a, b[0], b[1]);
        mma16816(acc[2 * j + 1], a, b[2], b[3]);
    }
}

constexpr int COLS = 4, PIXELS = 16, MOST = 96, PARTS = 3;

// GramMarch is what a thread of depthwise_gram carries from row to row.
struct GramMarch {
    Strip<COLS> strip;
    float acc[2 * PARTS][4];
    float2 norm;
    uint32_t tile;  // the thread's channels of its first pixel in the present one of two rows
    __half *rows;   // of v, from the tile's first one on
    int v;          // from there, where the next row's values go; below zero for q and k
    int columns;    // that exist, 0 for a thread without channels
    uint32_t a_at, b_at;
    int flip;       // bytes to the other row
    int pitch;      // in bytes
    int parts;      // of 16×16 that the warp has

    template <int P>
    __device__ __forceinline__ void step(const DepthwiseGram &p, bool next, bool store) {
        if (columns > 0) strip.step<P>(next);
        if (!store) return;
        if (columns >= 0) {
            uint32_t to = tile;
            int place = v;
#pragma unroll
            for (int c = 0; c < COLS; c++) {
                float2 f = make_float2(0, 0);
                if (c < columns) f = activate2(strip.acc[P][c], p.act);
                uint32_t h = pack2(f.x, f.y);
                if (v >= 0) {
                    if (c < columns) *reinterpret_cast<uint32_t *>(rows + place) = h;
                } else {
                    asm volatile("st.shared.b32 [%0], %1;\n" ::"r"(to), "r"(h) : "memory");
                    f = unpack2(h);  // what the product sees
                    norm = make_float2(fmaf(f.x, f.x, norm.x), fmaf(f.y, f.y, norm.y));
                }
                to += pitch;
                place += p.out;
                asm volatile("" : "+r"(to), "+r"(place));  // one register, not one for each column
            }
            if (v >= 0) v += p.width * p.out;
        }
        __syncthreads();
        if (parts > 0) {
            uint32_t a[4], b[4];
            ldmatrix4_trans(a, a_at);
#pragma unroll
            for (int n = 0; n < PARTS; n++) {
                if (n >= parts) break;
                ldmatrix4_trans(b, b_at + 32 * n);
                mma16816(acc[2 * n], a, b[0], b[1]);
                mma16816(acc[2 * n + 1], a, b[2], b[3]);
            }
        }
        tile += flip, a_at += flip, b_at += flip, flip = -flip;
    }
};

extern "C" __global__ void __launch_bounds__(480) depthwise_gram(const __grid_constant__ DepthwiseGram p) {
    await_predecessors();
    __shared__ __align__(128) __half memory[2 * PIXELS * (2 * MOST + 8)];
    const int d = p.head, padded = (d + 15) / 16 * 16, pitch = 2 * padded + 8, pairs = 3 * d / 2;
    const int head = blockIdx.y, image = blockIdx.z, c = p.heads * d;
    const int pair = threadIdx.x % pairs, group = threadIdx.x / pairs, part = 2 * pair / d, within = 2 * pair - part * d;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, across = (padded / 16 + p.per - 1) / p.per;
    const bool alive = group < p.groups;
    GramMarch m;
    m.norm = make_float2(0, 0);
    m.tile = shared_address(memory + group * COLS * pitch + part * padded + within);
    m.pitch = 2 * pitch;
    m.flip = PIXELS * m.pitch;
    const int row0 = warp / across * 16, col0 = warp % across * 16 * p.per;  // the warp's part of the matrix
    m.parts = row0 < padded ? min(p.per, (padded - col0) / 16) : 0;
    m.a_at = shared_address(memory + (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 8 + row0);
    m.b_at = shared_address(memory + (lane % 8 + lane / 8 % 2 * 8) * pitch + lane / 16 * 8 + padded + col0);
#pragma unroll
    for (int e = 0; e < 8 * PARTS; e++) m.acc[e / 4][e % 4] = 0;
    if (alive) m.strip.filter(p.w, p.bias, p.in, part * c + head * d + within);
    if (padded != d || p.groups * COLS != PIXELS)
        for (int i = threadIdx.x; i < 2 * PIXELS * pitch; i += blockDim.x) memory[i] = __float2half_rn(0.0f);
    __syncthreads();
    const int wide = p.groups * COLS, tiles_x = (p.width + wide - 1) / wide, tiles = tiles_x * ((p.height + p.strip - 1) / p.strip);
    for (int t = blockIdx.x; t < tiles; t += gridDim.x) {
        const int ty = t / tiles_x, y0 = ty * p.strip, column = (t - ty * tiles_x) * wide + group * COLS;
        const int rows = min(p.strip, p.height - y0), below = p.height - y0;
        m.columns = alive ? max(0, p.width - column) : -1;
        m.rows = p.y + (static_cast<size_t>(image) * p.height + y0) * p.width * p.out;
        m.v = alive && part == 2 ? column * p.out + head * d + within : -1;
        if (m.columns > 0) {
            m.strip.place(p.x, image, y0, column, p.height, p.width, part * c + head * d + within);
            m.strip.fetch(y0 > 0);
        }
#pragma unroll 1
        for (int s = 0; s < rows + 2; s += 3) {
            m.step<0>(p, s < below && s <= rows, s >= 2 && s < rows + 2);
            m.step<1>(p, s + 1 < below && s + 1 <= rows, s >= 1 && s + 1 < rows + 2);
            m.step<2>(p, s + 2 < below && s + 2 <= rows, s + 2 < rows + 2);
        }
        if (head == p.heads - 1 && p.out > c)  // the padding of v's rows
            for (int i = threadIdx.x; i < rows * wide; i += blockDim.x) {
                const int x = (t - ty * tiles_x) * wide + i % wide;
                if (x < p.width)
                    for (int k = c; k < p.out; k++)
                        p.y[((static_cast<size_t>(image) * p.height + y0 + i / wide) * p.width + x) * p.out + k] = __float2half_rn(0.0f);
            }
    }
    float *out = p.partial + ((static_cast<size_t>(image) * p.heads + head) * gridDim.x + blockIdx.x) * (static_cast<size_t>(d) * d + 2 * d);
#pragma unroll
    for (int n = 0; n < 2 * PARTS; n++) {
        if (n / 2 >= m.parts) break;
        const int row = row0 + lane / 4, col = col0 + 8 * n + lane % 4 * 2;
#pragma unroll
        for (int e = 0; e < 2; e++)
            if (row + e * 8 < d && col < d)
                *reinterpret_cast<float2 *>(out + (row + e * 8) * d + col) = make_float2(m.acc[n][2 * e], m.acc[n][2 * e + 1]);
    }
    __syncthreads();
    float2 *norms = reinterpret_cast<float2 *>(memory);
    if (alive && part < 2) norms[group * d + pair] = m.norm;
    __syncthreads();
    if (threadIdx.x < d) {
        float2 n = norms[threadIdx.x];
        for (int g = 1; g < p.groups; g++) n = make_float2(n.x + norms[g * d + threadIdx.x].x, n.y + norms[g * d + threadIdx.x].y);
        *reinterpret_cast<float2 *>(out + d * d + 2 * threadIdx.x) = n;
    }
}

struct Gram {
    const __half *qk;
    float *partial;
    int pixels;  // of an image
    int head, heads;
};

extern "C" __global__ void __launch_bounds__(128) gram(const __grid_constant__ Gram p) {
    await_predecessors();
    constexpr int PITCH = 72, STAGE = 2 * 64 * PITCH;
    __shared__ __align__(128) __half memory[2 * STAGE];
    const int d = p.head, row_pitch = 2 * p.heads * d, across = (d + 63) / 64;
    const int head = blockIdx.y / (across * across), i0 = blockIdx.y / across % across * 64, j0 = blockIdx.y % across * 64;
    const int image = blockIdx.z, tid = threadIdx.x, warp = tid / 32, lane = tid % 32;
    const __half *q = p.qk + static_cast<size_t>(image) * p.pixels * row_pitch + head * d + i0;
    const __half *k = q - i0 + j0 + p.heads * d;
    const int tiles = (p.pixels + 63) / 64;
    auto load = [&](int t, int stage) {
        for (int i = tid; i < 1024; i += 128) {
            int row = i / 16, c = i % 8 * 8, pixel = t * 64 + row;
            bool is_k = i % 16 >= 8;
            bool valid = pixel < p.pixels && (is_k ? j0 : i0) + c < d;
            const __half *from = (is_k ? k : q) + static_cast<size_t>(pixel) * row_pitch + c;
            copy16(shared_address(memory + stage * STAGE + (is_k ? 64 * PITCH : 0) + row * PITCH + c), valid ? from : p.qk, valid);
        }
    };
    float acc[8][4] = {}, norm = 0;
    int stage = 0;
    if (blockIdx.x < tiles) load(blockIdx.x, 0);
    commit_copies();
    for (int t = blockIdx.x; t < tiles; t += gridDim.x, stage ^= 1) {
        if (t + gridDim.x < tiles) load(t + gridDim.x, stage ^ 1);
        commit_copies();
        wait_copies<1>();
        __syncthreads();
        const __half *tile = memory + stage * STAGE;
#pragma unroll
        for (int s = 0; s < 4; s++)
            gram_step<4>(acc, tile + s * 16 * PITCH + warp * 16, tile + 64 * PITCH + s * 16 * PITCH, PITCH, d - j0);
        if (tid < 64 ? j0 == 0 : i0 == 0) {
            const __half *c = tile + tid / 64 * 64 * PITCH + tid % 64;
            for (int r = 0; r < 64; r++) {
                float v = __half2float(c[r * PITCH]);
                norm += v * v;
            }
        }
        __syncthreads();
    }
    size_t size = static_cast<size_t>(d) * d + 2 * d;
    float *out = p.partial + ((static_cast<size_t>(image) * p.heads + head) * gridDim.x + blockIdx.x) * size;
#pragma unroll
    for (int j = 0; j < 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int row = i0 + warp * 16 + lane / 4 + e / 2 * 8, col = j0 + 8 * j + lane % 4 * 2 + e % 2;
            if (row < d && col < d) out[row * d + col] = acc[j][e];
        }
    int c = tid % 64 + (tid < 64 ? i0 : j0);
    if ((tid < 64 ? j0 == 0 : i0 == 0) && c < d) out[d * d + tid / 64 * d + c] = norm;
}

extern "C" __global__ void __launch_bounds__(256)
    gram_normalise(const float *partial, float *out, int splits, int head, int channels) {
    await_predecessors();
    int at = blockIdx.x * 256 + threadIdx.x, i = at / head, j = at % head, size = head * head + 2 * head;
    if (i >= channels) return;
    const float *from = partial + static_cast<size_t>(blockIdx.y) * splits * size;
    float v = 0, q = 0, k = 0;
    for (int s = 0; s < splits; s++, from += size) {
        v += from[i * head + j];
        q += from[head * head + i];
        k += from[head * head + head + j];
    }
    v /= fmaxf(sqrtf(q), 1e-12f) * fmaxf(sqrtf(k), 1e-12f);
    out[(static_cast<size_t>(blockIdx.y) * channels + i) * head + j] = j < channels ? v : 0.0f;
}
