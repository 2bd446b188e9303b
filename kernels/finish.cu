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

extern "C" __global__ void __launch_bounds__(128, 4) product_finish(const __grid_constant__ Finish f) {
    await_predecessors();
    int lane = threadIdx.x % 32;
    long row = static_cast<long>(blockIdx.x) * 4 + threadIdx.x / 32, rows = static_cast<long>(f.images) * f.rows;
    if (row >= rows) return;
    int image = static_cast<int>(row / f.rows);
    float mean = 0, rstd = 1;
    if (f.x) {
        const __half *x = f.x + row * f.depth;
        float s = 0, ss = 0, shift = __half2float(x[0]);
        for (int c = lane * 8; c < f.depth; c += 256) {
            Octet o = load8(x + c);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float d = c + i < f.channels ? o.v[i] - shift : 0.0f;
                s += d;
                ss += d * d;
            }
        }
        s = warp_sum(s) / f.channels;
        ss = warp_sum(ss) / f.channels - s * s;
        mean = f.bias_free ? 0.0f : shift + s;
        rstd = rsqrtf(fmaxf(ss, 0.0f) + f.eps);
    }
    int step = f.e.gate ? 16 : 8;
    const int c = (blockIdx.y * 32 + lane) * step;
    if (c < f.e.columns) {
        Octet o[2] = {};
#pragma unroll
        for (int h = 0; h < 2; h++) {
            if (h == 1 && !f.e.gate) break;
#pragma unroll 2
            for (int s = 0; s < f.splits; s++) {
                Octet t = load8(f.partial + (s * rows + row) * f.e.columns + c + 8 * h);
#pragma unroll
                for (int i = 0; i < 8; i++) o[h].v[i] += t.v[i];
            }
            if (f.x) {
                Octet n = load8(f.norm_sum + c + 8 * h);
#pragma unroll
                for (int i = 0; i < 8; i++) o[h].v[i] = rstd * (o[h].v[i] - mean * n.v[i]);
            }
        }
        Columns columns(f.e, c, image);
        store(f.e, activated(f.e, columns, o[0], o[1]), row, columns.column);
    }
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
