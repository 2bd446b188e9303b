// epilogue.cuh: what happens to a matrix product's sums on their way to memory, eight channels of one row at a time.
//
//   t = act-or-gate(sum + bias)      y = residual + shuffle(affine(t·scale))
//
// "Columns" are rows of the packed weight. The host orders them so that nothing has to be moved between lanes:
// with a gate, octets alternate between the two halves (a0..a7 b0..b7 a8..); with a pixel shuffle by r, the
// `group` columns of position (i, j) of the r×r block stand together at (i·r+j)·group. Columns that stand for no
// channel have zero weights, bias and scale, which is what keeps the padding of activation rows at zero.
#pragma once
#include "activation.cuh"
#include "half.cuh"

struct Epilogue {
    __half *y;
    __half *y2;              // takes columns [0, split) as rows of pitch2 values, unless null
    float *partial;          // unless null, raw sums go here, [split][rows of all images][columns], and nowhere else
    const __half *residual;  // laid out as y
    const float *bias;       // [columns]
    const float *scale;      // [columns after the gate]
    const float *affine;     // [image][2][columns after the gate]: factors, then summands
    int columns;             // multiple of 8, with a gate of 16
    int pitch;               // values between rows of y, at least the columns stored
    int split, pitch2;
    int act, gate;
    int shuffle;  // r > 1 pixel shuffle, r < -1 unshuffle, else none
    int group;    // columns of one position of a pixel shuffle
    int width;    // pixels in a row of the result before the shuffle
    int quads;    // unshuffle by 2 whose matrix rows come in fours, one 2×2 block after the other
};

// Columns is what an epilogue needs of eight columns, the same for every row of an image: read once, kept in registers.
struct Columns {
    Octet bias, gate_bias, factor, summand;
    int column;  // after the gate
    bool mapped;

    // column is that of the octet before the gate.
    __device__ __forceinline__ Columns(const Epilogue &e, int packed, int image) : bias{}, gate_bias{}, summand{} {
        column = e.gate ? packed / 2 : packed;
        if (e.bias) {
            bias = load8(e.bias + packed);
            if (e.gate) gate_bias = load8(e.bias + packed + 8);
        }
        mapped = e.scale || e.affine;
#pragma unroll
        for (int i = 0; i < 8; i++) factor.v[i] = 1.0f;
        if (e.scale) factor = load8(e.scale + column);
        if (e.affine) {
            int width = e.gate ? e.columns / 2 : e.columns;
            const float *a = e.affine + static_cast<size_t>(image) * 2 * width + column;
            Octet f = load8(a);
            summand = load8(a + width);
#pragma unroll
            for (int i = 0; i < 8; i++) factor.v[i] *= f.v[i];
        }
    }
};

// activate applies the activation, or the gate's to its first half, to eight channels.
__device__ __forceinline__ void activate(const Epilogue &e, Octet &o) {
    if (e.act == ACT_GELU || e.gate == GATE_GELU) {
#pragma unroll
        for (int i = 0; i < 8; i++) o.v[i] = gelu(o.v[i]);
    } else if (e.act) {
#pragma unroll
        for (int i = 0; i < 8; i++) o.v[i] = activate_piecewise(o.v[i], e.act);
    }
}

// map applies scale and affine map to the channels from `column` on.
__device__ __forceinline__ void map(const Epilogue &e, Octet &o, int column, int image) {
    if (e.scale) {
        const Octet s = load8(e.scale + column);
#pragma unroll
        for (int i = 0; i < 8; i++) o.v[i] *= s.v[i];
    }
    if (e.affine) {
        const int width = e.gate ? e.columns / 2 : e.columns;
        const float *a = e.affine + static_cast<size_t>(image) * 2 * width + column;
        const Octet f = load8(a), t = load8(a + width);
#pragma unroll
        for (int i = 0; i < 8; i++) o.v[i] = o.v[i] * f.v[i] + t.v[i];
    }
}

// activated applies bias, activation or gate, scale and affine map to the sums a and, with a gate, b.
__device__ __forceinline__ Octet activated(const Epilogue &e, const Columns &c, Octet a, const Octet &b) {
#pragma unroll
    for (int i = 0; i < 8; i++) a.v[i] += c.bias.v[i];
    activate(e, a);
    if (e.gate) {
#pragma unroll
        for (int i = 0; i < 8; i++) a.v[i] *= b.v[i] + c.gate_bias.v[i];
    }
    if (c.mapped) {
#pragma unroll
        for (int i = 0; i < 8; i++) a.v[i] = a.v[i] * c.factor.v[i] + c.summand.v[i];
    }
    return a;
}

__device__ __forceinline__ void store_added(__half *y, const __half *residual, size_t at, Octet o) {
    if (residual) {
        Octet r = load8(residual + at);
#pragma unroll
        for (int i = 0; i < 8; i++) o.v[i] += r.v[i];
    }
    store8(y + at, o);
}

// store_shuffled puts eight channels of `row` (counted over all images) where a pixel shuffle or its inverse wants them.
__device__ __forceinline__ void store_shuffled(const Epilogue &e, const Octet &o, long row, int column) {
    long y = row / e.width;
    int x = static_cast<int>(row - y * e.width);
    if (e.shuffle > 1) {
        int r = e.shuffle, position = column / e.group;
        size_t pixel = (y * r + position / r) * (static_cast<long>(e.width) * r) + x * r + position % r;
        store_added(e.y, e.residual, pixel * e.pitch + column % e.group, o);
        return;
    }
    // Scattered; quads is the quick way.
    int r = -e.shuffle, position = static_cast<int>(y % r) * r + x % r;
    size_t out = (y / r) * (e.width / r) + x / r;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int c = (column + i) * r * r + position;
        if (c < e.pitch) {
            float v = o.v[i];
            if (e.residual) v += __half2float(e.residual[out * e.pitch + c]);
            e.y[out * e.pitch + c] = __float2half_rn(v);
        }
    }
}

// store puts eight channels of a row to their place.
__device__ __forceinline__ void store(const Epilogue &e, const Octet &o, long row, int column) {
    if (e.shuffle < -1 || e.shuffle > 1)
        store_shuffled(e, o, row, column);
    else if (column < e.split)
        store8(e.y2 + row * e.pitch2 + column, o);
    else
        store_added(e.y, e.residual, static_cast<size_t>(row) * e.pitch + (column - e.split), o);
}
