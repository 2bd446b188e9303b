// padding.cuh: which pixel stands at a position outside the image. The numbers are those of the graph's PadMode.
#pragma once

enum { PAD_ZERO = 0, PAD_REFLECT = 1, PAD_REFLECT_LOOP = 2, PAD_REPLICATE = 3 };

// pad_index maps i to the position in [0, n) that it reads, or to -1 where it reads zero.
__device__ __forceinline__ int pad_index(int i, int n, int mode) {
    if (static_cast<unsigned>(i) < static_cast<unsigned>(n)) return i;
    if (mode == PAD_ZERO) return -1;
    if (mode == PAD_REPLICATE) return i < 0 ? 0 : n - 1;
    if (n == 1) return 0;
    int period = 2 * (n - 1);
    i %= period;
    if (i < 0) i += period;
    return i < period - i ? i : period - i;
}
