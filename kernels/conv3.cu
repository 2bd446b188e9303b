// conv3.cu: y = epilogue(x ∗ W), a dense 3×3 convolution of stride 1 padded by 1, on tensor cores from tiles of pixels.
//
//   x  [image][height][width][C] fp16     a second input continues the channels
//   W  [N][3][3][C] fp16                  C padded like x, rows packed by the host (see epilogue.cuh)
//   y  [image][height][width][N] fp16     or what shuffle and split make of it
//
// A block keeps its pixels and those around them in shared memory, all channels of them, so that each is read from L2 once
// and not nine times; tap and octet of channels are an offset into that tile. W comes through a ring of three stages filled by
// cp.async. A warp owns M pixels, two rows of eight in each 16, and all columns of the block. Pixels lie an odd multiple of 16
// bytes apart: no bank conflicts. Sums leave through shared memory, where the pixels were.
//
// conv3_MxN: M pixels a warp, N columns a block. Grid: x = tiles of 4·M pixels × tiles of N columns, columns fastest; z =
// images. A tile is 16 pixels wide, M/4 high. Block: 128 threads. Shared (dynamic): 16·(C/8|1)·18·(M/4+2) bytes of pixels, 432·N
// of ring and 36·C/8 of offsets, or 16·M·(N+8) for the sums where that is more.
//
// Moves 2(HWC·1.3·column tiles + NKC9·tiles + HWN) bytes through L2 and does 2·HW·N·9C operations: tensor cores set the pace, at
// 28 shared-memory passes to 24 instructions of theirs in the largest tile.
#include "padding.cuh"
#include "product.cuh"

constexpr int TILE_WIDTH = 16, HALO_WIDTH = TILE_WIDTH + 2, STAGES = 3, DEPTH = 64, THREADS = 128;
constexpr int RING_PITCH = 16 * (DEPTH / 8 + 1);  // bytes

struct Halo {
    int height, width;  // of the image
    int mode;           // of padding
    int tiles_x;        // of pixels
};

// load_sums reads eight sums.
__device__ __forceinline__ Octet load_sums(const float *sums) {
    const float4 *p = reinterpret_cast<const float4 *>(sums);
    const float4 a = p[0], b = p[1];
    return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}

// store_pixels takes a warp's sums, 16·MT pixels as rows of PITCH, to memory. A lane keeps to eight columns. y and x are those
// of the first pixel.
template <int MT, int COLUMNS, int PITCH>
__device__ __forceinline__ void store_pixels(const Epilogue &e, float *sums, const Halo &halo, int y0, int x0, int column0, int image) {
    constexpr int OCTETS = COLUMNS / 8, SIDE_BY_SIDE = 32 / OCTETS;
    const int lane = threadIdx.x % 32, column = column0 + lane % OCTETS * 8;
    if (lane >= OCTETS * SIDE_BY_SIDE || column >= e.columns) return;
    sums += lane % OCTETS * 8;
    const Columns columns(e, column, image);
    const long top = static_cast<long>(image) * halo.height;
    if (e.shuffle == 0 && e.split == 0) {
        // The residual is read one pixel ahead.
        const auto at = [&](int i) {
            const int y = y0 + i / 32 * 2 + i % 16 / 8, x = x0 + i % 32 / 16 * 8 + i % 8;
            return i < 16 * MT && y < halo.height && x < halo.width ? ((top + y) * halo.width + x) * e.pitch + column : -1l;
        };
        int i = lane / OCTETS;
        long to = at(i);
        uint4 residual = {};
        if (e.residual && to >= 0) residual = *reinterpret_cast<const uint4 *>(e.residual + to);
#pragma unroll 1
        for (; i < 16 * MT; i += SIDE_BY_SIDE) {
            const long next = at(i + SIDE_BY_SIDE);
            uint4 ahead = {};
            if (e.residual && next >= 0) ahead = *reinterpret_cast<const uint4 *>(e.residual + next);
            Octet o = activated(e, columns, load_sums(sums + i * PITCH), Octet{}), r = unpack(residual);
#pragma unroll
            for (int k = 0; k < 8; k++) o.v[k] += r.v[k];
            if (to >= 0) store8(e.y + to, o);
            to = next, residual = ahead;
        }
        return;
    }
    if (!e.quads) {
#pragma unroll 1
        for (int i = lane / OCTETS; i < 16 * MT; i += SIDE_BY_SIDE) {
            const int y = y0 + i / 32 * 2 + i % 16 / 8, x = x0 + i % 32 / 16 * 8 + i % 8;
            if (y < halo.height && x < halo.width)
                store(e, activated(e, columns, load_sums(sums + i * PITCH), Octet{}), (top + y) * halo.width + x, column);
        }
        return;
    }
    // Unshuffled by 2, eight channels of 2×2 pixels are 32 values side by side.
#pragma unroll 1
    for (int i = lane / OCTETS; i < 4 * MT; i += SIDE_BY_SIDE) {
        const int y = y0 + i / 8 * 2, x = x0 + i % 8 * 2;
        if (y >= halo.height || x >= halo.width) continue;
        float *block = sums + (16 * (i / 4) + 2 * (i % 4)) * PITCH;
#pragma unroll 1
        for (int j = 0; j < 4; j++) {
            float *o = block + (j / 2 * 8 + j % 2) * PITCH;
            store8(o, activated(e, columns, load_sums(o), Octet{}));
        }
        const size_t at = static_cast<size_t>((top + y) / 2 * (halo.width / 2) + x / 2) * e.pitch + 4 * column;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            if (4 * column + 8 * k >= e.pitch) break;
            Octet t;
#pragma unroll
            for (int j = 0; j < 8; j++) t.v[j] = block[(j % 4 / 2 * 8 + j % 2) * PITCH + 2 * k + j / 4];
            store_added(e.y, e.residual, at + 8 * k, t);
        }
    }
}

template <int MT, int COLUMNS>
__device__ __forceinline__ void conv3(const Product &p, const Halo &halo) {
    constexpr int TILE_HEIGHT = 4 * MT, STAGE = COLUMNS * RING_PITCH, PLACES = HALO_WIDTH * (TILE_HEIGHT + 2);
    extern __shared__ __align__(128) unsigned char memory[];
    const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32, g = lane / 4, q = lane % 4, image = blockIdx.z;
    const int column_tiles = (p.e.columns + COLUMNS - 1) / COLUMNS;
    const int column0 = static_cast<int>(blockIdx.x % column_tiles) * COLUMNS, tile = blockIdx.x / column_tiles;
    const int y0 = tile / halo.tiles_x * TILE_HEIGHT, x0 = tile % halo.tiles_x * TILE_WIDTH;
    const int chunks = p.depth / 72, pitch = 16 * (chunks | 1), stages = (9 * chunks + DEPTH / 8 - 1) / (DEPTH / 8);
    unsigned char *ring = memory + PLACES * pitch;
    int *offsets = reinterpret_cast<int *>(ring + STAGES * STAGE);

    // Where each 16 bytes of the depth lie, from a pixel's first tap: the depth is rounded up to whole stages, where W is zero.
    for (int i = tid; i < stages * (DEPTH / 8); i += THREADS) {
        const int tap = min(i / chunks, 8);
        offsets[i] = (tap / 3 * HALO_WIDTH + tap % 3) * pitch + min(i - tap * chunks, chunks - 1) * 16;
    }
    // Which pixel each place of the tile and around it reads, -1 for zeros; in the ring's last stage, which is free so far.
    int *pixels = reinterpret_cast<int *>(ring + (STAGES - 1) * STAGE);
    for (int i = tid; i < PLACES; i += THREADS) {
        const int dy = i / HALO_WIDTH, y = y0 + dy - 1, x = x0 + i - dy * HALO_WIDTH - 1;
        const int iy = y > halo.height ? -1 : pad_index(y, halo.height, halo.mode), ix = x > halo.width ? -1 : pad_index(x, halo.width, halo.mode);
        pixels[i] = (iy | ix) < 0 ? -1 : (image * halo.height + iy) * halo.width + ix;
    }
    __syncthreads();
    await_predecessors();
    {
        const int chunks1 = p.depth1 / 8, across = THREADS / chunks, rest = THREADS - across * chunks;
        int place = tid / chunks, c = tid - place * chunks;
#pragma unroll 4
        while (place < PLACES) {
            const int pixel = pixels[place], at = max(pixel, 0);
            const __half *from = p.x + static_cast<size_t>(at) * p.depth1 + 8 * c;
            if (c >= chunks1) from = p.x2 + static_cast<size_t>(at) * (8 * (chunks - chunks1)) + 8 * (c - chunks1);
            copy16(shared_address(memory + place * pitch + 16 * c), from, pixel >= 0);
            place += across;
            c += rest;
            if (c >= chunks) c -= chunks, place++;
        }
    }
    // Copies of W: a thread serves one chunk of every 16th row of a stage.
    const int chunk = tid % 8, first = tid / 8;
    const uint32_t to = shared_address(ring) + first * RING_PITCH + 16 * chunk;
    const __half *w = p.w + image * p.w_stride + 8 * chunk;
    auto load = [&](int stage, int slot) {
        const int k = DEPTH * stage;
        const bool inside = k + 8 * chunk < p.depth;
#pragma unroll
        for (int i = 0; i < COLUMNS / 16; i++) {
            const int column = column0 + first + 16 * i;
            const bool valid = inside && column < p.filters;
            copy16(to + slot * STAGE + 16 * i * RING_PITCH, valid ? w + static_cast<size_t>(column) * p.depth + k : p.w, valid);
        }
    };
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        load(s, s);
        commit_copies();
    }
    uint32_t a_at[MT];
#pragma unroll
    for (int mt = 0; mt < MT; mt++) {
        const int row = MT * warp + mt / 2 * 2 + lane % 16 / 8, x = mt % 2 * 8 + lane % 8;
        a_at[mt] = shared_address(memory) + (row * HALO_WIDTH + x) * pitch;
    }
    const uint32_t b_first = shared_address(ring) + (lane % 8 + lane / 16 * 8) * RING_PITCH + lane / 8 % 2 * 16;
    const int *at = offsets + lane / 16;
    float acc[MT][COLUMNS / 8][4] = {};
    auto step = [&](uint32_t b_at, int offset) {
        uint32_t a[MT][4];
#pragma unroll
        for (int mt = 0; mt < MT; mt++) ldmatrix4(a[mt], a_at[mt] + offset);
#pragma unroll
        for (int n = 0; n < COLUMNS / 16; n++) {
            uint32_t b[4];
            ldmatrix4(b, b_at + n * 16 * RING_PITCH);
#pragma unroll
            for (int mt = 0; mt < MT; mt++) {
                mma16816(acc[mt][2 * n], a[mt], b[0], b[1]);
                mma16816(acc[mt][2 * n + 1], a[mt], b[2], b[3]);
            }
        }
    };
    int slot = 0, fill = STAGES - 1;
#pragma unroll 1
    for (int s = 0; s < stages; s++) {
        wait_copies<STAGES - 2>();
        __syncthreads();
        const uint32_t b_at = b_first + slot * STAGE;
#pragma unroll
        for (int i = 0; i < DEPTH / 16; i++) step(b_at + 32 * i, at[2 * i]);
        // Issued while tensor cores are busy; zeros behind the depth, so that there is no branch.
        load(s + STAGES - 1, fill);
        commit_copies();
        at += DEPTH / 8;
        slot = slot == STAGES - 1 ? 0 : slot + 1;
        fill = fill == STAGES - 1 ? 0 : fill + 1;
    }

    // The sums take the place of the pixels, those of a warp by themselves.
    constexpr int PITCH = COLUMNS + 8;
    float *staged = reinterpret_cast<float *>(memory) + warp * 16 * MT * PITCH;
    wait_copies<0>();
    __syncthreads();
#pragma unroll
    for (int mt = 0; mt < MT; mt++)
#pragma unroll
        for (int n = 0; n < COLUMNS / 8; n++) {
            float *at = staged + (16 * mt + g) * PITCH + 8 * n + 2 * q;
            *reinterpret_cast<float2 *>(at) = make_float2(acc[mt][n][0], acc[mt][n][1]);
            *reinterpret_cast<float2 *>(at + 8 * PITCH) = make_float2(acc[mt][n][2], acc[mt][n][3]);
        }
    __syncwarp();
    store_pixels<MT, COLUMNS, PITCH>(p.e, staged, halo, y0 + MT * warp, x0, column0, image);
}

#define CONV3(M, COLUMNS, BLOCKS)                                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                                       \
        conv3_##M##x##COLUMNS(const __grid_constant__ Product p, const __grid_constant__ Halo halo) {                   \
        conv3<M / 16, COLUMNS>(p, halo);                                                                                \
    }

CONV3(64, 64, 2)
CONV3(64, 48, 2)
CONV3(64, 32, 3)
CONV3(32, 64, 3)
CONV3(32, 48, 4)
CONV3(32, 32, 4)
