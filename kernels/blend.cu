// blend.cu: elementwise combinations of activations [pixel][P] fp16, P the channels rounded up to 8, computed in fp32.
//
// mul_add: y = a·b + c, without b a + c. Moves 8P bytes a pixel (6P without b).
// soft_reconstruction: y[c] = kb[0]·x[c] - kb[c+1] + x[c], kb with one channel more than x. Moves 4P + 2P' bytes a pixel.
// sigmoid: y = 1/(1+exp(-x)), channels that pad a pixel 0. Moves 4P bytes a pixel.
// selective_kernel: y = p[c]·a + (1-p[c])·b + residual, p[c] = 1/(1+exp(logits[C+c]-logits[c])), logits [image][P'] fp16,
//   P' = 2C rounded up to 8. A block makes p once, in shared memory. Moves 8P bytes a pixel (6P without residual).
// Grids: x = octets/256; selective_kernel: x = blocks that share the octets of an image, y = images, with 4P bytes of
// dynamic shared memory. Block: 256 threads. At most an operation a byte: memory sets the pace.
#include "dependent.cuh"
#include "half.cuh"
#include "overflow.cuh"

extern "C" __global__ void __launch_bounds__(256)
    mul_add(const __half *a, const __half *b, const __half *c, __half *y, unsigned total) {
    await_predecessors();
    unsigned i = blockIdx.x * 256 + threadIdx.x;
    if (i >= total) return;
    size_t at = static_cast<size_t>(i) * 8;
    Octet v = load8(a + at), w = load8(c + at);
    if (b) {
        Octet f = load8(b + at);
#pragma unroll
        for (int j = 0; j < 8; j++) v.v[j] *= f.v[j];
    }
#pragma unroll
    for (int j = 0; j < 8; j++) v.v[j] += w.v[j];
    store8(y + at, v);
}

extern "C" __global__ void __launch_bounds__(256)
    soft_reconstruction(const __half *x, const __half *kb, __half *y, unsigned total, int octets, int channels, int pitch_kb) {
    await_predecessors();
    unsigned i = blockIdx.x * 256 + threadIdx.x;
    if (i >= total) return;
    unsigned pixel = i / octets;
    int c = static_cast<int>(i - pixel * octets) * 8;
    kb += static_cast<size_t>(pixel) * pitch_kb;
    Octet v = load8(x + static_cast<size_t>(i) * 8), shift = load8(kb + c);
    float k = __half2float(kb[0]), last = c + 7 < channels ? __half2float(kb[c + 8]) : 0.0f;
#pragma unroll
    for (int j = 0; j < 8; j++) {
        float b = j < 7 ? shift.v[j + 1] : last;
        v.v[j] = c + j < channels ? k * v.v[j] - b + v.v[j] : 0.0f;
    }
    store8(y + static_cast<size_t>(i) * 8, v);
}

extern "C" __global__ void __launch_bounds__(256)
    sigmoid(const __half *x, __half *y, unsigned *overflow, unsigned total, int octets, int channels) {
    await_predecessors();
    unsigned i = blockIdx.x * 256 + threadIdx.x;
    if (i >= total) return;
    int c = static_cast<int>(i % octets) * 8;
    const uint4 octet = *reinterpret_cast<const uint4 *>(x + static_cast<size_t>(i) * 8);
    Overflow seen;
    seen.take(octet);
    seen.report(overflow);
    Octet v = unpack(octet);
#pragma unroll
    for (int j = 0; j < 8; j++) v.v[j] = c + j < channels ? 1.0f / (1.0f + expf(-v.v[j])) : 0.0f;
    store8(y + static_cast<size_t>(i) * 8, v);
}

extern "C" __global__ void __launch_bounds__(256)
    selective_kernel(const __half *a, const __half *b, const __half *logits, const __half *residual, __half *y, unsigned *overflow,
                     unsigned total, int octets, int channels, int pitch_logits) {
    await_predecessors();
    extern __shared__ __align__(16) float share[];
    int image = blockIdx.y;
    logits += static_cast<size_t>(image) * pitch_logits;
    // The first and the second quads of all octets stand together, so that octets side by side meet no conflicts.
    float4 *quads = reinterpret_cast<float4 *>(share);
    Overflow seen;
    for (int c = threadIdx.x; c < octets * 8; c += 256) {
        if (c < channels) seen.take(logits[c]), seen.take(logits[channels + c]);
        share[(c / 4 % 2 * octets + c / 8) * 4 + c % 4] =
            c < channels ? 1.0f / (1.0f + expf(__half2float(logits[channels + c]) - __half2float(logits[c]))) : 0.0f;
    }
    seen.report(overflow);
    __syncthreads();
    size_t first = static_cast<size_t>(image) * total;
    for (unsigned i = blockIdx.x * 256 + threadIdx.x; i < total; i += gridDim.x * 256) {
        size_t at = (first + i) * 8;
        Octet v = load8(a + at), w = load8(b + at);
        float4 low = quads[i % octets], high = quads[octets + i % octets];
        const float p[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
        for (int j = 0; j < 8; j++) v.v[j] = p[j] * v.v[j] + (1.0f - p[j]) * w.v[j];
        if (residual) {
            Octet r = load8(residual + at);
#pragma unroll
            for (int j = 0; j < 8; j++) v.v[j] += r.v[j];
        }
        store8(y + at, v);
    }
}
