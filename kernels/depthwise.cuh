// depthwise.cuh: a 3×3 filter of two channels that marches down a few columns of an image.
//
// Rows are fetched one ahead, converted once and added to the three rows of results that they reach. A march of n rows of
// results takes n + 2 steps, three at a time, so that no sum is moved from register to register.
#pragma once
#include "half.cuh"

template <int COLS>
struct Strip {
    float2 w[9], bias, acc[3][COLS];
    uint32_t raw[COLS + 2];  // the row fetched last
    const __half *rows;      // the row above the first one: the same for the whole block
    int at;                  // from there, two channels of the next row's pixel left of the first column
    int pitch, row_pitch;
    unsigned columns;        // a bit for each of the COLS + 2 that exists

    // filter reads the weights [9][pitch] and the bias of channels [channel, channel+2).
    __device__ __forceinline__ void filter(const float *weights, const float *biases, int pitch_, int channel) {
        pitch = pitch_;
#pragma unroll
        for (int t = 0; t < 9; t++) w[t] = *reinterpret_cast<const float2 *>(weights + t * pitch + channel);
        bias = biases ? *reinterpret_cast<const float2 *>(biases + channel) : make_float2(0, 0);
    }
    // place begins a march above row y of an image, at a column that exists.
    __device__ __forceinline__ void place(const __half *images, int image, int y, int column, int height, int width, int channel) {
        row_pitch = width * pitch;
        rows = images + (static_cast<ptrdiff_t>(image) * height + y - 1) * static_cast<ptrdiff_t>(row_pitch);
        at = (column - 1) * pitch + channel;
        columns = (2u << min(COLS + 1, width - column)) - 1;
        if (column == 0) columns &= ~1u;
#pragma unroll
        for (int c = 0; c < COLS; c++) acc[0][c] = acc[1][c] = make_float2(0, 0);
    }
    // fetch reads the next row, zeros where it is outside.
    __device__ __forceinline__ void fetch(bool inside) {
        if (inside && columns == (4u << COLS) - 1) {
            int from = at;
#pragma unroll
            for (int i = 0; i < COLS + 2; i++) {
                raw[i] = *reinterpret_cast<const uint32_t *>(rows + from);
                from += pitch;
                asm volatile("" : "+r"(from));  // one register, not one for each column
            }
        } else {
#pragma unroll
            for (int i = 0; i < COLS + 2; i++) {
                raw[i] = 0;
                if (inside && columns >> i & 1) raw[i] = *reinterpret_cast<const uint32_t *>(rows + (at + i * pitch));
            }
        }
        at += row_pitch;
    }
    // step adds the row fetched last, fetches the next one and leaves the row of results above in acc[P].
    template <int P>
    __device__ __forceinline__ void step(bool next) {
        float2 in[COLS + 2];
#pragma unroll
        for (int i = 0; i < COLS + 2; i++) in[i] = unpack2(raw[i]);
        fetch(next);
#pragma unroll
        for (int c = 0; c < COLS; c++) acc[(P + 2) % 3][c] = bias;
#pragma unroll
        for (int t = 0; t < 9; t++) {
            const float2 f = w[8 - t];
#pragma unroll
            for (int c = 0; c < COLS; c++) {
                float2 v = in[c + (8 - t) % 3], &s = acc[(P + t / 3) % 3][c];
                s = make_float2(fmaf(v.x, f.x, s.x), fmaf(v.y, f.y, s.y));
            }
        }
    }
};

__device__ __forceinline__ float2 activate2(float2 v, int act) {
    if (act == ACT_GELU) return make_float2(gelu(v.x), gelu(v.y));
    if (act) return make_float2(activate_piecewise(v.x, act), activate_piecewise(v.y, act));
    return v;
}
