// pointwise.cu: y = epilogue(prologue(x)·Wᵀ), a 1×1 convolution or linear layer as a matrix product on tensor cores.
//
//   x  [rows][K] fp16    rows are the pixels of one image (or of the whole batch, where nothing differs by image)
//   W  [N][K]    fp16    packed by the host, see epilogue.cuh for the order of its rows
//   y  [rows][N] fp16    or what gate, shuffle and split make of it
//
// K and N count padded values: multiples of 8, the padding zero. All pointers are 16-byte aligned. A second input
// continues the rows of the first. In front may stand a normalisation over channels, a tensor of factors, a factor for
// each channel of an image, or factor and summand for each channel of an image.
//
// A block keeps its rows of x for the whole depth in shared memory, where what stands in front is applied once, and goes
// through tiles of columns of W, which come through a ring of three stages filled by cp.async. A warp owns 32 rows by 64
// columns; in blocks of 64 rows two warps do, each with half of every stage's depth, and take 16 rows each at the end, so that the
// few blocks of a small level take half the steps. Rows of W are laid out so that a lane ends with eight consecutive channels of a row, which leave its registers
// through the epilogue as 16 bytes: in 32 rows of a stage, row 8t+2q+e is channel 8q+2t+e, and with a gate the two halves
// of 64 are octets of even and of odd number. Row pitches are odd multiples of 16 bytes: no bank conflicts.
//
// Normalisation costs no pass over memory: rows are normalised where they lie, rounded to fp16; the factors of the norm are
// folded into W by the host, its summands into the bias. Mean and variance are summed once a block, shifted by the row's first
// value, which bounds the cancellation in E[x²]-E[x]² by the number of channels however large the mean is. Parts of a split
// depth stay as they are: product_finish normalises their sum.
//
// Sums begin with the bias, which waits in shared memory, as the scale does.
//
// A low-rank branch adds up to 32 columns x·downᵀ to the product; their sums, rounded to fp16, have the layout of the
// left operand of the second product with up, which is added before a tile leaves.
//
// _128, _64, _32: rows of a block. Grid: x = row tiles × blocks that share a row tile's columns; z = images × splits of
// the depth. Block: 128, 256, 64 threads. Shared (dynamic): 16·rows·(depth/8|1) bytes, 27, 54, 30 KiB of W, 8 bytes a column,
// and 32 KiB of sums for _64.
//
// Moves 2(MK·blocks a row tile + NK·row tiles + MN) bytes through L2 and does 2MNK operations, in about 25 + 250/(K/16)
// instructions for each 16 deep, 32 by 64 part: bytes or the issue of instructions set the pace, not tensor cores.
#include "product.cuh"

template <int WM, int WN, int WK>
struct Shape {
    static constexpr int ROWS = 32 * WM, COLUMNS = 64 * WN, THREADS = 32 * WM * WN * WK, STAGES = 3;
    static constexpr int DEPTH = WM == 1 ? 32 : 64;               // of a stage
    static constexpr int CHUNKS = DEPTH / 8;                      // of 16 bytes in a stage's row
    static constexpr int PITCH = 16 * (CHUNKS + 1);               // bytes
    static constexpr int STAGE = COLUMNS * PITCH, RING = STAGES * STAGE;
    static constexpr int STEPS = DEPTH / 16 / WK;                 // of a stage that a warp takes
    static constexpr int EXCHANGE = WK > 1 ? 2 * ROWS * COLUMNS * WK : 0;  // bytes
    static constexpr int STEP = THREADS / CHUNKS, COPIES = COLUMNS / STEP;
};

// multiply2 multiplies two fp16 values by two others.
__device__ __forceinline__ uint32_t multiply2(uint32_t a, uint32_t f) {
    __half2 v = __hmul2(*reinterpret_cast<__half2 *>(&a), *reinterpret_cast<__half2 *>(&f));
    return *reinterpret_cast<uint32_t *>(&v);
}

// load_shared and store_shared move 16 bytes at once: the compiler splits reads whose parts it uses one by one, which then meet
// bank conflicts.
__device__ __forceinline__ uint4 load_shared(uint32_t at) {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];\n" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(at) : "memory");
    return v;
}
__device__ __forceinline__ void store_shared(uint32_t at, uint4 v) {
    asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};\n" ::"r"(at), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

// copy_factors begins to copy an image's factors of channels [from, to), multiples of 8; those after the last channel are zero.
__device__ __forceinline__ void copy_factors(const Product &p, int image, int from, int to, __half2 *factors) {
    for (int k = from + 8 * threadIdx.x; k < to; k += 8 * blockDim.x) {
        const bool exists = k < p.depth;
        copy16(shared_address(factors + (k - from) / 2), p.in_scale + (exists ? static_cast<size_t>(image) * p.depth + k : 0), exists);
    }
}

// Rows are a block's rows of x in shared memory: values [k0, k1) of the depth, zeros up to a multiple of 16.
struct Rows {
    unsigned char *memory;
    int row0, image, k0, k1;
    int chunks, pitch;  // of a row, the pitch in bytes

    // load begins to copy all rows.
    template <int ROWS, int THREADS>
    __device__ __forceinline__ void load(const Product &p) const {
        const int lanes = chunks <= 4 ? 4 : chunks <= 8 ? 8 : chunks <= 16 ? 16 : 32;
        const size_t base = static_cast<size_t>(image) * p.rows + row0;
        const int first = threadIdx.x / lanes, step = THREADS / lanes;
        for (int c = threadIdx.x % lanes; c < chunks; c += lanes) {
            const int k = k0 + 8 * c, left = k < k1 ? p.rows - row0 : 0;
            const bool second = k >= p.depth1;
            const int depth = second ? p.depth - p.depth1 : p.depth1;
            const __half *from = (second ? p.x2 - p.depth1 : p.x) + (base + first) * depth + k;
            uint32_t at = shared_address(memory) + first * pitch + 16 * c;
#pragma unroll 4
            for (int r = first; r < ROWS; r += step, from += static_cast<size_t>(step) * depth, at += step * pitch) copy16(at, from, r < left);
        }
    }
    // scale multiplies the rows by a tensor's, or by factors of channels.
    template <int ROWS, int THREADS>
    __device__ __forceinline__ void scale(const Product &p, const __half2 *factors) const {
        const int lanes = chunks <= 4 ? 4 : chunks <= 8 ? 8 : chunks <= 16 ? 16 : 32;
        if (factors) {
            // A thread keeps to its channels. Rows beyond the last one are zeros.
            const int first = threadIdx.x / lanes, step = THREADS / lanes;
            for (int c = threadIdx.x % lanes; c < chunks; c += lanes) {
                const uint4 u = load_shared(shared_address(factors + 4 * c));
                uint32_t at = shared_address(memory) + first * pitch + 16 * c;
#pragma unroll 4
                for (int r = first; r < ROWS; r += step, at += step * pitch) {
                    const uint4 v = load_shared(at);
                    store_shared(at, make_uint4(multiply2(v.x, u.x), multiply2(v.y, u.y), multiply2(v.z, u.z), multiply2(v.w, u.w)));
                }
            }
            return;
        }
        for (int r = threadIdx.x / lanes; r < ROWS; r += THREADS / lanes) {
            const int row = row0 + r;
            if (row >= p.rows) break;
            int y = row / p.width, x = row - y * p.width;
            y = min(max(y - (p.height - p.scale_height) / 2, 0), p.scale_height - 1);
            x = min(max(x - (p.width - p.scale_width) / 2, 0), p.scale_width - 1);
            const __half *f = p.in_scale + (static_cast<size_t>(image * p.scale_height + y) * p.scale_width + x) * p.depth;
            for (int c = threadIdx.x % lanes; c < chunks; c += lanes) {
                const int k = k0 + 8 * c;
                if (k >= k1) break;
                uint4 &v = *reinterpret_cast<uint4 *>(memory + r * pitch + 16 * c);
                const uint4 u = *reinterpret_cast<const uint4 *>(f + k);
                v = make_uint4(multiply2(v.x, u.x), multiply2(v.y, u.y), multiply2(v.z, u.z), multiply2(v.w, u.w));
            }
        }
    }
    // map applies an image's factors and summands of channels. A thread keeps to its channels.
    template <int ROWS, int THREADS>
    __device__ __forceinline__ void map(const Product &p) const {
        const int lanes = chunks <= 4 ? 4 : chunks <= 8 ? 8 : chunks <= 16 ? 16 : 32, first = threadIdx.x / lanes, step = THREADS / lanes;
        const int last = min(ROWS, p.rows - row0);
        for (int c = threadIdx.x % lanes; c < chunks && k0 + 8 * c < k1; c += lanes) {
            const float *a = p.in_affine + static_cast<size_t>(image) * 2 * p.depth + k0 + 8 * c;
            const Octet f = load8(a), t = load8(a + p.depth);
            uint32_t at = shared_address(memory) + first * pitch + 16 * c;
#pragma unroll 2
            for (int r = first; r < last; r += step, at += step * pitch) {
                Octet o = unpack(load_shared(at));
#pragma unroll
                for (int i = 0; i < 8; i++) o.v[i] = o.v[i] * f.v[i] + t.v[i];
                store_shared(at, pack(o));
            }
        }
    }
    // normalise subtracts each row's mean and divides by its deviation. Channels that pad a row have no weight.
    template <int ROWS, int THREADS>
    __device__ __forceinline__ void normalise(const Product &p) const {
        constexpr int PARTS = THREADS / ROWS;
        const int part = threadIdx.x % PARTS;
        unsigned char *row = memory + threadIdx.x / PARTS * pitch;
        const float shift = __half2float(*reinterpret_cast<const __half *>(row));
        float sum = 0, squares = 0;
#pragma unroll 4
        for (int c = part; 8 * c < p.channels; c += PARTS) {
            Octet o = unpack(*reinterpret_cast<const uint4 *>(row + 16 * c));
            const int left = p.channels - 8 * c;
            float d[8], q[4];
#pragma unroll
            for (int i = 0; i < 8; i++) d[i] = o.v[i] - shift;
            if (left < 8) {
                for (int i = 0; i < 8; i++) d[i] = i < left ? d[i] : 0.0f;
            }
            // Sums in pairs, so that one addition a chunk depends on the one before.
#pragma unroll
            for (int i = 0; i < 4; i++) q[i] = fmaf(d[i], d[i], d[i + 4] * d[i + 4]);
            sum += ((d[0] + d[1]) + (d[2] + d[3])) + ((d[4] + d[5]) + (d[6] + d[7]));
            squares += (q[0] + q[1]) + (q[2] + q[3]);
        }
#pragma unroll
        for (int d = 1; d < PARTS; d *= 2) {
            sum += __shfl_xor_sync(0xffffffffu, sum, d);
            squares += __shfl_xor_sync(0xffffffffu, squares, d);
        }
        const float m = sum / p.channels, variance = squares / p.channels - m * m;
        const float deviation = rsqrtf(fmaxf(variance, 0.0f) + p.eps), mean = p.bias_free ? 0.0f : shift + m;
        if (PARTS > 1) __syncwarp();  // all of a row's threads have read its first value
#pragma unroll 4
        for (int c = part; 8 * c < p.channels; c += PARTS) {
            uint4 &v = *reinterpret_cast<uint4 *>(row + 16 * c);
            Octet o = unpack(v);
#pragma unroll
            for (int i = 0; i < 8; i++) o.v[i] = (o.v[i] - mean) * deviation;
            v = pack(o);
        }
    }
};

// Vectors are what a block needs of its columns, in shared memory: their bias and, unless null, their scale.
struct Vectors {
    const float *bias, *scale;
    int first;  // column

    // load begins to copy those of columns [first, end), after the gate for the scale; beyond the last one they are zero.
    __device__ __forceinline__ void load(const Product &p, float *memory, int columns, int end) {
        const Epilogue &e = p.e;
        const int shift = e.gate ? 1 : 0;
        for (int i = 4 * threadIdx.x; i < columns; i += 4 * blockDim.x) {
            const bool exists = e.bias && !e.partial && first + i < end;
            copy16(shared_address(memory + i), exists ? e.bias + first + i : static_cast<const void *>(p.w), exists);
        }
        bias = memory - first;
        scale = nullptr;
        if (!e.scale || e.partial) return;
        for (int i = 4 * threadIdx.x; i < columns >> shift; i += 4 * blockDim.x) {
            const bool exists = (first >> shift) + i < end >> shift;
            copy16(shared_address(memory + columns + i), exists ? e.scale + (first >> shift) + i : static_cast<const void *>(p.w), exists);
        }
        scale = memory + columns - (first >> shift);
    }
};

// Lane is what a warp's part of a tile needs: its sums and where they belong. TALL of the two times 16 rows are the warp's to finish.
template <int TALL>
struct Lane {
    float acc[2][8][4];
    int row;  // the first of the lane's; the others are 8, 16 and 24 below

    // start begins with the bias of the lane's columns: a group of eight from column a on, one from column b on.
    // The bias counts once, in the first part of the depth.
    __device__ __forceinline__ void start(const Vectors &vectors, int a, int b, bool first) {
        Octet biases[2] = {};
        if (first) biases[0] = load8(vectors.bias + a), biases[1] = load8(vectors.bias + b);
#pragma unroll
        for (int i = 0; i < 64; i++) acc[i / 32][i / 4 % 8][i % 4] = biases[i / 16 % 2].v[i / 4 % 4 * 2 + i % 2];
    }
    // step multiplies 16 deep, GROUPS·32 columns.
    template <int GROUPS>
    __device__ __forceinline__ void step(uint32_t a_at, int a_rows, uint32_t b_at, int b_rows) {
        uint32_t a[2][4];
#pragma unroll
        for (int mt = 0; mt < 2; mt++) ldmatrix4(a[mt], a_at + mt * a_rows);
#pragma unroll
        for (int np = 0; np < 2 * GROUPS; np++) {
            uint32_t b[4];
            ldmatrix4(b, b_at + np * b_rows);
#pragma unroll
            for (int mt = 0; mt < 2; mt++) {
                mma16816(acc[mt][2 * np], a[mt], b[0], b[1]);
                mma16816(acc[mt][2 * np + 1], a[mt], b[2], b[3]);
            }
        }
    }
    // exchange gives half of the rows to the warp that has the other part of the depth, and adds what that one has of the others: the
    // warp's own rows are then the first 16. at is the lane's place in the first of the two warps' 4 KiB.
    __device__ __forceinline__ void exchange(uint32_t at, bool second) {
        if (second)
            give(at, acc[0]);
        else
            give(at + 4096, acc[1]);
        __syncthreads();
        if (second)
            take(at + 4096, acc[1]);
        else
            take(at, acc[0]);
    }
    __device__ __forceinline__ static void give(uint32_t at, const float (&v)[8][4]) {
#pragma unroll
        for (int i = 0; i < 8; i++)
            asm volatile("st.shared.v4.f32 [%0], {%1,%2,%3,%4};\n" ::"r"(at + 512 * i), "f"(v[i][0]), "f"(v[i][1]), "f"(v[i][2]), "f"(v[i][3]) : "memory");
    }
    __device__ __forceinline__ void take(uint32_t at, const float (&own)[8][4]) {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float v[4];
            asm volatile("ld.shared.v4.f32 {%0,%1,%2,%3}, [%4];\n" : "=f"(v[0]), "=f"(v[1]), "=f"(v[2]), "=f"(v[3]) : "r"(at + 512 * i) : "memory");
#pragma unroll
            for (int e = 0; e < 4; e++) acc[0][i][e] = own[i][e] + v[e];
        }
    }
    // octet is eight consecutive channels of row h of the two of 16.
    __device__ __forceinline__ Octet octet(int mt, int h, int group) const {
        Octet o;
#pragma unroll
        for (int i = 0; i < 8; i++) o.v[i] = acc[mt][4 * group + i / 2][2 * h + i % 2];
        return o;
    }
    // finish takes the octets of one group of 32 columns, or of both with a gate, to memory. column is the group's first of the
    // lane.
    __device__ __forceinline__ void finish(const Product &p, const Vectors &vectors, int group, int column, int image, int split) {
        const Epilogue &e = p.e;
        if (column >= e.columns) return;
        const long base = static_cast<long>(image) * p.rows;
        if (e.partial) {
            float *out = e.partial + (static_cast<size_t>(split) * p.images * p.rows + base + row) * e.columns + column;
#pragma unroll
            for (int i = 0; i < 2 * TALL; i++)
                if (row + 8 * i < p.rows) store8(out + static_cast<size_t>(8 * i) * e.columns, octet(i / 2, i % 2, group));
            return;
        }
        const int after = e.gate ? column / 2 : column;
        if (e.act == ACT_GELU || e.gate == GATE_GELU || e.shuffle) {
            general(e, group, after, image, base, p.rows);
            return;
        }
        // Rows of results one below the other; all of the residual is asked for before any is used.
        const bool second = after < e.split;
        const int pitch = second ? e.pitch2 : e.pitch;
        const size_t at = (base + row) * pitch + (second ? after : after - e.split);
        __half *y = (second ? e.y2 : e.y) + at;
        const bool adds = e.residual && !second;
        uint4 residual[2 * TALL];
        if (adds) {
#pragma unroll
            for (int i = 0; i < 2 * TALL; i++)
                if (row + 8 * i < p.rows) residual[i] = *reinterpret_cast<const uint4 *>(e.residual + at + 8 * i * pitch);
        }
        Octet factor, summand = {};
#pragma unroll
        for (int k = 0; k < 8; k++) factor.v[k] = 1.0f;
        if (vectors.scale) factor = load8(vectors.scale + after);
        if (e.affine) {
            const int width = e.gate ? e.columns / 2 : e.columns;
            const float *a = e.affine + static_cast<size_t>(image) * 2 * width + after;
            const Octet f = load8(a);
            summand = load8(a + width);
#pragma unroll
            for (int k = 0; k < 8; k++) factor.v[k] *= f.v[k];
        }
#pragma unroll
        for (int i = 0; i < 2 * TALL; i++) {
            if (row + 8 * i >= p.rows) break;
            Octet o = octet(i / 2, i % 2, group);
            if (e.act) activate(e, o);
            if (e.gate) {
                const Octet b = octet(i / 2, i % 2, 1);
#pragma unroll
                for (int k = 0; k < 8; k++) o.v[k] *= b.v[k];
            }
            if (vectors.scale || e.affine) {
#pragma unroll
                for (int k = 0; k < 8; k++) o.v[k] = o.v[k] * factor.v[k] + summand.v[k];
            }
            if (adds) {
                const Octet r = unpack(residual[i]);
#pragma unroll
                for (int k = 0; k < 8; k++) o.v[k] += r.v[k];
            }
            store8(y + 8 * i * pitch, o);
        }
    }
    // general is the way of all other epilogues. after is the first column behind the gate.
    __device__ __forceinline__ void general(const Epilogue &e, int group, int after, int image, long base, int rows) {
#pragma unroll
        for (int i = 0; i < 2 * TALL; i++) {
            if (row + 8 * i >= rows) continue;
            Octet o = octet(i / 2, i % 2, group);
            activate(e, o);
            if (e.gate) {
                const Octet b = octet(i / 2, i % 2, 1);
#pragma unroll
                for (int k = 0; k < 8; k++) o.v[k] *= b.v[k];
            }
            map(e, o, after, image);
            store(e, o, base + row + 8 * i, after);
        }
    }
};

// LowRank are the sums x·downᵀ of a warp's rows as left operands.
template <bool NORM>
struct LowRank {
    uint32_t a[2][2][4];
    int adapter;

    __device__ __forceinline__ void multiply(const Product &p, uint32_t a_at, int a_rows, int k0, int k1) {
        const int g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
        float low[2][4][4] = {};
        const __half *down = p.down + static_cast<size_t>(adapter) * p.rank * p.depth;
#pragma unroll 1
        for (int k = k0; k < k1; k += 16, a_at += 32) {
            uint32_t x[2][4];
#pragma unroll
            for (int mt = 0; mt < 2; mt++) ldmatrix4(x[mt], a_at + mt * a_rows);
#pragma unroll
            for (int nt = 0; nt < 4; nt++) {
                if (8 * nt >= p.rank) break;
                const __half *d = down + static_cast<size_t>(8 * nt + g) * p.depth + k + 2 * q;
                const uint32_t b0 = *reinterpret_cast<const uint32_t *>(d), b1 = k + 8 < k1 ? *reinterpret_cast<const uint32_t *>(d + 8) : 0;
#pragma unroll
                for (int mt = 0; mt < 2; mt++) mma16816(low[mt][nt], x[mt], b0, b1);
            }
        }
#pragma unroll
        for (int mt = 0; mt < 2; mt++)
#pragma unroll
            for (int nt = 0; nt < 4; nt++) {
                if (8 * nt >= p.rank) break;
                float(&l)[4] = low[mt][nt];
                if (NORM) {
                    const float2 t = *reinterpret_cast<const float2 *>(p.down_shift + adapter * p.rank + 8 * nt + 2 * q);
                    l[0] += t.x, l[1] += t.y, l[2] += t.x, l[3] += t.y;
                }
                a[mt][nt / 2][nt % 2 * 2] = pack2(l[0], l[1]);
                a[mt][nt / 2][nt % 2 * 2 + 1] = pack2(l[2], l[3]);
            }
    }
    // add adds low·upᵀ to a tile's sums. column is the first of the warp's 64.
    template <int TALL>
    __device__ __forceinline__ void add(const Product &p, Lane<TALL> &lane, int column, bool gate) const {
        const int g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
#pragma unroll
        for (int s = 0; s < 2; s++) {
            if (16 * s >= p.rank) break;
#pragma unroll
            for (int nt = 0; nt < 8; nt++) {
                const int group = nt / 4, octet = gate ? 2 * (g / 2) + group : 4 * group + g / 2;
                const int c = column + 8 * octet + nt % 4 * 2 + g % 2;
                uint32_t b0 = 0, b1 = 0;
                if (c < p.e.columns) {
                    const uint32_t *u = reinterpret_cast<const uint32_t *>(p.up + (static_cast<size_t>(adapter) * p.e.columns + c) * p.rank + 16 * s + 2 * q);
                    b0 = u[0], b1 = u[4];
                }
#pragma unroll
                for (int mt = 0; mt < 2; mt++) mma16816(lane.acc[mt][nt], a[mt][s], b0, b1);
            }
        }
    }
};

template <int WM, int WN, int WK, bool NORM, bool LORA>
__device__ __forceinline__ void pointwise(const Product &p) {
    await_predecessors();
    using S = Shape<WM, WN, WK>;
    extern __shared__ __align__(128) unsigned char memory[];
    const int tid = threadIdx.x, warp = tid / 32, lane_id = tid % 32, g = lane_id / 4, q = lane_id % 4, wm = warp % WM, wn = warp / WM % WN;
    const int wk = warp / (WM * WN);  // of the steps of a stage
    const int image = blockIdx.z / p.splits, split = blockIdx.z % p.splits;
    const int share = blockIdx.x % p.column_blocks, row0 = static_cast<int>(blockIdx.x / p.column_blocks) * S::ROWS;
    const int tiles = (p.e.columns + S::COLUMNS - 1) / S::COLUMNS;
    const int tile0 = static_cast<int>(static_cast<long long>(tiles) * share / p.column_blocks);
    const int tile1 = static_cast<int>(static_cast<long long>(tiles) * (share + 1) / p.column_blocks);

    // The split's part of the depth, in steps of 16.
    const int all = (p.depth + 15) / 16;
    const int s0 = static_cast<int>(static_cast<long long>(all) * split / p.splits), s1 = static_cast<int>(static_cast<long long>(all) * (split + 1) / p.splits);
    Rows rows;
    rows.memory = memory;
    rows.row0 = row0;
    rows.image = image;
    rows.k0 = 16 * s0;
    rows.k1 = min(16 * s1, p.depth);
    rows.chunks = 2 * (s1 - s0);
    rows.pitch = 16 * (rows.chunks | 1);
    unsigned char *ring = memory + S::ROWS * rows.pitch;
    __half2 *factors = reinterpret_cast<__half2 *>(ring + S::RING + S::EXCHANGE);
    const uint32_t exchange = shared_address(ring + S::RING) + warp % (WM * WN) * 8192 + 16 * lane_id;
    Vectors vectors;
    vectors.first = tile0 * S::COLUMNS;

    // Copies of W: a thread serves one chunk of every STEP-th row of a stage.
    const int chunk = tid % S::CHUNKS, first = tid / S::CHUNKS;
    const uint32_t to = shared_address(ring) + first * S::PITCH + 16 * chunk;
    const int stages = (rows.k1 - rows.k0 + S::DEPTH - 1) / S::DEPTH;
    const bool gate = p.e.gate && !p.e.partial;
    const int second = gate ? 8 : 32;  // channels from the first group's octets to the second's
    const int column_in = first % 8 / 2 * (gate ? 16 : 8) + first / 8 * 2 + first % 2;  // of the thread's first row
    const __half *w = p.w + image * p.w_stride + rows.k0 + 8 * chunk;
    // Rows of a stage are 8·t + 2q + e in groups of 32.
    int column[S::COPIES], offset[S::COPIES];  // from the thread's first row
#pragma unroll
    for (int i = 0; i < S::COPIES; i++) {
        const int r = i * S::STEP;
        column[i] = r % 32 / 8 * 2 + r / 64 * 64 + r / 32 % 2 * second;
        offset[i] = (column_in + column[i]) * p.depth;
    }
    int load_tile = tile0, load_stage = 0;
    auto load = [&](int slot) {
        const int k = S::DEPTH * load_stage;
        const bool inside = rows.k0 + k + 8 * chunk < rows.k1 && load_tile < tile1;
        const int left = inside ? p.filters - load_tile * S::COLUMNS - column_in : 0;
        const __half *from = w + static_cast<size_t>(load_tile * S::COLUMNS) * p.depth + k;
        const uint32_t at = to + slot * S::STAGE;
#pragma unroll
        for (int i = 0; i < S::COPIES; i++) copy16(at + i * S::STEP * S::PITCH, from + offset[i], column[i] < left);
        if (++load_stage == stages) load_stage = 0, load_tile++;
    };
    rows.load<S::ROWS, S::THREADS>(p);
    const bool by_channel = p.in_scale && p.scale_height * p.scale_width == 1;
    if (by_channel) copy_factors(p, image, rows.k0, rows.k0 + 8 * rows.chunks, factors);
    vectors.load(p, reinterpret_cast<float *>(factors + 4 * rows.chunks), (tile1 - tile0) * S::COLUMNS, p.e.columns);
#pragma unroll
    for (int s = 0; s < S::STAGES - 1; s++) {
        load(s);
        commit_copies();
    }
    Lane<2 / WK> lane;
    lane.row = row0 + 32 * wm + 16 * wk + g;
    if (NORM || p.in_scale || p.in_affine) {
        wait_copies<S::STAGES - 2>();  // the rows came with the first stage
        __syncthreads();
        if (!NORM && p.in_affine) rows.map<S::ROWS, S::THREADS>(p);
        if (!NORM && p.in_scale) rows.scale<S::ROWS, S::THREADS>(p, by_channel ? factors : nullptr);
        if (NORM && !p.e.partial) rows.normalise<S::ROWS, S::THREADS>(p);
    }
    const uint32_t a_first = shared_address(memory) + (32 * wm + lane_id % 16) * rows.pitch + lane_id / 16 * 16;
    const int a_rows = 16 * rows.pitch;
    const uint32_t b_first = shared_address(ring) + (64 * wn + lane_id % 8 + lane_id / 16 * 8) * S::PITCH + lane_id / 8 % 2 * 16 + 32 * S::STEPS * wk;
    constexpr int B_ROWS = 16 * S::PITCH;
    LowRank<NORM> low;
    if (LORA) {
        low.adapter = p.adapter ? p.adapter[image] : 0;
        wait_copies<S::STAGES - 2>();
        __syncthreads();
        if (low.adapter >= 0 && wk == 0) low.multiply(p, a_first, a_rows, rows.k0, rows.k1);
    }
    wait_copies<S::STAGES - 2>();  // the vectors came with the rows
    __syncthreads();
    int slot = 0, fill = S::STAGES - 1;
#pragma unroll 1
    for (int tile = tile0; tile < tile1; tile++) {
        const int column0 = tile * S::COLUMNS + 64 * wn;
        const int groups = gate ? (column0 < p.e.columns ? 2 : 0) : (p.e.columns - column0 + 31) / 32;
        const int a0 = column0 + (gate ? 16 * q : 8 * q), b0 = a0 + second;
        lane.start(vectors, a0, b0, wk == 0);
        uint32_t a_at = a_first + 32 * S::STEPS * wk;
#pragma unroll 1
        for (int s = 0; s < stages; s++) {
            wait_copies<S::STAGES - 2>();
            __syncthreads();
            // The next copies are issued while tensor cores are busy; behind the last tile they are zeros.
            const uint32_t b_at = b_first + slot * S::STAGE;
            const int steps = min(S::STEPS, s1 - s0 - S::DEPTH / 16 * s - S::STEPS * wk);
            if (groups >= 2 && steps == S::STEPS) {
#pragma unroll
                for (int i = 0; i < S::STEPS; i++) lane.template step<2>(a_at + 32 * i, a_rows, b_at + 32 * i, B_ROWS);
                load(fill);
            } else {
                load(fill);
#pragma unroll 1
                for (int i = 0; i < steps; i++) {
                    if (groups >= 2)
                        lane.template step<2>(a_at + 32 * i, a_rows, b_at + 32 * i, B_ROWS);
                    else if (groups == 1)
                        lane.template step<1>(a_at + 32 * i, a_rows, b_at + 32 * i, B_ROWS);
                }
            }
            commit_copies();
            a_at += 2 * S::DEPTH;
            slot = slot == S::STAGES - 1 ? 0 : slot + 1;
            fill = fill == S::STAGES - 1 ? 0 : fill + 1;
        }
        if (LORA && low.adapter >= 0 && wk == 0) low.add(p, lane, column0, gate);
        if (WK > 1) lane.exchange(exchange, wk > 0);
        lane.finish(p, vectors, 0, a0, image, split);
        if (groups > 1 && !gate) lane.finish(p, vectors, 1, b0, image, split);
    }
}

#define POINTWISE(NAME, WM, WN, WK, NORM, LORA)                                                                                        \
    extern "C" __global__ void __launch_bounds__(32 * WM * WN * WK, 8 / (WM * WN * WK)) NAME(const __grid_constant__ Product p) {      \
        pointwise<WM, WN, WK, NORM, LORA>(p);                                                                                          \
    }

POINTWISE(pointwise_128, 4, 1, 1, false, false)
POINTWISE(pointwise_64, 2, 2, 2, false, false)
POINTWISE(pointwise_32, 1, 2, 1, false, false)
POINTWISE(pointwise_lora_128, 4, 1, 1, false, true)
POINTWISE(pointwise_lora_64, 2, 2, 2, false, true)
POINTWISE(pointwise_lora_32, 1, 2, 1, false, true)
POINTWISE(pointwise_norm_128, 4, 1, 1, true, false)
POINTWISE(pointwise_norm_64, 2, 2, 2, true, false)
POINTWISE(pointwise_norm_32, 1, 2, 1, true, false)
POINTWISE(pointwise_norm_lora_128, 4, 1, 1, true, true)
POINTWISE(pointwise_norm_lora_64, 2, 2, 2, true, true)
POINTWISE(pointwise_norm_lora_32, 1, 2, 1, true, true)
