// The mods of an attention that has none, and so the list of what a kernel may ask of generated mods.
// The parts follow variance: what depends on (b, h, q) is computed once a row, on (b, h, kv) once a column.
#pragma once
#include "flex/problem.cuh"

namespace flex {

struct Captures {};  // generated: one field a capture, each on 8 bytes

struct Mods {
    // Partial tiles call `mask` (or compare with `kept_keys`); without it only the sequence ends cut.
    static constexpr bool kHasMask = false;
    // The kept keys of every row are one interval: kernels compare kv with kept_keys() instead of calling mask().
    static constexpr bool kKeptKeysAreInterval = false;
    // score() is qk * scale * log2(e) and need not be called.
    static constexpr bool kHasScore = false;
    // score() is key_line().x * kv + key_line().y + qk, so a kernel may spread it over the tile instead of calling score().
    static constexpr bool kScoreIsLineInKey = false;
    // Some operation may fault: score() and mask() look at `live` and may write problem.fault.
    static constexpr bool kCanFault = false;
    // Mods may have terms that a kernel computes once a tile and stages in shared memory (hopper/forward/staging.cuh): of
    // a key, and of a distance q - kv, structs of 32-bit words. Whether tiles that the mask does not cut need them too is
    //     static constexpr bool kStagesInFullTiles;
    //     KeyTerms key_terms(p, c, b, h, kv);  DistanceTerms distance_terms(p, c, b, h, distance);
    // Such mods take a `const KeyTerms&` in column(), before b, and a `const DistanceTerms&` in mask() and score(), after
    // the column; and the kernel's configuration says how many words there are.

    struct Row {};     // what depends on (b, h, q) only
    struct Column {};  // what depends on (b, h, kv) only

    static __device__ Row row(const Problem&, const Captures&, int b, int h, int q) { return {}; }
    static __device__ Column column(const Problem&, const Captures&, int b, int h, int kv) { return {}; }

    // The keys a row keeps, [x, y).
    static __device__ int2 kept_keys(const Problem& p, const Captures&, const Row&, int b, int h, int q) {
        return {0, p.kv_len};
    }
    // Whether (q, kv) is kept. `live`: the element is inside the tensors, so a fault counts.
    static __device__ bool mask(const Problem&, const Captures&, const Row&, const Column&, int b, int h, int q, int kv, bool live) {
        return true;
    }
    // score() times this is log2(e) * score_mod(qk * scale); above 0. A factor common to all scores belongs here rather than
    // into score(): the exponential multiplies for free. Without it the factor is 1. Only asked for if kHasScore.
    //     float exponent_scale(p, c);
    // log2(e) / exponent_scale * score_mod(qk * scale), from the raw dot product. `live`: kept by the mask and inside the tensors.
    static __device__ float score(const Problem& p, const Captures&, const Row&, const Column&, float qk, int b, int h, int q, int kv, bool live) {
        return qk * (p.scale * 1.44269504088896340736f);
    }
    // The slope and offset of a score that is a line in kv. Such mods have score() as well, for kernels that know no better.
    static __device__ float2 key_line(const Problem&, const Captures&, const Row&, int b, int h, int q) { return {0.0f, 0.0f}; }
};

}  // namespace flex
