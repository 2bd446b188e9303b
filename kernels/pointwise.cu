// pointwise.cu: y = epilogue(prologue(x)·Wᵀ), a 1×1 convolution or linear layer as a matrix product on tensor cores.
//
//   x  [rows][K] fp16    rows are the pixels of one image (or of the whole batch, where nothing differs by image)
//   W  [N][K]    fp16    packed by the host, see epilogue.cuh for the order of its rows
//   y  [rows][N] fp16    or what gate, shuffle and split make of it
//
// K and N count padded values: multiples of 8, the padding zero. All pointers are 16-byte aligned. A second input
// continues the rows of the first. Kernels differ by prologue (none; _norm: normalisation over channels; _scale: a
// tensor of factors; _squeeze: a factor for each channel of an image, still in shares; _affine: factor and summand for
// each channel of an image), by rows a block (128 or 64) and by whether they carry a low-rank branch.
//
// Grid: x = tiles of 128 or 64 rows × tiles of 64 columns, columns fastest so that blocks that share rows of x run
// together and find them in L2; z = images × splits of K. Block: 128 threads. Shared: 36 KiB at most (static), with
// _squeeze 24 KiB and 2 bytes a channel (dynamic).
//
// Moves 2(MK + NK + MN) bytes and does 2MNK operations. At K=48, N=144 that is 36 op/byte: memory sets the pace, and
// the normalisation, which reads nothing extra, is free. At K=384 and few rows the weights dominate.
#include "gemm.cuh"

template <int ROWS>
struct PixelRows {
    const __half *from[ROWS], *from2[ROWS], *scale[ROWS];
    bool valid[ROWS];

    __device__ __forceinline__ void prepare(const Product &p, int i, int r, int image, int) {
        valid[i] = r < p.rows;
        if (!valid[i]) r = 0;
        size_t row = static_cast<size_t>(image) * p.rows + r;
        from[i] = p.x + row * p.depth1;
        from2[i] = p.x2 ? p.x2 + row * (p.depth - p.depth1) : p.x;
        scale[i] = p.in_scale;
        if (p.in_scale) {
            int y = r / p.width, x = r - y * p.width;
            y = min(max(y - (p.height - p.scale_height) / 2, 0), p.scale_height - 1);
            x = min(max(x - (p.width - p.scale_width) / 2, 0), p.scale_width - 1);
            scale[i] += (static_cast<size_t>(image * p.scale_height + y) * p.scale_width + x) * p.depth;
        }
    }
    __device__ __forceinline__ void copy(const Product &p, int i, int k, bool inside, uint32_t shared) const {
        copy16(shared, k < p.depth1 ? from[i] + k : from2[i] + (k - p.depth1), valid[i] && inside);
    }
    __device__ __forceinline__ void copy_scale(const Product &p, int i, int k, bool inside, uint32_t shared) const {
        copy16(shared, scale[i] + k, valid[i] && inside);
    }
    __device__ __forceinline__ void advance(const Product &) {}
};

#define POINTWISE(NAME, MT, PRO, LORA)                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS) NAME(const __grid_constant__ Product p) { \
        product<MT, PRO, LORA>(p, PixelRows<2 * MT>());                                             \
    }

POINTWISE(pointwise_128, 2, PRO_NONE, false)
POINTWISE(pointwise_64, 1, PRO_NONE, false)
POINTWISE(pointwise_lora_128, 2, PRO_NONE, true)
POINTWISE(pointwise_lora_64, 1, PRO_NONE, true)
POINTWISE(pointwise_norm_128, 2, PRO_NORM, false)
POINTWISE(pointwise_norm_64, 1, PRO_NORM, false)
POINTWISE(pointwise_norm_lora_128, 2, PRO_NORM, true)
POINTWISE(pointwise_norm_lora_64, 1, PRO_NORM, true)
POINTWISE(pointwise_scale_64, 1, PRO_SCALE, false)
POINTWISE(pointwise_squeeze_64, 1, PRO_SQUEEZE, false)
POINTWISE(pointwise_affine_64, 1, PRO_AFFINE, false)
