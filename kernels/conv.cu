// conv.cu: y = epilogue(x ∗ W), a dense k×k convolution as an implicit matrix product on tensor cores.
//
//   x  [image][height][width][C] fp16     a second input continues the channels
//   W  [N][kernel_h][kernel_w][C] fp16    C padded like x, rows packed by the host (see epilogue.cuh)
//   y  [image][out_h][out_w][N] fp16      or what gate, shuffle and split make of it
//
// The left operand's row is the window of one output pixel, kernel_h·kernel_w·C values deep; it is never stored:
// each 16-byte copy into shared memory finds its pixel by the tap it belongs to, or writes zeros. Zero, reflect and
// replicate padding differ in that one function. Any kernel, stride and padding; grouped convolutions come as dense
// ones whose weights are zero outside the group, which for the one 5×5 in four groups of RetinexFormer costs less than
// the padding to tensor-core tiles would.
//
// Grid: x = tiles of 128 or 64 output pixels × tiles of 64 columns, columns fastest; z = images × splits of the depth.
// Block: 128 threads. Shared: 42 KiB at most (static).
//
// Moves 2(HWC + NkkC + HWN) bytes when neighbouring windows meet in L2 and does 2·HW·N·kkC operations: a 3×3 of 48 to
// 48 channels does 216 op/byte, about where an H200 turns from memory to arithmetic.
#include "gemm.cuh"

struct Window {
    int kernel_h, kernel_w, stride, pad, pad_mode;
    int out_h, out_w;
};

template <int ROWS>
struct WindowRows {
    Window win;
    int y[ROWS], x[ROWS], image[ROWS];  // top left of the window, before padding; image -1 past the last pixel
    int pixel[ROWS];                    // that the present tap reads, -1 where it reads zeros
    int c8, ky, kx;                     // the next chunk: octet of channels and tap
    int per_tap;                        // octets of a tap

    __device__ __forceinline__ void prepare(const Product &p, int i, int r, int img, int chunk) {
        bool valid = r < p.rows;
        long long result = static_cast<long long>(img) * p.rows + (valid ? r : 0);
        int oy, ox;
        if (p.e.quads) {
            int block = static_cast<int>(result / 4), across = win.out_w / 2;
            int by = block / across;
            ox = (block - by * across) * 2 + static_cast<int>(result % 2);
            oy = by * 2 + static_cast<int>(result % 4 / 2);
        } else {
            oy = static_cast<int>(result / win.out_w);
            ox = static_cast<int>(result - static_cast<long long>(oy) * win.out_w);
        }
        image[i] = oy / win.out_h;
        y[i] = (oy - image[i] * win.out_h) * win.stride - win.pad;
        x[i] = ox * win.stride - win.pad;
        if (!valid) image[i] = -1;
        per_tap = p.depth / (8 * win.kernel_h * win.kernel_w);
        int tap = chunk / per_tap;
        c8 = chunk - tap * per_tap;
        ky = tap / win.kernel_w;
        kx = tap - ky * win.kernel_w;
        find(p, i);
    }
    __device__ __forceinline__ void find(const Product &p, int i) {
        int iy = y[i] + ky, ix = x[i] + kx;
        if (static_cast<unsigned>(iy) >= static_cast<unsigned>(p.height) || static_cast<unsigned>(ix) >= static_cast<unsigned>(p.width)) {
            iy = pad_index(iy, p.height, win.pad_mode);
            ix = pad_index(ix, p.width, win.pad_mode);
        }
        pixel[i] = (image[i] | iy | ix) < 0 ? -1 : (image[i] * p.height + iy) * p.width + ix;
    }
    __device__ __forceinline__ void copy(const Product &p, int i, int, bool inside, uint32_t shared) const {
        const int c = c8 * 8, at = max(pixel[i], 0);
        const __half *from = p.x + static_cast<size_t>(at) * p.depth1 + c;
        if (p.x2 && c >= p.depth1) from = p.x2 + static_cast<size_t>(at) * (8 * per_tap - p.depth1) + (c - p.depth1);
        copy16(shared, from, inside && pixel[i] >= 0);
    }
    __device__ __forceinline__ void advance(const Product &p) {
        c8 += TILE_K / 8;
        if (c8 < per_tap) return;
        do {
            c8 -= per_tap;
            if (++kx == win.kernel_w) kx = 0, ky++;
        } while (c8 >= per_tap);
#pragma unroll
        for (int i = 0; i < ROWS; i++) find(p, i);
    }
};

#define CONV(NAME, MT, LORA)                                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                                  \
        NAME(const __grid_constant__ Product p, const __grid_constant__ Window win) {                                      \
        WindowRows<2 * MT> rows;                                                                                           \
        rows.win = win;                                                                                                    \
        product<MT, LORA>(p, rows);                                                                              \
    }

CONV(conv_128, 2, false)
CONV(conv_64, 1, false)
CONV(conv_lora_128, 2, true)
CONV(conv_lora_64, 1, true)
