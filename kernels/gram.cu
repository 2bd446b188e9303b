// gram.cu: Gram matrices of transposed attention, G[i][j] = Σ_p q[p][i]·k[p][j] over all pixels p of an image, and the
// squared norms Σ q², Σ k², one matrix a head, on tensor cores.
//
// D is a head's channels, padded to a multiple of 8. Every block adds up its share of the pixels in registers and writes
// one partial result of D·D + 2D floats (the matrix, then the norms of q and of k) to partial[image][head][split].
// The splits are added in order afterwards: no atomics, the same bits every time.
//
// depthwise_gram: q, k and v first pass a 3×3 depthwise convolution; q and k exist only in shared memory, rounded to
// fp16, and v = channels [2C, 3C) is stored. D ≤ 48 and D ≤ 96 have kernels of their own.
//   x [image][height][width][in] fp16, q at 0, k at C, v at 2C, heads one after the other   w [9][in] fp32
//   y [image][height][width][out] fp16
//   Grid: x = splits, y = heads for q and k, then ⌈heads/2⌉ for v, two heads each; z = images. Block: 4D threads, eight
//   columns of D/2 quads of channels. A block takes every splits-th tile of 8×8 pixels.
//   Moves 2HW(3C + C) bytes and does 54·HWC + 2·HWCD operations.
//
// gram: q and k come from memory as rows [pixel][2·heads·D], all of q before all of k.
//   Grid: x = splits, y = heads × 64-row tiles × 64-column tiles, z = images. Block: 128 threads.
//   Moves 4·HW·heads·D bytes for each 64 columns, does 2·HW·heads·D·D operations.
//
// gram_reduce adds the splits up to one. Grid: x = ⌈(D·D+2D)/64⌉, y = image·heads. Block: 256 threads.
// gram_normalise divides by the norms, G/(max(‖q‖,1e-12)·max(‖k‖,1e-12)), to [image·head][d][D] fp32, for those who want
// the matrix itself. Grid: x = ⌈d·D/256⌉, y = image·heads. Block: 256 threads.
#include "activation.cuh"
#include "async_copy.cuh"
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
    int act;
};

__device__ __forceinline__ float4 activate4(float4 v, int act) {
    return act ? make_float4(activate(v.x, act), activate(v.y, act), activate(v.z, act), activate(v.w, act)) : v;
}

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

template <int PAIRS>
__device__ __forceinline__ void depthwise_gram_body(const DepthwiseGram &p) {
    constexpr int MOST = 16 * PAIRS;  // channels of a head
    constexpr int TILE = 64 * (2 * MOST + 8) * 2, MATRIX = MOST * (MOST + 8) * 4;
    __shared__ __align__(128) unsigned char memory[TILE > MATRIX ? TILE : MATRIX];
    __half *tile = reinterpret_cast<__half *>(memory);

    const int d = p.head, padded = (d + 15) / 16 * 16, pitch = 2 * padded + 8;
    const int quads = d / 2, quad = threadIdx.x % quads, lane_column = threadIdx.x / quads;
    const bool values = blockIdx.y >= p.heads;
    const int head = values ? 2 * (blockIdx.y - p.heads) : blockIdx.y, image = blockIdx.z, c = p.heads * d;
    const bool second = quad >= d / 4;  // k, or the second head of v
    const bool alive = !(values && second && head + 1 >= p.heads);
    int channel = head * d + quad * 4;
    if (values)
        channel += 2 * c;
    else if (second)
        channel += c - d;
    Column column;
    if (alive) column.filter(p.w, p.bias, p.in, channel);

    const int tiles_x = (p.width + 7) / 8, tiles = tiles_x * ((p.height + 7) / 8);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q2 = lane % 4 * 2;
    const int units = padded / 16, shares = blockDim.x / 32 / units, unit = warp % units, share = warp / units;
    float acc[2 * PAIRS][4] = {};
    float4 norm = make_float4(0, 0, 0, 0);
    if (!values && padded != d) {
        for (int i = threadIdx.x; i < 64 * pitch; i += blockDim.x) tile[i] = __float2half_rn(0.0f);
        __syncthreads();
    }
    for (int t = blockIdx.x; t < tiles; t += gridDim.x) {
        int y0 = t / tiles_x * 8, x = t % tiles_x * 8 + lane_column;
        bool inside = alive && x < p.width;
        if (inside) {
            column.place(p.x, image, y0, x, p.height, p.width, channel);
            column.feed(-1, y0 > 0);
            column.feed(0, true);
        }
        __half *v = p.y + ((static_cast<size_t>(image) * p.height + y0) * p.width + x) * p.out + channel - 2 * c;
        // Columns 2i and 2i+1 lie four rows apart, so that a warp that spans both fills all banks at 48 channels a head.
        __half *s = tile + (lane_column % 2 * 4 + lane_column / 2) * pitch + quad * 4 + (second ? padded - d : 0);
#pragma unroll 2
        for (int r = 0; r < 8; r++) {
            bool store = inside && y0 + r < p.height;
            float4 f = make_float4(0, 0, 0, 0);
            if (store) f = activate4(column.feed(r + 1, y0 + r + 1 < p.height), p.act);
            if (values) {
                if (store) store4(v + static_cast<size_t>(r) * p.width * p.out, f);
            } else {
                float4 h = store4_shared(s + r * 8 * pitch, f);  // what the product sees
                norm = make_float4(norm.x + h.x * h.x, norm.y + h.y * h.y, norm.z + h.z * h.z, norm.w + h.w * h.w);
            }
        }
        if (values) continue;
        __syncthreads();
        if (share < shares)
            for (int step = share; step < 4; step += shares)
                gram_step<PAIRS>(acc, tile + step * 16 * pitch + unit * 16, tile + step * 16 * pitch + padded, pitch, d);
        __syncthreads();
    }
    if (values) {
        if (head + 2 >= p.heads && p.out > c)  // the padding of v's rows
            for (int t = blockIdx.x; t < tiles; t += gridDim.x)
                for (int i = threadIdx.x; i < 64; i += blockDim.x) {
                    int y = t / tiles_x * 8 + i / 8, x = t % tiles_x * 8 + i % 8;
                    if (y < p.height && x < p.width)
                        for (int k = c; k < p.out; k++)
                            p.y[((static_cast<size_t>(image) * p.height + y) * p.width + x) * p.out + k] = __float2half_rn(0.0f);
                }
        return;
    }
    size_t size = static_cast<size_t>(d) * d + 2 * d;
    float *out = p.partial + ((static_cast<size_t>(image) * p.heads + head) * gridDim.x + blockIdx.x) * size;
    float *matrix = reinterpret_cast<float *>(memory);
    const int row_pitch = d + 8;  // four rows of 48 or 96 sums begin in four different quarters of the banks
    for (int s = 0; s < shares; s++) {
        if (share == s) {
#pragma unroll
            for (int j = 0; j < 2 * PAIRS; j++)
#pragma unroll
                for (int e = 0; e < 4; e += 2) {
                    int row = unit * 16 + g + e / 2 * 8, col = 8 * j + q2;
                    if (row < d && col < d) {
                        float2 *m = reinterpret_cast<float2 *>(matrix + row * row_pitch + col), sum = make_float2(acc[j][e], acc[j][e + 1]);
                        *m = s ? make_float2(m->x + sum.x, m->y + sum.y) : sum;
                    }
                }
        }
        __syncthreads();
    }
    for (int i = threadIdx.x; i < d * d / 4; i += blockDim.x)
        reinterpret_cast<float4 *>(out)[i] = *reinterpret_cast<float4 *>(matrix + i / (d / 4) * row_pitch + i % (d / 4) * 4);
    __syncthreads();
    reinterpret_cast<float4 *>(memory)[threadIdx.x] = norm;
    __syncthreads();
    if (threadIdx.x < quads) {
        for (int i = 1; i < 8; i++) {
            float4 h = reinterpret_cast<float4 *>(memory)[i * quads + threadIdx.x];
            norm = make_float4(norm.x + h.x, norm.y + h.y, norm.z + h.z, norm.w + h.w);
        }
        *reinterpret_cast<float4 *>(out + d * d + 4 * quad) = norm;
    }
}

extern "C" __global__ void __launch_bounds__(192) depthwise_gram_48(const __grid_constant__ DepthwiseGram p) {
    depthwise_gram_body<3>(p);
}
extern "C" __global__ void __launch_bounds__(384) depthwise_gram_96(const __grid_constant__ DepthwiseGram p) {
    depthwise_gram_body<6>(p);
}

struct Gram {
    const __half *qk;
    float *partial;
    int pixels;  // of an image
    int head, heads;
};

extern "C" __global__ void __launch_bounds__(128) gram(const __grid_constant__ Gram p) {
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

extern "C" __global__ void __launch_bounds__(256) gram_reduce(const float *partial, float *out, int splits, int size) {
    __shared__ float sums[256];
    int i = blockIdx.x * 64 + threadIdx.x % 64;
    const float *from = partial + static_cast<size_t>(blockIdx.y) * splits * size + i;
    float s = 0;
    if (i < size) {
#pragma unroll 8
        for (int k = threadIdx.x / 64; k < splits; k += 4) s += from[static_cast<size_t>(k) * size];
    }
    sums[threadIdx.x] = s;
    __syncthreads();
    if (threadIdx.x < 64 && i < size)
        out[static_cast<size_t>(blockIdx.y) * size + i] =
            (sums[threadIdx.x] + sums[threadIdx.x + 64]) + (sums[threadIdx.x + 128] + sums[threadIdx.x + 192]);
}

extern "C" __global__ void __launch_bounds__(256)
    gram_normalise(const float *partial, float *out, int splits, int head, int channels) {
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
