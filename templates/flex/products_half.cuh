// Products of 16-bit elements on the tensor cores.
#pragma once
#include "flex/elements.cuh"
#include "flex/products.cuh"
#include "flex/tile_io.cuh"

namespace flex {

template <class E>
struct HalfProducts {
    using Element = E;
    static constexpr bool kOnTensorCores = true;

    // `query` is the address of the warp's first row, `key` of the tile's.
    template <int kHeadDim, int kTileKv, int kFragments, class Copy>
    static __device__ __forceinline__ void scores(Accumulator<kFragments, kTileKv>& s, unsigned query, int query_row_bytes, unsigned key, Copy& copy) {
        using Layout = RowLayout<Element, kHeadDim>;
        const unsigned lane = this_lane();
        // Query: rows 0-7, 8-15 of the first 8 columns, then of the next 8. Key: 8 columns, the next 8; then 8 more rows.
        query += (lane % 16) * query_row_bytes + lane / 16 * 16;
        key += (lane % 8 + lane / 16 * 8) * Layout::kBytes + lane / 8 % 2 * 16;
#pragma unroll
        for (int k = 0; k < Layout::kPadded / 16; ++k) {
            copy.issue_part(k, Layout::kPadded / 16);
            unsigned a[kFragments][4];
#pragma unroll
            for (int m = 0; m < kFragments; ++m) ptx::ldmatrix_x4(a[m], query + m * 16 * query_row_bytes + k * 32);
#pragma unroll
            for (int n = 0; n < kTileKv / 16; ++n) {
                unsigned b[4];
                ptx::ldmatrix_x4(b, key + n * 16 * Layout::kBytes + k * 32);
#pragma unroll
                for (int m = 0; m < kFragments; ++m) {
                    Element::mma(s[m][2 * n], a[m], b[0], b[1]);
                    Element::mma(s[m][2 * n + 1], a[m], b[2], b[3]);
                }
            }
        }
    }

    // An accumulator of scores, rounded to pairs of elements, is the left operand as it stands.
    template <int kValueDim, int kTileKv, int kFragments>
    static __device__ __forceinline__ void accumulate(Accumulator<kFragments, RowLayout<Element, kValueDim>::kPadded>& o,
                                                      const Accumulator<kFragments, kTileKv>& p, unsigned value) {
        using Layout = RowLayout<Element, kValueDim>;
        const unsigned lane = this_lane();
        // Rows 0-7, 8-15 of 8 columns, then of the next 8; transposed on the way.
        value += (lane % 16) * Layout::kBytes + lane / 16 * 16;
#pragma unroll
        for (int k = 0; k < kTileKv / 16; ++k) {
            unsigned a[kFragments][4];
#pragma unroll
            for (int m = 0; m < kFragments; ++m) {
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const float(&part)[4] = p[m][2 * k + half];
                    a[m][2 * half] = Element::pack(part[0], part[1]);
                    a[m][2 * half + 1] = Element::pack(part[2], part[3]);
                }
            }
#pragma unroll
            for (int n = 0; n < Layout::kPadded / 16; ++n) {
                unsigned b[4];
                ptx::ldmatrix_x4_trans(b, value + k * 16 * Layout::kBytes + n * 32);
#pragma unroll
                for (int m = 0; m < kFragments; ++m) {
                    Element::mma(o[m][2 * n], a[m], b[0], b[1]);
                    Element::mma(o[m][2 * n + 1], a[m], b[2], b[3]);
                }
            }
        }
    }
};

}  // namespace flex
