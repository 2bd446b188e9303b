// Textures and surfaces.

extern "C" __global__ void sample1(cudaTextureObject_t t, const float *at, float *y) { y[threadIdx.x] = tex1D<float>(t, at[3 * threadIdx.x]); }
extern "C" __global__ void sample2(cudaTextureObject_t t, const float *at, float *y) {
    y[threadIdx.x] = tex2D<float>(t, at[3 * threadIdx.x], at[3 * threadIdx.x + 1]);
}
extern "C" __global__ void sample3(cudaTextureObject_t t, const float *at, float *y) {
    const float *p = at + 3 * threadIdx.x;
    y[threadIdx.x] = tex3D<float>(t, p[0], p[1], p[2]);
}
extern "C" __global__ void layered(cudaTextureObject_t t, const float *at, float *y) {
    const float *p = at + 3 * threadIdx.x;
    y[threadIdx.x] = tex2DLayered<float>(t, p[0], p[1], (int)p[2]);
}
extern "C" __global__ void fetch(cudaTextureObject_t t, int *y, int from) { y[threadIdx.x] = tex1Dfetch<int>(t, from + (int)threadIdx.x); }
extern "C" __global__ void pixels(cudaTextureObject_t t, float4 *y) { y[threadIdx.x] = tex2D<float4>(t, threadIdx.x + 0.5f, 1.5f); }
extern "C" __global__ void gathers(cudaTextureObject_t t, float4 *y) { y[threadIdx.x] = tex2Dgather<float4>(t, threadIdx.x + 1.0f, 1.0f, 0); }

// A surface turned about its diagonal into another one, and where the end is not met.
extern "C" __global__ void turn(cudaSurfaceObject_t from, cudaSurfaceObject_t to) {
    float v;
    surf2Dread(&v, from, threadIdx.x * 4, threadIdx.y);
    surf2Dwrite(v, to, threadIdx.y * 4, threadIdx.x);
}
extern "C" __global__ void shifted(cudaSurfaceObject_t from, cudaSurfaceObject_t to) {
    uchar4 v;
    surf2Dread(&v, from, ((int)threadIdx.x - 2) * 4, 0, cudaBoundaryModeZero);
    surf2Dwrite(v, to, threadIdx.x * 4, 1, cudaBoundaryModeZero);
    surf2Dread(&v, from, ((int)threadIdx.x - 2) * 4, 0, cudaBoundaryModeClamp);
    surf2Dwrite(v, to, threadIdx.x * 4, 0, cudaBoundaryModeZero);
}

// A texture of memory that the kernel writes has no defined value.
extern "C" __global__ void written(cudaTextureObject_t t, float *memory, float *y) {
    memory[threadIdx.x] = 1;
    __syncthreads();
    y[threadIdx.x] = tex1Dfetch<float>(t, 31 - threadIdx.x);
}
