// wmma.cu: matrix products through wmma, and of integers.
#include <cuda_fp16.h>
#include <mma.h>
#include <stdint.h>

using namespace nvcuda;

#define KERNEL extern "C" __global__ void

// y = x·wᵀ + z for 16×16 tiles; x by rows, w by rows (so wᵀ by columns).
KERNEL wmma_f16(const half* x, const half* w, const float* z, float* y) {
    wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> a;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::col_major> b;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> c;
    wmma::load_matrix_sync(a, x, 16);
    wmma::load_matrix_sync(b, w, 16);
    wmma::load_matrix_sync(c, z, 16, wmma::mem_row_major);
    wmma::mma_sync(c, a, b, c);
    wmma::store_matrix_sync(y, c, 16, wmma::mem_row_major);
}

// The same with sums of halves, stored by columns, through shared memory.
KERNEL wmma_half_sum(const half* x, const half* w, half* y) {
    __shared__ half s[256], t[16 * 24];
    for (int i = threadIdx.x; i < 256; i += 32) s[i] = x[i];
    __syncwarp();
    wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> a;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::col_major> b;
    wmma::fragment<wmma::accumulator, 16, 16, 16, half> c;
    wmma::load_matrix_sync(a, s, 16);
    wmma::load_matrix_sync(b, w, 16);
    wmma::fill_fragment(c, __float2half(1.f));
    wmma::mma_sync(c, a, b, c);
    wmma::store_matrix_sync(t, c, 24, wmma::mem_col_major);
    __syncwarp();
    for (int i = threadIdx.x; i < 256; i += 32) y[i] = t[i % 16 * 24 + i / 16];
}

// y[16][8] = a[16][32]·b[8][32]ᵀ of bytes.
KERNEL mma_s8(const int8_t* a, const int8_t* b, int* y) {
    int g = threadIdx.x / 4, t = threadIdx.x % 4;
    const uint32_t *pa = (const uint32_t*)a, *pb = (const uint32_t*)b;
    uint32_t a0 = pa[g * 8 + t], a1 = pa[(g + 8) * 8 + t], a2 = pa[g * 8 + t + 4], a3 = pa[(g + 8) * 8 + t + 4];
    uint32_t b0 = pb[g * 8 + t], b1 = pb[g * 8 + t + 4];
    int d0, d1, d2, d3;
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
                 : "=r"(d0), "=r"(d1), "=r"(d2), "=r"(d3)
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "r"(0));
    y[g * 8 + 2 * t] = d0;
    y[g * 8 + 2 * t + 1] = d1;
    y[(g + 8) * 8 + 2 * t] = d2;
    y[(g + 8) * 8 + 2 * t + 1] = d3;
}

// y[8][8] = a[8][4]·b[8][4]ᵀ of doubles.
KERNEL mma_f64(const double* a, const double* b, double* y) {
    int g = threadIdx.x / 4, t = threadIdx.x % 4;
    double d0, d1;
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%4,%4};"
                 : "=d"(d0), "=d"(d1) : "d"(a[g * 4 + t]), "d"(b[g * 4 + t]), "d"(0.0));
    y[g * 8 + 2 * t] = d0;
    y[g * 8 + 2 * t + 1] = d1;
}
