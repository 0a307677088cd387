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
//
// Of one step, that is 16 summed columns, or of four in one statement: ptxas and the compiler before it take 10 ms for every
// statement with a hundred operands, so that single steps alone are a fifth of the time that a kernel takes to compile.
template <class Element, int N>
struct Wgmma;

// The instruction names each of its N / 2 accumulators, hence the lists: names in groups of four, operands of eight.
#define FLEX_N4_0 "%0,%1,%2,%3"
#define FLEX_N4_1 "%4,%5,%6,%7"
#define FLEX_N4_2 "%8,%9,%10,%11"
#define FLEX_N4_3 "%12,%13,%14,%15"
#define FLEX_N4_4 "%16,%17,%18,%19"
#define FLEX_N4_5 "%20,%21,%22,%23"
#define FLEX_N4_6 "%24,%25,%26,%27"
#define FLEX_N4_7 "%28,%29,%30,%31"
#define FLEX_N4_8 "%32,%33,%34,%35"
#define FLEX_N4_9 "%36,%37,%38,%39"
#define FLEX_N4_10 "%40,%41,%42,%43"
#define FLEX_N4_11 "%44,%45,%46,%47"
#define FLEX_N4_12 "%48,%49,%50,%51"
#define FLEX_N4_13 "%52,%53,%54,%55"
#define FLEX_N4_14 "%56,%57,%58,%59"
#define FLEX_N4_15 "%60,%61,%62,%63"
#define FLEX_N4_16 "%64,%65,%66,%67"
#define FLEX_N4_17 "%68,%69,%70,%71"
#define FLEX_N4_18 "%72,%73,%74,%75"
#define FLEX_N4_19 "%76,%77,%78,%79"
#define FLEX_N4_20 "%80,%81,%82,%83"
#define FLEX_N4_21 "%84,%85,%86,%87"
#define FLEX_N4_22 "%88,%89,%90,%91"
#define FLEX_N4_23 "%92,%93,%94,%95"
#define FLEX_N4_24 "%96,%97,%98,%99"
#define FLEX_N4_25 "%100,%101,%102,%103"
#define FLEX_N4_26 "%104,%105,%106,%107"
#define FLEX_N4_27 "%108,%109,%110,%111"
#define FLEX_N4_28 "%112,%113,%114,%115"
#define FLEX_N4_29 "%116,%117,%118,%119"
#define FLEX_N4_30 "%120,%121,%122,%123"
#define FLEX_N4_31 "%124,%125,%126,%127"
#define FLEX_N4_32 "%128,%129,%130,%131"
#define FLEX_N4_33 "%132,%133,%134,%135"
#define FLEX_N4_34 "%136,%137,%138,%139"
#define FLEX_N4_35 "%140,%141,%142,%143"
#define FLEX_NAMES_32 FLEX_N4_0 "," FLEX_N4_1 "," FLEX_N4_2 "," FLEX_N4_3 "," FLEX_N4_4 "," FLEX_N4_5 "," \
    FLEX_N4_6 "," FLEX_N4_7
#define FLEX_NAMES_40 FLEX_NAMES_32 "," FLEX_N4_8 "," FLEX_N4_9
#define FLEX_NAMES_48 FLEX_NAMES_40 "," FLEX_N4_10 "," FLEX_N4_11
#define FLEX_NAMES_56 FLEX_NAMES_48 "," FLEX_N4_12 "," FLEX_N4_13
#define FLEX_NAMES_64 FLEX_NAMES_56 "," FLEX_N4_14 "," FLEX_N4_15
#define FLEX_NAMES_72 FLEX_NAMES_64 "," FLEX_N4_16 "," FLEX_N4_17
#define FLEX_NAMES_80 FLEX_NAMES_72 "," FLEX_N4_18 "," FLEX_N4_19
#define FLEX_NAMES_88 FLEX_NAMES_80 "," FLEX_N4_20 "," FLEX_N4_21
#define FLEX_NAMES_96 FLEX_NAMES_88 "," FLEX_N4_22 "," FLEX_N4_23
#define FLEX_NAMES_128 FLEX_NAMES_96 "," FLEX_N4_24 "," FLEX_N4_25 "," FLEX_N4_26 "," FLEX_N4_27 "," FLEX_N4_28 \
    "," FLEX_N4_29 "," FLEX_N4_30 "," FLEX_N4_31

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

#define FLEX_MMA(N, TYPE, COUNT) "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" FLEX_NAMES_##COUNT "}, "
#define FLEX_ALWAYS "setp.ne.b32 accumulate, 1, 0;\n"
// A and B in shared memory, the columns of step S, both K-major: FLEX_SHARED's descriptors `a` and `b`, 32 bytes further a step.
#define FLEX_SHARED(N, TYPE, COUNT, A, B, OFFSET)                                                                    \
    "add.s64 a, %" #A ", " #OFFSET ";\nadd.s64 b, %" #B ", " #OFFSET ";\n"                                           \
    FLEX_MMA(N, TYPE, COUNT) "a, b, accumulate, 1, 1, 0, 0;\n"
// A in registers, B in shared memory and MN-major, 16 rows further a step.
#define FLEX_REGISTERS(N, TYPE, COUNT, A, B, OFFSET)                                                                 \
    "add.s64 b, %" #B ", " #OFFSET ";\n" FLEX_MMA(N, TYPE, COUNT) "{" FLEX_N4_##A "}, b, accumulate, 1, 1, 1;\n"

// COUNT = N / 2 accumulators are the first operands. A and B are the operands after them, C the one after these. P0..P3 are
// the groups of four operands after the accumulators, D1 and D4 the operands after one and four of these groups.
#define FLEX_WGMMA(ELEMENT, TYPE, N, COUNT, A, B, C, P0, P1, P2, P3, D1, D4)                                         \
    template <>                                                                                                      \
    struct Wgmma<ELEMENT, N> {                                                                                       \
        static __device__ __forceinline__ void shared_shared(float (&d)[COUNT], u64 a, u64 b, int accumulate) {      \
            asm volatile("{\n.reg .b64 a, b;\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %" #C ", 0;\n"         \
                         FLEX_SHARED(N, TYPE, COUNT, A, B, 0) "}\n"                                                  \
                         : FLEX_REGISTERS_##COUNT                                                                    \
                         : "l"(a), "l"(b), "r"(accumulate)                                                           \
                         : "memory");                                                                                \
        }                                                                                                            \
        static __device__ __forceinline__ void four_shared_shared(float (&d)[COUNT], u64 a, u64 b, int accumulate) { \
            asm volatile("{\n.reg .b64 a, b;\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %" #C ", 0;\n"         \
                         FLEX_SHARED(N, TYPE, COUNT, A, B, 0) FLEX_ALWAYS FLEX_SHARED(N, TYPE, COUNT, A, B, 2)       \
                         FLEX_SHARED(N, TYPE, COUNT, A, B, 4) FLEX_SHARED(N, TYPE, COUNT, A, B, 6) "}\n"             \
                         : FLEX_REGISTERS_##COUNT                                                                    \
                         : "l"(a), "l"(b), "r"(accumulate)                                                           \
                         : "memory");                                                                                \
        }                                                                                                            \
        /* Always accumulates. */                                                                                    \
        static __device__ __forceinline__ void registers_shared(float (&d)[COUNT], const u32* p, u64 b) {            \
            asm volatile("{\n.reg .b64 b;\n.reg .pred accumulate;\n" FLEX_ALWAYS                                     \
                         FLEX_REGISTERS(N, TYPE, COUNT, P0, D1, 0) "}\n"                                             \
                         : FLEX_REGISTERS_##COUNT                                                                    \
                         : FLEX_P4(0), "l"(b)                                                                        \
                         : "memory");                                                                                \
        }                                                                                                            \
        static __device__ __forceinline__ void four_registers_shared(float (&d)[COUNT], const u32* p, u64 b) {       \
            asm volatile("{\n.reg .b64 b;\n.reg .pred accumulate;\n" FLEX_ALWAYS                                     \
                         FLEX_REGISTERS(N, TYPE, COUNT, P0, D4, 0) FLEX_REGISTERS(N, TYPE, COUNT, P1, D4, 128)       \
                         FLEX_REGISTERS(N, TYPE, COUNT, P2, D4, 256) FLEX_REGISTERS(N, TYPE, COUNT, P3, D4, 384) "}\n" \
                         : FLEX_REGISTERS_##COUNT                                                                    \
                         : FLEX_P4(0), FLEX_P4(4), FLEX_P4(8), FLEX_P4(12), "l"(b)                                   \
                         : "memory");                                                                                \
        }                                                                                                            \
    };
#define FLEX_P4(i) "r"(p[i]), "r"(p[i + 1]), "r"(p[i + 2]), "r"(p[i + 3])
#define FLEX_WGMMA_BOTH(...) FLEX_WGMMA(Bf16, "bf16", __VA_ARGS__) FLEX_WGMMA(F16, "f16", __VA_ARGS__)

FLEX_WGMMA_BOTH(64, 32, 32, 33, 34, 8, 9, 10, 11, 36, 48)
FLEX_WGMMA_BOTH(80, 40, 40, 41, 42, 10, 11, 12, 13, 44, 56)
FLEX_WGMMA_BOTH(96, 48, 48, 49, 50, 12, 13, 14, 15, 52, 64)
FLEX_WGMMA_BOTH(112, 56, 56, 57, 58, 14, 15, 16, 17, 60, 72)
FLEX_WGMMA_BOTH(128, 64, 64, 65, 66, 16, 17, 18, 19, 68, 80)
FLEX_WGMMA_BOTH(144, 72, 72, 73, 74, 18, 19, 20, 21, 76, 88)
FLEX_WGMMA_BOTH(160, 80, 80, 81, 82, 20, 21, 22, 23, 84, 96)
FLEX_WGMMA_BOTH(176, 88, 88, 89, 90, 22, 23, 24, 25, 92, 104)
FLEX_WGMMA_BOTH(192, 96, 96, 97, 98, 24, 25, 26, 27, 100, 112)
FLEX_WGMMA_BOTH(256, 128, 128, 129, 130, 32, 33, 34, 35, 132, 144)

#undef FLEX_WGMMA_BOTH
#undef FLEX_WGMMA
#undef FLEX_P4
#undef FLEX_REGISTERS
#undef FLEX_SHARED
#undef FLEX_ALWAYS
#undef FLEX_MMA
#undef FLEX_R8

}  // namespace flex::hopper
