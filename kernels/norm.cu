// norm.cu: normalisations that no product takes along.
//
// channel_norm: y = (x-μ)/√(σ²+ε)·w + b over the channels of each pixel; bias-free: x/√(σ²+ε)·w.
//   x, y [pixel][P] fp16, w, b [P] fp32 with zeros after the last channel
//   Grid: x = pixels/4. Block: 128 threads, a warp a pixel. Moves 4P bytes a pixel; three passes, two of them from L1.
//
// rescale_partial, rescale_finish: mean and deviation of a whole image, and the two affine maps of RescaleNorm.
//   partial [image][share][2] fp32: mean of the share less the image's first value, and the sum of squared deviations
//   before, after [image][2][P] fp32
//   Grids: x = shares, y = images (256 threads); x = images (256 threads). Reads x once; sums of squares are taken around
//   each share's own mean, so nothing cancels.
#include "dependent.cuh"
#include "half.cuh"
#include "reduce.cuh"

extern "C" __global__ void __launch_bounds__(128)
    channel_norm(const __half *x, const float *w, const float *b, __half *y, int pixels, int pitch, int channels, int bias_free, float eps) {
    await_predecessors();
    int lane = threadIdx.x % 32;
    long pixel = static_cast<long>(blockIdx.x) * 4 + threadIdx.x / 32;
    if (pixel >= pixels) return;
    x += pixel * pitch;
    y += pixel * pitch;
    float s = 0, ss = 0;
    for (int c = lane * 8; c < pitch; c += 256) {
        Octet v = load8(x + c);
#pragma unroll
        for (int i = 0; i < 8; i++) s += v.v[i];
    }
    float mean = warp_sum(s) / channels;
    for (int c = lane * 8; c < pitch; c += 256) {
        Octet v = load8(x + c);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float d = c + i < channels ? v.v[i] - mean : 0.0f;
            ss += d * d;
        }
    }
    float rstd = rsqrtf(warp_sum(ss) / channels + eps);
    if (bias_free) mean = 0;
    for (int c = lane * 8; c < pitch; c += 256) {
        Octet v = load8(x + c), f = load8(w + c), add = {};
        if (b) add = load8(b + c);
#pragma unroll
        for (int i = 0; i < 8; i++) v.v[i] = (v.v[i] - mean) * rstd * f.v[i] + add.v[i];
        store8(y + c, v);
    }
}

// each_octet hands a block's octets to its threads, eight of each under way at a time.
template <class Take>
__device__ __forceinline__ void each_octet(const __half *x, int octets, Take take) {
    constexpr int AT_ONCE = 8;
#pragma unroll 1
    for (int first = threadIdx.x; first < octets; first += AT_ONCE * 256) {
        uint4 v[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) v[i] = reinterpret_cast<const uint4 *>(x)[min(first + 256 * i, octets - 1)];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            if (first + 256 * i < octets) take(unpack(v[i]), first + 256 * i);
    }
}

extern "C" __global__ void __launch_bounds__(256)
    rescale_partial(const __half *x, float *partial, int pixels, int pitch, int channels) {
    await_predecessors();
    __shared__ float scratch[32];
    const int per_share = (pixels + gridDim.x - 1) / gridDim.x;
    const int p0 = blockIdx.x * per_share, p1 = min(p0 + per_share, pixels), octets = pitch / 8;
    x += static_cast<size_t>(blockIdx.y) * pixels * pitch;
    const float shift = __half2float(x[0]);
    const int values = max(p1 - p0, 0) * octets;
    x += static_cast<size_t>(p0) * pitch;  // rows have no gaps
    float s = 0, ss = 0;
    each_octet(x, values, [&](const Octet &v, int i) {
        const int left = channels - i % octets * 8;
#pragma unroll
        for (int k = 0; k < 8; k++) s += k < left ? v.v[k] - shift : 0.0f;
    });
    float mean = block_sum(s, scratch) / fmaxf(static_cast<float>(p1 - p0) * channels, 1.0f);
    each_octet(x, values, [&](const Octet &v, int i) {
        const int left = channels - i % octets * 8;
#pragma unroll
        for (int k = 0; k < 8; k++) {
            const float d = k < left ? v.v[k] - shift - mean : 0.0f;
            ss += d * d;
        }
    });
    ss = block_sum(ss, scratch);
    if (threadIdx.x == 0) {
        float *out = partial + (static_cast<size_t>(blockIdx.y) * gridDim.x + blockIdx.x) * 2;
        out[0] = mean;
        out[1] = ss;
    }
}

struct Rescale {
    const __half *x;
    const float *partial;
    const float *weight, *bias, *scale_weight, *scale_bias, *shift_weight, *shift_bias;  // [P]
    float *before, *after;
    int pixels, pitch, channels, shares;
    float eps;
};

// RescaleFactors are a channel's parameters, those of the last one behind it.
struct RescaleFactors {
    float weight, bias;
    float2 scale, shift;  // weight and bias of each

    __device__ __forceinline__ RescaleFactors(const Rescale &p, int channel) {
        const int c = min(channel, p.channels - 1);
        weight = p.weight[c], bias = p.bias[c];
        scale = make_float2(p.scale_weight[c], p.scale_bias[c]);
        shift = make_float2(p.shift_weight[c], p.shift_bias[c]);
    }
};

extern "C" __global__ void __launch_bounds__(256) rescale_finish(const __grid_constant__ Rescale p) {
    await_predecessors();
    __shared__ float scratch[32];
    const int per_share = (p.pixels + p.shares - 1) / p.shares;
    const float *from = p.partial + static_cast<size_t>(blockIdx.x) * p.shares * 2;
    const float shift = __half2float(p.x[static_cast<size_t>(blockIdx.x) * p.pixels * p.pitch]);
    RescaleFactors factors(p, threadIdx.x);  // asked for before the moments are known
    float s = 0, ss = 0;
    for (int i = threadIdx.x; i < p.shares; i += 256) s += from[2 * i] * max(min(per_share, p.pixels - i * per_share), 0);
    float centre = block_sum(s, scratch) / p.pixels;
    for (int i = threadIdx.x; i < p.shares; i += 256) {
        float d = from[2 * i] - centre, n = static_cast<float>(max(min(per_share, p.pixels - i * per_share), 0)) * p.channels;
        ss += from[2 * i + 1] + n * d * d;
    }
    float mean = shift + centre, deviation = sqrtf(block_sum(ss, scratch) / (static_cast<float>(p.pixels) * p.channels) + p.eps);
    for (int c = threadIdx.x; c < p.pitch; c += 256) {
        if (c >= 256) factors = RescaleFactors(p, c);
        const bool real = c < p.channels;
        const size_t at = static_cast<size_t>(blockIdx.x) * 2 * p.pitch + c;
        const float f = real ? factors.weight / deviation : 0.0f;
        p.before[at] = f;
        p.before[at + p.pitch] = real ? factors.bias - mean * f : 0.0f;
        p.after[at] = real ? factors.scale.x * deviation + factors.scale.y : 0.0f;
        p.after[at + p.pitch] = real ? factors.shift.x * mean + factors.shift.y : 0.0f;
    }
}
