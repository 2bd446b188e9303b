// prompt.cu: PromptIR's dynamic prompts. Activations [pixel][P] fp16, P the channels rounded up to 8, computed in fp32.
//
// prompt: y [image][pixel][P] = the sum over l of softmax(logits [image][pitch] fp32)[l] · components [l][pixel][P] fp32.
//   A thread makes an octet and the softmax of the few logits for itself. Moves 4·L·P + 2P bytes a pixel.
//   Grid: x = octets of an image/256, y = images.
// bilinear: y [n][out_h][out_w] from x [n][in_h][in_w], pixel i of a side at max((i+1/2)·in/out - 1/2, 0), the last pixel
//   repeated; a growing side reads a pixel several times, from the caches. Moves 2P bytes a pixel in and out.
//   Grid: x = octets of a row/256, y = rows, z = images.
// Block: 256 threads. Few operations a byte: memory sets the pace.
#include "dependent.cuh"
#include "half.cuh"

extern "C" __global__ void __launch_bounds__(256)
    prompt(const float *logits, const float *components, __half *y, unsigned octets, int count, int pitch) {
    await_predecessors();
    unsigned i = blockIdx.x * 256 + threadIdx.x;
    if (i >= octets) return;
    logits += static_cast<size_t>(blockIdx.y) * pitch;
    float most = logits[0], total = 0.0f;
    for (int l = 1; l < count; l++) most = fmaxf(most, logits[l]);
    Octet sum = {};
    for (int l = 0; l < count; l++) {
        float w = expf(logits[l] - most);
        total += w;
        Octet c = load8(components + (static_cast<size_t>(l) * octets + i) * 8);
#pragma unroll
        for (int j = 0; j < 8; j++) sum.v[j] += w * c.v[j];
    }
#pragma unroll
    for (int j = 0; j < 8; j++) sum.v[j] /= total;
    store8(y + (static_cast<size_t>(blockIdx.y) * octets + i) * 8, sum);
}

// Tap says where a pixel comes from: (1-t)·lower + t·upper.
struct Tap {
    int lower, upper;
    float t;
};

// The position is taken apart in integers: (2i+1)·from - to over 2·to.
__device__ __forceinline__ Tap tap(int i, int from, int to) {
    long long num = (2LL * i + 1) * from - to;
    if (num < 0) num = 0;
    long long den = 2LL * to;
    int lower = static_cast<int>(num / den);
    float t = static_cast<float>(num - lower * den) / static_cast<float>(den);
    return {lower, min(lower + 1, from - 1), t};
}

extern "C" __global__ void __launch_bounds__(256)
    bilinear(const __half *x, __half *y, int in_h, int in_w, int out_h, int out_w, int octets) {
    await_predecessors();
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= out_w * octets) return;
    int ox = i / octets, o = i - ox * octets;
    Tap column = tap(ox, in_w, out_w);
    x += static_cast<size_t>(blockIdx.z) * in_h * in_w * octets * 8;
    y += static_cast<size_t>(blockIdx.z) * out_h * out_w * octets * 8;
    for (int oy = blockIdx.y; oy < out_h; oy += gridDim.y) {
        Tap row = tap(oy, in_h, out_h);
        auto at = [&](int iy, int ix) { return load8(x + ((static_cast<size_t>(iy) * in_w + ix) * octets + o) * 8); };
        Octet a = at(row.lower, column.lower), b = at(row.lower, column.upper);
        Octet c = at(row.upper, column.lower), d = at(row.upper, column.upper);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            float top = a.v[j] + column.t * (b.v[j] - a.v[j]), bottom = c.v[j] + column.t * (d.v[j] - c.v[j]);
            a.v[j] = top + row.t * (bottom - top);
        }
        store8(y + (static_cast<size_t>(oy) * out_w * octets + i) * 8, a);
    }
}
