// A warp of 32 host threads in place of templates/flex/ptx.cuh: the instructions that move fragments, written down from
// their definition in the PTX manual. Tests only.
#pragma once
#include <barrier>
#include <cmath>
#include <cstring>

#define __device__
#define __host__
#define __forceinline__ inline

struct uint4 {
    unsigned x, y, z, w;
};
struct int2 {
    int x, y;
};
struct float2 {
    float x, y;
};
struct float4 {
    float x, y, z, w;
};

inline thread_local struct {
    unsigned x;
} threadIdx;
inline unsigned char shared_memory[1 << 17];
inline std::barrier<> warp_barrier(32);
inline unsigned exchange[32][8];

inline float __uint_as_float(unsigned bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
inline unsigned __float_as_uint(float x) {
    unsigned bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}

// Every lane shows `words` and looks at those of all lanes before the next exchange.
template <int kWords, class Look>
inline void among_lanes(const unsigned (&words)[kWords], Look look) {
    warp_barrier.arrive_and_wait();
    std::memcpy(exchange[threadIdx.x % 32], words, sizeof(words));
    warp_barrier.arrive_and_wait();
    look();
}

inline float __shfl_sync(unsigned, float x, unsigned lane) {
    const unsigned mine[1] = {__float_as_uint(x)};
    float theirs;
    among_lanes(mine, [&] { theirs = __uint_as_float(exchange[lane % 32][0]); });
    return theirs;
}

namespace flex::ptx {

inline unsigned recompute_from(unsigned x) { return x; }

inline float load_shared(unsigned at) {
    float x;
    std::memcpy(&x, shared_memory + at, 4);
    return x;
}
inline float2 load_shared_2(unsigned at) { return {load_shared(at), load_shared(at + 4)}; }
inline float4 load_shared_4(unsigned at) { return {load_shared(at), load_shared(at + 4), load_shared(at + 8), load_shared(at + 12)}; }
inline void store_shared_4(unsigned at, const unsigned (&words)[4]) { std::memcpy(shared_memory + at, words, 16); }
inline void cp_async_16(unsigned, const void*, bool) {}

// "Loading Matrices with ldmatrix": matrix i lies at the addresses of lanes 8 i .. 8 i + 7, a row of 16 bytes each. Lane l
// receives 32 bits of row l / 4, the (l % 4)th; transposed, of 16-bit elements (2 (l % 4), l / 4) and the one below.
template <bool kTransposed>
inline void load_matrices(unsigned (&r)[4], unsigned address) {
    const unsigned mine[1] = {address}, lane = threadIdx.x % 32;
    among_lanes(mine, [&] {
        for (unsigned i = 0; i < 4; ++i) {
            unsigned short pair[2];
            for (unsigned e = 0; e < 2; ++e) {
                const unsigned row = kTransposed ? 2 * (lane % 4) + e : lane / 4, column = kTransposed ? lane / 4 : 2 * (lane % 4) + e;
                std::memcpy(&pair[e], shared_memory + exchange[8 * i + row][0] + 2 * column, 2);
            }
            r[i] = pair[0] | unsigned(pair[1]) << 16;
        }
    });
}
inline void ldmatrix_x4(unsigned (&r)[4], unsigned address) { load_matrices<false>(r, address); }
inline void ldmatrix_x4_trans(unsigned (&r)[4], unsigned address) { load_matrices<true>(r, address); }

inline unsigned pack_bf16(float low, float high) { return __float_as_uint(low) >> 16 | (__float_as_uint(high) & 0xffff0000u); }
inline unsigned to_tf32(float x) { return __float_as_uint(x); }

// "Matrix Fragments for mma.m16n8k16 with floating point type" of 16 bits: where element (row, column) lies.
inline float a_16(unsigned row, unsigned column) {
    const unsigned lane = row % 8 * 4 + column % 8 / 2, word = row / 8 + column / 8 * 2;
    return __uint_as_float(exchange[lane][word] >> (column % 2 * 16) << 16);
}
inline float b_16(unsigned row, unsigned column) {
    const unsigned lane = column * 4 + row % 8 / 2;
    return __uint_as_float(exchange[lane][4 + row / 8] >> (row % 2 * 16) << 16);
}
// The same for mma.m16n8k8 of tf32.
inline float a_32(unsigned row, unsigned column) { return __uint_as_float(exchange[row % 8 * 4 + column % 4][row / 8 + column / 4 * 2]); }
inline float b_32(unsigned row, unsigned column) { return __uint_as_float(exchange[column * 4 + row % 4][4 + row / 4]); }

template <class A, class B>
inline void multiply(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, unsigned depth, A a_at, B b_at) {
    const unsigned mine[6] = {a[0], a[1], a[2], a[3], b0, b1}, lane = threadIdx.x % 32;
    among_lanes(mine, [&] {
        for (unsigned i = 0; i < 4; ++i) {
            const unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
            for (unsigned k = 0; k < depth; ++k) d[i] += a_at(row, k) * b_at(k, column);
        }
    });
}
inline void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) { multiply(d, a, b0, b1, 16, a_16, b_16); }
inline void mma_m16n8k16_f16(float (&)[4], const unsigned (&)[4], unsigned, unsigned) {}
inline unsigned pack_f16(float, float) { return 0; }
inline void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) { multiply(d, a, b0, b1, 8, a_32, b_32); }

}  // namespace flex::ptx
