// depthwise.cu: y = act-or-gate(x ∗ w + bias) + residual, one k×k filter a channel, stride 1, zeros outside.
//
//   x [image][height][width][P] fp16   w [k·k][P] fp32   bias [P] fp32   y [image][height][width][Q] fp16
//
// P and Q are multiples of 8. With a gate P = 2Q: the two halves of the channels lie at 0 and Q, each padded to Q.
// A thread owns two channels of four columns, keeps their filter and a rolling window of sums in registers and marches
// down the rows, one ahead in its reads: a value is read one and a half times from L1 and converted as often, every weight
// once. Threads of a warp stand side by side in memory. With pooling, the block's sums of its result go to pool[image][strip][Q], to be added in order by
// pool_finish or by the matrix-vector product that consumes the mean.
//
// depthwise3, depthwise3_simple_gate, depthwise3_gelu_gate: 3×3.
//   Grid: x = tiles of channels × tiles of columns, y = strips of rows, z = images.
//   Block: 128 threads, `pairs` across channels and 128/pairs across groups of four columns. Shared: 1 KiB.
// depthwise_any: any odd k, a thread an octet of one pixel, everything from L1.
//   Grid: x = octets of the result/256. Block: 256 threads.
//
// Moves 2HW(P + Q) bytes and does 18·HWP operations for 3×3: 4 op/byte; memory, or the issue of about 11 instructions for
// each 32 values and what gate or activation take, sets the pace.
#include "activation.cuh"
#include "dependent.cuh"
#include "depthwise.cuh"
#include "half.cuh"

struct Depthwise {
    const __half *x;
    const float *w, *bias;
    const __half *residual;
    __half *y;
    float *pool;        // [images][gridDim.y · column tiles][out] partial sums, or null
    int height, width;
    int in, out;        // pitches of x and y
    int pairs;          // a block's pairs of channels, an even number
    int strip;          // rows a block marches
    int kernel, act, gate;
    long long octets;   // of the result, depthwise_any
};

constexpr int COLS = 4;

template <int GATE>
struct March {
    Strip<COLS> a, b;
    float2 sum;
    __half *rows;            // of the result, from the strip's first one on
    const __half *residual;  // likewise, or null
    int at;                  // from there, the first column's result in the next row
    int columns;             // that exist

    __device__ __forceinline__ void put(float2 v, int to) {
        *reinterpret_cast<uint32_t *>(rows + to) = pack2(v.x, v.y);
        sum = make_float2(sum.x + v.x, sum.y + v.y);
    }
    // ask reads the residual of the present row, all columns; one that does not exist takes the last one's.
    __device__ __forceinline__ void ask(const Depthwise &p, uint32_t (&raw)[COLS]) const {
#pragma unroll
        for (int c = 0; c < COLS; c++) raw[c] = *reinterpret_cast<const uint32_t *>(residual + at + min(c, columns - 1) * p.out);
    }
    // step takes a row in, the one after it if `next` says so, and stores the row above if `store` does.
    template <int P>
    __device__ __forceinline__ void step(const Depthwise &p, bool next, bool store) {
        uint32_t added[COLS] = {};
        if (residual && store) ask(p, added);
        a.step<P>(next);
        if (GATE) b.step<P>(next);
        if (!store) return;
        float2 v[COLS];
#pragma unroll
        for (int c = 0; c < COLS; c++) {
            v[c] = a.acc[P][c];
            if (GATE == GATE_GELU) v[c] = make_float2(gelu(v[c].x), gelu(v[c].y));
            if (!GATE) v[c] = activate2(v[c], p.act);
            if (GATE) v[c] = make_float2(v[c].x * b.acc[P][c].x, v[c].y * b.acc[P][c].y);
        }
        if (residual) {
#pragma unroll
            for (int c = 0; c < COLS; c++) {
                const float2 r = unpack2(added[c]);
                v[c] = make_float2(v[c].x + r.x, v[c].y + r.y);
            }
        }
        if (columns >= COLS) {
            int to = at;
#pragma unroll
            for (int c = 0; c < COLS; c++) {
                put(v[c], to);
                to += p.out;
                asm volatile("" : "+r"(to));  // one register, not one for each column
            }
        } else {
#pragma unroll
            for (int c = 0; c < COLS; c++)
                if (c < columns) put(v[c], at + c * p.out);
        }
        at += p.width * p.out;
    }
};

template <int GATE>
__device__ __forceinline__ void depthwise3_body(const Depthwise &p) {
    await_predecessors();
    __shared__ float4 sums[64];
    const int tiles = (p.out / 2 + p.pairs - 1) / p.pairs;
    const int group = blockIdx.x % tiles, column_tile = blockIdx.x / tiles;
    const int pair = group * p.pairs + threadIdx.x % p.pairs;
    const int lanes = 128 / p.pairs, lane_column = threadIdx.x / p.pairs;
    const int column = (column_tile * lanes + lane_column) * COLS, column_tiles = (p.width + lanes * COLS - 1) / (lanes * COLS);
    const int y0 = blockIdx.y * p.strip, rows = min(p.strip, p.height - y0), image = blockIdx.z;
    const bool alive = pair * 2 < p.out && lane_column < lanes && column < p.width;
    March<GATE> m;
    m.sum = make_float2(0, 0);
    if (alive) {
        m.a.filter(p.w, p.bias, p.in, pair * 2);
        m.a.place(p.x, image, y0, column, p.height, p.width, pair * 2);
        m.a.fetch(y0 > 0);
        if (GATE) {
            m.b.filter(p.w, p.bias, p.in, p.out + pair * 2);
            m.b.place(p.x, image, y0, column, p.height, p.width, p.out + pair * 2);
            m.b.fetch(y0 > 0);
        }
        const size_t first = (static_cast<size_t>(image) * p.height + y0) * p.width * p.out;
        m.rows = p.y + first;
        m.residual = p.residual ? p.residual + first : nullptr;
        m.at = column * p.out + pair * 2;
        m.columns = p.width - column;
        const int below = p.height - y0;  // rows from the first one on
#pragma unroll 1
        for (int s = 0; s < rows + 2; s += 3) {
            m.template step<0>(p, s < below && s <= rows, s >= 2 && s < rows + 2);
            m.template step<1>(p, s + 1 < below && s + 1 <= rows, s >= 1 && s + 1 < rows + 2);
            m.template step<2>(p, s + 2 < below && s + 2 <= rows, s + 2 < rows + 2);
        }
    }
    if (p.pool) {
        float2 sum = m.sum;
        reinterpret_cast<float2 *>(sums)[threadIdx.x] = sum;
        __syncthreads();
        if (threadIdx.x < p.pairs && pair * 2 < p.out) {
            for (int i = 1; i < lanes; i++) {
                float2 s = reinterpret_cast<float2 *>(sums)[i * p.pairs + threadIdx.x];
                sum = make_float2(sum.x + s.x, sum.y + s.y);
            }
            size_t row = (static_cast<size_t>(image) * gridDim.y + blockIdx.y) * column_tiles + column_tile;
            *reinterpret_cast<float2 *>(p.pool + row * p.out + pair * 2) = sum;
        }
    }
}

#define DEPTHWISE3(NAME, GATE) \
    extern "C" __global__ void __launch_bounds__(128) NAME(const __grid_constant__ Depthwise p) { depthwise3_body<GATE>(p); }

DEPTHWISE3(depthwise3, GATE_NONE)
DEPTHWISE3(depthwise3_simple_gate, GATE_SIMPLE)
DEPTHWISE3(depthwise3_gelu_gate, GATE_GELU)

__device__ __forceinline__ Octet filtered(const Depthwise &p, int image, int y, int x, int channel) {
    Octet o = {};
    if (p.bias) o = load8(p.bias + channel);
    int half = p.kernel / 2;
    for (int dy = 0; dy < p.kernel; dy++) {
        int iy = y + dy - half;
        if (iy < 0 || iy >= p.height) continue;
        for (int dx = 0; dx < p.kernel; dx++) {
            int ix = x + dx - half;
            if (ix < 0 || ix >= p.width) continue;
            Octet v = load8(p.x + ((static_cast<size_t>(image) * p.height + iy) * p.width + ix) * p.in + channel);
            Octet w = load8(p.w + (dy * p.kernel + dx) * p.in + channel);
#pragma unroll
            for (int i = 0; i < 8; i++) o.v[i] += v.v[i] * w.v[i];
        }
    }
    return o;
}

extern "C" __global__ void __launch_bounds__(256) depthwise_any(const __grid_constant__ Depthwise p) {
    await_predecessors();
    long long at = static_cast<long long>(blockIdx.x) * 256 + threadIdx.x;
    if (at >= p.octets) return;
    int per_pixel = p.out / 8, c = static_cast<int>(at % per_pixel) * 8;
    long long pixel = at / per_pixel, row = pixel / p.width;
    int x = static_cast<int>(pixel - row * p.width), image = static_cast<int>(row / p.height);
    int y = static_cast<int>(row - static_cast<long long>(image) * p.height);
    Octet o = filtered(p, image, y, x, c);
#pragma unroll
    for (int i = 0; i < 8; i++) o.v[i] = activate(o.v[i], p.gate == GATE_GELU ? ACT_GELU : p.act);
    if (p.gate) {
        Octet b = filtered(p, image, y, x, p.out + c);
#pragma unroll
        for (int i = 0; i < 8; i++) o.v[i] *= b.v[i];
    }
    if (p.residual) {
        Octet r = load8(p.residual + at * 8);
#pragma unroll
        for (int i = 0; i < 8; i++) o.v[i] += r.v[i];
    }
    store8(p.y + at * 8, o);
}
