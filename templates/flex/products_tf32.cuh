// Products of f32 elements on the tensor cores, which read 11 bits of their mantissas.
#pragma once
#include "flex/products.cuh"
#include "flex/tile_io.cuh"

namespace flex {

struct Tf32Products {
    using Element = float;
    static constexpr bool kOnTensorCores = true;

    // ldmatrix moves words of 32 bits as well: lane l receives word l % 4 of row l / 4, which is what m16n8k8 takes.
    template <int kHeadDim, int kTileKv, int kFragments, class Copy>
    static __device__ __forceinline__ void scores(Accumulator<kFragments, kTileKv>& s, unsigned query, int query_row_bytes, unsigned key, Copy& copy) {
        using Layout = RowLayout<Element, kHeadDim>;
        const unsigned lane = this_lane();
        query += (lane % 16) * query_row_bytes + lane / 16 * 16;
        key += (lane % 8 + lane / 16 * 8) * Layout::kBytes + lane / 8 % 2 * 16;
#pragma unroll
        for (int k = 0; k < Layout::kPadded / 8; ++k) {
            copy.issue_part(k, Layout::kPadded / 8);
            unsigned a[kFragments][4];
#pragma unroll
            for (int m = 0; m < kFragments; ++m) load_rounded(a[m], query + m * 16 * query_row_bytes + k * 32);
#pragma unroll
            for (int n = 0; n < kTileKv / 16; ++n) {
                unsigned b[4];
                load_rounded(b, key + n * 16 * Layout::kBytes + k * 32);
#pragma unroll
                for (int m = 0; m < kFragments; ++m) {
                    ptx::mma_m16n8k8_tf32(s[m][2 * n], a[m], b[0], b[1]);
                    ptx::mma_m16n8k8_tf32(s[m][2 * n + 1], a[m], b[2], b[3]);
                }
            }
        }
    }

    // A lane holds keys 2t and 2t + 1 of p where the left operand wants t and t + 4. The order of summation is free, so
    // the rows of the value are permuted likewise.
    template <int kValueDim, int kTileKv, int kFragments>
    static __device__ __forceinline__ void accumulate(Accumulator<kFragments, RowLayout<Element, kValueDim>::kPadded>& o,
                                                      const Accumulator<kFragments, kTileKv>& p, unsigned value) {
        using Layout = RowLayout<Element, kValueDim>;
        const unsigned lane = this_lane();
        value += 2 * (lane % 4) * Layout::kBytes + lane / 4 * 4;
#pragma unroll
        for (int k = 0; k < kTileKv / 8; ++k) {
            unsigned a[kFragments][4];
#pragma unroll
            for (int m = 0; m < kFragments; ++m) {
                const float(&part)[4] = p[m][k];
                a[m][0] = ptx::to_tf32(part[0]);
                a[m][1] = ptx::to_tf32(part[2]);
                a[m][2] = ptx::to_tf32(part[1]);
                a[m][3] = ptx::to_tf32(part[3]);
            }
#pragma unroll
            for (int n = 0; n < Layout::kPadded / 8; ++n) {
                const unsigned at = value + k * 8 * Layout::kBytes + n * 32;
                const unsigned b0 = ptx::to_tf32(ptx::load_shared(at)), b1 = ptx::to_tf32(ptx::load_shared(at + Layout::kBytes));
#pragma unroll
                for (int m = 0; m < kFragments; ++m) ptx::mma_m16n8k8_tf32(o[m][n], a[m], b0, b1);
            }
        }
    }

  private:
    static __device__ __forceinline__ void load_rounded(unsigned (&r)[4], unsigned shared) {
        ptx::ldmatrix_x4(r, shared);
#pragma unroll
        for (int i = 0; i < 4; ++i) r[i] = ptx::to_tf32(__uint_as_float(r[i]));
    }
};

}  // namespace flex
