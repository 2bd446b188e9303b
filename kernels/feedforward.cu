// feedforward.cu: y = x + W_out·(gelu(a)·b) + bias, where a and b are the halves of the 3×3 depthwise convolution, stride 1,
// zeros outside, of W_in·norm(x) + bias_in: the gated feed-forward network of transposed-attention transformers as one kernel.
//
//   x [image][height][width][C] fp16                   W_in [2P][C] fp16, the factors of the norm folded in, and bias_in [2P]
//   taps [2P][12] 32-bit words, see tile.cuh               W_out [N][P] fp16, bias [N]     y as x, rows of N
//
// C, P and N are multiples of 8; a at 0, b at P. A block keeps its pixels and those around them in shared memory, normalised
// once, and goes through the hidden channels by 32 of each half: a product leaves them in shared memory in fp16, the filters and
// the gate make 32 channels of each pixel of it, and a product adds those to the sums that a warp holds of its pixels. What is
// hidden never leaves the multiprocessor; at the borders of a tile it is computed twice.
//
// With partial the sums go to memory as they are, [split][rows][N] fp32, and a block has its share of the hidden channels.
//
// feedforward_HxT: tiles of H by 16 pixels, 8·T columns at most. Grid: x = tiles, y = splits of the hidden channels, z = images.
// Block: 256 threads. Shared (dynamic): see feedForwardShared in feedforward.go.
//
// Moves 2HWC·(1.3 or 1.6) + 4HWN bytes through L2 and the weights once a tile, and does 2HW·(2PC·1.3 + 18P + PN) operations, passes
// over shared memory and the issue of instructions, a third of them GELU's, set the pace.
#include "activation.cuh"
#include "dependent.cuh"
#include "tile.cuh"

struct FeedForward {
    const __half *x;
    const __half *w_in;
    const float *bias_in;  // or null
    const uint32_t *taps;
    const __half *w_out;
    const float *bias;     // or null
    __half *y;
    float *partial;        // or null
    int height, width, tiles_x;
    int depth, channels;   // C, and the channels that the norm averages
    int hidden, columns;   // P, N
    int bias_free;
    float eps;
};

constexpr int THREADS = 256;
constexpr int HIDDEN = 32;             // channels of each half that a block has at a time
constexpr int HIDDEN_PITCH = 16 * 9;   // bytes of a pixel of both: octets of a and b by turns
constexpr int GATED_PITCH = 16 * 5;    // bytes of a pixel behind the gate, and of a row of W_out

// Weights are a stage's parts in shared memory.
struct Weights {
    unsigned char *in, *out, *taps;
    float *bias;
};

// Loader begins to copy the weights of 32 hidden channels of each half.
template <int COLUMNS>
struct Loader {
    const FeedForward &p;
    int pitch;  // of a row of W_in in shared memory
    Copier<THREADS> copier;
    int in, out;  // where the thread begins in W_in, below zero for none, and in W_out

    __device__ __forceinline__ Loader(const FeedForward &p, int chunks, int pitch) : p(p), pitch(pitch), copier(chunks) {
        const int r = threadIdx.x / 4;
        in = copier.chunk < chunks ? of(copier.row) * p.depth + 8 * copier.chunk : -1;
        out = (r / 16 * 16 + r % 8 / 2 * 4 + r / 8 % 2 * 2 + r % 2) * p.hidden + threadIdx.x % 4 * 8;
    }
    // of is the filter of one of the 64 rows: octets of a and of b by turns.
    __device__ __forceinline__ int of(int row) const { return row / 8 % 2 * p.hidden + row / 16 * 8 + row % 8; }
    __device__ __forceinline__ void load(const Weights &to, int first) const {
        const int tid = threadIdx.x, step = copier.step();
        if (in >= 0) {
            const __half *from = p.w_in + in + static_cast<size_t>(first) * p.depth;
            const bool holds = 8 * copier.chunk < p.depth;
            uint32_t at = shared_address(to.in) + copier.row * pitch + 16 * copier.chunk;
            // A step is half an octet's pair, a pair or two.
            const int next = (step == 8 ? p.hidden : step / 2) * p.depth, after = step == 8 ? (8 - p.hidden) * p.depth : next;
#pragma unroll 2
            for (int row = copier.row; row < 2 * HIDDEN; row += 2 * step) {
                const int channel = first + row / 16 * 8, second = first + (row + step) / 16 * 8;
                const bool one = holds && channel < p.hidden, two = holds && second < p.hidden;
                copy16(at, one ? from : p.w_in, one);
                from += next;
                copy16(at + step * pitch, two ? from : p.w_in, two);
                from += after;
                at += 2 * step * pitch;
            }
        }
        const bool exists = first + tid % 4 * 8 < p.hidden;
#pragma unroll
        for (int i = 0; i < COLUMNS; i += THREADS / 4) {
            if (i + THREADS / 4 > COLUMNS && i + tid / 4 >= COLUMNS) break;
            const bool valid = exists && i + tid / 4 / 16 * 16 + tid / 4 % 8 / 2 * 4 + tid / 4 / 8 % 2 * 2 + tid / 4 % 2 < p.columns;
            copy16(shared_address(to.out) + (i + tid / 4) * GATED_PITCH + tid % 4 * 16, valid ? p.w_out + out + i * p.hidden + first : p.w_out, valid);
        }
        // Hidden channels come in octets, as do taps and biases.
        const int row = tid < 2 * HIDDEN * 3 ? tid / 3 : (tid - 2 * HIDDEN * 3) * 4, filter = of(row) + first;
        const bool holds = first + row / 16 * 8 < p.hidden;
        if (tid < 2 * HIDDEN * 3)
            copy16(shared_address(to.taps) + 16 * tid, holds ? p.taps + filter * 12 + tid % 3 * 4 : p.taps, holds);
        else if (row < 2 * HIDDEN)
            copy16(shared_address(to.bias) + 4 * row, holds && p.bias_in ? p.bias_in + filter : static_cast<const void *>(p.w_in), holds && p.bias_in);
    }
};

template <int HEIGHT, int TILES>
__device__ __forceinline__ void feedforward(const FeedForward &p) {
    using T = Tile<HEIGHT>;
    constexpr int IN = (T::ROWS + 3) / 4, OUT = HEIGHT / 8;  // times 16 places or pixels of a warp
    await_predecessors();
    extern __shared__ __align__(128) unsigned char memory[];
    const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32, g = lane / 4, q = lane % 4, image = blockIdx.z;
    const Image at{p.height, p.width, static_cast<int>(blockIdx.x) / p.tiles_x * HEIGHT, static_cast<int>(blockIdx.x) % p.tiles_x * WIDTH};
    const size_t first = static_cast<size_t>(image) * p.height * p.width;  // pixel
    const int steps = (p.depth + 15) / 16, chunks = 2 * steps, pitch = 16 * (chunks | 1);
    unsigned char *hidden = memory + 16 * T::ROWS * pitch, *gated = hidden + 16 * T::ROWS * HIDDEN_PITCH;
    unsigned char *zeros = gated + HEIGHT * WIDTH * GATED_PITCH, *stages = zeros + TAP_BYTES;
    auto stage = [&](int i) {
        unsigned char *from = stages + i * (2 * HIDDEN * (pitch + TAP_BYTES + 4) + 8 * TILES * GATED_PITCH);
        return Weights{from, from + 2 * HIDDEN * pitch, from + 2 * HIDDEN * pitch + 8 * TILES * GATED_PITCH,
                       reinterpret_cast<float *>(from + 2 * HIDDEN * (pitch + TAP_BYTES) + 8 * TILES * GATED_PITCH)};
    };
    const Loader<8 * TILES> loader(p, chunks, pitch);
    const int all = (p.hidden + HIDDEN - 1) / HIDDEN, splits = gridDim.y;
    const int begin = static_cast<int>(blockIdx.y) * all / splits, end = (static_cast<int>(blockIdx.y) + 1) * all / splits;
    load_pixels<HEIGHT, THREADS>(at, p.x + first * p.depth, p.depth, memory, chunks, pitch);
    loader.load(stage(0), begin * HIDDEN);
    commit_copies();
    clear<THREADS>(zeros, TAP_BYTES);
    clear<THREADS>(hidden, 16 * T::ROWS * HIDDEN_PITCH);  // outside the image hidden channels are zero, whatever the bias
    const int wm = warp % 4, wn = warp / 4;
    unsigned inside = 0;
#pragma unroll
    for (int i = 0; i < 2 * IN; i++) {
        const int place = 16 * wm + 64 * (i / 2) + i % 2 * 8 + g;
        if (place < T::PLACES && at.place(place)) inside |= 1u << i;
    }
    wait_copies<0>();
    __syncthreads();
    normalise_pixels<HEIGHT, THREADS, (TILES + 3) / 4>(memory, pitch, p.channels, p.eps, p.bias_free);

    const int tiles = (T::ROWS - wm + 3) / 4;
    const uint32_t a_at = shared_address(memory) + (16 * wm + lane % 16) * pitch + lane / 16 * 16;
    const int b_offset = (32 * wn + lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 16;
    const uint32_t hidden_at = shared_address(hidden) + (16 * wm + g) * HIDDEN_PITCH + (32 * wn + 2 * q) * 2;
    const uint32_t filter_at = shared_address(hidden) + (wn * (HEIGHT / 2) * HALO + lane % 16) * HIDDEN_PITCH + 32 * wm + lane / 16 * 16;
    const uint32_t gated_at = shared_address(gated) + (wn * (HEIGHT / 2) * WIDTH + g) * GATED_PITCH + 16 * wm + 4 * q;
    const uint32_t narrow_at = shared_address(gated) + (16 * warp * OUT + lane % 16) * GATED_PITCH + lane / 16 * 16;
    const int out_offset = (lane % 8 + lane / 16 * 8) * GATED_PITCH + lane / 8 % 2 * 16;
    float acc[OUT][TILES][4] = {};
#pragma unroll 1
    for (int c = begin; c < end; c++) {
        const Weights w = stage((c - begin) % 2);
        wait_copies<0>();
        __syncthreads();  // weights are there and all rows normalised; nobody reads the other stage any more
        if (c + 1 < end) loader.load(stage((c - begin + 1) % 2), (c + 1) * HIDDEN);
        commit_copies();
        widen<IN, 4, 64, HIDDEN_PITCH>(a_at, shared_address(w.in) + b_offset, pitch, steps, tiles, w.bias + 32 * wn, hidden_at, inside);
        __syncthreads();
        Taps a, b;
        a.read(w.taps, zeros, 2 * wm);
        b.read(w.taps, zeros, 2 * wm + 1);
        filter_rows<HEIGHT / 2, HIDDEN_PITCH>(filter_at, a, b, [&](int r, const float(&u)[4], const float(&v)[4]) {
#pragma unroll
            for (int h = 0; h < 2; h++)
                store_shared(gated_at + (WIDTH * r + 8 * h) * GATED_PITCH, pack2(gelu(u[2 * h]) * v[2 * h], gelu(u[2 * h + 1]) * v[2 * h + 1]));
        });
        __syncthreads();
        const uint32_t out = shared_address(w.out) + out_offset;
#pragma unroll
        for (int k = 0; k < HIDDEN / 16; k++) {
            uint32_t v[OUT][4];
#pragma unroll
            for (int m = 0; m < OUT; m++) ldmatrix4(v[m], narrow_at + 16 * m * GATED_PITCH + 32 * k);
#pragma unroll
            for (int n = 0; n < TILES / 2; n++) {
                uint32_t u[4];
                ldmatrix4(u, out + 16 * n * GATED_PITCH + 32 * k);
#pragma unroll
                for (int m = 0; m < OUT; m++) {
                    mma16816(acc[m][2 * n], v[m], u[0], u[1]);
                    mma16816(acc[m][2 * n + 1], v[m], u[2], u[3]);
                }
            }
        }
    }
    size_t pixels[2 * OUT];
    unsigned exists = 0;
#pragma unroll
    for (int i = 0; i < 2 * OUT; i++) {
        const int y = at.y0 + warp * OUT + i / 2, x = at.x0 + i % 2 * 8 + g;
        exists |= static_cast<unsigned>(at.has(y, x)) << i;
        pixels[i] = first + static_cast<size_t>(min(y, p.height - 1)) * p.width + min(x, p.width - 1);
    }
    if (p.partial) {
        float *out = p.partial + static_cast<size_t>(blockIdx.y) * gridDim.z * p.height * p.width * p.columns;
#pragma unroll
        for (int n = 0; n < TILES / 2; n++)
#pragma unroll
            for (int i = 0; i < 2 * OUT; i++) {
                const float *low = acc[i / 2][2 * n] + i % 2 * 2, *high = acc[i / 2][2 * n + 1] + i % 2 * 2;
                if (16 * n + 4 * q < p.columns && exists >> i & 1)
                    *reinterpret_cast<float4 *>(out + pixels[i] * p.columns + 16 * n + 4 * q) = make_float4(low[0], low[1], high[0], high[1]);
            }
        return;
    }
    // A lane has four neighbouring channels of each 16; all of a column's pixels are asked for before any is used.
#pragma unroll
    for (int n = 0; n < TILES / 2; n++) {
        const int column = 16 * n + 4 * q;
        const bool holds = column < p.columns;
        float4 bias = make_float4(0, 0, 0, 0), x[2 * OUT];
        if (p.bias) bias = *reinterpret_cast<const float4 *>(p.bias + (holds ? column : 0));
#pragma unroll
        for (int i = 0; i < 2 * OUT; i++) x[i] = load4(p.x + pixels[i] * p.depth + (holds ? column : 0));
#pragma unroll
        for (int i = 0; i < 2 * OUT; i++) {
            const float *low = acc[i / 2][2 * n] + i % 2 * 2, *high = acc[i / 2][2 * n + 1] + i % 2 * 2;
            store4_if(holds && exists >> i & 1, p.y + pixels[i] * p.columns + column,
                      make_float4(low[0] + bias.x + x[i].x, low[1] + bias.y + x[i].y, high[0] + bias.z + x[i].z, high[1] + bias.w + x[i].w));
        }
    }
}

#define FEEDFORWARD(HEIGHT, TILES)                                                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) feedforward_##HEIGHT##x##TILES(const __grid_constant__ FeedForward p) {     \
        feedforward<HEIGHT, TILES>(p);                                                                                                   \
    }

FEEDFORWARD(16, 6)
FEEDFORWARD(16, 12)
FEEDFORWARD(8, 6)
FEEDFORWARD(8, 12)
FEEDFORWARD(8, 24)
