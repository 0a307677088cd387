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

// The running maximum and sum of each of a lane's rows. Scores times `factor` are exponents of 2.
template <int kFragments>
struct Softmax {
    float largest[kFragments][2];  // of the scores, before `factor`
    float sum[kFragments][2];      // of this lane's weights

    __device__ __forceinline__ Softmax() {
#pragma unroll
        for (int m = 0; m < kFragments; ++m)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                largest[m][i] = minus_infinity();
                sum[m][i] = 0.0f;
            }
    }

    // Turns scores into weights relative to the new maximum, and rescales the output so far where the maximum has grown.
    template <int kTileKv, int kColumns>
    __device__ __forceinline__ void step(Accumulator<kFragments, kTileKv>& s, Accumulator<kFragments, kColumns>& out, float factor) {
        float offset[kFragments][2], shrink[kFragments][2];
        bool grown = false;
#pragma unroll
        for (int m = 0; m < kFragments; ++m)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                float x = fmaxf(s[m][0][2 * i], s[m][0][2 * i + 1]);
#pragma unroll
                for (int n = 1; n < kTileKv / 8; ++n) x = fmaxf(x, fmaxf(s[m][n][2 * i], s[m][n][2 * i + 1]));
                x = fmaxf(largest[m][i], row_max(x));
                // A row that has kept nothing yet: any finite offset gives weights of 2^-inf = 0.
                offset[m][i] = x == minus_infinity() ? 0.0f : -__fmul_rn(x, factor);
                // From the offsets as rounded, so that old and new weights are to one scale; 2^0 where nothing has grown.
                shrink[m][i] = ptx::exp2(offset[m][i] + __fmul_rn(largest[m][i], factor));
                grown |= x > largest[m][i];
                largest[m][i] = x;
            }
        if (__any_sync(~0u, grown)) {
#pragma unroll
            for (int m = 0; m < kFragments; ++m) {
#pragma unroll
                for (int n = 0; n < kColumns / 8; ++n)
#pragma unroll
                    for (int e = 0; e < 4; ++e) out[m][n][e] *= shrink[m][e / 2];
                sum[m][0] *= shrink[m][0];
                sum[m][1] *= shrink[m][1];
            }
        }
#pragma unroll
        for (int m = 0; m < kFragments; ++m)
#pragma unroll
            for (int i = 0; i < 2; ++i)
#pragma unroll
                for (int n = 0; n < kTileKv / 8; ++n)
#pragma unroll
                    for (int j = 0; j < 2; ++j) {
                        float& x = s[m][n][2 * i + j];
                        x = ptx::exp2(fmaf(x, factor, offset[m][i]));
                        sum[m][i] += x;
                    }
    }
};

}  // namespace flex
