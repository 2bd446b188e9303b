// deform.cu: the modulated deformable 3x3 convolution of arXiv 1811.11168, stride 1, one group, no bias.
//
// deform_conv: y [n][pixel][P'] fp16 from x [n][pixel][P] fp16, offsets [n][pixel][32] fp16 (dy and dx of tap k at 2k and
//   2k+1, the mask before its sigmoid at 18+k) and filters [tap][rows][columns] fp16, rows the filters rounded up to 64,
//   columns the channels rounded up to 16, zeros past the last. A block makes 32 pixels times 64 filters: for each tap it
//   samples the pixels bilinearly into shared memory, corners outside being 0, and multiplies them by the tap's filters
//   on tensor cores with fp32 sums.
//   Grid: x = pixels of an image/32, y = filters/64, z = images. Block: 128 threads; dynamic shared memory for 32 rows of
//   columns + 8 fp16 values and 32x64 fp32 sums. Each sample reads 8P bytes, from the caches where offsets are smooth:
//   operations set the pace, 18·C a value.
#include <mma.h>
#include "dependent.cuh"
#include "half.cuh"
#include "overflow.cuh"

using namespace nvcuda;

extern "C" __global__ void __launch_bounds__(128)
    deform_conv(const __half *x, const __half *offsets, const __half *filters, __half *y, unsigned *overflow, int h, int w,
                int pitch, int pitch_y, int rows, int columns) {
    await_predecessors();
    extern __shared__ __align__(32) unsigned char share[];
    float *sums = reinterpret_cast<float *>(share);
    __half *samples = reinterpret_cast<__half *>(share + 32 * 64 * 4);
    const int pixels = h * w, first = blockIdx.x * 32, stride = columns + 8, octets = columns / 8;
    const size_t image = static_cast<size_t>(blockIdx.z) * pixels;
    x += image * pitch;
    const int warp = threadIdx.x / 32, m = warp % 2 * 16, n = warp / 2 * 32;
    Overflow seen;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> low, high;
    wmma::fill_fragment(low, 0.0f);
    wmma::fill_fragment(high, 0.0f);
    for (int tap = 0; tap < 9; tap++) {
        for (int i = threadIdx.x; i < 32 * octets; i += 128) {
            int p = i / octets, o = i - p * octets, pixel = first + p;
            Octet v = {};
            if (pixel < pixels && o * 8 < pitch) {
                const __half *at = offsets + (image + pixel) * 32;
                seen.take(at[2 * tap]), seen.take(at[2 * tap + 1]), seen.take(at[18 + tap]);
                int row = pixel / w;
                float py = static_cast<float>(row - 1 + tap / 3) + __half2float(at[2 * tap]);
                float px = static_cast<float>(pixel - row * w - 1 + tap % 3) + __half2float(at[2 * tap + 1]);
                if (py > -1.0f && py < h && px > -1.0f && px < w) {
                    float mask = 1.0f / (1.0f + expf(-__half2float(at[18 + tap])));
                    float fy = floorf(py), fx = floorf(px), ty = py - fy, tx = px - fx;
                    int y0 = static_cast<int>(fy), x0 = static_cast<int>(fx);
#pragma unroll
                    for (int corner = 0; corner < 4; corner++) {
                        int iy = y0 + corner / 2, ix = x0 + corner % 2;
                        if (iy < 0 || iy >= h || ix < 0 || ix >= w) continue;
                        float f = mask * (corner / 2 ? ty : 1.0f - ty) * (corner % 2 ? tx : 1.0f - tx);
                        Octet c = load8(x + (static_cast<size_t>(iy) * w + ix) * pitch + o * 8);
#pragma unroll
                        for (int j = 0; j < 8; j++) v.v[j] += f * c.v[j];
                    }
                }
            }
            *reinterpret_cast<uint4 *>(samples + p * stride + o * 8) = pack(v);
        }
        __syncthreads();
        const __half *b = filters + (static_cast<size_t>(tap) * rows + blockIdx.y * 64 + n) * columns;
        for (int k = 0; k < columns; k += 16) {
            wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> fa;
            wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::col_major> fb;
            wmma::load_matrix_sync(fa, samples + m * stride + k, stride);
            wmma::load_matrix_sync(fb, b + k, columns);
            wmma::mma_sync(low, fa, fb, low);
            wmma::load_matrix_sync(fb, b + 16 * columns + k, columns);
            wmma::mma_sync(high, fa, fb, high);
        }
        __syncthreads();
    }
    seen.report(overflow);
    wmma::store_matrix_sync(sums + m * 64 + n, low, 64, wmma::mem_row_major);
    wmma::store_matrix_sync(sums + m * 64 + n + 16, high, 64, wmma::mem_row_major);
    __syncthreads();
    for (int i = threadIdx.x; i < 32 * 8; i += 128) {
        int p = i / 8, c = i % 8 * 8, filter = blockIdx.y * 64 + c;
        if (first + p < pixels && filter < pitch_y) store8(y + (image + first + p) * pitch_y + filter, load8(sums + p * 64 + c));
    }
}
