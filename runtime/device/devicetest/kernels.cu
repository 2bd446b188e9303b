// kernels.cu: the kernels of the device conformance suite. kernels.ptx is made from it (see suite.go).

#include <cstdint>

// scale: y[i] = a·x[i] for i < n.
extern "C" __global__ void scale(float *y, const float *x, int n, float a)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;
	if (i < n)
		y[i] = a * x[i];
}

struct alignas(8) Pair {
	int64_t wide;
	int32_t narrow[3];
};

// arguments: out gets every argument, in 32-bit words. The sizes and alignments are mixed on purpose.
extern "C" __global__ void arguments(uint8_t a, double b, uint16_t c, float d, Pair e, int32_t f, uint32_t *out)
{
	int64_t bits = __double_as_longlong(b);
	out[0] = a;
	out[1] = (uint32_t)bits;
	out[2] = (uint32_t)(bits >> 32);
	out[3] = c;
	out[4] = __float_as_uint(d);
	out[5] = (uint32_t)e.wide;
	out[6] = (uint32_t)(e.wide >> 32);
	out[7] = e.narrow[0];
	out[8] = e.narrow[1];
	out[9] = e.narrow[2];
	out[10] = f;
}

extern __shared__ int32_t row[];

// reverse: every block reverses its blockDim.x elements of x through the last blockDim.x words of n words of
// dynamic shared memory.
extern "C" __global__ void reverse(int32_t *x, int n)
{
	int32_t *mine = row + n - blockDim.x;
	int32_t *block = x + blockIdx.x * blockDim.x;
	mine[threadIdx.x] = block[threadIdx.x];
	__syncthreads();
	block[threadIdx.x] = mine[blockDim.x - 1 - threadIdx.x];
}

// total counts the threads that ran tally.
__device__ uint32_t total = 7;

extern "C" __global__ void tally() { atomicAdd(&total, 1u); }

// poke: stores at an index that nobody checks.
extern "C" __global__ void poke(int32_t *x, int64_t i) { x[i] = 1; }
