// depthwise.cuh: a 3×3 filter of four channels that marches down one column of an image.
#pragma once
#include "half.cuh"

__device__ __forceinline__ void add_row(float4 &acc, const float4 (&in)[3], const float4 *w) {
#pragma unroll
    for (int i = 0; i < 3; i++) {
        acc.x += in[i].x * w[i].x;
        acc.y += in[i].y * w[i].y;
        acc.z += in[i].z * w[i].z;
        acc.w += in[i].w * w[i].w;
    }
}

// Column is the rolling state of four channels.
struct Column {
    float4 w[9], bias, acc[3];  // acc: sums of the rows above, at and below the row read last
    const __half *x;            // four channels of the first row's pixel
    bool left, right;
    int pitch;
    size_t row_pitch;

    // filter reads the weights [9][pitch] and the bias of channels [channel, channel+4).
    __device__ __forceinline__ void filter(const float *weights, const float *biases, int pitch_, int channel) {
        pitch = pitch_;
#pragma unroll
        for (int t = 0; t < 9; t++) w[t] = *reinterpret_cast<const float4 *>(weights + t * pitch + channel);
        bias = biases ? *reinterpret_cast<const float4 *>(biases + channel) : make_float4(0, 0, 0, 0);
    }
    // place moves to the pixel (y, column) of an image.
    __device__ __forceinline__ void place(const __half *images, int image, int y, int column, int height, int width, int channel) {
        row_pitch = static_cast<size_t>(width) * pitch;
        x = images + (static_cast<size_t>(image) * height + y) * row_pitch + static_cast<size_t>(column) * pitch + channel;
        left = column > 0;
        right = column + 1 < width;
        acc[0] = acc[1] = acc[2] = bias;
    }
    // feed adds row `offset` rows below the first, or nothing where it is outside, and returns the finished row above.
    __device__ __forceinline__ float4 feed(int offset, bool inside) {
        if (inside) {
            const float4 zero = make_float4(0, 0, 0, 0);
            const __half *r = x + offset * static_cast<ptrdiff_t>(row_pitch);
            float4 in[3] = {left ? load4(r - pitch) : zero, load4(r), right ? load4(r + pitch) : zero};
            add_row(acc[0], in, w + 6);
            add_row(acc[1], in, w + 3);
            add_row(acc[2], in, w);
        }
        float4 done = acc[0];
        acc[0] = acc[1];
        acc[1] = acc[2];
        acc[2] = bias;
        return done;
    }
};
