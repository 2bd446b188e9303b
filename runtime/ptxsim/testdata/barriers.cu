// barriers.cu: a producer warp fills a ring of buffers for a consumer warp through named barriers.
extern "C" __global__ void ring(const float* __restrict__ x, float* __restrict__ y, int n) {
    __shared__ float buf[2][32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    // Barriers 1, 2: buffer is full. Barriers 3, 4: buffer is empty.
    if (warp == 0) {
        for (int i = 0; i < n; i++) {
            int s = i & 1;
            if (i >= 2) asm volatile("bar.sync %0, 64;" ::"r"(3 + s) : "memory");
            buf[s][lane] = 2.f * x[i * 32 + lane];
            asm volatile("bar.arrive %0, 64;" ::"r"(1 + s) : "memory");
        }
    } else {
        for (int i = 0; i < n; i++) {
            int s = i & 1;
            asm volatile("bar.sync %0, 64;" ::"r"(1 + s) : "memory");
            y[i * 32 + lane] = buf[s][31 - lane];
            if (i + 2 < n) asm volatile("bar.arrive %0, 64;" ::"r"(3 + s) : "memory");
        }
    }
}

extern "C" __global__ void transpose(const float* __restrict__ x, float* __restrict__ y, int w, int h) {
    __shared__ float tile[32][33];
    int c = blockIdx.x * 32 + threadIdx.x, r = blockIdx.y * 32 + threadIdx.y;
    for (int j = 0; j < 32; j += 8)
        if (c < w && r + j < h) tile[threadIdx.y + j][threadIdx.x] = x[(r + j) * w + c];
    __syncthreads();
    c = blockIdx.y * 32 + threadIdx.x;
    r = blockIdx.x * 32 + threadIdx.y;
    for (int j = 0; j < 32; j += 8)
        if (c < h && r + j < w) y[(r + j) * h + c] = tile[threadIdx.x][threadIdx.y + j];
}

extern "C" __global__ void warp_scan(const int* __restrict__ x, int* __restrict__ y) {
    __shared__ int s[128];
    int lane = threadIdx.x % 32, base = threadIdx.x - lane;
    s[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
    __syncwarp();
    for (int o = 1; o < 32; o *= 2) {
        int v = lane >= o ? s[base + lane - o] : 0;
        __syncwarp();
        s[threadIdx.x] += v;
        __syncwarp();
    }
    y[blockIdx.x * blockDim.x + threadIdx.x] = s[threadIdx.x];
}
