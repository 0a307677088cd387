// The 16-bit operand types of the tensor cores, as tags that know how to narrow two fp32 values into one register.
#pragma once

namespace flex::hopper {

using u32 = unsigned int;
using u64 = unsigned long long;

struct Bf16 {
    // The first value goes to the low half: the neighbour with the smaller column.
    static __device__ __forceinline__ u32 narrow(float low, float high) {
        u32 packed;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
        return packed;
    }
};

struct F16 {
    static __device__ __forceinline__ u32 narrow(float low, float high) {
        u32 packed;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
        return packed;
    }
};

}  // namespace flex::hopper
