// finish.cu: the second half of a product whose depth was split between blocks, and epilogues that the fused ones lack.
//
// product_finish adds the partial sums [split][row][column] fp32 in order of the splits, applies the normalisation and
// the epilogue of epilogue.cuh. A warp takes 32 octets of a row, or pairs of octets with a gate; for the normalisation it reads the
// row of x.
//   Grid: x = rows/4, y = columns/256 or columns/512 with a gate. Block: 128 threads. Moves 4·splits·MN + 2MN bytes (+ 2MK with a normalisation).
//
// natural_finish takes sums in the order of the filters, from one split, and applies any epilogue to scalars: gates and
// shuffles of weights that are made on the device and so cannot be reordered, shuffles by any factor with an affine map.
// It is the general path, not the quick one.
//   Grid: x = values of the result/256. Block: 256 threads. Moves about 4MN + 2MN bytes.
#include "dependent.cuh"
#include "epilogue.cuh"
#include "reduce.cuh"

struct Finish {
    const float *partial;     // [splits][images·rows][columns]
    const __half *x;          // rows of depth values, for the normalisation, or null
    const float *norm_sum;    // [columns]
    int rows, images, splits;
    int depth, channels, bias_free;
    float eps;
    Epilogue e;
};

// added adds the shares of eight columns, which stand step values apart, in order: eight are asked for at a time, then four.
__device__ __forceinline__ Octet added(const float *from, int splits, size_t step) {
    Octet o = {};
    int s = 0;
    auto take = [&](const Octet &t, bool exists) {
#pragma unroll
        for (int i = 0; i < 8; i++) o.v[i] += exists ? t.v[i] : 0.0f;
    };
#pragma unroll 1
    for (; s + 8 <= splits; s += 8) {
        Octet t[8];
#pragma unroll
        for (int i = 0; i < 8; i++) t[i] = load8(from + (s + i) * step);
#pragma unroll
        for (int i = 0; i < 8; i++) take(t[i], true);
    }
#pragma unroll 1
    for (; s < splits; s += 4) {
        Octet t[4];
#pragma unroll
        for (int i = 0; i < 4; i++) t[i] = load8(from + min(s + i, splits - 1) * step);
#pragma unroll
        for (int i = 0; i < 4; i++) take(t[i], s + i < splits);
    }
    return o;
}

// Normal is a row's mean and the inverse of its deviation, by a warp.
struct Normal {
    float mean = 0, rstd = 1;

    __device__ __forceinline__ Normal(const Finish &f, long row) {
        if (!f.x) return;
        const __half *x = f.x + row * f.depth;
        const float shift = __half2float(x[0]);
        float s = 0, ss = 0;
#pragma unroll 1
        for (int c0 = threadIdx.x % 32 * 8; c0 < f.depth; c0 += 1024) {
            uint4 v[4];
#pragma unroll
            for (int i = 0; i < 4; i++) v[i] = *reinterpret_cast<const uint4 *>(x + min(c0 + 256 * i, f.depth - 8));
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const Octet o = unpack(v[i]);
                const int left = f.channels - c0 - 256 * i;
                float d[8];
#pragma unroll
                for (int k = 0; k < 8; k++) d[k] = k < left ? o.v[k] - shift : 0.0f;
                s += ((d[0] + d[1]) + (d[2] + d[3])) + ((d[4] + d[5]) + (d[6] + d[7]));
#pragma unroll
                for (int k = 0; k < 4; k++) d[k] = fmaf(d[k], d[k], d[k + 4] * d[k + 4]);
                ss += (d[0] + d[1]) + (d[2] + d[3]);
            }
        }
        s = warp_sum(s) / f.channels;
        ss = warp_sum(ss) / f.channels - s * s;
        mean = f.bias_free ? 0.0f : shift + s;
        rstd = rsqrtf(fmaxf(ss, 0.0f) + f.eps);
    }
};

extern "C" __global__ void __launch_bounds__(128, 4) product_finish(const __grid_constant__ Finish f) {
    await_predecessors();
    const long row = static_cast<long>(blockIdx.x) * 4 + threadIdx.x / 32, rows = static_cast<long>(f.images) * f.rows;
    if (row >= rows) return;
    // All is read before the moments are known.
    const int c = (blockIdx.y * 32 + threadIdx.x % 32) * (f.e.gate ? 16 : 8), image = static_cast<int>(row / f.rows);
    const int at = c < f.e.columns ? c : 0;
    const Columns columns(f.e, at, image);
    const float *from = f.partial + row * f.e.columns + at;
    Octet o[2] = {added(from, f.splits, rows * f.e.columns)}, n[2] = {};
    if (f.e.gate) o[1] = added(from + 8, f.splits, rows * f.e.columns);
    if (f.x) {
        n[0] = load8(f.norm_sum + at);
        if (f.e.gate) n[1] = load8(f.norm_sum + at + 8);
    }
    const Normal normal(f, row);
    if (c >= f.e.columns) return;
    if (f.x) {
#pragma unroll
        for (int i = 0; i < 16; i++) o[i / 8].v[i % 8] = normal.rstd * (o[i / 8].v[i % 8] - normal.mean * n[i / 8].v[i % 8]);
    }
    store(f.e, activated(f.e, columns, o[0], o[1]), row, columns.column);
}

struct Natural {
    const float *sums;        // [images·rows][columns]
    const __half *residual;   // laid out as y
    const float *bias;        // [filters]
    const float *scale;       // [channels]
    const float *affine;      // [image][2][pitch of channels]
    __half *y;
    int rows, images, columns;
    int channels;             // after the gate, before the shuffle
    int act, gate, shuffle;
    int height, width;        // before the shuffle
    int out_channels, pitch;
};

extern "C" __global__ void __launch_bounds__(256) natural_finish(const __grid_constant__ Natural f) {
    await_predecessors();
    int r = f.shuffle > 1 ? f.shuffle : 1, d = f.shuffle < -1 ? -f.shuffle : 1;
    int out_h = f.height * r / d, out_w = f.width * r / d;
    long at = static_cast<long>(blockIdx.x) * 256 + threadIdx.x;
    if (at >= static_cast<long>(f.images) * out_h * out_w * f.pitch) return;
    int c = static_cast<int>(at % f.pitch);
    long pixel = at / f.pitch;
    if (c >= f.out_channels) {
        f.y[at] = __float2half_rn(0.0f);
        return;
    }
    int ox = static_cast<int>(pixel % out_w);
    long oy = pixel / out_w;
    int image = static_cast<int>(oy / out_h);
    oy -= static_cast<long>(image) * out_h;
    int x = ox, y = static_cast<int>(oy);
    if (r > 1) {
        c = c * r * r + y % r * r + x % r;
        y /= r, x /= r;
    }
    if (d > 1) {
        int position = c % (d * d);
        c /= d * d;
        y = y * d + position / d, x = x * d + position % d;
    }
    const float *row = f.sums + (static_cast<long>(image) * f.rows + static_cast<long>(y) * f.width + x) * f.columns;
    float v = row[c] + (f.bias ? f.bias[c] : 0.0f);
    if (f.gate)
        v = gated(v, row[c + f.channels] + (f.bias ? f.bias[c + f.channels] : 0.0f), f.gate);
    else
        v = activate(v, f.act);
    if (f.scale) v *= f.scale[c];
    if (f.affine) {
        int pitch = (f.channels + 7) / 8 * 8;
        const float *a = f.affine + static_cast<long>(image) * 2 * pitch;
        v = v * a[c] + a[pitch + c];
    }
    if (f.residual) v += __half2float(f.residual[at]);
    f.y[at] = __float2half_rn(v);
}
