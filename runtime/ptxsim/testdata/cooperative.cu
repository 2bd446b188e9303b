// A grid whose blocks wait for each other.

#include <cooperative_groups.h>

namespace cg = cooperative_groups;

extern "C" __global__ void mirrored(const float *x, float *part, float *y) {
    cg::grid_group grid = cg::this_grid();
    int i = grid.thread_rank(), n = grid.num_threads();
    part[i] = 2 * x[i];
    grid.sync();
    y[i] = part[n - 1 - i];
    grid.sync();
    part[i] = y[n - 1 - i];
}

// The same without the barrier in the middle.
extern "C" __global__ void unsynchronised(const float *x, float *part, float *y) {
    cg::grid_group grid = cg::this_grid();
    int i = grid.thread_rank(), n = grid.num_threads();
    part[i] = 2 * x[i];
    y[i] = part[n - 1 - i];
    grid.sync();
}
