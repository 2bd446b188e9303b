// print.cu: what kernels say through the system.
#include <assert.h>
#include <stdio.h>

extern "C" __global__ void hello(int n, float f) {
    printf("t%d n=%5d f=%.2f %s %llx %c%%\n", threadIdx.x, n, f, "text", 0x123456789abcull, 'c');
}

extern "C" __global__ void too_few(int n) { assert(n > (int)threadIdx.x); }
