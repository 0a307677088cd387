// Where the mods meet the accumulators: scores are modified and masked in registers.
//
// A thread holds two rows, 8 apart, and of each row the columns 2 (lane % 4) + 8 j + e, e = 0, 1. Offsets inside the tile
// are compile-time constants, so what the mods compute from them folds.
#pragma once
#include "hopper/forward/config.cuh"
#include "hopper/forward/softmax.cuh"

namespace flex::hopper {

// Of 32 columns of a thread (j = 0..15), those whose offset 8 j + e lies below `limit`, as bits 2 j + e.
__device__ __forceinline__ u32 columns_below(int limit) {
    const int clamped = max(limit, 0);
    const u32 count = 2 * (clamped >> 3) + min(clamped & 7, 2);
    u32 power;
    asm("shl.b32 %0, 1, %1;" : "=r"(power) : "r"(count));  // 0 from 32 on, unlike C's
    return power - 1;
}

template <class Config, class Mods, class Captures>
struct ScoreRows {
    static constexpr int kColumns = Config::kTileN / 4;  // of a thread in a row
    static constexpr int kWords = (kColumns + 31) / 32;
    static constexpr bool kMaskIsInterval = Mods::kHasMask && Mods::kKeptKeysAreInterval;
    static constexpr bool kMaskIsFunction = Mods::kHasMask && !Mods::kKeptKeysAreInterval;

    const Problem& problem;
    const Captures& captures;
    int batch, head;
    int query[2];  // inside the tensor: rows beyond the end repeat the last one, and are not live
    bool live[2];
    typename Mods::Row row[2];
    int2 kept[2];

    __device__ __forceinline__ ScoreRows(const Problem& problem, const Captures& captures, int batch, int head, int first_query)
        : problem(problem), captures(captures), batch(batch), head(head) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            query[r] = first_query + 8 * r;
            live[r] = query[r] < problem.q_len;
            query[r] = min(query[r], problem.q_len - 1);
            row[r] = Mods::row(problem, captures, batch, head, query[r]);
            if constexpr (kMaskIsInterval) kept[r] = Mods::kept_keys(problem, captures, row[r], batch, head, query[r]);
        }
    }

    // A tile inside the tensors in which every key is kept.
    __device__ __forceinline__ void modify(float (&scores)[2 * kColumns], int first_key) const {
        if constexpr (Mods::kHasScore) {
            const float first_key_real = static_cast<float>(first_key);
#pragma unroll
            for (int column = 0; column < kColumns; ++column) {
                constexpr int kOffsetStep = 8;
                const int offset = kOffsetStep * (column / 2) + column % 2;
                const Index key(first_key + offset, first_key_real + static_cast<float>(offset));
                const auto part = Mods::column(problem, captures, batch, head, key);
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    float& score = scores[4 * (column / 2) + 2 * r + column % 2];
                    score = Mods::score(problem, captures, row[r], part, score, batch, head, query[r], key, true);
                }
            }
        }
    }

    // Any tile: it may leave the tensors, and the mask is evaluated if `masked`.
    __device__ __forceinline__ void modify_and_mask(float (&scores)[2 * kColumns], int first_key, bool masked) const {
        u32 keep[2][kWords];
#pragma unroll
        for (int w = 0; w < kWords; ++w) {
            const int origin = first_key + 128 * w;
            const u32 inside = columns_below(problem.kv_len - origin);
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                keep[r][w] = inside;
                if constexpr (kMaskIsInterval) {
                    const u32 kept_here = columns_below(kept[r].y - origin) & ~columns_below(kept[r].x - origin);
                    if (masked) keep[r][w] &= kept_here;
                }
            }
        }
#pragma unroll
        for (int column = 0; column < kColumns; ++column) {
            const int key = min(first_key + 8 * (column / 2) + column % 2, problem.kv_len - 1);
            const u32 bit = 1u << (column % 32);
            if constexpr (Mods::kHasScore || kMaskIsFunction) {
                const auto part = Mods::column(problem, captures, batch, head, Index(key));
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    float& score = scores[4 * (column / 2) + 2 * r + column % 2];
                    bool is_kept = keep[r][column / 32] & bit;
                    if constexpr (kMaskIsFunction) {
                        is_kept &= !masked | Mods::mask(problem, captures, row[r], part, batch, head, query[r], Index(key),
                                                        masked & is_kept & live[r]);
                    }
                    if constexpr (Mods::kHasScore) {
                        score = Mods::score(problem, captures, row[r], part, score, batch, head, query[r], Index(key),
                                            is_kept & live[r]);
                    }
                    score = is_kept ? score : negative_infinity();
                }
            } else {
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    float& score = scores[4 * (column / 2) + 2 * r + column % 2];
                    score = keep[r][column / 32] & bit ? score : negative_infinity();
                }
            }
        }
    }
};

}  // namespace flex::hopper
