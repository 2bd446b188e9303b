// queries.cu: what transposed attention needs of an image, as one kernel: queries, keys and values, the 3×3 depthwise convolution,
// stride 1, zeros outside, of W·norm(x) + bias; of queries and keys the Gram matrix of each head and their squared norms,
// see gram.cu; the values themselves.
//
//   x [image][height][width][C] fp16          W [3·heads·D][C] fp16, the factors of the norm folded in, bias [3·heads·D]
//   taps [3·heads·D][12] 32-bit words, see tile.cuh      v [image][height][width][heads·D] fp16
//   partial [image][head][split][D·D + 2D] fp32
//
// D is a head's channels, a multiple of 8; q, k and v stand one after the other, heads one after the other in each. A block keeps a
// tile's pixels and those around them in shared memory, normalised once, and goes through its head's channels by 48: a product
// leaves them in shared memory in fp16, filters run on them, and results of q and k stay there for the Gram matrix, whose sums
// warps hold over all tiles of the block. Channels are rounded to fp16 where they would be stored.
//
// queries_HxD: tiles of H by 16 pixels, heads of at most D channels. Grid: x = splits, which take tiles by turns, y = heads, z = images.
// Block: 384 threads. Shared (dynamic): see queriesShared in queries.go.
//
// Moves 2HWC·(1.3 or 1.6)·heads + 2HW·heads·D bytes through L2 and the weights once a tile, and does 6·HW·heads·D·C·1.3 operations and
// those of filters and Gram matrix; passes over shared memory set the pace.
#include "dependent.cuh"
#include "tile.cuh"

struct Queries {
    const __half *x;
    const __half *w;
    const float *bias;  // or null
    const uint32_t *taps;
    __half *v;
    float *partial;
    int height, width, tiles_x, tiles;
    int depth, channels;  // C, and the channels that the norm averages
    int head, heads;
    int bias_free;
    float eps;
};

constexpr int THREADS = 384, CHANNELS = 48;  // of a step
constexpr int HIDDEN_PITCH = 16 * 7;         // bytes

// filter_of is the filter of a step's row, -1 behind the head's last one. In 16 rows, 8h+2q+e is channel 4q+2h+e, so that a lane's results
// of two octets are four neighbours.
__device__ __forceinline__ int filter_of(const Queries &p, int part, int first, int row) {
    const int channel = first + row / 16 * 16 + row % 8 / 2 * 4 + row / 8 % 2 * 2 + row % 2;
    return channel < p.head ? (part * p.heads + static_cast<int>(blockIdx.y)) * p.head + channel : -1;
}

// load_weights begins to copy the weights and taps of a step; the bias is there at once.
__device__ __forceinline__ void load_weights(const Queries &p, int part, int first, unsigned char *w, float *bias, unsigned char *taps, int chunks, int pitch) {
    const int tid = threadIdx.x;
    const Copier<THREADS> copier(chunks);
    if (copier.chunk < chunks) {
#pragma unroll 1
        for (int row = copier.row; row < CHANNELS; row += copier.step()) {
            const int filter = filter_of(p, part, first, row);
            const bool exists = filter >= 0 && 8 * copier.chunk < p.depth;
            copy16(shared_address(w) + row * pitch + 16 * copier.chunk, exists ? p.w + static_cast<size_t>(filter) * p.depth + 8 * copier.chunk : p.w, exists);
        }
    }
    if (tid < CHANNELS * 3) {
        const int filter = filter_of(p, part, first, tid / 3);
        copy16(shared_address(taps + 16 * tid), p.taps + (filter >= 0 ? filter * 12 + tid % 3 * 4 : 0), filter >= 0);
    } else if (tid - CHANNELS * 3 < CHANNELS) {
        const int filter = filter_of(p, part, first, tid - CHANNELS * 3);
        bias[tid - CHANNELS * 3] = filter >= 0 && p.bias ? p.bias[filter] : 0.0f;
    }
}

// GramPart is a warp's part of a Gram matrix: 16 queries by 8·N keys.
template <int N>
struct GramPart {
    float acc[N][4];

    // add multiplies `rows` rows of 16 pixels.
    __device__ __forceinline__ void add(uint32_t q_at, uint32_t k_at, int rows, int pitch) {
#pragma unroll 1
        for (int r = 0; r < rows; r++, q_at += WIDTH * pitch, k_at += WIDTH * pitch) {
            uint32_t a[4], b[4];
            ldmatrix4_trans(a, q_at);
#pragma unroll
            for (int n = 0; n < N; n += 2) {
                ldmatrix4_trans(b, k_at + 16 * n);
                mma16816(acc[n], a, b[0], b[1]);
                mma16816(acc[n + 1], a, b[2], b[3]);
            }
        }
    }
};

template <int HEIGHT, int D>
__device__ __forceinline__ void queries(const Queries &p) {
    using T = Tile<HEIGHT>;
    constexpr int TILES = (T::ROWS + 11) / 12, STRIP = HEIGHT / 4, PITCH = 16 * (2 * D / 8 | 1);  // PITCH: of q and k of a pixel
    constexpr int DOWN = D / 16, ACROSS = D == 48 ? 3 : 2, KEYS = D / 8 / ACROSS;                 // parts of the matrix
    await_predecessors();
    extern __shared__ __align__(128) unsigned char memory[];
    const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32, g = lane / 4, q = lane % 4, head = blockIdx.y, image = blockIdx.z;
    const int steps = (p.depth + 15) / 16, chunks = 2 * steps, pitch = 16 * (chunks | 1), each = (p.head + CHANNELS - 1) / CHANNELS;
    unsigned char *hidden = memory + 16 * T::ROWS * pitch, *both = hidden + 16 * T::ROWS * HIDDEN_PITCH, *zeros = both + HEIGHT * WIDTH * PITCH;
    unsigned char *weights = zeros + TAP_BYTES, *taps = weights + CHANNELS * pitch;
    float *bias = reinterpret_cast<float *>(taps + 2 * CHANNELS * TAP_BYTES), *norms = bias + CHANNELS;  // norms: [four strips][q, k][D]
    const size_t first = static_cast<size_t>(image) * p.height * p.width;
    const __half *x = p.x + first * p.depth;
    auto tile = [&](int t) { return Image{p.height, p.width, t / p.tiles_x * HEIGHT, t % p.tiles_x * WIDTH}; };
    load_pixels<HEIGHT, THREADS>(tile(blockIdx.x), x, p.depth, memory, chunks, pitch);
    load_weights(p, 0, 0, weights, bias, taps, chunks, pitch);
    commit_copies();
    clear<THREADS>(zeros, TAP_BYTES);
    clear<THREADS>(reinterpret_cast<unsigned char *>(norms), 4 * 8 * D);

    const int pair = warp % 3, strip = warp / 3;  // of the filters
    const uint32_t a_at = shared_address(memory) + (16 * warp + lane % 16) * pitch + lane / 16 * 16;
    const uint32_t b_at = shared_address(weights) + (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 16;
    const uint32_t hidden_at = shared_address(hidden) + (16 * warp + g) * HIDDEN_PITCH + 4 * q;
    const uint32_t filter_at = shared_address(hidden) + (strip * STRIP * HALO + lane % 16) * HIDDEN_PITCH + 32 * pair + lane / 16 * 16;
    GramPart<KEYS> gram;
#pragma unroll
    for (int n = 0; n < KEYS; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) gram.acc[n][i] = 0;
    int buffer = 0;
#pragma unroll 1
    for (int t = blockIdx.x; t < p.tiles; t += gridDim.x) {
        const Image at = tile(t);
        unsigned inside = 0;
#pragma unroll
        for (int i = 0; i < 2 * TILES; i++) {
            const int place = 16 * warp + 192 * (i / 2) + i % 2 * 8 + g;
            if (place < T::PLACES && at.place(place)) inside |= 1u << i;
        }
        wait_copies<0>();
        __syncthreads();  // nobody filters the tile before any more
        clear<THREADS>(hidden, 16 * T::ROWS * HIDDEN_PITCH);  // outside the image they are zero, whatever the bias
        if (p.channels <= 96)
            normalise_pixels<HEIGHT, THREADS, 3>(memory, pitch, p.channels, p.eps, p.bias_free);
        else
            normalise_pixels<HEIGHT, THREADS, 6>(memory, pitch, p.channels, p.eps, p.bias_free);
#pragma unroll 1
        for (int step = 0; step < 3 * each; step++) {
            const int part = step / each, base = (step - part * each) * CHANNELS;
            wait_copies<0>();
            __syncthreads();  // weights are there, rows normalised, hidden channels of the step before filtered
            if (step == 2 * each && warp / DOWN < ACROSS) {
                const uint32_t q_at = shared_address(both) + (lane % 8 + lane / 16 * 8) * PITCH + lane / 8 % 2 * 16 + 32 * (warp % DOWN);
                const uint32_t k_at = shared_address(both) + (lane % 8 + lane / 8 % 2 * 8) * PITCH + lane / 16 * 16 + 2 * D + 16 * KEYS * (warp / DOWN);
                gram.add(q_at, k_at, HEIGHT, PITCH);
            }
            widen<TILES, CHANNELS / 8, 192, HIDDEN_PITCH>(a_at, b_at, pitch, steps, (T::ROWS - warp + 11) / 12, bias, hidden_at, inside);
            __syncthreads();
            const unsigned char *own = taps + buffer * CHANNELS * TAP_BYTES;
            buffer ^= 1;
            const bool more = step + 1 < 3 * each;
            if (!more && t + static_cast<int>(gridDim.x) < p.tiles)
                load_pixels<HEIGHT, THREADS>(tile(t + gridDim.x), x, p.depth, memory, chunks, pitch);
            const int next = more ? step + 1 : 0, next_part = next / each;
            load_weights(p, next_part, (next - next_part * each) * CHANNELS, weights, bias, taps + buffer * CHANNELS * TAP_BYTES, chunks, pitch);
            commit_copies();
            Taps a, b;
            a.read(own, zeros, 2 * pair);
            b.read(own, zeros, 2 * pair + 1);
            const int channel = base + 16 * pair + 4 * q;
            const int row0 = at.y0 + strip * STRIP, x0 = at.x0 + g, row_pitch = p.heads * p.head;
            __half *values = p.v + (first + static_cast<size_t>(row0) * p.width + x0) * row_pitch + head * p.head + channel;
            const uint32_t keep = shared_address(both) + (strip * STRIP * WIDTH + g) * PITCH + 2 * (part * D + channel);
            float4 norm = make_float4(0, 0, 0, 0);
            filter_rows<STRIP, HIDDEN_PITCH>(filter_at, a, b, [&](int r, const float(&u)[4], const float(&v)[4]) {
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const bool exists = at.has(row0 + r, x0 + 8 * h);
                    const uint2 two = exists ? make_uint2(pack2(u[2 * h], u[2 * h + 1]), pack2(v[2 * h], v[2 * h + 1])) : make_uint2(0, 0);
                    if (part == 2) {
                        if (exists && channel < p.head) *reinterpret_cast<uint2 *>(values + (r * p.width + 8 * h) * row_pitch) = two;
                        continue;
                    }
                    store_shared(keep + (WIDTH * r + 8 * h) * PITCH, two);
                    const float2 low = unpack2(two.x), high = unpack2(two.y);  // what the product sees
                    norm = make_float4(fmaf(low.x, low.x, norm.x), fmaf(low.y, low.y, norm.y), fmaf(high.x, high.x, norm.z), fmaf(high.y, high.y, norm.w));
                }
            });
            if (part == 2) continue;
#pragma unroll
            for (int d = 4; d < 32; d *= 2) {
                norm.x += __shfl_xor_sync(0xffffffffu, norm.x, d);
                norm.y += __shfl_xor_sync(0xffffffffu, norm.y, d);
                norm.z += __shfl_xor_sync(0xffffffffu, norm.z, d);
                norm.w += __shfl_xor_sync(0xffffffffu, norm.w, d);
            }
            if (g == 0) {
                float4 &sum = *reinterpret_cast<float4 *>(norms + (strip * 2 + part) * D + channel);
                sum = make_float4(sum.x + norm.x, sum.y + norm.y, sum.z + norm.z, sum.w + norm.w);
            }
        }
    }
    wait_copies<0>();
    const int d = p.head, down = warp % DOWN, across = warp / DOWN;
    float *out = p.partial + ((static_cast<size_t>(image) * p.heads + head) * gridDim.x + blockIdx.x) * (static_cast<size_t>(d) * d + 2 * d);
    if (across < ACROSS)
#pragma unroll
        for (int n = 0; n < KEYS; n++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int row = 16 * down + 8 * h + g, column = 8 * (KEYS * across + n) + 2 * q;
                if (row < d && column < d) *reinterpret_cast<float2 *>(out + row * d + column) = make_float2(gram.acc[n][2 * h], gram.acc[n][2 * h + 1]);
            }
    __syncthreads();
    for (int i = tid; i < 2 * d; i += THREADS) {
        const int part = i / d, c = i - part * d;
        float sum = 0;
        for (int s = 0; s < 4; s++) sum += norms[(s * 2 + part) * D + c];
        out[d * d + i] = sum;
    }
}

#define QUERIES(HEIGHT, D)                                                                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) queries_##HEIGHT##x##D(const __grid_constant__ Queries p) {      \
        queries<HEIGHT, D>(p);                                                                                                \
    }

QUERIES(16, 48)
QUERIES(16, 96)
QUERIES(8, 48)
QUERIES(8, 96)
