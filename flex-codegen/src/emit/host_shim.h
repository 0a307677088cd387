// What generated mods take from CUDA, for the system's C++ compiler. Tests only.
#pragma once
#include <cmath>
#include <cstring>

#define __device__
#define __forceinline__ inline
#define __host__

struct int2 {
    int x, y;
};

template <class T>
inline T __ldg(const T* p) { return *p; }
inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __clz(unsigned a) { return a == 0 ? 32 : __builtin_clz(a); }
inline unsigned __brev(unsigned a) {
    unsigned r = 0;
    for (int i = 0; i < 32; ++i) r |= (a >> i & 1) << (31 - i);
    return r;
}
inline float __uint_as_float(unsigned bits) {
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}
inline int __float2int_rz(float a) {
    return a != a ? 0 : a >= 2147483648.0f ? 2147483647 : a < -2147483648.0f ? -2147483647 - 1 : int(a);
}
inline unsigned __float2uint_rz(float a) { return a != a || a <= 0 ? 0 : a >= 4294967296.0f ? 4294967295u : unsigned(a); }

// Of two zeros, min and max may give either: the interpreter's own functions decide, so that signs can be compared.
extern "C" {
float (*interpreter_min)(float, float);
float (*interpreter_max)(float, float);
}
#define fminf(a, b) interpreter_min(a, b)
#define fmaxf(a, b) interpreter_max(a, b)

template <class T>
inline T min(T a, T b) { return a < b ? a : b; }
template <class T>
inline T max(T a, T b) { return a > b ? a : b; }

#include "flex/ops.cuh"
#include "flex/problem.cuh"

namespace flex {

inline long long fault_at(int site, unsigned index) { return (long long)(site + 1) << 32 | index; }
inline long long first_fault(long long first, long long then) { return first != 0 ? first : then; }
inline void record_fault(const Problem& p, long long fault, int b, int h, int q, int kv) {
    if (p.fault->claimed) return;
    *p.fault = {1, int(fault >> 32) - 1, int(fault), b, h, q, kv};
}

}  // namespace flex
