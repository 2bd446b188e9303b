// gemm.cuh: the matrix product under conv.cu: 64·MT rows by 64 columns a block, 4 warps.
//
// Operands go through a ring of three 32-deep stages in shared memory, filled by cp.async two stages ahead. A stage
// row is 64 bytes, its four 16-byte chunks permuted by chunk ^ (row/2)%4 so that neither the copies nor ldmatrix
// meet bank conflicts. Each warp owns 16·MT whole rows of the tile. Sums are fp32. They leave through shared memory
// (pitch 72 floats, free of conflicts), from where every thread takes eight channels of a row through the epilogue with
// 16-byte accesses.
//
// A low-rank branch adds up to 32 columns x·downᵀ to the product; their sums, rounded to fp16, have the layout of the
// left operand of the second product with up, which is added before the tile leaves.
#pragma once
#include "padding.cuh"
#include "product.cuh"

constexpr int TILE_N = 64, TILE_K = 32, STAGES = 3, STAGE_PITCH = 72, THREADS = 128;

// swizzled is the byte offset of a chunk of a stage row.
__device__ __forceinline__ uint32_t swizzled(int row, int chunk) { return row * TILE_K * 2 + ((chunk ^ (row / 2)) & 3) * 16; }

template <int MT, bool LORA>
struct Tile {
    static constexpr int M = 64 * MT;
    static constexpr int A = 0, B = M * TILE_K, L = B + TILE_N * TILE_K;
    static constexpr int STAGE = L + (LORA ? 32 * TILE_K : 0);  // values
    static constexpr int RING = STAGES * STAGE * 2, SUMS = M * STAGE_PITCH * 4;
    static constexpr int BYTES = RING > SUMS ? RING : SUMS;
};

// load_sums reads eight sums. Half of the lanes take their two quarters in the other order, so that eight lanes cover all
// banks.
__device__ __forceinline__ Octet load_sums(const float *sums, int flip) {
    const float4 *p = reinterpret_cast<const float4 *>(sums);
    float4 u = p[flip], v = p[1 - flip], lo = flip ? v : u, hi = flip ? u : v;
    return {{lo.x, lo.y, lo.z, lo.w, hi.x, hi.y, hi.z, hi.w}};
}

// store_quads is store_tile for an unshuffle by 2 whose rows come in fours: a thread writes four pixels' eight channels,
// 32 consecutive values.
template <int M>
__device__ __forceinline__ void store_quads(float *sums, const Epilogue &e, long row0, int rows, int column0, int image) {
    int c = threadIdx.x % 8, column = column0 + 8 * c;
    if (column >= e.columns) return;
    const Columns columns(e, column, image);
#pragma unroll 1
    for (int quad = threadIdx.x / 8; 4 * quad < rows; quad += THREADS / 8) {
        float *block = sums + 4 * quad * STAGE_PITCH + 8 * c;
#pragma unroll 1
        for (int j = 0; j < 4; j++) {
            float *o = block + j * STAGE_PITCH;
            store8(o, activated(e, columns, load_sums(o, c / 4), Octet{}));
        }
        size_t at = static_cast<size_t>(row0 / 4 + quad) * e.pitch + 4 * column;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            if (4 * column + 8 * k >= e.pitch) break;
            Octet t;
#pragma unroll
            for (int j = 0; j < 8; j++) t.v[j] = block[j % 4 * STAGE_PITCH + 2 * k + j / 4];
            store_added(e.y, e.residual, at + 8 * k, t);
        }
    }
}

// store_tile takes the block's sums through the epilogue. A thread keeps to eight columns.
template <int M>
__device__ __forceinline__ void store_tile(float *sums, const Epilogue &e, long row0, int rows, int column0, int image) {
    if (e.quads) {
        store_quads<M>(sums, e, row0, rows, column0, image);
        return;
    }
    const int octets = e.gate ? 4 : 8, c = threadIdx.x & (octets - 1), in_tile = (e.gate ? 16 : 8) * c, step = THREADS / octets;
    if (column0 + in_tile >= e.columns) return;
    const int flip = e.gate ? c / 2 : c / 4;
    const Columns columns(e, column0 + in_tile, image);
#pragma unroll 1
    for (int row = threadIdx.x / octets; row < rows; row += step) {
        const float *p = sums + row * STAGE_PITCH + in_tile;
        Octet b = {};
        if (e.gate) b = load_sums(p + 8, flip);
        store(e, activated(e, columns, load_sums(p, flip), b), row0 + row, columns.column);
    }
}

// product computes one tile. Source says where the rows of the left operand come from: prepare(i, row) is told the
// rows this thread copies and its first chunk, copy(i, k, ..) copies eight values of one of them from position k of the
// depth, advance is called between tiles of the depth.
template <int MT, bool LORA, class Source>
__device__ __forceinline__ void product(const Product &p, Source source) {
    await_predecessors();
    using T = Tile<MT, LORA>;
    __shared__ __align__(128) unsigned char memory[T::BYTES];
    __half *ring = reinterpret_cast<__half *>(memory);

    const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32, g = lane / 4, q = lane % 4;
    const int column_tiles = (p.e.columns + TILE_N - 1) / TILE_N;
    const int column0 = static_cast<int>(blockIdx.x % column_tiles) * TILE_N;
    const int row0 = static_cast<int>(blockIdx.x / column_tiles) * T::M;
    const int image = blockIdx.z / p.splits, split = blockIdx.z % p.splits;
    const int columns_left = p.e.columns - column0;

    const int tiles_k = (p.depth + TILE_K - 1) / TILE_K;
    const int first = static_cast<int>(static_cast<long long>(tiles_k) * split / p.splits);
    const int last = static_cast<int>(static_cast<long long>(tiles_k) * (split + 1) / p.splits);

    int adapter = -1;
    if (LORA) adapter = p.adapter ? p.adapter[image] : 0;

    // Copies: a thread serves one chunk of every 32nd row. Rows 32 apart have the same permutation of chunks, so that one
    // offset serves them all.
    const int chunk = tid % 4, row_in = tid / 4;
    constexpr int ROWS_32 = 32 * TILE_K * 2;  // bytes
    const uint32_t ring_at = shared_address(ring), to = ring_at + swizzled(row_in, chunk);
    const __half *w[TILE_N / 32];
    bool w_valid[TILE_N / 32];
#pragma unroll
    for (int i = 0; i < TILE_N / 32; i++) {
        int n = column0 + row_in + 32 * i;
        w_valid[i] = n < p.filters;
        w[i] = p.w + image * p.w_stride + static_cast<size_t>(w_valid[i] ? n : 0) * p.depth + chunk * 8;
    }
    const __half *down = p.down;
    bool down_valid = LORA && adapter >= 0 && row_in < p.rank;
    if (down_valid) down += (static_cast<size_t>(adapter) * p.rank + row_in) * p.depth + chunk * 8;
#pragma unroll
    for (int i = 0; i < T::M / 32; i++) source.prepare(p, i, row0 + row_in + 32 * i, image, first * 4 + chunk);
    auto load = [&](int kt, uint32_t stage) {
        const int k = kt * TILE_K, at = k + chunk * 8;
        const bool inside = at < p.depth;
#pragma unroll
        for (int i = 0; i < T::M / 32; i++) {
            source.copy(p, i, at, inside, to + stage + T::A * 2 + i * ROWS_32);
        }
        source.advance(p);
#pragma unroll
        for (int i = 0; i < TILE_N / 32; i++) copy16(to + stage + T::B * 2 + i * ROWS_32, w[i] + k, inside && w_valid[i]);
        if (LORA) copy16(to + stage + T::L * 2, down + k, inside && down_valid);
    };

    // Fragments: likewise one offset for all tiles of 16 rows, and one for each half of a stage's depth.
    uint32_t a_at[2], b_at[2];
#pragma unroll
    for (int s = 0; s < 2; s++) {
        a_at[s] = ring_at + warp * MT * 16 * TILE_K * 2 + swizzled(lane % 16, 2 * s + lane / 16);
        b_at[s] = ring_at + swizzled(lane % 8 + lane / 16 * 8, 2 * s + lane / 8 % 2);
    }
    constexpr int ROWS_16 = 16 * TILE_K * 2, STAGE_BYTES = T::STAGE * 2;

    float acc[MT][8][4] = {}, low[LORA ? MT : 1][4][4] = {};

#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (first + s < last) load(first + s, s * STAGE_BYTES);
        commit_copies();
    }
    uint32_t stage = 0, fill = (STAGES - 1) * STAGE_BYTES;
#pragma unroll 1
    for (int kt = first; kt < last; kt++) {
        wait_copies<STAGES - 2>();
        __syncthreads();
        if (kt + STAGES - 1 < last) load(kt + STAGES - 1, fill);
        commit_copies();
#pragma unroll
        for (int s = 0; s < 2; s++) {
            int k = kt * TILE_K + s * 16;
            if (k >= p.depth) break;
            uint32_t a[MT][4];
#pragma unroll
            for (int mt = 0; mt < MT; mt++) ldmatrix4(a[mt], a_at[s] + stage + T::A * 2 + mt * ROWS_16);
#pragma unroll
            for (int np = 0; np < 4; np++) {
                if (16 * np >= columns_left) break;
                uint32_t b[4];
                ldmatrix4(b, b_at[s] + stage + T::B * 2 + np * ROWS_16);
#pragma unroll
                for (int mt = 0; mt < MT; mt++) {
                    mma16816(acc[mt][2 * np], a[mt], b[0], b[1]);
                    mma16816(acc[mt][2 * np + 1], a[mt], b[2], b[3]);
                }
            }
            if (LORA) {
#pragma unroll
                for (int np = 0; np < 2; np++) {
                    if (16 * np >= p.rank) break;
                    uint32_t b[4];
                    ldmatrix4(b, b_at[s] + stage + T::L * 2 + np * ROWS_16);
#pragma unroll
                    for (int mt = 0; mt < MT; mt++) {
                        mma16816(low[mt][2 * np], a[mt], b[0], b[1]);
                        mma16816(low[mt][2 * np + 1], a[mt], b[2], b[3]);
                    }
                }
            }
        }
        stage = stage == (STAGES - 1) * STAGE_BYTES ? 0 : stage + STAGE_BYTES;
        fill = fill == (STAGES - 1) * STAGE_BYTES ? 0 : fill + STAGE_BYTES;
    }
    // Groups of copies that are not waited for are empty.

    if (LORA && adapter >= 0) {
#pragma unroll
        for (int s = 0; s < 2; s++) {
            if (16 * s >= p.rank) break;
            uint32_t a[MT][4];
#pragma unroll
            for (int mt = 0; mt < MT; mt++) {
                const float(&l)[4] = low[mt][2 * s], (&h)[4] = low[mt][2 * s + 1];
                a[mt][0] = pack2(l[0], l[1]);
                a[mt][1] = pack2(l[2], l[3]);
                a[mt][2] = pack2(h[0], h[1]);
                a[mt][3] = pack2(h[2], h[3]);
            }
            const __half *up = p.up + (static_cast<size_t>(adapter) * p.e.columns + column0) * p.rank + 16 * s + 2 * q;
#pragma unroll
            for (int nt = 0; nt < 8; nt++) {
                if (8 * nt >= columns_left) break;
                const uint32_t *u = reinterpret_cast<const uint32_t *>(up + (8 * nt + g) * p.rank);
#pragma unroll
                for (int mt = 0; mt < MT; mt++) mma16816(acc[mt][nt], a[mt], u[0], u[4]);
            }
        }
    }

    __syncthreads();
    float *sums = reinterpret_cast<float *>(memory);
#pragma unroll
    for (int mt = 0; mt < MT; mt++) {
        float *out = sums + ((warp * MT + mt) * 16 + g) * STAGE_PITCH + 2 * q;
#pragma unroll
        for (int nt = 0; nt < 8; nt++) {
            *reinterpret_cast<float2 *>(out + 8 * nt) = make_float2(acc[mt][nt][0], acc[mt][nt][1]);
            *reinterpret_cast<float2 *>(out + 8 * STAGE_PITCH + 8 * nt) = make_float2(acc[mt][nt][2], acc[mt][nt][3]);
        }
    }
    __syncthreads();
    long first_row = static_cast<long>(image) * p.rows + row0;
    int rows = min(T::M, p.rows - row0);
    if (p.e.partial) {
        float *out = p.e.partial + (static_cast<size_t>(split) * p.images * p.rows + first_row) * p.e.columns + column0;
#pragma unroll 1
        for (int i = tid; i < T::M * 16; i += THREADS) {
            int row = i / 16, c = i % 16 * 4;
            if (row < rows && c < columns_left)
                *reinterpret_cast<float4 *>(out + static_cast<size_t>(row) * p.e.columns + c) =
                    *reinterpret_cast<const float4 *>(sums + row * STAGE_PITCH + c);
        }
        return;
    }
    store_tile<T::M>(sums, p.e, first_row, rows, column0, image);
}
