// half.cuh: eight fp16 channels at a time, the unit in which activations are read and written.
//
// Every activation row (the channels of one pixel) has a pitch that is a multiple of 8 values, so that an octet is
// one aligned 16-byte access. Values past the last channel are kept at zero.
#pragma once
#include <cuda_fp16.h>
#include <stdint.h>

struct Octet {
    float v[8];
};

__device__ __forceinline__ float2 unpack2(uint32_t bits) {
    return __half22float2(*reinterpret_cast<const __half2 *>(&bits));
}

__device__ __forceinline__ uint32_t pack2(float a, float b) {
    __half2 h = __floats2half2_rn(a, b);
    return *reinterpret_cast<uint32_t *>(&h);
}

__device__ __forceinline__ Octet unpack(uint4 u) {
    Octet o;
    const uint32_t w[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 f = unpack2(w[i]);
        o.v[2 * i] = f.x;
        o.v[2 * i + 1] = f.y;
    }
    return o;
}

__device__ __forceinline__ uint4 pack(const Octet &o) {
    return make_uint4(pack2(o.v[0], o.v[1]), pack2(o.v[2], o.v[3]), pack2(o.v[4], o.v[5]), pack2(o.v[6], o.v[7]));
}

__device__ __forceinline__ Octet load8(const __half *p) { return unpack(*reinterpret_cast<const uint4 *>(p)); }

// store8 writes an octet to global memory. It says so in assembly because the compiler splits stores whose addresses it
// has merged from two branches, and with them the 16-byte accesses that fill whole sectors.
__device__ __forceinline__ void store8(__half *p, const Octet &o) {
    uint4 u = pack(o);
    asm volatile("st.global.v4.b32 [%0], {%1,%2,%3,%4};\n" ::"l"(__cvta_generic_to_global(p)), "r"(u.x), "r"(u.y), "r"(u.z), "r"(u.w) : "memory");
}

__device__ __forceinline__ Octet load8(const float *p) {
    float4 a = reinterpret_cast<const float4 *>(p)[0], b = reinterpret_cast<const float4 *>(p)[1];
    return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}

__device__ __forceinline__ void store8(float *p, const Octet &o) {
    reinterpret_cast<float4 *>(p)[0] = make_float4(o.v[0], o.v[1], o.v[2], o.v[3]);
    reinterpret_cast<float4 *>(p)[1] = make_float4(o.v[4], o.v[5], o.v[6], o.v[7]);
}

// Four channels, for kernels that keep a filter in registers.
__device__ __forceinline__ float4 load4(const __half *p) {
    uint2 u = *reinterpret_cast<const uint2 *>(p);
    float2 a = unpack2(u.x), b = unpack2(u.y);
    return make_float4(a.x, a.y, b.x, b.y);
}

__device__ __forceinline__ void store4(__half *p, float4 v) {
    *reinterpret_cast<uint2 *>(p) = make_uint2(pack2(v.x, v.y), pack2(v.z, v.w));
}

// store4_if writes four channels to global memory, or nothing: a predicate instead of a branch.
__device__ __forceinline__ void store4_if(bool exists, __half *p, float4 v) {
    asm volatile("{ .reg .pred q; setp.ne.u32 q, %3, 0; @q st.global.v2.b32 [%0], {%1,%2}; }\n" ::"l"(__cvta_generic_to_global(p)), "r"(pack2(v.x, v.y)), "r"(pack2(v.z, v.w)), "r"(static_cast<unsigned>(exists)) : "memory");
}

// store4_shared writes four channels to shared memory and returns what they are in fp16. It says so in assembly because the
// compiler splits the store in two, each of which leaves every other bank idle.
__device__ __forceinline__ float4 store4_shared(__half *p, float4 v) {
    uint32_t low = pack2(v.x, v.y), high = pack2(v.z, v.w);
    asm volatile("st.shared.v2.b32 [%0], {%1,%2};\n" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(p))), "r"(low), "r"(high) : "memory");
    float2 a = unpack2(low), b = unpack2(high);
    return make_float4(a.x, a.y, b.x, b.y);
}
