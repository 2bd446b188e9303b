// pool.cu: means over an image or over a sliding window, sums in fp32 and in a fixed order.
//
// pool_partial: sums of x (and of x2, added) over a share of the pixels, to partial[image][share][P] fp32.
//   Grid: x = shares, y = ⌈P/64⌉, z = images. Block: 128 threads, 8 octets of channels by 16 pixels. Shared: 4 KiB.
// pool_finish: adds the shares and multiplies by `factor`, to y [image][P] fp16.
//   Grid: x = ⌈P/32⌉, y = images. Block: 256 threads. Shared: 1 KiB.
// window_rows, window_columns: the mean over kh×kw pixels, stride 1, no padding, one axis after the other with running
// sums: first over rows, x [H][W][P] fp16 to t [H-kh+1][W][P] fp32, then over columns to y [H-kh+1][W-kw+1][P] fp16.
// A thread owns four channels and walks a strip of positions, adding the value that enters and taking away the one that
// leaves. Every strip begins with a fresh sum, so that rounding does not pile up along an image.
//   Grid: x = threads of one strip/128, y = strips, z = images. Block: 128 threads.
//
// All move about their inputs and outputs once (the windows 2-3 times) and add once or twice a value: memory bound.
#include "dependent.cuh"
#include "half.cuh"

extern "C" __global__ void __launch_bounds__(128)
    pool_partial(const __half *x, const __half *x2, float *partial, int pixels, int pitch) {
    await_predecessors();
    __shared__ float sums[8][132];  // the padding keeps both sides free of bank conflicts
    int octet = blockIdx.y * 8 + threadIdx.x % 8;
    bool alive = octet * 8 < pitch;
    Octet s = {};
    if (alive) {
        size_t at = static_cast<size_t>(blockIdx.z) * pixels * pitch + octet * 8;
        for (int p = blockIdx.x * 16 + threadIdx.x / 8; p < pixels; p += gridDim.x * 16) {
            Octet v = load8(x + at + static_cast<size_t>(p) * pitch);
#pragma unroll
            for (int i = 0; i < 8; i++) s.v[i] += v.v[i];
            if (x2) {
                v = load8(x2 + at + static_cast<size_t>(p) * pitch);
#pragma unroll
                for (int i = 0; i < 8; i++) s.v[i] += v.v[i];
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 8; i++) sums[i][threadIdx.x] = s.v[i];
    __syncthreads();
    int c = threadIdx.x;
    if (c < 64 && blockIdx.y * 64 + c < pitch) {
        float t = 0;
        for (int i = 0; i < 16; i++) t += sums[c % 8][i * 8 + c / 8];
        partial[(static_cast<size_t>(blockIdx.z) * gridDim.x + blockIdx.x) * pitch + blockIdx.y * 64 + c] = t;
    }
}

extern "C" __global__ void __launch_bounds__(256) pool_finish(const float *partial, __half *y, int shares, int pitch, float factor) {
    await_predecessors();
    __shared__ float sums[8][32];
    int c = blockIdx.x * 32 + threadIdx.x % 32, group = threadIdx.x / 32;
    float s = 0;
    if (c < pitch) {
        const float *from = partial + static_cast<size_t>(blockIdx.y) * shares * pitch + c;
#pragma unroll 4
        for (int i = group; i < shares; i += 8) s += from[static_cast<size_t>(i) * pitch];
    }
    sums[group][threadIdx.x % 32] = s;
    __syncthreads();
    if (group == 0 && c < pitch) {
        for (int i = 1; i < 8; i++) s += sums[i][threadIdx.x];
        y[static_cast<size_t>(blockIdx.y) * pitch + c] = __float2half_rn(s * factor);
    }
}

__device__ __forceinline__ void add(float4 &s, float4 v, float sign) {
    s.x += sign * v.x;
    s.y += sign * v.y;
    s.z += sign * v.z;
    s.w += sign * v.w;
}

extern "C" __global__ void __launch_bounds__(128)
    window_rows(const __half *x, const __half *x2, float *t, int height, int width, int pitch, int window, int strip) {
    await_predecessors();
    int at = blockIdx.x * 128 + threadIdx.x, out_h = height - window + 1;
    if (at >= width * (pitch / 4)) return;
    int y0 = blockIdx.y * strip, y1 = min(y0 + strip, out_h);
    size_t row = static_cast<size_t>(width) * pitch;
    size_t from = static_cast<size_t>(blockIdx.z) * height * row + static_cast<size_t>(at) * 4;
    float *to = t + (static_cast<size_t>(blockIdx.z) * out_h + y0) * row + static_cast<size_t>(at) * 4;
    float4 s = make_float4(0, 0, 0, 0);
    auto take = [&](int y, float sign) {
        add(s, load4(x + from + y * row), sign);
        if (x2) add(s, load4(x2 + from + y * row), sign);
    };
    for (int y = y0; y < y0 + window - 1; y++) take(y, 1.0f);
    for (int y = y0; y < y1; y++, to += row) {
        take(y + window - 1, 1.0f);
        *reinterpret_cast<float4 *>(to) = s;
        take(y, -1.0f);
    }
}

extern "C" __global__ void __launch_bounds__(128)
    window_columns(const float *t, __half *y, int height, int width, int pitch, int window, int strip, float factor) {
    await_predecessors();
    int at = blockIdx.x * 128 + threadIdx.x, quads = pitch / 4, out_w = width - window + 1;
    if (at >= height * quads) return;
    int row = at / quads, c = at % quads * 4, x0 = blockIdx.y * strip, x1 = min(x0 + strip, out_w);
    const float *from = t + (static_cast<size_t>(blockIdx.z) * height + row) * width * pitch + c;
    __half *to = y + ((static_cast<size_t>(blockIdx.z) * height + row) * out_w + x0) * pitch + c;
    float4 s = make_float4(0, 0, 0, 0);
    auto take = [&](int x, float sign) { add(s, *reinterpret_cast<const float4 *>(from + static_cast<size_t>(x) * pitch), sign); };
    for (int x = x0; x < x0 + window - 1; x++) take(x, 1.0f);
    for (int x = x0; x < x1; x++, to += pitch) {
        take(x + window - 1, 1.0f);
        store4(to, make_float4(s.x * factor, s.y * factor, s.z * factor, s.w * factor));
        take(x, -1.0f);
    }
}
