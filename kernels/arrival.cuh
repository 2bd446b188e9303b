// arrival.cuh: what is left to do when all blocks have done their part, done by the one that is last.
#pragma once

// last_to_arrive tells one block of `expected` that all others have arrived at the counter before, and shows it what
// they wrote. All threads of the block must come. The counter is zero before the first block and after the last one.
__device__ __forceinline__ bool last_to_arrive(unsigned *counter, unsigned expected) {
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();  // releases what the block wrote, which the barrier has ordered before
        last = atomicInc(counter, expected - 1) == expected - 1;
        __threadfence();  // acquires what the other blocks released
    }
    __syncthreads();
    return last;
}
