// wgmma.cu: products of four warps.
#include <cuda_fp16.h>
#include <stdint.h>

#define KERNEL extern "C" __global__ void

__device__ __forceinline__ uint32_t at(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }

// y[64][64] += a[64][16]·b[64][16]ᵀ; with TRANS, b lies as [16][64].
template <int TRANS>
__device__ __forceinline__ void product(float (&d)[32], uint64_t a, uint64_t b) {
    asm volatile(
        "{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %34, 0;\n\t"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, p, 1, 1, 0, %35;\n\t}"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]) : "l"(a), "l"(b), "r"(1), "n"(TRANS));
}

// The same with a in registers.
__device__ __forceinline__ void productRegisters(float (&d)[32], const uint32_t (&a)[4], uint64_t b) {
    asm volatile(
        "{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %37, 0;\n\t"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, p, 1, 1, 0;\n\t}"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(0));
}

__device__ __forceinline__ void begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wait() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }
__device__ __forceinline__ void fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ __forceinline__ void put(float* y, const float (&d)[32]) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int i = 0; i < 32; i++) y[(16 * warp + lane / 4 + 8 * (i / 2 % 2)) * 64 + i / 4 * 8 + lane % 4 * 2 + i % 2] = d[i];
}

// Where element k of row r lies: mode 0 without swizzle in 8×8 matrices, 1 to 3 in rows of 128, 64 and 32 swizzled bytes.
__device__ __forceinline__ int place(int mode, int r, int k) {
    if (mode == 0) return (r / 8 * 256 + k / 8 * 128 + r % 8 * 16 + k % 8 * 2) / 2;
    int row = 256 >> mode, off = r * row + 2 * k;
    return (off ^ ((off >> 7 & (row / 16 - 1)) << 4)) / 2;
}

__device__ __forceinline__ uint64_t describe(const void* p, int mode) {
    int stride = mode == 0 ? 256 : 8 * (256 >> mode);
    return (uint64_t)(at(p) >> 4 & 0x3fff) | (uint64_t)(128 >> 4) << 16 | (uint64_t)(stride >> 4) << 32 | (uint64_t)mode << 62;
}

KERNEL layouts(const half* a, const half* b, float* y, int mode, int bug) {
    __shared__ alignas(1024) half s[64 * 64], t[64 * 64];
    for (int i = threadIdx.x; i < 64 * 16; i += blockDim.x) {
        s[place(mode, i / 16, i % 16)] = a[i];
        t[place(mode, i / 16, i % 16)] = b[i];
    }
    if (!bug) fence();
    __syncthreads();
    float d[32];
    for (int i = 0; i < 32; i++) d[i] = 1;
    begin();
    product<0>(d, describe(s, mode), describe(t, mode));
    commit();
    wait();
    put(y, d);
}

// b by columns in rows of 128 swizzled bytes.
KERNEL transposed(const half* a, const half* b, float* y, int mode, int bug) {
    __shared__ alignas(1024) half s[64 * 16], t[64 * 16];
    for (int i = threadIdx.x; i < 64 * 16; i += blockDim.x) {
        s[place(3, i / 16, i % 16)] = a[i];
        t[place(1, i % 16, i / 16)] = b[i];
    }
    if (!bug) fence();
    __syncthreads();
    float d[32];
    for (int i = 0; i < 32; i++) d[i] = 1;
    begin();
    product<1>(d, describe(s, 3), describe(t, 1));
    commit();
    wait();
    put(y, d);
}

// a from registers; the sum begins at zero whatever d holds.
KERNEL registers(const half* a, const half* b, float* y, int mode, int bug) {
    __shared__ alignas(1024) half t[64 * 16];
    for (int i = threadIdx.x; i < 64 * 16; i += blockDim.x) t[place(3, i / 16, i % 16)] = b[i];
    if (!bug) fence();
    __syncthreads();
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    uint32_t r[4];
    for (int i = 0; i < 4; i++) r[i] = *(const uint32_t*)&a[(16 * warp + lane / 4 + 8 * (i % 2)) * 16 + lane % 4 * 2 + 8 * (i / 2)];
    float d[32];
    for (int i = 0; i < 32; i++) d[i] = 7;
    begin();
    productRegisters(d, r, describe(t, 3));
    commit();
    wait();
    put(y, d);
}

// With the defect the operands are overwritten before the product was waited for.
KERNEL overwritten(const half* a, const half* b, float* y, int mode, int bug) {
    __shared__ alignas(1024) half s[64 * 16], t[64 * 16];
    for (int i = threadIdx.x; i < 64 * 16; i += blockDim.x) {
        s[place(3, i / 16, i % 16)] = a[i];
        t[place(3, i / 16, i % 16)] = b[i];
    }
    fence();
    __syncthreads();
    float d[32];
    for (int i = 0; i < 32; i++) d[i] = 1;
    begin();
    product<0>(d, describe(s, 3), describe(t, 3));
    commit();
    if (!bug) wait();
    __syncthreads();
    for (int i = threadIdx.x; i < 64 * 16; i += blockDim.x) t[i] = a[i];
    wait();
    put(y, d);
    __syncthreads();
    if (threadIdx.x == 0) y[0] += 0 * __half2float(t[1]);
}

// The sums are read before their group was waited for.
KERNEL sum_read_early(const half* a, const half* b, float* y, int mode, int bug) {
    __shared__ alignas(1024) half s[64 * 16], t[64 * 16];
    for (int i = threadIdx.x; i < 64 * 16; i += blockDim.x) {
        s[place(3, i / 16, i % 16)] = a[i];
        t[place(3, i / 16, i % 16)] = b[i];
    }
    fence();
    __syncthreads();
    float d[32];
    for (int i = 0; i < 32; i++) d[i] = 1;
    begin();
    product<0>(d, describe(s, 3), describe(t, 3));
    commit();
    if (!bug) wait();
    put(y, d);
    wait();
}

// A left operand in registers changes while the product runs.
KERNEL operand_changed(const half* a, const half* b, float* y, int mode, int bug) {
    __shared__ alignas(1024) half t[64 * 16];
    for (int i = threadIdx.x; i < 64 * 16; i += blockDim.x) t[place(3, i / 16, i % 16)] = b[i];
    fence();
    __syncthreads();
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    uint32_t r[4];
    for (int i = 0; i < 4; i++) r[i] = *(const uint32_t*)&a[(16 * warp + lane / 4 + 8 * (i % 2)) * 16 + lane % 4 * 2 + 8 * (i / 2)];
    float d[32];
    for (int i = 0; i < 32; i++) d[i] = 0;
    begin();
    asm volatile(
        "{\n\t.reg .pred p, q;\n\t.reg .b32 x<4>;\n\tsetp.ne.b32 p, 0, 0;\n\tsetp.ne.b32 q, %37, 0;\n\t"
        "mov.b32 x0, %32;\n\tmov.b32 x1, %33;\n\tmov.b32 x2, %34;\n\tmov.b32 x3, %35;\n\t"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, {x0, x1, x2, x3}, %36, p, 1, 1, 0;\n\t"
        "wgmma.commit_group.sync.aligned;\n\t@q bra skip;\n\twgmma.wait_group.sync.aligned 0;\n\tskip: add.u32 x0, x0, 1;\n\t}"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]) : "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]), "l"(describe(t, 3)), "r"(bug));
    wait();
    put(y, d);
}

// Sums that ordinary instructions scale go into the next product behind a fence; products in a row need none.
KERNEL scaled_between(const half* a, const half* b, float* y, int mode, int bug) {
    __shared__ alignas(1024) half s[64 * 16], t[64 * 16];
    for (int i = threadIdx.x; i < 64 * 16; i += blockDim.x) {
        s[place(3, i / 16, i % 16)] = a[i];
        t[place(3, i / 16, i % 16)] = b[i];
    }
    fence();
    __syncthreads();
    float d[32];
    for (int i = 0; i < 32; i++) d[i] = 0;
    begin();
    for (int k = 0; k < 2; k++) product<0>(d, describe(s, 3), describe(t, 3));
    commit();
    wait();
    for (int i = 0; i < 32; i++) asm volatile("mul.f32 %0, %0, 0f3F000000;" : "+f"(d[i]));
    if (!bug) begin();
    product<0>(d, describe(s, 3), describe(t, 3));
    commit();
    wait();
    for (int i = 0; i < 32; i++) d[i] *= 0.5f;
    put(y, d);
}

// A pipeline: one group stays under way while the next is begun.
KERNEL pipeline(const half* a, const half* b, float* y, int mode, int bug) {
    __shared__ alignas(1024) half s[64 * 16], t[64 * 16];
    for (int i = threadIdx.x; i < 64 * 16; i += blockDim.x) {
        s[place(3, i / 16, i % 16)] = a[i];
        t[place(3, i / 16, i % 16)] = b[i];
    }
    fence();
    __syncthreads();
    float d[32];
    for (int i = 0; i < 32; i++) d[i] = 0;
#pragma unroll 1
    for (int k = 0; k < 4; k++) {
        begin();
        product<0>(d, describe(s, 3), describe(t, 3));
        commit();
        asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
    }
    if (!bug) wait();
    for (int i = 0; i < 32; i++) d[i] *= 0.25f;
    put(y, d);
    wait();
}
