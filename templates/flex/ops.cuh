// The operations of mods that C++ leaves undefined, defines otherwise than Rust, or knows by another name; and the fast
// approximations. Generated code calls these unqualified, from inside namespace flex.
#pragma once

namespace flex {

// Integers wrap.
__device__ __forceinline__ int add(int a, int b) { return int(unsigned(a) + unsigned(b)); }
__device__ __forceinline__ int sub(int a, int b) { return int(unsigned(a) - unsigned(b)); }
__device__ __forceinline__ int mul(int a, int b) { return int(unsigned(a) * unsigned(b)); }
__device__ __forceinline__ int neg(int a) { return int(0u - unsigned(a)); }
__device__ __forceinline__ int abs_wrapping(int a) { return a < 0 ? neg(a) : a; }
__device__ __forceinline__ int signum(int a) { return (a > 0) - (a < 0); }

// Shifts take the amount modulo 32.
__device__ __forceinline__ int shl(int a, unsigned n) { return int(unsigned(a) << (n & 31)); }
__device__ __forceinline__ unsigned shl(unsigned a, unsigned n) { return a << (n & 31); }
__device__ __forceinline__ int shr(int a, unsigned n) { return a >> (n & 31); }
__device__ __forceinline__ unsigned shr(unsigned a, unsigned n) { return a >> (n & 31); }

// Division by zero gives some value (it is recorded as a fault where Rust would have divided); MIN / -1 is MIN.
__device__ __forceinline__ int div(int a, int b) { return b == -1 ? neg(a) : a / (b == 0 ? 1 : b); }
__device__ __forceinline__ int rem(int a, int b) { return b == -1 ? 0 : a % (b == 0 ? 1 : b); }
__device__ __forceinline__ unsigned div(unsigned a, unsigned b) { return a / (b == 0 ? 1 : b); }
__device__ __forceinline__ unsigned rem(unsigned a, unsigned b) { return a % (b == 0 ? 1 : b); }
// The quotient that leaves a remainder of at least 0, and that remainder.
__device__ __forceinline__ int div_euclid(int a, int b) {
    const int q = div(a, b);
    return rem(a, b) < 0 ? (b > 0 ? sub(q, 1) : add(q, 1)) : q;
}
__device__ __forceinline__ int rem_euclid(int a, int b) {
    const int r = rem(a, b);
    return r < 0 ? (b < 0 ? sub(r, b) : add(r, b)) : r;
}
__device__ __forceinline__ unsigned div_euclid(unsigned a, unsigned b) { return div(a, b); }
__device__ __forceinline__ unsigned rem_euclid(unsigned a, unsigned b) { return rem(a, b); }

__device__ __forceinline__ unsigned count_ones(unsigned a) { return __popc(a); }
__device__ __forceinline__ unsigned leading_zeros(unsigned a) { return __clz(a); }
__device__ __forceinline__ unsigned trailing_zeros(unsigned a) { return __clz(__brev(a)); }

__device__ __forceinline__ long long larger(long long a, long long b) { return a > b ? a : b; }
__device__ __forceinline__ long long smaller(long long a, long long b) { return a < b ? a : b; }

__device__ __forceinline__ float float_of_bits(unsigned bits) { return __uint_as_float(bits); }
__device__ __forceinline__ bool is_nan(float a) { return a != a; }
__device__ __forceinline__ float signum(float a) { return is_nan(a) ? a : copysignf(1.0f, a); }
// Saturating, NaN to 0.
__device__ __forceinline__ int to_int(float a) { return __float2int_rz(a); }
__device__ __forceinline__ unsigned to_unsigned(float a) { return __float2uint_rz(a); }

// Captured arrays never change while a kernel runs.
template <class T>
__device__ __forceinline__ T read(const T* array, long long at) { return __ldg(array + at); }
__device__ __forceinline__ bool read(const unsigned char* array, long long at) { return __ldg(array + at) != 0; }
template <class T>
__device__ __forceinline__ auto read_if(bool inside, const T* array, long long at) {
    using Value = decltype(read(array, at));
    return inside ? read(array, at) : Value(0);
}
__device__ __forceinline__ bool inside(int index, int len) { return unsigned(index) < unsigned(len); }
__device__ __forceinline__ bool inside(unsigned index, int len) { return index < unsigned(len); }
// The row-major position of an index on the next axis. An axis has fewer than 2^31 elements; what lies outside is not read.
__device__ __forceinline__ long long element(long long outer, int len, long long index) {
    return (long long)((unsigned long long)outer * (unsigned long long)len + (unsigned long long)index);
}

#ifdef __CUDACC_RTC__
// Hardware approximations, for Precision::Fast.
__device__ __forceinline__ float fast_div(float a, float b) { return __fdividef(a, b); }
__device__ __forceinline__ float fast_sqrt(float a) {
    float r;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(a));
    return r;
}
__device__ __forceinline__ float fast_exp2(float a) {
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(a));
    return r;
}
__device__ __forceinline__ float fast_exp(float a) { return fast_exp2(a * 1.44269504088896340736f); }
__device__ __forceinline__ float fast_log2(float a) {
    float r;
    asm("lg2.approx.f32 %0, %1;" : "=f"(r) : "f"(a));
    return r;
}
__device__ __forceinline__ float fast_ln(float a) { return fast_log2(a) * 0.69314718055994530942f; }
__device__ __forceinline__ float fast_tanh(float a) {
    float r;
    asm("tanh.approx.f32 %0, %1;" : "=f"(r) : "f"(a));
    return r;
}
// The hardware is exact near zero only: whole turns are taken off first.
__device__ __forceinline__ float without_turns(float a) {
    const float turns = rintf(a * 0.15915494309189533577f);
    return fmaf(turns, 1.748455603e-07f, fmaf(turns, -6.28318548202514648438f, a));
}
__device__ __forceinline__ float fast_sin(float a) { return __sinf(without_turns(a)); }
__device__ __forceinline__ float fast_cos(float a) { return __cosf(without_turns(a)); }
// |a|^b by logarithm; the sign of a where b is odd, NaN where a is negative and b is not whole.
__device__ __forceinline__ float fast_pow(float a, float b) {
    const float size = fast_exp2(b * fast_log2(fabsf(a)));
    const bool whole = truncf(b) == b, odd = whole && fmodf(fabsf(b), 2.0f) == 1.0f;
    const float with_sign = odd ? copysignf(size, a) : size;
    return b == 0.0f || a == 1.0f ? 1.0f : a < 0.0f && !whole ? float_of_bits(0x7fc00000u) : with_sign;
}
#endif

}  // namespace flex
