// depthwise.cu: y = act-or-gate(x ∗ w + bias) + residual, one k×k filter a channel, stride 1, zeros outside.
//
//   x [image][height][width][P] fp16   w [k·k][P] fp32   bias [P] fp32   y [image][height][width][Q] fp16
//
// P and Q are multiples of 8. With a gate P = 2Q: the two halves of the channels lie at 0 and Q, each padded to Q.
// A thread owns four channels of one column, keeps their filter and a rolling window of sums in registers and marches
// down the rows: every row is read once from L2 and three times from L1, every weight once. Threads of a warp stand side
// by side in memory. With pooling, the block's sums of its result go to pool[image][strip][Q], to be added in order by
// pool_finish or by the matrix-vector product that consumes the mean.
//
// depthwise3_squeeze multiplies with a simple gate and computes a channel attention's factors from the mean in the blocks
// that are last to finish their channels, see squeeze.cuh. Such a block reads 16·strips·quads bytes of partial sums a
// column tile and 8·quads·Q of the matrix: 66 KB for 512 channels of 32² pixels.
//
// depthwise3, depthwise3_simple_gate, depthwise3_gelu_gate, depthwise3_squeeze: 3×3.
//   Grid: x = tiles of quads × tiles of columns, y = strips of rows, z = images.
//   Block: 128 threads, `quads` across channels and 128/quads across columns. Shared: 2 KiB, with squeeze 4.5 KiB.
// depthwise_any: any odd k, a thread an octet of one pixel, everything from L1.
//   Grid: x = octets of the result/256. Block: 256 threads.
//
// Moves 2HW(P + Q) bytes and does 18·HWP operations for 3×3: 4 op/byte, memory sets the pace.
#include "activation.cuh"
#include "depthwise.cuh"
#include "half.cuh"
#include "squeeze.cuh"

struct Depthwise {
    const __half *x;
    const float *w, *bias;
    const __half *residual;
    __half *y;
    float *pool;        // [images][gridDim.y · column tiles][out] partial sums, or null
    int height, width;
    int in, out;        // pitches of x and y
    int quads;          // a block's quads of channels
    int strip;          // rows a block marches
    int kernel, act, gate;
    long long octets;   // of the result, depthwise_any
    Squeeze squeeze;    // depthwise3_squeeze
};

template <int GATE, bool SQUEEZE>
__device__ __forceinline__ void depthwise3_body(const Depthwise &p) {
    __shared__ float4 sums[SQUEEZE ? SQUEEZE_SHARED : 128];
    int quad_tiles = (p.out / 4 + p.quads - 1) / p.quads;
    int group = blockIdx.x % quad_tiles, column_tile = blockIdx.x / quad_tiles, column_tiles = gridDim.x / quad_tiles;
    int quad = group * p.quads + threadIdx.x % p.quads;
    int columns = 128 / p.quads, lane_column = threadIdx.x / p.quads;
    int column = column_tile * columns + lane_column;
    int y0 = blockIdx.y * p.strip, y1 = min(y0 + p.strip, p.height), image = blockIdx.z;
    bool alive = quad * 4 < p.out && lane_column < columns && column < p.width;
    float4 sum = make_float4(0, 0, 0, 0);
    int group_quads = min(p.quads, p.out / 4 - group * p.quads);
    const __half *rows = p.squeeze.w + static_cast<size_t>(group) * p.quads * 4 * p.out;
    if (SQUEEZE) prefetch(rows, group_quads * 4 * p.out, blockIdx.y * column_tiles + column_tile, gridDim.y * column_tiles);
    if (alive) {
        Column a, b;
        a.filter(p.w, p.bias, p.in, quad * 4);
        a.place(p.x, image, y0, column, p.height, p.width, quad * 4);
        if (GATE) {
            b.filter(p.w, p.bias, p.in, p.out + quad * 4);
            b.place(p.x, image, y0, column, p.height, p.width, p.out + quad * 4);
        }
        a.feed(-1, y0 > 0);
        a.feed(0, true);
        if (GATE) {
            b.feed(-1, y0 > 0);
            b.feed(0, true);
        }
        size_t at = ((static_cast<size_t>(image) * p.height + y0) * p.width + column) * p.out + quad * 4;
#pragma unroll 1
        for (int y = y0 + 1; y <= y1; y++, at += static_cast<size_t>(p.width) * p.out) {
            float4 v = a.feed(y - y0, y < p.height), u;
            if (GATE) u = b.feed(y - y0, y < p.height);
            if (GATE == GATE_GELU || !GATE && p.act == ACT_GELU) {
                v = make_float4(gelu(v.x), gelu(v.y), gelu(v.z), gelu(v.w));
            } else if (!GATE && p.act) {
                v = make_float4(activate_piecewise(v.x, p.act), activate_piecewise(v.y, p.act), activate_piecewise(v.z, p.act),
                                activate_piecewise(v.w, p.act));
            }
            if (GATE) v = make_float4(v.x * u.x, v.y * u.y, v.z * u.z, v.w * u.w);
            if (p.residual) {
                float4 r = load4(p.residual + at);
                v = make_float4(v.x + r.x, v.y + r.y, v.z + r.z, v.w + r.w);
            }
            store4(p.y + at, v);
            sum = make_float4(sum.x + v.x, sum.y + v.y, sum.z + v.z, sum.w + v.w);
        }
    }
    if (SQUEEZE || p.pool) {
        sums[threadIdx.x] = sum;
        __syncthreads();
        if (threadIdx.x < p.quads && quad * 4 < p.out) {
            for (int i = 1; i < columns; i++) {
                float4 s = sums[i * p.quads + threadIdx.x];
                sum = make_float4(sum.x + s.x, sum.y + s.y, sum.z + s.z, sum.w + s.w);
            }
            size_t row = (static_cast<size_t>(image) * gridDim.y + blockIdx.y) * column_tiles + column_tile;
            *reinterpret_cast<float4 *>(p.pool + row * p.out + quad * 4) = sum;
        }
    }
    if (!SQUEEZE) return;
    int shares = gridDim.y * column_tiles, slot = image * quad_tiles + group;
    if (!last_to_arrive(p.squeeze.arrived + slot, shares)) return;
    squeeze(p.pool + static_cast<size_t>(image) * shares * p.out + group * p.quads * 4, rows,
            p.squeeze.factors + static_cast<size_t>(slot) * p.out, p.squeeze.mean, shares, group_quads, p.out, sums);
}

#define DEPTHWISE3(NAME, GATE, SQUEEZE) \
    extern "C" __global__ void __launch_bounds__(128) NAME(const __grid_constant__ Depthwise p) { depthwise3_body<GATE, SQUEEZE>(p); }

DEPTHWISE3(depthwise3, GATE_NONE, false)
DEPTHWISE3(depthwise3_simple_gate, GATE_SIMPLE, false)
DEPTHWISE3(depthwise3_gelu_gate, GATE_GELU, false)
DEPTHWISE3(depthwise3_squeeze, GATE_SIMPLE, true)

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
