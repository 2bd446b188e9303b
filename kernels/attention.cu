// attention.cu: y = softmax(q·kᵀ·scale + bias[h])·v for short sequences: the windows of an image, or a whole sequence.
//
//   qkv  [pixel][pitch] fp16     q, k and v one after the other, C channels each, head h at h·d in each
//   bias [heads][T][P] fp16      P is T rounded up to 8; none for plain sequences
//   y    [pixel][out_pitch] fp16
//
// With a window, token (ty, tx) of window (wy, wx) is the pixel (wy·window+ty-before, wx·window+tx-before), reflected
// into the image; results outside the image are dropped. Without, tokens are the pixels of an image in order.
//
// attention_32, attention_64: d ≤ 32, 64 on tensor cores, with a running maximum over chunks of 64 keys, so that any T
// works and T ≤ 64 takes one chunk. A block is 64 queries of one head, a warp 16 of them; q, k, v of the chunk lie in
// shared memory.
//   Grid: x = query tiles × windows, y = heads, z = images. Block: 128 threads. Shared: 27 KiB at most (static).
// attention_any: d ≤ 256, a warp a query. The general path, not the quick one.
//   Grid: x = tokens of all windows/4, y = heads, z = images. Block: 128 threads.
//
// Moves 2·pixels·4C bytes plus the bias from L2 and does 4·pixels·T·C operations: 64-token windows of 24 channels do
// 32 op/byte, memory sets the pace.
#include "async_copy.cuh"
#include "dependent.cuh"
#include "half.cuh"
#include "mma.cuh"
#include "overflow.cuh"
#include "padding.cuh"
#include "reduce.cuh"

struct Attention {
    const __half *qkv;
    const __half *bias;
    __half *y;
    unsigned *overflow;       // see overflow.cuh
    int height, width;        // of an image; a sequence is one row
    int channels, head, heads;
    int pitch, out_pitch;
    int tokens, bias_pitch;
    int window;               // 0: a sequence
    int before_y, before_x;   // padding above and left
    int windows_x, windows;   // across, and in an image
    float scale;
};

struct Place {
    const Attention &p;
    int wy, wx;
    __device__ __forceinline__ Place(const Attention &p, int window) : p(p), wy(window / max(p.windows_x, 1)), wx(window % max(p.windows_x, 1)) {}
    // source is the pixel a token reads, target the one it is, or -1 outside the image.
    __device__ __forceinline__ int source(int t) const {
        if (!p.window) return t;
        int y = wy * p.window + t / p.window - p.before_y, x = wx * p.window + t % p.window - p.before_x;
        return pad_index(y, p.height, PAD_REFLECT) * p.width + pad_index(x, p.width, PAD_REFLECT);
    }
    __device__ __forceinline__ int target(int t) const {
        if (!p.window) return t;
        int y = wy * p.window + t / p.window - p.before_y, x = wx * p.window + t % p.window - p.before_x;
        return y >= 0 && y < p.height && x >= 0 && x < p.width ? y * p.width + x : -1;
    }
};

// PITCH is the number of values between rows in shared memory, slot the place of eight channels of a token. Four octets a
// row are permuted, eight get 16 bytes more a row: neither stores nor ldmatrix then meet conflicts.
template <int HD>
constexpr int PITCH = HD == 32 ? 32 : HD + 8;

template <int HD>
__device__ __forceinline__ int slot(int row, int octet) {
    return row * PITCH<HD> + (HD == 32 ? (octet ^ (row / 2)) & 3 : octet) * 8;
}

// Stage is what a thread copies of 64 tokens: an octet of every STEP-th one.
template <int HD>
struct Stage {
    static constexpr int OCTETS = HD / 8, STEP = 128 / OCTETS, EACH = 64 / STEP;
    int pixel[EACH];  // below zero for none
    int channel;

    __device__ __forceinline__ Stage(const Attention &p, const Place &place, int first) : channel(threadIdx.x % OCTETS * 8) {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int t = first + threadIdx.x / OCTETS + i * STEP;
            pixel[i] = t < p.tokens && channel < p.head ? place.source(t) : -1;
        }
    }
    // read asks for all octets, from rows that begin at `from`; channels after the last one are zero.
    __device__ __forceinline__ void read(uint4 (&v)[EACH], const Attention &p, const __half *from) const {
        const bool aligned = p.head % 8 == 0 && p.channels % 8 == 0;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            v[i] = make_uint4(0, 0, 0, 0);
            if (pixel[i] < 0) continue;
            const __half *f = from + static_cast<size_t>(pixel[i]) * p.pitch + channel;
            v[i] = aligned ? *reinterpret_cast<const uint4 *>(f) : scattered(f, p.head - channel);
        }
    }
    __device__ __forceinline__ static uint4 scattered(const __half *from, int left) {
        Octet o = {};
#pragma unroll
        for (int k = 0; k < 8; k++)
            if (k < left) o.v[k] = __half2float(from[k]);
        return pack(o);
    }
    // write puts them into shared memory. STEP rows further an octet has the same place in its row.
    __device__ __forceinline__ void write(__half *to, const uint4 (&v)[EACH], Overflow &overflow) const {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            overflow.take(v[i]);
            *reinterpret_cast<uint4 *>(to + slot<HD>(threadIdx.x / OCTETS, threadIdx.x % OCTETS) + i * STEP * PITCH<HD>) = v[i];
        }
    }
};

template <int HD>
__device__ __forceinline__ void attention_body(const Attention &p) {
    await_predecessors();
    constexpr int KS = HD / 16;
    __shared__ __align__(128) __half qs[64 * PITCH<HD>], ks[64 * PITCH<HD>], vs[64 * PITCH<HD>];
    const int tiles = (p.tokens + 63) / 64, tile = blockIdx.x % tiles, head = blockIdx.y, image = blockIdx.z;
    const Place place(p, blockIdx.x / tiles);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, q2 = lane % 4 * 2;
    const __half *from = p.qkv + static_cast<size_t>(image) * p.height * p.width * p.pitch + head * p.head;
    Overflow overflow;
    float out[HD / 8][4] = {}, most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
    uint32_t q[KS][4];
    for (int k0 = 0; k0 < p.tokens; k0 += 64) {
        // All are asked for before any is used.
        const Stage<HD> stage(p, place, k0);
        uint4 k[Stage<HD>::EACH], v[Stage<HD>::EACH];
        stage.read(k, p, from + p.channels);
        stage.read(v, p, from + 2 * p.channels);
        if (k0 == 0) {
            Stage<HD> first = stage;
            if (tile > 0) first = Stage<HD>(p, place, tile * 64);
            uint4 u[Stage<HD>::EACH];
            first.read(u, p, from);
            first.write(qs, u, overflow);
        }
        stage.write(ks, k, overflow);
        stage.write(vs, v, overflow);
        __syncthreads();
        if (k0 == 0) {
#pragma unroll
            for (int s = 0; s < KS; s++) ldmatrix4(q[s], shared_address(qs + slot<HD>(warp * 16 + lane % 16, s * 2 + lane / 16)));
        }
        float logit[8][4] = {};
#pragma unroll
        for (int np = 0; np < 4; np++) {
#pragma unroll
            for (int s = 0; s < KS; s++) {
                uint32_t b[4];
                ldmatrix4(b, shared_address(ks + slot<HD>(np * 16 + lane % 8 + lane / 16 * 8, s * 2 + lane / 8 % 2)));
                mma16816(logit[2 * np], q[s], b[0], b[1]);
                mma16816(logit[2 * np + 1], q[s], b[2], b[3]);
            }
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int t = tile * 64 + warp * 16 + g + 8 * h;
            const __half *bias = p.bias && t < p.tokens ? p.bias + (static_cast<size_t>(head) * p.tokens + t) * p.bias_pitch : nullptr;
            float top = most[h];
#pragma unroll
            for (int n = 0; n < 8; n++) {
                int key = k0 + n * 8 + q2;
                float2 add = make_float2(0, 0);
                if (bias && key < p.tokens) add = unpack2(*reinterpret_cast<const uint32_t *>(bias + key));
                float &a = logit[n][2 * h], &b = logit[n][2 * h + 1];
                a = key < p.tokens ? a * p.scale + add.x : -INFINITY;
                b = key + 1 < p.tokens ? b * p.scale + add.y : -INFINITY;
                top = fmaxf(top, fmaxf(a, b));
            }
            top = quad_max(top);
            float keep = __expf(most[h] - top), sum = 0;
            most[h] = top;
#pragma unroll
            for (int n = 0; n < 8; n++) {
                float &a = logit[n][2 * h], &b = logit[n][2 * h + 1];
                a = __expf(a - top);
                b = __expf(b - top);
                sum += a + b;
            }
            total[h] = total[h] * keep + sum;
#pragma unroll
            for (int n = 0; n < HD / 8; n++) {
                out[n][2 * h] *= keep;
                out[n][2 * h + 1] *= keep;
            }
        }
#pragma unroll
        for (int s = 0; s < 4; s++) {
            uint32_t a[4] = {pack2(logit[2 * s][0], logit[2 * s][1]), pack2(logit[2 * s][2], logit[2 * s][3]),
                             pack2(logit[2 * s + 1][0], logit[2 * s + 1][1]), pack2(logit[2 * s + 1][2], logit[2 * s + 1][3])};
#pragma unroll
            for (int np = 0; np < HD / 16; np++) {
                uint32_t b[4];
                ldmatrix4_trans(b, shared_address(vs + slot<HD>(s * 16 + lane % 16, np * 2 + lane / 16)));
                mma16816(out[2 * np], a, b[0], b[1]);
                mma16816(out[2 * np + 1], a, b[2], b[3]);
            }
        }
        __syncthreads();
    }
    overflow.report(p.overflow);
    // Every warp reads and writes only its own sixteen rows of qs from here on.
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float r = 1.0f / quad_sum(total[h]);
#pragma unroll
        for (int n = 0; n < HD / 8; n++)
            *reinterpret_cast<uint32_t *>(qs + slot<HD>(warp * 16 + g + 8 * h, n) + q2) = pack2(out[n][2 * h] * r, out[n][2 * h + 1] * r);
    }
    __syncwarp();
    const bool aligned = p.head % 8 == 0 && p.channels % 8 == 0;
#pragma unroll 1
    for (int i = lane; i < 16 * (HD / 8); i += 32) {
        int row = warp * 16 + i / (HD / 8), c = i % (HD / 8) * 8, t = tile * 64 + row;
        int pixel = t < p.tokens ? place.target(t) : -1;
        if (pixel < 0) continue;
        __half *to = p.y + (static_cast<size_t>(image) * p.height * p.width + pixel) * p.out_pitch + head * p.head + c;
        if (aligned && c < p.head) {
            *reinterpret_cast<uint4 *>(to) = *reinterpret_cast<const uint4 *>(qs + slot<HD>(row, c / 8));
        } else {
            for (int k = 0; k < 8 && c + k < p.head; k++) to[k] = qs[slot<HD>(row, c / 8) + k];
        }
        if (c == 0 && head == p.heads - 1)
            for (int k = p.channels; k < p.out_pitch; k++) to[k - head * p.head] = __float2half_rn(0.0f);
    }
}

extern "C" __global__ void __launch_bounds__(128) attention_32(const __grid_constant__ Attention p) { attention_body<32>(p); }
extern "C" __global__ void __launch_bounds__(128) attention_64(const __grid_constant__ Attention p) { attention_body<64>(p); }

extern "C" __global__ void __launch_bounds__(128) attention_any(const __grid_constant__ Attention p) {
    await_predecessors();
    const int lane = threadIdx.x % 32, head = blockIdx.y, image = blockIdx.z;
    const long at = static_cast<long>(blockIdx.x) * 4 + threadIdx.x / 32;
    const int window = static_cast<int>(at / p.tokens), t = static_cast<int>(at % p.tokens);
    if (window >= p.windows) return;
    const Place place(p, window);
    const int target = place.target(t);
    if (target < 0) return;
    const size_t first = static_cast<size_t>(image) * p.height * p.width;
    const __half *from = p.qkv + first * p.pitch + head * p.head, *mine = from + static_cast<size_t>(place.source(t)) * p.pitch;
    float q[8], out[8] = {}, most = -INFINITY, total = 0;
    Overflow overflow;
#pragma unroll
    for (int i = 0; i < 8; i++) q[i] = lane + 32 * i < p.head ? __half2float(mine[lane + 32 * i]) : 0.0f;
    for (int key = 0; key < p.tokens; key++) {
        const __half *k = from + static_cast<size_t>(place.source(key)) * p.pitch + p.channels, *v = k + p.channels;
        float s = 0;
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (lane + 32 * i < p.head) {
                overflow.take(k[lane + 32 * i]);
                s += q[i] * __half2float(k[lane + 32 * i]);
            }
        s = warp_sum(s) * p.scale;
        if (p.bias) s += __half2float(p.bias[(static_cast<size_t>(head) * p.tokens + t) * p.bias_pitch + key]);
        float top = fmaxf(most, s), keep = __expf(most - top), e = __expf(s - top);
        most = top;
        total = total * keep + e;
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (lane + 32 * i < p.head) out[i] = out[i] * keep + e * __half2float(v[lane + 32 * i]);
    }
    overflow.report(p.overflow);
    __half *to = p.y + (first + target) * p.out_pitch;
#pragma unroll
    for (int i = 0; i < 8; i++)
        if (lane + 32 * i < p.head) to[head * p.head + lane + 32 * i] = __float2half_rn(out[i] / total);
    if (head == p.heads - 1)
        for (int c = p.channels + lane; c < p.out_pitch; c += 32) to[c] = __float2half_rn(0.0f);
}
