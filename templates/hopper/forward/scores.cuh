// Where the mods meet the accumulators: scores are modified and masked in registers.
//
// A thread holds two rows, 8 apart, and of each row the columns 2 (lane % 4) + 8 j + e, e = 0, 1. Offsets inside the
// tile are compile-time constants, so what the mods compute from them folds.
#pragma once
#include "flex/mod_traits.cuh"
#include "hopper/forward/config.cuh"
#include "hopper/forward/softmax.cuh"
#include "hopper/forward/staging.cuh"

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
    static constexpr bool kScoreIsLine = ScoreIsLineInKey<Mods>::value;
    static constexpr bool kCallsScore = Mods::kHasScore && !kScoreIsLine;
    using Terms = TermReader<Config, Mods>;

    const Problem& problem;
    const Captures& captures;
    int batch, head;
    u32 edge;      // TileNote::kEdge if the warpgroup has rows beyond the end
    int query[2];  // rows beyond the end repeat the last one, so that mods see indices inside the tensors only
    typename Mods::Row row[2];
    int2 kept[2];    // only for interval masks
    float2 line[2];  // only for scores that are lines

    __device__ __forceinline__
    ScoreRows(const Problem& problem, const Captures& captures, int batch, int head, int first_query)
        : problem(problem), captures(captures), batch(batch), head(head) {
        edge = (first_query | (kWarpgroupRows - 1)) < problem.q_len ? 0 : TileNote::kEdge;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            query[r] = min(first_query + 8 * r, problem.q_len - 1);
            row[r] = Mods::row(problem, captures, batch, head, query[r]);
            if constexpr (kMaskIsInterval) kept[r] = Mods::kept_keys(problem, captures, row[r], batch, head, query[r]);
            if constexpr (kScoreIsLine) line[r] = Mods::key_line(problem, captures, row[r], batch, head, query[r]);
        }
    }

    // Modifies and masks the scores of a tile. Afterwards an exponent is score * exponent_scale + tile_shift of its
    // row.
    __device__ __forceinline__ void apply(
        float (&scores)[2 * kColumns], int first_key, u32 note, Terms terms, float exponent_scale,
        float (&tile_shift)[2]) const {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            tile_shift[r] =
                kScoreIsLine ? fmaf(line[r].x, static_cast<float>(first_key), line[r].y) * exponent_scale : 0.0f;
        }
        if constexpr (kCallsScore || kMaskIsFunction) note |= edge;
        if constexpr (ElementIsLong<Mods>::value) {
            if (kCallsScore || note & (TileNote::kEdge | TileNote::kMasked)) {
                edit_in_turns(scores, first_key, note & TileNote::kMasked);
            }
        } else if (note & (TileNote::kEdge | (kMaskIsFunction ? 0 : TileNote::kMasked))) {
            edit<true>(scores, first_key, note & TileNote::kMasked, terms);
        } else if (kMaskIsFunction && note & TileNote::kMasked) {
            edit<false>(scores, first_key, true, terms);
        } else if constexpr (Mods::kHasScore) {
            edit<false>(scores, first_key, false, terms);
        }
    }

private:
    // The two rows of a column.
    __device__ __forceinline__ void edit_column(
        float& upper, float& lower, Index query_upper, Index query_lower, Index key, bool keep_upper, bool keep_lower,
        bool masked, const Terms& terms, int term) const {
        typename Mods::Column part;
        if constexpr (StagedTerms<Mods>::kAny) {
            static_assert(!ElementIsLong<Mods>::value, "turns read no staged terms");
            part = Mods::column(problem, captures, terms.keys[term].terms, batch, head, key);
        } else if constexpr (kCallsScore || kMaskIsFunction) {
            part = Mods::column(problem, captures, batch, head, key);
        }
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            float& score = r ? lower : upper;
            const Index query = r ? query_lower : query_upper;
            bool kept = r ? keep_lower : keep_upper;
            if constexpr (kMaskIsFunction) {
                const auto& distance = r ? terms.lower[term] : terms.upper[term];
                const bool mask = call_mask(row[r], part, distance, query, key, masked & kept);
                kept &= !masked | mask;
            }
            if constexpr (kCallsScore) {
                const auto& distance = r ? terms.lower[term] : terms.upper[term];
                score = call_score(row[r], part, distance, score, query, key, kept);
            }
            score = kept ? score : negative_infinity();
        }
    }

    template <class Distance>
    __device__ __forceinline__ bool call_mask(
        const typename Mods::Row& row, const typename Mods::Column& part, const Distance& distance, Index query,
        Index key, bool live) const {
        if constexpr (StagedTerms<Mods>::kAny) {
            return Mods::mask(problem, captures, row, part, distance.terms, batch, head, query, key, live);
        } else {
            return Mods::mask(problem, captures, row, part, batch, head, query, key, live);
        }
    }

    template <class Distance>
    __device__ __forceinline__ float call_score(
        const typename Mods::Row& row, const typename Mods::Column& part, const Distance& distance, float score,
        Index query, Index key, bool live) const {
        if constexpr (StagedTerms<Mods>::kAny) {
            return Mods::score(problem, captures, row, part, distance.terms, score, batch, head, query, key, live);
        } else {
            return Mods::score(problem, captures, row, part, score, batch, head, query, key, live);
        }
    }

    // first_key + offset. A tile starts at a multiple of its length, so the lower bits are those of the lane and the offset
    // alone; then quotients and remainders by a power of two fold.
    static __device__ __forceinline__ int joined(int first_key, int offset) {
        constexpr int kAligned = Config::kTileN & -Config::kTileN;
        const int whole = offset / kAligned * kAligned, lane_columns = first_key & 6;
        return ((first_key & -kAligned) + whole) | (lane_columns + (offset - whole));
    }

    // kEdge: the rows or the tile may reach beyond the last query or key, so indices are clamped, and keys beyond are
    // masked. Interval masks come here too: their bits cost the same as those of the end.
    template <bool kEdge>
    __device__ __forceinline__ void edit(
        float (&scores)[2 * kColumns], int first_key, bool masked, Terms terms) const {
        u32 keep[2][kWords];
        if constexpr (kEdge) keep_bits(keep, first_key, masked);
        const float first_key_real = static_cast<float>(first_key), first_query_real = static_cast<float>(query[0]);
        const Index lower_query = kEdge ? Index(query[1]) : Index(query[1], query[0], 8, first_query_real);
#pragma unroll
        for (int column = 0; column < kColumns; ++column) {
            if (column % 4 == 0) terms.read(column / 4);
            const int offset = 8 * (column / 2) + column % 2;
            const u32 bit = 1u << (column % 32);
            const Index key = kEdge ? Index(min(first_key + offset, problem.kv_len - 1))
                                    : Index(joined(first_key, offset), first_key, offset, first_key_real);
            float& upper = scores[4 * (column / 2) + column % 2];
            float& lower = scores[4 * (column / 2) + 2 + column % 2];
            if constexpr (kScoreIsLine) {
                upper = fmaf(line[0].x, static_cast<float>(offset), upper);
                lower = fmaf(line[1].x, static_cast<float>(offset), lower);
            }
            edit_column(
                upper, lower, query[0], lower_query, key, kEdge ? keep[0][column / 32] & bit : true,
                kEdge ? keep[1][column / 32] & bit : true, masked, terms, column % 4);
        }
    }

    // The same in a loop, for mods whose code is too long to be there for every element of a tile. Registers cannot be
    // indexed at run time; so the scores move along, and are back in their places after the last turn.
    __device__ __forceinline__ void edit_in_turns(float (&scores)[2 * kColumns], int first_key, bool masked) const {
        constexpr int kTurnColumns = 4, kTurnScores = 2 * kTurnColumns;
        u32 keep[2][kWords];
        keep_bits(keep, first_key, masked);
#pragma unroll 1
        for (int turn = 0; turn < kColumns / kTurnColumns; ++turn) {
#pragma unroll
            for (int column = 0; column < kTurnColumns; ++column) {
                const int offset = 8 * (column / 2) + column % 2;
                edit_column(
                    scores[4 * (column / 2) + column % 2], scores[4 * (column / 2) + 2 + column % 2], query[0], query[1],
                    Index(min(first_key + offset, problem.kv_len - 1)), keep[0][0] & (1u << column),
                    keep[1][0] & (1u << column), masked, Terms{}, column);
            }
            first_key += 4 * kTurnColumns;
#pragma unroll
            for (int r = 0; r < 2; ++r) {
#pragma unroll
                for (int w = 0; w < kWords; ++w) {
                    keep[r][w] = __funnelshift_r(keep[r][w], w + 1 < kWords ? keep[r][w + 1] : 0, kTurnColumns);
                }
            }
            float edited[kTurnScores];
#pragma unroll
            for (int i = 0; i < kTurnScores; ++i) edited[i] = scores[i];
#pragma unroll
            for (int i = 0; i < 2 * kColumns; ++i) {
                scores[i] = i + kTurnScores < 2 * kColumns ? scores[i + kTurnScores]
                                                           : edited[i + kTurnScores - 2 * kColumns];
            }
        }
    }

    __device__ __forceinline__ void keep_bits(u32 (&keep)[2][kWords], int first_key, bool masked) const {
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
    }
};

}  // namespace flex::hopper
