// gemm.cu: C = A·Bᵀ (A [M][K], B [N][K], C [M][N], halves, float sums) with cp.async, ldmatrix and mma.m16n8k16.
// A block computes 64×64 with 4 warps (each 32×32), K in steps of 32 through three stages of shared memory.
#include <cuda_fp16.h>
#include <stdint.h>

static const int BM = 64, BN = 64, BK = 32, STAGES = 3, PITCH = BK + 8;

__device__ __forceinline__ void copy16(uint32_t dst, const void* src, int bytes) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(bytes));
}

extern "C" __global__ void __launch_bounds__(128) gemm(const __half* __restrict__ a, const __half* __restrict__ b,
                                                       __half* __restrict__ c, int m, int n, int k) {
    extern __shared__ __align__(16) __half smem[];
    __half* sa = smem;
    __half* sb = smem + STAGES * BM * PITCH;
    int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
    int row0 = blockIdx.y * BM, col0 = blockIdx.x * BN;
    int wm = warp / 2 * 32, wn = warp % 2 * 32;

    auto load = [&](int stage, int kk) {
        for (int i = tid; i < BM * BK / 8; i += 128) {
            int r = i / (BK / 8), col = i % (BK / 8) * 8;
            bool in = row0 + r < m && kk + col < k;
            const __half* src = in ? a + (size_t)(row0 + r) * k + kk + col : a;
            copy16((uint32_t)__cvta_generic_to_shared(sa + (stage * BM + r) * PITCH + col), src, in ? 16 : 0);
        }
        for (int i = tid; i < BN * BK / 8; i += 128) {
            int r = i / (BK / 8), col = i % (BK / 8) * 8;
            bool in = col0 + r < n && kk + col < k;
            const __half* src = in ? b + (size_t)(col0 + r) * k + kk + col : b;
            copy16((uint32_t)__cvta_generic_to_shared(sb + (stage * BN + r) * PITCH + col), src, in ? 16 : 0);
        }
    };

    float acc[2][4][4] = {};
    int steps = (k + BK - 1) / BK;
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < steps) load(s, s * BK);
        asm volatile("cp.async.commit_group;");
    }
    for (int s = 0; s < steps; s++) {
        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2));
        __syncthreads();
        if (s + STAGES - 1 < steps) load((s + STAGES - 1) % STAGES, (s + STAGES - 1) * BK);
        asm volatile("cp.async.commit_group;");
        const __half* ta = sa + s % STAGES * BM * PITCH;
        const __half* tb = sb + s % STAGES * BN * PITCH;
        for (int kk = 0; kk < BK; kk += 16) {
            uint32_t fa[2][4], fb[4][2];
            for (int i = 0; i < 2; i++) {
                uint32_t p = (uint32_t)__cvta_generic_to_shared(ta + (wm + i * 16 + lane % 16) * PITCH + kk + lane / 16 * 8);
                asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                             : "=r"(fa[i][0]), "=r"(fa[i][1]), "=r"(fa[i][2]), "=r"(fa[i][3])
                             : "r"(p));
            }
            for (int j = 0; j < 4; j += 2) {
                int r = wn + j * 8 + lane % 8 + lane / 16 * 8;
                uint32_t p = (uint32_t)__cvta_generic_to_shared(tb + r * PITCH + kk + lane / 8 % 2 * 8);
                asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                             : "=r"(fb[j][0]), "=r"(fb[j][1]), "=r"(fb[j + 1][0]), "=r"(fb[j + 1][1])
                             : "r"(p));
            }
            for (int i = 0; i < 2; i++)
                for (int j = 0; j < 4; j++)
                    asm volatile(
                        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                        : "+f"(acc[i][j][0]), "+f"(acc[i][j][1]), "+f"(acc[i][j][2]), "+f"(acc[i][j][3])
                        : "r"(fa[i][0]), "r"(fa[i][1]), "r"(fa[i][2]), "r"(fa[i][3]), "r"(fb[j][0]), "r"(fb[j][1]));
        }
    }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++)
            for (int h = 0; h < 2; h++) {
                int r = row0 + wm + i * 16 + h * 8 + lane / 4, q = col0 + wn + j * 8 + lane % 4 * 2;
                if (r < m && q < n) *(__half2*)(c + (size_t)r * n + q) = __floats2half2_rn(acc[i][j][2 * h], acc[i][j][2 * h + 1]);
            }
}
