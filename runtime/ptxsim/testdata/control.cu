// control.cu: divergent loops with break and continue, a device function that is not inlined, local arrays, a switch.
extern "C" __global__ void collatz(const int* x, int* steps, int* odd, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int v = x[i], s = 0, o = 0;
    for (;;) {
        if (v <= 1) break;
        s++;
        if (v % 2 == 0) {
            v /= 2;
            continue;
        }
        o++;
        v = 3 * v + 1;
        if (s > 200) break;
    }
    steps[i] = s;
    odd[i] = o;
}

__device__ __noinline__ float poly(float x, const float* c, int n) {
    float r = 0;
    for (int i = 0; i < n; i++) {
        if (c[i] < 0) return -r;
        r = r * x + c[i];
    }
    return r;
}

extern "C" __global__ void calls(const float* x, const float* c, float* y, int n, int terms) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = poly(x[i], c, terms);
    if (i % 3 == 0) v += poly(v, c, terms - 1);
    y[i] = v;
}

extern "C" __global__ void median(const int* x, int* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int w[9], k = 9;
    for (int j = 0; j < k; j++) w[j] = x[(i + j) % n];
    for (int a = 1; a < k; a++) {
        int v = w[a], b = a - 1;
        while (b >= 0 && w[b] > v) {
            w[b + 1] = w[b];
            b--;
        }
        w[b + 1] = v;
    }
    y[i] = w[k / 2] + w[x[i] & 7];
}

extern "C" __global__ void dispatch(const int* x, int* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int v = x[i], r;
    switch (v & 7) {
        case 0: r = v * 3; break;
        case 1: r = v - 7; break;
        case 2: r = v ^ 0x55; break;
        case 3: r = -v; break;
        case 4: r = v << 2; break;
        case 5: r = v / 3; break;
        case 6: r = __popc(v); break;
        default: r = __clz(v);
    }
    y[i] = r;
}
