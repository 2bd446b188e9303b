// Calls of functions by their address.

typedef float (*unary)(float);

__device__ __noinline__ float twice(float x) { return 2 * x; }
__device__ __noinline__ float square(float x) { return x * x; }
__device__ __noinline__ float third(float x) { return x / 3; }
__device__ __noinline__ int other(int a, int b) { return a - b; }

__device__ unary table[3] = {twice, square, third};
__device__ int (*pair)(int, int) = other;

// Each lane calls another function; those of one group stay together.
extern "C" __global__ void by_table(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        y[i] = table[i % 3](x[i]) + 1;
        y[i] += __shfl_down_sync(__activemask(), y[i], 0);
    }
}

// The host chooses, by an address that address_of told it.
extern "C" __global__ void address_of(unary *f, int i) { *f = i ? square : twice; }
extern "C" __global__ void by_argument(const float *x, float *y, unary f) { y[threadIdx.x] = f(x[threadIdx.x]); }

struct shape {
    __device__ virtual float area() const = 0;
    __device__ virtual float scaled(float s) const { return s * area(); } // one indirect call inside another
};

struct square_shape : shape {
    float a;
    __device__ square_shape(float a) : a(a) {}
    __device__ float area() const override { return a * a; }
};

struct circle : shape {
    float r;
    __device__ circle(float r) : r(r) {}
    __device__ float area() const override { return 3 * r * r; }
    __device__ float scaled(float s) const override { return s * area() + 1; }
};

extern "C" __global__ void methods(const float *x, float *y) {
    int i = threadIdx.x;
    square_shape s(x[i]);
    circle c(x[i]);
    const shape *p = i % 2 ? (const shape *)&s : &c;
    __syncthreads();
    y[i] = p->scaled(2);
}

// A function with a barrier, which all call.
__device__ __noinline__ float meets(float x) {
    __shared__ float all[128];
    all[threadIdx.x] = x;
    __syncthreads();
    return all[127 - threadIdx.x];
}
__device__ unary barriers[1] = {meets};
extern "C" __global__ void meet(const float *x, float *y) { y[threadIdx.x] = barriers[0](x[threadIdx.x]); }

// Recursion through an address.
__device__ float down(float x);
__device__ unary again = down;
__device__ __noinline__ float down(float x) { return x > 0 ? again(x - 1) + 1 : 0; }
extern "C" __global__ void recursive(const float *x, float *y) { y[threadIdx.x] = again(x[threadIdx.x]); }

// An address that is no function, and one of other parameters.
extern "C" __global__ void nowhere(const float *x, float *y) { y[threadIdx.x] = ((unary)x)(1); }
extern "C" __global__ void mismatch(const float *x, float *y) { y[threadIdx.x] = ((unary)pair)(x[threadIdx.x]); }
