// wgmma: asynchronous matrix products of a warpgroup, 64 x N x 16 each, fp32 accumulators in registers.
//
// Accumulator register i of lane l in warp w of the warpgroup is row 16 w + l / 4 + 8 ((i / 2) % 2) and column
// 8 (i / 4) + 2 (l % 4) + i % 2. A register A operand of 16 columns has the same layout, two columns a register.
#pragma once
#include "hopper/element.cuh"

namespace flex::hopper {

// Before the first product that reads registers written by ordinary instructions.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most `kPending` committed groups are unfinished.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Keeps the compiler from moving uses of accumulators across a wait: to it they were written when the product was issued.
template <int kCount>
__device__ __forceinline__ void pin(float (&registers)[kCount]) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(registers[i])::"memory");
}

template <int kCount>
__device__ __forceinline__ void pin(u32 (&registers)[kCount]) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(registers[i])::"memory");
}

// D += A B (or D = A B without `accumulate`), D is 64 x N.
template <class Element, int N>
struct Wgmma;

// The instruction names each of its N / 2 accumulators, hence the lists: names and operands in groups of eight.
#define FLEX_N8_0 "%0,%1,%2,%3,%4,%5,%6,%7"
#define FLEX_N8_1 "%8,%9,%10,%11,%12,%13,%14,%15"
#define FLEX_N8_2 "%16,%17,%18,%19,%20,%21,%22,%23"
#define FLEX_N8_3 "%24,%25,%26,%27,%28,%29,%30,%31"
#define FLEX_N8_4 "%32,%33,%34,%35,%36,%37,%38,%39"
#define FLEX_N8_5 "%40,%41,%42,%43,%44,%45,%46,%47"
#define FLEX_N8_6 "%48,%49,%50,%51,%52,%53,%54,%55"
#define FLEX_N8_7 "%56,%57,%58,%59,%60,%61,%62,%63"
#define FLEX_N8_8 "%64,%65,%66,%67,%68,%69,%70,%71"
#define FLEX_N8_9 "%72,%73,%74,%75,%76,%77,%78,%79"
#define FLEX_N8_10 "%80,%81,%82,%83,%84,%85,%86,%87"
#define FLEX_N8_11 "%88,%89,%90,%91,%92,%93,%94,%95"
#define FLEX_N8_12 "%96,%97,%98,%99,%100,%101,%102,%103"
#define FLEX_N8_13 "%104,%105,%106,%107,%108,%109,%110,%111"
#define FLEX_N8_14 "%112,%113,%114,%115,%116,%117,%118,%119"
#define FLEX_N8_15 "%120,%121,%122,%123,%124,%125,%126,%127"
#define FLEX_NAMES_32 FLEX_N8_0 "," FLEX_N8_1 "," FLEX_N8_2 "," FLEX_N8_3
#define FLEX_NAMES_40 FLEX_NAMES_32 "," FLEX_N8_4
#define FLEX_NAMES_48 FLEX_NAMES_40 "," FLEX_N8_5
#define FLEX_NAMES_56 FLEX_NAMES_48 "," FLEX_N8_6
#define FLEX_NAMES_64 FLEX_NAMES_56 "," FLEX_N8_7
#define FLEX_NAMES_72 FLEX_NAMES_64 "," FLEX_N8_8
#define FLEX_NAMES_80 FLEX_NAMES_72 "," FLEX_N8_9
#define FLEX_NAMES_88 FLEX_NAMES_80 "," FLEX_N8_10
#define FLEX_NAMES_96 FLEX_NAMES_88 "," FLEX_N8_11
#define FLEX_NAMES_128 FLEX_NAMES_96 "," FLEX_N8_12 "," FLEX_N8_13 "," FLEX_N8_14 "," FLEX_N8_15

#define FLEX_R8(i) \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define FLEX_REGISTERS_32 FLEX_R8(0), FLEX_R8(8), FLEX_R8(16), FLEX_R8(24)
#define FLEX_REGISTERS_40 FLEX_REGISTERS_32, FLEX_R8(32)
#define FLEX_REGISTERS_48 FLEX_REGISTERS_40, FLEX_R8(40)
#define FLEX_REGISTERS_56 FLEX_REGISTERS_48, FLEX_R8(48)
#define FLEX_REGISTERS_64 FLEX_REGISTERS_56, FLEX_R8(56)
#define FLEX_REGISTERS_72 FLEX_REGISTERS_64, FLEX_R8(64)
#define FLEX_REGISTERS_80 FLEX_REGISTERS_72, FLEX_R8(72)
#define FLEX_REGISTERS_88 FLEX_REGISTERS_80, FLEX_R8(80)
#define FLEX_REGISTERS_96 FLEX_REGISTERS_88, FLEX_R8(88)
#define FLEX_REGISTERS_128 FLEX_REGISTERS_96, FLEX_R8(96), FLEX_R8(104), FLEX_R8(112), FLEX_R8(120)

// I0..I4: the operand numbers after the accumulators.
#define FLEX_WGMMA(ELEMENT, TYPE, N, COUNT, I0, I1, I2, I3, I4)                                                      \
    template <>                                                                                                      \
    struct Wgmma<ELEMENT, N> {                                                                                       \
        /* A and B in shared memory, both K-major. */                                                                \
        static __device__ __forceinline__ void shared_shared(float (&d)[COUNT], u64 a, u64 b, int accumulate) {      \
            asm volatile("{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %" #I2 ", 0;\n"                         \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" FLEX_NAMES_##COUNT     \
                         "}, %" #I0 ", %" #I1 ", accumulate, 1, 1, 0, 0;\n}\n"                                       \
                         : FLEX_REGISTERS_##COUNT                                                                    \
                         : "l"(a), "l"(b), "r"(accumulate)                                                           \
                         : "memory");                                                                                \
        }                                                                                                            \
        /* A in registers, B in shared memory and MN-major; always accumulates. */                                   \
        static __device__ __forceinline__ void registers_shared(                                                     \
            float (&d)[COUNT], u32 a0, u32 a1, u32 a2, u32 a3, u64 b) {                                              \
            asm volatile("{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, 1, 0;\n"                               \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" FLEX_NAMES_##COUNT     \
                         "}, {%" #I0 ", %" #I1 ", %" #I2 ", %" #I3 "}, %" #I4 ", accumulate, 1, 1, 1;\n}\n"         \
                         : FLEX_REGISTERS_##COUNT                                                                    \
                         : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b)                                                \
                         : "memory");                                                                                \
        }                                                                                                            \
    };
#define FLEX_WGMMA_BOTH(...) FLEX_WGMMA(Bf16, "bf16", __VA_ARGS__) FLEX_WGMMA(F16, "f16", __VA_ARGS__)

FLEX_WGMMA_BOTH(64, 32, 32, 33, 34, 35, 36)
FLEX_WGMMA_BOTH(80, 40, 40, 41, 42, 43, 44)
FLEX_WGMMA_BOTH(96, 48, 48, 49, 50, 51, 52)
FLEX_WGMMA_BOTH(112, 56, 56, 57, 58, 59, 60)
FLEX_WGMMA_BOTH(128, 64, 64, 65, 66, 67, 68)
FLEX_WGMMA_BOTH(144, 72, 72, 73, 74, 75, 76)
FLEX_WGMMA_BOTH(160, 80, 80, 81, 82, 83, 84)
FLEX_WGMMA_BOTH(176, 88, 88, 89, 90, 91, 92)
FLEX_WGMMA_BOTH(192, 96, 96, 97, 98, 99, 100)
FLEX_WGMMA_BOTH(256, 128, 128, 129, 130, 131, 132)

#undef FLEX_WGMMA_BOTH
#undef FLEX_WGMMA
#undef FLEX_R8

}  // namespace flex::hopper
