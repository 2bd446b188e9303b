// border.cu: between stored images, [height][width][channels] of 8 or 16 bits (grey, grey and alpha, RGB, RGBA), and
// activations [height][width][8] fp16 whose first three channels are RGB in 0..1 and the others zero.
//
// decode_u8, decode_u16: a rectangle of an image, value/255 or /65535 in fp32; grey is repeated, alpha dropped. Beyond the
//   edges the image is reflected as often as needed, so that tiles and padded images are read in one step.
// encode_f16_u8, encode_f16_u16, encode_f32_u8, encode_f32_u16: a rectangle of an activation, or of a canvas
//   [height][width][4] fp32, into a rectangle of an image: clamped to 0..1, NaN to 0, times 255 or 65535, rounded half to
//   even. Grey images take the mean of the clamped three; alpha is left alone. A block's samples pass through shared
//   memory, so that they leave side by side.
// blend_tile: adds weight_y·weight_x·tile to the rectangle of the canvas where the tile has weight. A weight rises and falls
//   linearly around the centres of the transitions to the tiles before and behind.
//   Grids: x = pixels of a row/256, y = rows. Block: 256 threads. Move 16 bytes a pixel and the stored samples; blend_tile 48.
//
// resize_taps, resize_rows, resize_columns: Pillow's bicubic resize with antialias, bit for bit, and what the estimator
//   needs after it. Taps are [position][2 + stride] ints: first input position, number, weights in 22-bit fixed point.
//   resize_taps makes those of both axes in double precision without contraction, a warp a position; weights are summed in
//   order by one lane. Grid: x = positions, y = axes. Block: 32 threads. Shared: 8·stride bytes (dynamic).
//   resize_rows filters along rows to 8-bit samples [rows][width][channels], a warp an output pixel of four rows with its
//   lanes along the taps, so that every byte of a sector is used. Grid: x = pixels of a row/8, y = rows/4. Block: 256.
//   resize_columns filters those along columns, undoes the multiplication by alpha, converts to RGB and writes
//   (value/255 - mean)/deviation as fp16. Grid: x = pixels of a row/128, y = rows. Block: 128 threads.
//   Samples are multiplied by alpha on their way in where the image has alpha, as Pillow does.
//   Reads the image under the crop once from memory (four times from L2) and does about 8·channels operations a pixel.
#include "dependent.cuh"
#include "half.cuh"
#include "padding.cuh"

struct Picture {
    void *samples;
    int height, width, channels;
};

__device__ __forceinline__ float unit(unsigned char v) { return v / 255.0f; }
__device__ __forceinline__ float unit(unsigned short v) { return v / 65535.0f; }

template <class Sample>
__device__ __forceinline__ void decode(const Picture &image, __half *y, int y0, int x0, int height, int width) {
    int x = blockIdx.x * 256 + threadIdx.x;
    if (x >= width) return;
    int ix = pad_index(x0 + x, image.width, PAD_REFLECT_LOOP);
    for (int row = blockIdx.y; row < height; row += gridDim.y) {
        int iy = pad_index(y0 + row, image.height, PAD_REFLECT_LOOP);
        const Sample *p = static_cast<const Sample *>(image.samples) + (static_cast<size_t>(iy) * image.width + ix) * image.channels;
        Octet o = {};
        o.v[0] = unit(p[0]);
        o.v[1] = image.channels > 2 ? unit(p[1]) : o.v[0];
        o.v[2] = image.channels > 2 ? unit(p[2]) : o.v[0];
        store8(y + (static_cast<size_t>(row) * width + x) * 8, o);
    }
}

extern "C" __global__ void __launch_bounds__(256) decode_u8(const __grid_constant__ Picture image, __half *y, int y0, int x0, int height, int width) {
    await_predecessors();
    decode<unsigned char>(image, y, y0, x0, height, width);
}

extern "C" __global__ void __launch_bounds__(256) decode_u16(const __grid_constant__ Picture image, __half *y, int y0, int x0, int height, int width) {
    await_predecessors();
    decode<unsigned short>(image, y, y0, x0, height, width);
}

__device__ __forceinline__ float3 rgb(const __half *x, size_t pixel) {
    uint2 u = *reinterpret_cast<const uint2 *>(x + pixel * 8);
    float2 a = unpack2(u.x), b = unpack2(u.y);
    return make_float3(a.x, a.y, b.x);
}

__device__ __forceinline__ float3 rgb(const float *x, size_t pixel) {
    float4 v = reinterpret_cast<const float4 *>(x)[pixel];
    return make_float3(v.x, v.y, v.z);
}

__device__ __forceinline__ float clamped(float v) { return v > 0.0f ? fminf(v, 1.0f) : 0.0f; }

struct Rectangle {
    int source_y, source_x, source_width;
    int y, x, height, width;
};

template <class Source, class Sample>
__device__ __forceinline__ void encode(const Source *source, const Picture &image, const Rectangle &r) {
    await_predecessors();
    __shared__ Sample samples[256 * 4];
    const float scale = sizeof(Sample) == 1 ? 255.0f : 65535.0f;
    const int first = blockIdx.x * 256, count = min(256, r.width - first), n = image.channels, colours = n > 2 ? 3 : 1;
    for (int row = blockIdx.y; row < r.height; row += gridDim.y) {
        if (threadIdx.x < count) {
            float3 v = rgb(source, static_cast<size_t>(r.source_y + row) * r.source_width + r.source_x + first + threadIdx.x);
            v = make_float3(clamped(v.x), clamped(v.y), clamped(v.z));
            if (colours == 1) v.x = static_cast<float>((static_cast<double>(v.x) + v.y + v.z) / 3);
            Sample *s = samples + threadIdx.x * n;
            s[0] = static_cast<Sample>(__float2int_rn(__fmul_rn(v.x, scale)));
            if (colours == 3) {
                s[1] = static_cast<Sample>(__float2int_rn(__fmul_rn(v.y, scale)));
                s[2] = static_cast<Sample>(__float2int_rn(__fmul_rn(v.z, scale)));
            }
        }
        __syncthreads();
        Sample *out = static_cast<Sample *>(image.samples) + (static_cast<size_t>(r.y + row) * image.width + r.x + first) * n;
        for (int i = threadIdx.x; i < count * n; i += 256)
            if (i % n < colours) out[i] = samples[i];
        __syncthreads();
    }
}

#define ENCODE(NAME, SOURCE, SAMPLE)                                                                           \
    extern "C" __global__ void __launch_bounds__(256)                                                          \
        NAME(const SOURCE *source, const __grid_constant__ Picture image, const __grid_constant__ Rectangle r) { \
        encode<SOURCE, SAMPLE>(source, image, r);                                                              \
    }

ENCODE(encode_f16_u8, __half, unsigned char)
ENCODE(encode_f16_u16, __half, unsigned short)
ENCODE(encode_f32_u8, float, unsigned char)
ENCODE(encode_f32_u16, float, unsigned short)

struct Side {
    int origin;            // of the tile on the canvas
    int first, end;        // positions on the canvas where the tile has weight
    int before, behind;    // whether there are tiles before and behind
    float rise, fall;      // centres of the transitions to them
    float half;            // half their width
};

// ramp is the share of what follows a transition at a pixel's centre. Centres are multiples of a half: only the quotient
// is rounded.
__device__ __forceinline__ float ramp(float centre, float half, int at) {
    float x = static_cast<float>(at) + 0.5f - centre;
    if (x <= -half) return 0;
    if (x >= half) return 1;
    return (x + half) / (2 * half);
}

__device__ __forceinline__ float weight(const Side &s, int at) {
    float w = s.before ? ramp(s.rise, s.half, at) : 1.0f;
    return s.behind ? w * (1.0f - ramp(s.fall, s.half, at)) : w;
}

extern "C" __global__ void __launch_bounds__(256)
    blend_tile(const __half *tile, float *canvas, const __grid_constant__ Side vertical, const __grid_constant__ Side horizontal, int tile_width,
          int canvas_first, int canvas_width) {
    await_predecessors();
    int x = horizontal.first + blockIdx.x * 256 + threadIdx.x;
    if (x >= horizontal.end) return;
    float wx = weight(horizontal, x);
    for (int y = vertical.first + blockIdx.y; y < vertical.end; y += gridDim.y) {
        float w = wx * weight(vertical, y);
        float3 v = rgb(tile, static_cast<size_t>(y - vertical.origin) * tile_width + x - horizontal.origin);
        float4 *to = reinterpret_cast<float4 *>(canvas) + static_cast<size_t>(y - canvas_first) * canvas_width + x;
        float4 sum = *to;
        sum.x += w * v.x;
        sum.y += w * v.y;
        sum.z += w * v.z;
        *to = sum;
    }
}

enum { TAPS_COPY = 0, TAPS_BICUBIC = 1, TAPS_NEAREST = 2 };

struct Axis {
    int *taps;
    int in, out;        // sizes before and after
    int first, count;   // positions wanted
    int stride, mode;
};

// cubic is Keys' kernel with a = -1/2. The intrinsics are never contracted, so that it rounds as it does on the host.
__device__ __forceinline__ double cubic(double x) {
    x = fabs(x);
    if (x < 1) return __dadd_rn(__dmul_rn(__dmul_rn(__dadd_rn(__dmul_rn(1.5, x), -2.5), x), x), 1.0);
    if (x < 2) return __dmul_rn(__dadd_rn(__dmul_rn(__dadd_rn(__dmul_rn(__dadd_rn(x, -5.0), x), 8.0), x), -4.0), -0.5);
    return 0;
}

extern "C" __global__ void __launch_bounds__(32) resize_taps(const __grid_constant__ Axis rows, const __grid_constant__ Axis columns) {
    await_predecessors();
    extern __shared__ double w[];
    const Axis &a = blockIdx.y ? columns : rows;
    int at = blockIdx.x, lane = threadIdx.x;
    if (at >= a.count) return;
    int *taps = a.taps + static_cast<size_t>(at) * (2 + a.stride);
    at += a.first;
    double scale = __ddiv_rn(a.in, a.out);
    if (a.mode != TAPS_BICUBIC) {
        if (lane != 0) return;
        int position = at;
        if (a.mode == TAPS_NEAREST) {  // Pillow steps by repeated addition, and rounds as often
            double centre = __dmul_rn(scale, 0.5);
            for (int i = 0; i < at; i++) centre = __dadd_rn(centre, scale);
            position = min(static_cast<int>(centre), a.in - 1);
        }
        taps[0] = position;
        taps[1] = 1;
        taps[2] = 1 << 22;
        return;
    }
    double grow = fmax(scale, 1.0), support = 2 * grow, inverse = __ddiv_rn(1.0, grow), centre = __dmul_rn(at + 0.5, scale);
    int low = max(static_cast<int>(__dadd_rn(__dadd_rn(centre, -support), 0.5)), 0);
    int high = min(static_cast<int>(__dadd_rn(__dadd_rn(centre, support), 0.5)), a.in);
    for (int j = lane; j < high - low; j += 32) w[j] = cubic(__dmul_rn(__dadd_rn(__dadd_rn(low + j, -centre), 0.5), inverse));
    __syncwarp();
    double sum = 0;
    for (int j = 0; j < high - low; j++) sum = __dadd_rn(sum, w[j]);
    for (int j = lane; j < high - low; j += 32) {
        double f = (sum != 0 ? __ddiv_rn(w[j], sum) : w[j]) * (1 << 22);
        taps[2 + j] = static_cast<int>(f < 0 ? __dadd_rn(f, -0.5) : __dadd_rn(f, 0.5));
    }
    if (lane == 0) {
        taps[0] = low;
        taps[1] = high - low;
    }
}

__device__ __forceinline__ int byte(unsigned char v) { return v; }
__device__ __forceinline__ int byte(unsigned short v) { return v >> 8; }
__device__ __forceinline__ int clip(int v) { return min(max((v + (1 << 21)) >> 22, 0), 255); }

constexpr int ROWS_AT_ONCE = 4;

template <class Sample>
__device__ __forceinline__ void filter_rows(const Picture &image, unsigned char *y, const int *taps, int stride, int first_row, int rows,
                                            int width, int alpha) {
    int x = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32, n = image.channels;
    if (x >= width) return;
    taps += static_cast<size_t>(x) * (2 + stride);
    const int low = taps[0], count = taps[1], row0 = blockIdx.y * ROWS_AT_ONCE;
    const size_t pitch = static_cast<size_t>(image.width) * n;
    const Sample *in = static_cast<const Sample *>(image.samples) + (first_row + row0) * pitch + static_cast<size_t>(low) * n;
    int sum[ROWS_AT_ONCE][4] = {};
    for (int j = lane; j < count; j += 32) {
        int weight = taps[2 + j];
#pragma unroll
        for (int r = 0; r < ROWS_AT_ONCE; r++) {
            if (row0 + r >= rows) break;
            const Sample *p = in + r * pitch + j * n;
            int opacity = alpha ? byte(p[n - 1]) : 0;
#pragma unroll
            for (int c = 0; c < 4; c++) {
                if (c >= n) break;
                int v = byte(p[c]);
                if (alpha && c < n - 1) {
                    v = v * opacity + 128;
                    v = ((v >> 8) + v) >> 8;
                }
                sum[r][c] += weight * v;
            }
        }
    }
    int mine = 0;
#pragma unroll
    for (int i = 0; i < ROWS_AT_ONCE * 4; i++) {
        int s = __reduce_add_sync(0xffffffffu, sum[i / 4][i % 4]);
        if (lane == i) mine = s;
    }
    int r = lane / 4, c = lane % 4;
    if (r < ROWS_AT_ONCE && row0 + r < rows && c < n)
        y[(static_cast<size_t>(row0 + r) * width + x) * n + c] = static_cast<unsigned char>(clip(mine));
}

extern "C" __global__ void __launch_bounds__(256)
    resize_rows_u8(const __grid_constant__ Picture image, unsigned char *y, const int *taps, int stride, int first_row, int rows, int width,
                   int alpha) {
    await_predecessors();
    filter_rows<unsigned char>(image, y, taps, stride, first_row, rows, width, alpha);
}

extern "C" __global__ void __launch_bounds__(256)
    resize_rows_u16(const __grid_constant__ Picture image, unsigned char *y, const int *taps, int stride, int first_row, int rows, int width,
                    int alpha) {
    await_predecessors();
    filter_rows<unsigned short>(image, y, taps, stride, first_row, rows, width, alpha);
}

struct Normalisation {
    float mean[3], deviation[3];
};

extern "C" __global__ void __launch_bounds__(128)
    resize_columns(const unsigned char *x, __half *y, const int *taps, const __grid_constant__ Normalisation norm, int stride, int first_row,
                   int width, int channels, int alpha) {
    await_predecessors();
    int column = blockIdx.x * 128 + threadIdx.x;
    if (column >= width) return;
    taps += static_cast<size_t>(blockIdx.y) * (2 + stride);
    int low = taps[0], count = taps[1];
    x += (static_cast<size_t>(low - first_row) * width + column) * channels;
    int sum[4] = {};
    for (int j = 0; j < count; j++, x += static_cast<size_t>(width) * channels) {
        int weight = taps[2 + j];
#pragma unroll
        for (int c = 0; c < 4; c++)
            if (c < channels) sum[c] += weight * x[c];
    }
#pragma unroll
    for (int c = 0; c < 4; c++) sum[c] = clip(sum[c]);
    if (alpha) {
        int a = channels == 2 ? sum[1] : sum[3];
        if (a != 0 && a != 255) {
#pragma unroll
            for (int c = 0; c < 3; c++) sum[c] = min(255 * sum[c] / a, 255);
        }
    }
    if (channels <= 2) sum[1] = sum[2] = sum[0];
    Octet o = {};
#pragma unroll
    for (int c = 0; c < 3; c++) o.v[c] = (static_cast<float>(sum[c]) / 255.0f - norm.mean[c]) / norm.deviation[c];
    store8(y + (static_cast<size_t>(blockIdx.y) * width + column) * 8, o);
}
