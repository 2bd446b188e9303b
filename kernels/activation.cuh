// activation.cuh: what is applied to a value after a product. The numbers are those of the Go package's Act and
// Gate constants.
#pragma once

enum { ACT_IDENTITY = 0, ACT_RELU = 1, ACT_LEAKY_RELU = 2, ACT_GELU = 3 };
enum { GATE_NONE = 0, GATE_SIMPLE = 1, GATE_GELU = 2 };

__device__ __forceinline__ float fast_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float fast_reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// gelu is the exact form, x·(1+erf(x/√2))/2. With e = erfc(|x|/√2)/2 it is x - x·e for positive and x·e for negative x,
// which loses nothing in either tail. e is Abramowitz and Stegun's 7.1.26, within 1.5e-7: far below fp16's rounding, and
// a third of the instructions of erff.
__device__ __forceinline__ float gelu(float x) {
    float z = fabsf(x), t = fast_reciprocal(fmaf(z, 0.23164189f, 1.0f));
    float e = fmaf(t, 0.5307027145f, -0.7265760135f);
    e = fmaf(t, e, 0.7107068705f);
    e = fmaf(t, e, -0.142248368f);
    e = fmaf(t, e, 0.127414796f);
    e *= t * fast_exp2(x * (x * -0.72134752044448170f));
    return fmaf(-z, e, fmaxf(x, 0.0f));
}

// activate_piecewise is activate without GELU, for code that handles GELU apart to keep its polynomial in one place. NaN
// stays NaN, so that the guard at the end of the network sees it; a maximum with zero would hide it.
__device__ __forceinline__ float activate_piecewise(float x, int act) {
    float slope = act == ACT_RELU ? 0.0f : act == ACT_LEAKY_RELU ? 0.1f : 1.0f;
    return x < 0.0f ? slope * x : x;
}

__device__ __forceinline__ float activate(float x, int act) { return act == ACT_GELU ? gelu(x) : activate_piecewise(x, act); }

__device__ __forceinline__ float gated(float a, float b, int gate) { return gate == GATE_GELU ? gelu(a) * b : a * b; }
