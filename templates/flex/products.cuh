// The two matrix products of attention on the registers of a warp.
//
// A warp owns `kFragments` groups of 16 query rows. Its accumulators are those of mma.m16n8: element e of fragment
// [m][n] is row 16 * m + lane / 4 + 8 * (e / 2) and column 8 * n + 2 * (lane % 4) + e % 2. All implementations share this
// form, so masks, scores and softmax do not know which one is at work. Each has
//   using Element
//   kOnTensorCores
//   scores(s, query, key, copy): s += query * key^T, both row-major in shared memory. Meanwhile it issues the copies of the
//     next tile, a part at each step of the product: issued together they would keep the tensor cores waiting
//   accumulate(o, p, value): o += p * value
#pragma once
#include "flex/ptx.cuh"

namespace flex {

template <int kFragments, int kColumns>
using Accumulator = float[kFragments][kColumns / 8][4];

// The lane of this thread, computed anew rather than kept.
__device__ __forceinline__ unsigned this_lane() { return ptx::recompute_from(threadIdx.x) % 32u; }

template <int kFragments, int kColumns>
__device__ __forceinline__ void fill_zero(Accumulator<kFragments, kColumns>& a) {
#pragma unroll
    for (int m = 0; m < kFragments; ++m)
#pragma unroll
        for (int n = 0; n < kColumns / 8; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) a[m][n][e] = 0.0f;
}

}  // namespace flex
