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
template <int kFragments>
struct Softmax {
    static constexpr float kSlack = 8.0f;  // weights of at most 2^8 are as exact in f16 and bf16, and sums do not overflow

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
            for (int i = 0; i < 2; ++i) behind |= largest[m][i] * factor > fmaf(reference[m][i], factor, kSlack);
        if (!__any_sync(~0u, behind)) return;
#pragma unroll
        for (int m = 0; m < kFragments; ++m)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const float before = __fmul_rn(reference[m][i], factor);
                reference[m][i] = fmaxf(reference[m][i], largest[m][i]);
                // From the products as rounded, so that old and new weights are to one scale; 2^0 where nothing has moved.
                const float shrink = ptx::exp2(offset(m, i, factor, NoOffsets()) + before);
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
#pragma unroll
        for (int m = 0; m < kFragments; ++m)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const float behind = offset(m, i, factor, offsets);
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
    // What takes factor * score to the exponent of its weight. A row that has kept nothing yet: any finite value gives
    // weights of 2^-inf = 0.
    template <class Offsets>
    __device__ __forceinline__ float offset(int m, int i, float factor, const Offsets& offsets) const {
        if (reference[m][i] == minus_infinity()) return 0.0f;
        if constexpr (Offsets::kAny) return __fmul_rn(offsets(m, i) - reference[m][i], factor);
        return -__fmul_rn(reference[m][i], factor);
    }
};

}  // namespace flex
