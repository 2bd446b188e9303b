// tile.cuh: a product of pixels and a 3×3 depthwise convolution behind it, on a tile of an image that stays in shared memory.
//
// A tile is H by 16 pixels and its halo one pixel around it, rows of 18 places. Filters run on tensor cores: eight channels of
// 16 pixels, shifted by two taps, are the left operand, the weights of these taps on two diagonals the right one. They are fp16,
// multiplied by a power of two for each channel, by whose inverse the sums are multiplied.
#pragma once
#include "async_copy.cuh"
#include "half.cuh"
#include "mma.cuh"
#include "normalise.cuh"

constexpr int WIDTH = 16, HALO = WIDTH + 2;
constexpr int TAP_BYTES = 48;  // of a channel: nine taps, in the half of a word that the channel is, zero, and in fp32 a factor and the bias

template <int HEIGHT>
struct Tile {
    static constexpr int PLACES = HALO * (HEIGHT + 2), ROWS = (PLACES + 15) / 16;  // times 16 places
};

// Image is where a tile lies.
struct Image {
    int height, width, y0, x0;

    __device__ __forceinline__ bool has(int y, int x) const { return static_cast<unsigned>(y) < static_cast<unsigned>(height) && static_cast<unsigned>(x) < static_cast<unsigned>(width); }
    // place tells whether a place of the halo is in the image.
    __device__ __forceinline__ bool place(int i) const { return has(y0 + i / HALO - 1, x0 + i % HALO - 1); }
};

// Copier is how threads share rows of `chunks` times 16 bytes, at most 32: a power of two of them has a row.
template <int THREADS>
struct Copier {
    int lanes, row, chunk;

    __device__ __forceinline__ explicit Copier(int chunks) : lanes(chunks <= 8 ? 8 : chunks <= 16 ? 16 : 32) {
        row = threadIdx.x / lanes;
        chunk = threadIdx.x % lanes;
    }
    // step is how many rows are copied at a time.
    __device__ __forceinline__ int step() const { return THREADS / lanes; }
};

// load_pixels begins to copy the pixels of a tile and its halo to rows of `chunks` times 16 bytes, zeros outside the image. x is the
// image's first pixel.
template <int HEIGHT, int THREADS>
__device__ __forceinline__ void load_pixels(const Image &image, const __half *x, int depth, unsigned char *to, int chunks, int pitch) {
    const Copier<THREADS> copier(chunks);
    if (copier.chunk >= chunks) return;
    const int step = copier.step(), down = step / HALO, along = step - down * HALO;
    const bool holds = 8 * copier.chunk < depth;
    int dy = copier.row / HALO, dx = copier.row - dy * HALO;
    uint32_t at = shared_address(to) + copier.row * pitch + 16 * copier.chunk;
    const __half *from = x + 8 * copier.chunk;
#pragma unroll 1
    for (int place = copier.row; place < 16 * Tile<HEIGHT>::ROWS; place += step) {
        const int row = image.y0 + dy - 1, column = image.x0 + dx - 1;
        const bool inside = holds && place < Tile<HEIGHT>::PLACES && image.has(row, column);
        copy16(at, inside ? from + (static_cast<size_t>(row) * image.width + column) * depth : x, inside);
        at += step * pitch;
        dy += down;
        dx += along;
        if (dx >= HALO) dx -= HALO, dy++;
    }
}

// normalise_pixels normalises the places of a tile and its halo over their channels, at most 8·4·MOST, where they lie.
template <int HEIGHT, int THREADS, int MOST>
__device__ __forceinline__ void normalise_pixels(unsigned char *places, int pitch, int channels, float eps, bool bias_free) {
    const int part = threadIdx.x % 4;
#pragma unroll 1
    for (int r = threadIdx.x / 4; r < 16 * Tile<HEIGHT>::ROWS; r += THREADS / 4) {
        unsigned char *row = places + r * pitch;
        Moments m(row);
        uint4 v[MOST];
#pragma unroll
        for (int i = 0; i < MOST; i++) {
            const int left = channels - 8 * (4 * i + part);
            v[i] = left > 0 ? reinterpret_cast<const uint4 *>(row)[4 * i + part] : make_uint4(0, 0, 0, 0);
            m.take(unpack(v[i]), left);
        }
        m.finish<4>(channels, eps, bias_free);
#pragma unroll
        for (int i = 0; i < MOST; i++)
            if (8 * (4 * i + part) < channels) reinterpret_cast<uint4 *>(row)[4 * i + part] = m.apply(v[i]);
    }
}

// store_shared writes to shared memory at an address of 32 bits, of which a register is enough.
__device__ __forceinline__ void store_shared(uint32_t at, uint32_t v) { asm volatile("st.shared.b32 [%0], %1;\n" ::"r"(at), "r"(v) : "memory"); }
__device__ __forceinline__ void store_shared(uint32_t at, uint2 v) { asm volatile("st.shared.v2.b32 [%0], {%1,%2};\n" ::"r"(at), "r"(v.x), "r"(v.y) : "memory"); }

// store_shared writes N values 16 bytes apart if `exists`: a predicate instead of branches.
template <int N>
__device__ __forceinline__ void store_shared(uint32_t at, const uint32_t *v, unsigned exists) {
    if (N == 4)
        asm volatile("{ .reg .pred p; setp.ne.u32 p, %5, 0; @p st.shared.b32 [%0], %1; @p st.shared.b32 [%0+16], %2; @p st.shared.b32 [%0+32], %3; @p st.shared.b32 [%0+48], %4; }\n" ::"r"(at), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[N - 1]), "r"(exists) : "memory");
    else
        asm volatile("{ .reg .pred p; setp.ne.u32 p, %4, 0; @p st.shared.b32 [%0], %1; @p st.shared.b32 [%0+16], %2; @p st.shared.b32 [%0+32], %3; }\n" ::"r"(at), "r"(v[0]), "r"(v[1]), "r"(v[N - 1]), "r"(exists) : "memory");
}

// widen multiplies a warp's places, 16 in every STEP, by 8·COLUMNS rows of weights, adds the bias and leaves the results that are inside
// the image in fp16. A bit of inside is for eight places; tiles are the warp's, TILES or one less.
template <int TILES, int COLUMNS, int STEP, int TO_PITCH>
__device__ __forceinline__ void widen(uint32_t a_at, uint32_t b_at, int pitch, int steps, int tiles, const float *bias, uint32_t to, unsigned inside) {
    constexpr int WAY = COLUMNS % 4 ? 3 : 4;
    const int q = threadIdx.x % 4;
    float acc[TILES][COLUMNS][4];
#pragma unroll
    for (int n = 0; n < COLUMNS; n++) {
        const float2 b = *reinterpret_cast<const float2 *>(bias + 8 * n + 2 * q);
#pragma unroll
        for (int m = 0; m < TILES; m++) acc[m][n][0] = acc[m][n][2] = b.x, acc[m][n][1] = acc[m][n][3] = b.y;
    }
#pragma unroll 2
    for (int k = 0; k < steps; k++, a_at += 32, b_at += 32) {
        uint32_t b[COLUMNS / 2][4];
#pragma unroll
        for (int n = 0; n < COLUMNS / 2; n++) ldmatrix4(b[n], b_at + 16 * n * pitch);
#pragma unroll
        for (int m = 0; m < TILES; m++) {
            if (m == TILES - 1 && m >= tiles) break;
            uint32_t a[4];
            ldmatrix4(a, a_at + m * STEP * pitch);
#pragma unroll
            for (int n = 0; n < COLUMNS; n++) mma16816(acc[m][n], a, b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
        }
    }
#pragma unroll
    for (int m = 0; m < TILES; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            uint32_t v[COLUMNS];
#pragma unroll
            for (int n = 0; n < COLUMNS; n++) v[n] = pack2(acc[m][n][2 * h], acc[m][n][2 * h + 1]);
            const uint32_t at = to + (STEP * m + 8 * h) * TO_PITCH;
            const unsigned exists = inside & 1u << (2 * m + h);
#pragma unroll
            for (int n = 0; n < COLUMNS; n += WAY) store_shared<WAY>(at + 16 * n, v + n, exists);
        }
}

// Taps are the right operands of an octet's filters: a lane whose channel is its own row has the weights, the others zeros.
struct Taps {
    uint32_t w[10];
    float2 factor, bias;  // of the two channels of a lane's results

    __device__ __forceinline__ void read(const unsigned char *taps, const unsigned char *zeros, int octet) {
        const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
        const unsigned char *own = taps + (8 * octet + g) * TAP_BYTES, *from = g / 2 == q ? own : zeros;
        const uint4 a = reinterpret_cast<const uint4 *>(from)[0], b = reinterpret_cast<const uint4 *>(from)[1];
        const uint2 c = reinterpret_cast<const uint2 *>(from)[4];
        w[0] = a.x, w[1] = a.y, w[2] = a.z, w[3] = a.w, w[4] = b.x, w[5] = b.y, w[6] = b.z, w[7] = b.w, w[8] = c.x, w[9] = c.y;
        const unsigned char *pair = taps + (8 * octet + 2 * q) * TAP_BYTES + 40;
        const float2 u = *reinterpret_cast<const float2 *>(pair), v = *reinterpret_cast<const float2 *>(pair + TAP_BYTES);
        factor = make_float2(u.x, v.x);
        bias = make_float2(u.y, v.y);
    }
    // filter gives the results of 16 pixels: places shifted by 0, 1 and 2 columns, of which this octet's registers are from AT on.
    template <int AT>
    __device__ __forceinline__ void filter(float (&acc)[4], const uint32_t (&above)[3][4], const uint32_t (&row)[3][4], const uint32_t (&below)[3][4]) const {
#pragma unroll
        for (int t = 0; t < 9; t += 2) {
            const int u = t < 8 ? t + 1 : t;
            const uint32_t(&s)[4] = t < 3 ? above[t % 3] : t < 6 ? row[t % 3] : below[t % 3];
            const uint32_t(&r)[4] = u < 3 ? above[u % 3] : u < 6 ? row[u % 3] : below[u % 3];
            const uint32_t a[4] = {s[AT], s[AT + 1], r[AT], r[AT + 1]};
            if (t == 0)
                mma16816_first(acc, a, w[0], w[1]);
            else
                mma16816(acc, a, w[t], w[t + 1]);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) acc[i] = fmaf(acc[i], i % 2 ? factor.y : factor.x, i % 2 ? bias.y : bias.x);
    }
};

// filter_rows filters two octets, side by side in rows of PITCH bytes, on N rows of 16 pixels, and hands each row's results to put. from is
// the lane's address for ldmatrix: 16 places of the first octet, then of the second, in the row above the first one.
template <int N, int PITCH, class Put>
__device__ __forceinline__ void filter_rows(uint32_t from, const Taps &a, const Taps &b, Put put) {
    uint32_t rows[3][3][4];
    auto fetch = [&](int r) {
#pragma unroll
        for (int dx = 0; dx < 3; dx++) ldmatrix4(rows[r % 3][dx], from + (r * HALO + dx) * PITCH);
    };
    fetch(0);
    fetch(1);
#pragma unroll
    for (int r = 0; r < N; r++) {
        fetch(r + 2);
        float u[4], v[4];
        a.filter<0>(u, rows[r % 3], rows[(r + 1) % 3], rows[(r + 2) % 3]);
        b.filter<2>(v, rows[r % 3], rows[(r + 1) % 3], rows[(r + 2) % 3]);
        put(r, u, v);
    }
}

// clear writes zeros to memory of whole 16 bytes.
template <int THREADS>
__device__ __forceinline__ void clear(unsigned char *memory, int bytes) {
    for (int i = threadIdx.x; i < bytes / 16; i += THREADS) reinterpret_cast<uint4 *>(memory)[i] = make_uint4(0, 0, 0, 0);
}
