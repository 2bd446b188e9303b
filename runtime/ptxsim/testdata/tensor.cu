// tensor.cu: copies by tensor maps, each kernel with a defect (bug = 1) and correct (bug = 0).
#include <stdint.h>

#define KERNEL extern "C" __global__ void

struct alignas(64) Map { unsigned char opaque[128]; };

__device__ __forceinline__ uint32_t at(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void init(uint64_t* bar, int count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at(bar)), "r"(count) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void expect(uint64_t* bar, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(at(bar)), "r"(bytes) : "memory");
}

__device__ __forceinline__ void wait(uint64_t* bar, int parity) {
    asm volatile(
        "{\n\t.reg .pred done;\n\t"
        "again%=: mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 done, [%0], %1;\n\t"
        "@!done bra again%=;\n\t}" ::"r"(at(bar)), "r"(parity) : "memory");
}

__device__ __forceinline__ void fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ __forceinline__ void load2(void* dst, const Map& m, int x, int y, uint64_t* bar) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(at(dst)),
                 "l"(&m), "r"(at(bar)), "r"(x), "r"(y) : "memory");
}

__device__ __forceinline__ void store2(const Map& m, int x, int y, const void* src) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&m), "r"(at(src)), "r"(x), "r"(y) : "memory");
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

// A box of 16 by 8 floats at x, y, as it lies in shared memory.
KERNEL box(const __grid_constant__ Map m, float* out, int x, int y, int bug) {
    __shared__ alignas(1024) float s[8 * 32];
    __shared__ uint64_t bar;
    for (int i = threadIdx.x; i < 256; i += 32) s[i] = -1;
    if (threadIdx.x == 0) init(&bar, 1);
    fence();
    __syncthreads();
    if (threadIdx.x == 0) {
        expect(&bar, 16 * 8 * sizeof(float));
        load2(s, m, x, y, &bar);
    }
    if (!bug) wait(&bar, 0);
    for (int i = threadIdx.x; i < 256; i += 32) out[i] = s[i];
}

// The mbarrier awaits another number of bytes than the box has.
KERNEL bytes_of_a_box(const __grid_constant__ Map m, float* out, int bug) {
    __shared__ alignas(128) float s[8 * 16];
    __shared__ uint64_t bar;
    if (threadIdx.x == 0) {
        init(&bar, 1);
        expect(&bar, (16 * 8 + bug) * sizeof(float));
        load2(s, m, 0, 0, &bar);
    }
    __syncthreads();
    wait(&bar, 0);
    for (int i = threadIdx.x; i < 128; i += 32) out[i] = s[i];
}

// A box of 16 by 8 floats goes to x, y.
KERNEL put(const __grid_constant__ Map m, int x, int y, int bug) {
    __shared__ alignas(128) float s[8 * 16];
    for (int i = threadIdx.x; i < 128; i += 32) s[i] = i + 1;
    if (!bug) fence();
    __syncthreads();
    if (threadIdx.x == 0) {
        store2(m, x, y, s);
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    }
}

// Two blocks add to one place, which reductions may.
KERNEL add(const __grid_constant__ Map m, int bug) {
    __shared__ alignas(128) float s[8 * 16];
    for (int i = threadIdx.x; i < 128; i += 32) s[i] = i + 1;
    fence();
    __syncthreads();
    if (threadIdx.x == 0) {
        if (bug) store2(m, 0, 0, s);
        else {
            asm volatile("cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&m), "r"(at(s)), "r"(0),
                         "r"(0) : "memory");
            asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        }
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    }
}

// The map must be one, and at a multiple of 64; a map of another rank is none for this copy.
KERNEL map_in_memory(const Map* m, float* out, int bug) {
    __shared__ alignas(128) float s[8 * 16];
    __shared__ uint64_t bar;
    if (threadIdx.x == 0) {
        init(&bar, 1);
        expect(&bar, 16 * 8 * sizeof(float));
        load2(s, m[bug], 0, 0, &bar);
    }
    __syncthreads();
    wait(&bar, 0);
    for (int i = threadIdx.x; i < 128; i += 32) out[i] = s[i];
}

KERNEL box_off_its_place(const __grid_constant__ Map m, float* out, int bug) {
    __shared__ alignas(128) float s[8 * 16 + 4];
    __shared__ uint64_t bar;
    if (threadIdx.x == 0) {
        init(&bar, 1);
        expect(&bar, 16 * 8 * sizeof(float));
        load2(s + 4 * bug, m, 0, 0, &bar);
    }
    __syncthreads();
    wait(&bar, 0);
    for (int i = threadIdx.x; i < 128; i += 32) out[i] = s[i + 4 * bug];
}

// Three dimensions, a halo of one around 8 by 4 by 2 halves.
KERNEL halo(const __grid_constant__ Map m, unsigned short* out, int bug) {
    __shared__ alignas(128) unsigned short s[8 * 6 * 4];
    __shared__ uint64_t bar;
    if (threadIdx.x == 0) {
        init(&bar, 1);
        expect(&bar, sizeof s);
        asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(at(s)),
                     "l"(&m), "r"(at(&bar)), "r"(0), "r"(-1), "r"(-1) : "memory");
    }
    if (!bug) __syncthreads();
    wait(&bar, 0);
    for (int i = threadIdx.x; i < 192; i += 32) out[i] = s[i];
}

// 16 channels of 12 pixels in im2col mode, from pixel x, y of image n, for the filter's tap dx, dy.
KERNEL im2col(const __grid_constant__ Map m, uint16_t* out, int c, int x, int y, int n, int dx, int dy, int bug) {
    __shared__ alignas(128) uint16_t s[12 * 16];
    __shared__ uint64_t bar;
    if (threadIdx.x == 0) {
        init(&bar, 1);
        expect(&bar, sizeof(s));
        asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8};" ::"r"(at(s)),
                     "l"(&m), "r"(at(&bar)), "r"(c), "r"(x), "r"(y), "r"(n), "h"((uint16_t)dx), "h"((uint16_t)dy) : "memory");
    }
    __syncthreads();
    if (!bug) wait(&bar, 0);
    for (int i = threadIdx.x; i < 12 * 16; i += 32) out[i] = s[i];
}

// The same pixels written back.
KERNEL col2im(const __grid_constant__ Map m, int x, int y, int n) {
    __shared__ alignas(128) uint16_t s[12 * 16];
    for (int i = threadIdx.x; i < 12 * 16; i += 32) s[i] = 1000 + i;
    fence();
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.im2col_no_offs.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(&m), "r"(at(s)), "r"(0), "r"(x), "r"(y), "r"(n) : "memory");
        asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    }
}
