// prologue.cu: y = (x·s)·f + t, the input scale and affine map of a convolution whose kernel does not take them along.
//
//   x, y [image][height][width][P] fp16     s [image][scale_h][scale_w][P] fp16: pixel (y, x) reads row
//   clamp(y - (height-scale_h)/2), column likewise     f, t [image][2][P] fp32
//
// Grid: x = octets/256. Block: 256 threads, an octet each. Moves 4P bytes a pixel and the factors; memory sets the pace.
#include "dependent.cuh"
#include "half.cuh"

struct Prologue {
    const __half *x, *scale;   // scale [image][scale_h][scale_w][P] or null
    const float *affine;       // [image][2][P] or null
    __half *y;
    int images, height, width, pitch, scale_h, scale_w;
};

extern "C" __global__ void __launch_bounds__(256) prologue(const __grid_constant__ Prologue p) {
    await_predecessors();
    long at = static_cast<long>(blockIdx.x) * 256 + threadIdx.x;
    int octets = p.pitch / 8;
    if (at >= static_cast<long>(p.images) * p.height * p.width * octets) return;
    int c = static_cast<int>(at % octets) * 8;
    long pixel = at / octets, row = pixel / p.width;
    int x = static_cast<int>(pixel % p.width), y = static_cast<int>(row % p.height), image = static_cast<int>(row / p.height);
    Octet o = load8(p.x + at * 8);
    if (p.scale) {
        y = min(max(y - (p.height - p.scale_h) / 2, 0), p.scale_h - 1);
        x = min(max(x - (p.width - p.scale_w) / 2, 0), p.scale_w - 1);
        Octet s = load8(p.scale + ((static_cast<size_t>(image) * p.scale_h + y) * p.scale_w + x) * p.pitch + c);
#pragma unroll
        for (int i = 0; i < 8; i++) o.v[i] *= s.v[i];
    }
    if (p.affine) {
        const float *a = p.affine + static_cast<size_t>(image) * 2 * p.pitch + c;
        Octet f = load8(a), t = load8(a + p.pitch);
#pragma unroll
        for (int i = 0; i < 8; i++) o.v[i] = o.v[i] * f.v[i] + t.v[i];
    }
    store8(p.y + at * 8, o);
}
