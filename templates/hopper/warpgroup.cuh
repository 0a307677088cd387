// What four neighbouring warps do as one: trade registers, and take turns.
#pragma once
#include "hopper/element.cuh"

namespace flex::hopper {

constexpr int kWarpgroupThreads = 128;

template <int kRegisters>
__device__ __forceinline__ void release_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void claim_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// A token that walks round the consumer warpgroups: who holds it issues its matrix products, while the others are in
// their softmax. Each warpgroup owns one named barrier (0 is __syncthreads).
template <int kWarpgroups, bool kEnabled>
struct Turns {
    static constexpr u32 kThreads = 2 * kWarpgroupThreads;  // the one who waits and the one who hands over
    u32 mine, next;

    __device__ __forceinline__ explicit Turns(u32 warpgroup)
        : mine(1 + warpgroup), next(1 + (warpgroup + 1 == kWarpgroups ? 0 : warpgroup + 1)) {
        if (warpgroup + 1 == kWarpgroups) pass();  // the first warpgroup starts with the token
    }
    __device__ __forceinline__ void take() {
        if constexpr (kEnabled) asm volatile("bar.sync %0, %1;" ::"r"(mine), "n"(kThreads) : "memory");
    }
    __device__ __forceinline__ void pass() {
        if constexpr (kEnabled) asm volatile("bar.arrive %0, %1;" ::"r"(next), "n"(kThreads) : "memory");
    }
};

}  // namespace flex::hopper
