// product.cuh: the parameter of a matrix product, the same for pointwise.cu and conv.cu.
#pragma once
#include "async_copy.cuh"
#include "dependent.cuh"
#include "epilogue.cuh"
#include "mma.cuh"
#include "reduce.cuh"

struct Product {
    const __half *x;           // rows of depth1 values
    const __half *x2;          // rows of depth-depth1 further values, or null
    const __half *w;           // [filters][depth]
    const __half *in_scale;    // [image][scale_height][scale_width][depth], or null
    const float *in_affine;    // [image][2][depth], or null
    const __half *down;        // [adapter][rank][depth]
    const __half *up;          // [adapter][columns][rank], times the adapter's scale
    const float *down_shift;   // [adapter][rank], down times the norm's bias
    const int *adapter;        // [image], -1 for none; null: adapter 0 everywhere
    long long w_stride;        // values between the weights of consecutive images, 0 for the same
    int rows;                  // of one image
    int depth, depth1;         // multiples of 8
    int channels;              // values of a row that the norm averages
    int filters;               // rows of w that exist; the other columns are zero
    int rank;                  // 16 or 32
    int splits;                // of the depth, each to its own partial sums
    int images;
    int bias_free;             // the norm subtracts no mean
    float eps;
    int height, width;               // of x, with in_scale
    int scale_height, scale_width;   // of in_scale
    int column_blocks;               // blocks that share the column tiles of the same rows, pointwise
    Epilogue e;
};

