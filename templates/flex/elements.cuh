// The elements of tensors. NVRTC has no headers for the 16-bit types; the kernels only move and convert them.
#pragma once
#include "flex/ptx.cuh"

namespace flex {

struct bf16 {
    unsigned short bits;
    static __device__ __forceinline__ unsigned pack(float low, float high) { return ptx::pack_bf16(low, high); }
    static __device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
        ptx::mma_m16n8k16_bf16(d, a, b0, b1);
    }
};

struct f16 {
    unsigned short bits;
    static __device__ __forceinline__ unsigned pack(float low, float high) { return ptx::pack_f16(low, high); }
    static __device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
        ptx::mma_m16n8k16_f16(d, a, b0, b1);
    }
};

}  // namespace flex
