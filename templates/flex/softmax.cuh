// Online softmax in base 2 over the accumulators of a warp.
#pragma once
#include "flex/products.cuh"
#include "flex/ptx.cuh"

namespace flex {

__device__ __forceinline__ float minus_infinity() { return __int_as_float(0xff800000); }

// The larger (sum) of the values that the four lanes of a row hold.
__device__ __forceinline__ float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
__device__ __forceinline__ float row_sum(float x) {
    x += __shfl_xor_sync(~0u, x, 1);
    return x + __shfl_xor_sync(~0u, x, 2);
}

// A value for each of a lane's rows.
template <int kFragments>
using Rows = float[kFragments][2];

// What is added to all scores of a row of a tile. Scores come without it, because the exponential adds it for nothing.
template <int kFragments>
struct RowOffsets {
    static constexpr bool kAny = true;
    Rows<kFragments> row;
    __device__ __forceinline__ float operator()(int m, int i) const { return row[m][i]; }
};
struct NoOffsets {
    static constexpr bool kAny = false;
    __device__ __forceinline__ float operator()(int, int) const { return 0.0f; }
};

// The sum of a lane's weights 2^(factor * (score - reference)), by row.
//
// The reference follows the largest score only when it has fallen far behind: then the output so far must be rescaled. So
// weights may be above 1, up to 2^kSlack.
//
// A weight's exponent is one fused multiplication, which does not round factor * score; what it adds, factor * reference,
// has been rounded. At 10^10, as additive masks have it, that is 512 between the reference and itself. So large references
// are subtracted before, which is exact where it matters.
template <int kFragments, bool kScoresAreExponents>
struct Softmax {
    static constexpr float kSlack = 8.0f;  // weights of at most 2^8 are as exact in f16 and bf16, and sums do not overflow
    static constexpr float kLarge = 1 << 24;  // of exponents

    Rows<kFragments> reference;
    Rows<kFragments> sum;

    __device__ __forceinline__ Softmax() {
#pragma unroll
        for (int m = 0; m < kFragments; ++m)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                reference[m][i] = minus_infinity();
                sum[m][i] = 0.0f;
            }
    }

    // The largest score of every row of the tile.
    template <int kTileKv, class Offsets>
    static __device__ __forceinline__ void find_largest(Rows<kFragments>& largest, const Accumulator<kFragments, kTileKv>& s, const Offsets& offsets) {
#pragma unroll
        for (int m = 0; m < kFragments; ++m)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                float x = fmaxf(s[m][0][2 * i], s[m][0][2 * i + 1]);
#pragma unroll
                for (int n = 1; n < kTileKv / 8; ++n) x = fmaxf(x, fmaxf(s[m][n][2 * i], s[m][n][2 * i + 1]));
                if constexpr (Offsets::kAny) x += offsets(m, i);
                largest[m][i] = row_max(x);
            }
    }

    // Moves the references if a row needs it, and rescales the output so far.
    template <int kColumns>
    __device__ __forceinline__ void follow(const Rows<kFragments>& largest, Accumulator<kFragments, kColumns>& out, float factor) {
        bool behind = false;
#pragma unroll
        for (int m = 0; m < kFragments; ++m)
#pragma unroll
            for (int i = 0; i < 2; ++i) behind |= (largest[m][i] - reference[m][i]) * factor > kSlack;
        if (!__any_sync(~0u, behind)) return;
#pragma unroll
        for (int m = 0; m < kFragments; ++m)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const float before = reference[m][i], now = fmaxf(before, largest[m][i]);
                // Scores that have no exponent are hidden, as by a mask.
                reference[m][i] = now * factor == minus_infinity() ? minus_infinity() : now;
                const float shrink = before == reference[m][i] ? 1.0f : ptx::exp2(distance(before, reference[m][i], factor));
                sum[m][i] *= shrink;
#pragma unroll
                for (int n = 0; n < kColumns / 8; ++n) {
                    out[m][n][2 * i] *= shrink;
                    out[m][n][2 * i + 1] *= shrink;
                }
            }
    }

    // Turns scores into weights and sums them.
    template <int kTileKv, class Offsets>
    __device__ __forceinline__ void weigh(Accumulator<kFragments, kTileKv>& s, float factor, const Offsets& offsets) {
        const bool subtracts = any_is_large(factor, offsets);
        if (subtracts) subtract_references<kTileKv>(s, offsets);
#pragma unroll
        for (int m = 0; m < kFragments; ++m)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                // A row that has kept nothing yet: any finite value gives weights of 2^-inf = 0.
                const float behind = subtracts || reference[m][i] == minus_infinity() ? 0.0f : offset(m, i, factor, offsets);
#pragma unroll
                for (int n = 0; n < kTileKv / 8; ++n)
#pragma unroll
                    for (int j = 0; j < 2; ++j) {
                        float& x = s[m][n][2 * i + j];
                        x = ptx::exp2(fmaf(x, factor, behind));
                        sum[m][i] += x;
                    }
            }
    }

  private:
    static __device__ __forceinline__ bool is_large(float score, float factor) { return fabsf(score * factor) >= kLarge; }

    // Of the rows of a lane.
    template <class Offsets>
    __device__ __forceinline__ bool any_is_large(float factor, const Offsets& offsets) const {
        bool any = false;
        if constexpr (!kScoresAreExponents) {
#pragma unroll
            for (int m = 0; m < kFragments; ++m)
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    any |= is_large(reference[m][i], factor) & (reference[m][i] != minus_infinity());
                    if constexpr (Offsets::kAny) any |= is_large(offsets(m, i), factor);
                }
        }
        return any;
    }

    template <int kTileKv, class Offsets>
    __device__ __forceinline__ void subtract_references(Accumulator<kFragments, kTileKv>& s, const Offsets& offsets) const {
#pragma unroll
        for (int m = 0; m < kFragments; ++m)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const float finite = fmaxf(reference[m][i], -3.4028235e38f);  // of a row that has kept nothing yet
#pragma unroll
                for (int n = 0; n < kTileKv / 8; ++n)
#pragma unroll
                    for (int j = 0; j < 2; ++j) s[m][n][2 * i + j] = (s[m][n][2 * i + j] + offsets(m, i)) - finite;
            }
    }

    // The exponent of what weights to one reference are multiplied by to be weights to another: from the products as
    // rounded where they are part of the weights.
    static __device__ __forceinline__ float distance(float from, float to, float factor) {
        if (is_large(from, factor) || is_large(to, factor)) return (from - to) * factor;
        return __fmul_rn(from, factor) - __fmul_rn(to, factor);
    }

    // What takes factor * score to the exponent of its weight.
    template <class Offsets>
    __device__ __forceinline__ float offset(int m, int i, float factor, const Offsets& offsets) const {
        if constexpr (Offsets::kAny) return __fmul_rn(offsets(m, i) - reference[m][i], factor);
        return -__fmul_rn(reference[m][i], factor);
    }
};

}  // namespace flex
