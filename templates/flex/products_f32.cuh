// Products of f32 elements in f32, on the ordinary cores: every multiplication and addition is one rounding.
#pragma once
#include "flex/products.cuh"
#include "flex/tile_io.cuh"

namespace flex {

struct F32Products {
    using Element = float;
    static constexpr bool kOnTensorCores = false;

    template <int kHeadDim, int kTileKv, int kFragments, class Copy>
    static __device__ __forceinline__ void scores(Accumulator<kFragments, kTileKv>& s, unsigned query, int query_row_bytes, unsigned key, Copy& copy) {
        using Layout = RowLayout<Element, kHeadDim>;
        const unsigned lane = this_lane();
        query += lane / 4 * query_row_bytes;
        key += 2 * (lane % 4) * Layout::kBytes;
        copy.issue_all();
#pragma unroll 2
        for (int k = 0; k < Layout::kPadded / 4; ++k) {
            float4 rows[kFragments][2];
#pragma unroll
            for (int m = 0; m < kFragments; ++m)
#pragma unroll
                for (int i = 0; i < 2; ++i) rows[m][i] = ptx::load_shared_4(query + (16 * m + 8 * i) * query_row_bytes + k * 16);
#pragma unroll
            for (int n = 0; n < kTileKv / 8; ++n)
#pragma unroll
                for (int j = 0; j < 2; ++j) {
                    const float4 column = ptx::load_shared_4(key + (8 * n + j) * Layout::kBytes + k * 16);
#pragma unroll
                    for (int m = 0; m < kFragments; ++m)
#pragma unroll
                        for (int i = 0; i < 2; ++i) {
                            float& sum = s[m][n][2 * i + j];
                            sum = fmaf(rows[m][i].x, column.x, sum);
                            sum = fmaf(rows[m][i].y, column.y, sum);
                            sum = fmaf(rows[m][i].z, column.z, sum);
                            sum = fmaf(rows[m][i].w, column.w, sum);
                        }
                }
        }
    }

    // The four lanes that share rows pass each other their keys' weights.
    template <int kValueDim, int kTileKv, int kFragments>
    static __device__ __forceinline__ void accumulate(Accumulator<kFragments, RowLayout<Element, kValueDim>::kPadded>& o,
                                                      const Accumulator<kFragments, kTileKv>& p, unsigned value) {
        using Layout = RowLayout<Element, kValueDim>;
        const unsigned lane = this_lane();
        value += 2 * (lane % 4) * int(sizeof(float));
#pragma unroll
        for (int k = 0; k < kTileKv; ++k) {
            float weight[kFragments][2];
#pragma unroll
            for (int m = 0; m < kFragments; ++m)
#pragma unroll
                for (int i = 0; i < 2; ++i) weight[m][i] = __shfl_sync(~0u, p[m][k / 8][2 * i + k % 2], lane / 4 * 4 + k % 8 / 2);
#pragma unroll
            for (int n = 0; n < Layout::kPadded / 8; ++n) {
                const float2 pair = ptx::load_shared_2(value + k * Layout::kBytes + n * 32);
#pragma unroll
                for (int m = 0; m < kFragments; ++m)
#pragma unroll
                    for (int i = 0; i < 2; ++i) {
                        o[m][n][2 * i] = fmaf(weight[m][i], pair.x, o[m][n][2 * i]);
                        o[m][n][2 * i + 1] = fmaf(weight[m][i], pair.y, o[m][n][2 * i + 1]);
                    }
            }
        }
    }
};

}  // namespace flex
