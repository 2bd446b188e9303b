// layout.cu: kernels that move values without computing: pad and crop, concatenation and other orders of channels,
// tokens, and the border between host layouts and padded NHWC.
//
// "Parts": the C channels of a row may be split into equal parts that each start at a multiple of 8, as gates and heads
// want them. Channel c of C in n parts lies at (c / (C/n))·⌈C/n⌉₈ + c mod (C/n).
//
// place: y [n][out_h][out_w] pixels of `units` 16-byte units from x [n][in_h][in_w], shifted by (top, left), what lies
//   outside by the padding mode; any element size. Crops have negative shifts.
//   Grid: x = units of a row/256, y = rows, z = images.
// copy_channels: y row = channels [first, first+split) of x, then those of x2, in the parts of y. copy_octets does it where
//   every octet of y is one of x or x2: whole rows, the first of a multiple of 8 channels.
// tokens: y [n][T][P] = class or patch, plus position (fp32 [P] and [T][P]).
// import_f32, export_f32: host order (NHWC or NCHW fp32, not padded) to and from fp16 or fp32 rows. Threads of a warp take
//   neighbouring pixels of a plane, or neighbouring octets of a pixel, so that both sides go in whole sectors.
//   Grid: x = octets of rows/256; 32-bit indices, at most 2³¹ octets.
//
// One thread 16 bytes or eight values of the result. Block: 256 threads. Moves what it copies.
#include "dependent.cuh"
#include "half.cuh"
#include "padding.cuh"

struct Move {
    const uint4 *x;
    uint4 *y;
    int in_h, in_w, out_h, out_w, units;
    int top, left, mode;
};

extern "C" __global__ void __launch_bounds__(256) place(const __grid_constant__ Move p) {
    await_predecessors();
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= p.out_w * p.units) return;
    int ox = i / p.units, u = i - ox * p.units, ix = pad_index(ox - p.left, p.in_w, p.mode);
    const uint4 *x = p.x + static_cast<size_t>(blockIdx.z) * p.in_h * p.in_w * p.units;
    uint4 *y = p.y + static_cast<size_t>(blockIdx.z) * p.out_h * p.out_w * p.units;
    for (int oy = blockIdx.y; oy < p.out_h; oy += gridDim.y) {
        int iy = pad_index(oy - p.top, p.in_h, p.mode);
        uint4 v = make_uint4(0, 0, 0, 0);
        if (ix >= 0 && iy >= 0) v = x[(static_cast<size_t>(iy) * p.in_w + ix) * p.units + u];
        y[static_cast<size_t>(oy) * p.out_w * p.units + i] = v;
    }
}

struct Rows {
    int channels, parts, pitch;
};

// position of channel c, and the channel at a position or -1.
__device__ __forceinline__ int position(const Rows &r, int c) {
    int size = r.channels / r.parts;
    return c / size * ((size + 7) / 8 * 8) + c % size;
}
__device__ __forceinline__ int channel_at(const Rows &r, int position) {
    int size = r.channels / r.parts, padded = (size + 7) / 8 * 8, part = position / padded, c = position % padded;
    return part < r.parts && c < size ? part * size + c : -1;
}

struct Channels {
    const __half *x, *x2;
    __half *y;
    unsigned octets;  // of y
    int first;        // channel of x that becomes channel 0
    int split;        // channels of the result taken from x
    Rows rx, rx2, ry;
};

extern "C" __global__ void __launch_bounds__(256) copy_channels(const __grid_constant__ Channels p) {
    await_predecessors();
    unsigned at = blockIdx.x * 256 + threadIdx.x;
    if (at >= p.octets) return;
    unsigned per_row = p.ry.pitch / 8, pixel = at / per_row;
    int c0 = static_cast<int>(at - pixel * per_row) * 8;
    const __half *x = p.x + static_cast<size_t>(pixel) * p.rx.pitch, *x2 = p.x2 + static_cast<size_t>(pixel) * p.rx2.pitch;
    Octet o = {};
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int c = channel_at(p.ry, c0 + i);
        if (c >= 0) o.v[i] = __half2float(c < p.split ? x[position(p.rx, c + p.first)] : x2[position(p.rx2, c - p.split)]);
    }
    store8(p.y + static_cast<size_t>(at) * 8, o);
}

extern "C" __global__ void __launch_bounds__(256) copy_octets(const __grid_constant__ Channels p) {
    await_predecessors();
    unsigned at = blockIdx.x * 256 + threadIdx.x;
    if (at >= p.octets) return;
    unsigned per_row = p.ry.pitch / 8, pixel = at / per_row;
    int c = static_cast<int>(at - pixel * per_row) * 8;
    const __half *from = c < p.split ? p.x + static_cast<size_t>(pixel) * p.rx.pitch + c + p.first
                                     : p.x2 + static_cast<size_t>(pixel) * p.rx2.pitch + c - p.split;
    reinterpret_cast<uint4 *>(p.y)[at] = *reinterpret_cast<const uint4 *>(from);
}

extern "C" __global__ void __launch_bounds__(256)
    tokens(const __half *x, const float *token, const float *positions, __half *y, unsigned octets, int count, int pitch) {
    await_predecessors();
    unsigned at = blockIdx.x * 256 + threadIdx.x;
    if (at >= octets) return;
    unsigned per_row = pitch / 8, row = at / per_row, image = row / count;
    int c = static_cast<int>(at - row * per_row) * 8, t = static_cast<int>(row - image * count);
    Octet o = t ? load8(x + (static_cast<size_t>(image) * (count - 1) + t - 1) * pitch + c) : load8(token + c);
    Octet e = load8(positions + static_cast<size_t>(t) * pitch + c);
#pragma unroll
    for (int i = 0; i < 8; i++) o.v[i] += e.v[i];
    store8(y + static_cast<size_t>(at) * 8, o);
}

struct Border {
    const float *host_in;
    float *host_out;
    __half *half;     // or
    float *single;    // fp32 rows
    unsigned octets;  // of all rows
    unsigned pixels;  // of one image
    int planar;       // NCHW
    Rows r;
};

struct Spot {
    size_t row, host;  // first value of the octet, and channel 0 of the pixel on the host
    size_t step;       // between channels on the host
    int c;             // first position of the octet in its row
};

__device__ __forceinline__ Spot spot(const Border &p, unsigned at) {
    unsigned per_row = p.r.pitch / 8, image = at / (per_row * p.pixels), rest = at - image * per_row * p.pixels, pixel, octet;
    if (p.planar) {
        octet = rest / p.pixels;
        pixel = rest - octet * p.pixels;
    } else {
        pixel = rest / per_row;
        octet = rest - pixel * per_row;
    }
    Spot s;
    s.c = static_cast<int>(octet) * 8;
    s.row = (static_cast<size_t>(image) * p.pixels + pixel) * p.r.pitch + s.c;
    s.host = static_cast<size_t>(image) * p.pixels * p.r.channels + (p.planar ? pixel : static_cast<size_t>(pixel) * p.r.channels);
    s.step = p.planar ? p.pixels : 1;
    return s;
}

extern "C" __global__ void __launch_bounds__(256) import_f32(const __grid_constant__ Border p) {
    await_predecessors();
    unsigned at = blockIdx.x * 256 + threadIdx.x;
    if (at >= p.octets) return;
    Spot s = spot(p, at);
    Octet o = {};
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int c = channel_at(p.r, s.c + i);
        if (c >= 0) o.v[i] = p.host_in[s.host + c * s.step];
    }
    if (p.half)
        store8(p.half + s.row, o);
    else
        store8(p.single + s.row, o);
}

extern "C" __global__ void __launch_bounds__(256) export_f32(const __grid_constant__ Border p) {
    await_predecessors();
    unsigned at = blockIdx.x * 256 + threadIdx.x;
    if (at >= p.octets) return;
    Spot s = spot(p, at);
    Octet o = p.half ? load8(p.half + s.row) : load8(p.single + s.row);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int c = channel_at(p.r, s.c + i);
        if (c >= 0) p.host_out[s.host + c * s.step] = o.v[i];
    }
}
