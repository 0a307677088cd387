// What four neighbouring warps do as one: trade registers.
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

}  // namespace flex::hopper
