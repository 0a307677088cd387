// The online softmax over the two rows that a thread shares with the other three of its quad.
#pragma once
#include "hopper/element.cuh"

namespace flex::hopper {

constexpr float kLn2 = 0.693147180559945309417f;

__device__ __forceinline__ float negative_infinity() { return __int_as_float(0xff800000); }

__device__ __forceinline__ float exp2_approximate(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float log2_approximate(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float reciprocal_approximate(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

template <class Combine>
__device__ __forceinline__ float over_quad(float x, Combine combine) {
    x = combine(x, __shfl_xor_sync(0xffffffff, x, 1));
    return combine(x, __shfl_xor_sync(0xffffffff, x, 2));
}

// Scores are accumulator registers of wgmma. An exponent, of 2, is score * exponent_scale + tile_shift of its row.
//
// Probabilities are relative to a reference, which need not be the maximum so far: any number near it does, as the sum
// is relative to the same. So the reference is raised only when it is too low by a margin, and sums and outputs are
// hardly ever rescaled. The margins keep probabilities below 2^12, well inside f16.
//
// An exponent less the reference is one fused multiplication, which does not round the exponent; the reference has been
// rounded. At 10^10, as additive masks have it, that is 512 between the largest exponent and a reference that should equal
// it. But exponents that large are equal or 2^4 apart, so that a power of two above the scale gives the same probabilities,
// and products with it are exact. kMayBeLarge: that is looked after.
template <bool kMayBeLarge>
struct OnlineSoftmax {
    static constexpr float kSlack = 8.0f;        // of step_in_place, which knows maxima
    static constexpr float kSumLimit = 4096.0f;  // of step_apart, which does not
    static constexpr float kLarge = 1 << 28;     // of exponents
    static constexpr int kChunks = 2;

    float reference[2];  // what the probabilities are relative to; a large one in units of the power of two
    float sum[2];        // of this thread's columns only

    __device__ __forceinline__ void reset() {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            reference[r] = negative_infinity();
            sum[r] = 0.0f;
        }
    }

    // Turns the scores of a tile into probabilities, in place. Returns whether what came before must be multiplied by
    // `rescale`.
    //
    // Goes by chunks: the maximum of a chunk is found while the exponentials of the one before are under way. Lanes do
    // not exchange maxima: that all are within the slack is settled by one vote.
    template <int kCount, class Maxima>
    __device__ __forceinline__ bool step_in_place(
        float (&scores)[kCount], float exponent_scale, const float (&tile_shift)[2], Maxima maxima, float (&rescale)[2]) {
        rescale[0] = rescale[1] = 1.0f;
        chunks<0>(scores, exponent_scale, tile_shift, maxima, rescale);
        // No sum is negative, but that the vote wants them keeps ptxas from adding them up only after a wait for
        // products.
        return __any_sync(0xffffffff, rescale[0] != 1.0f || rescale[1] != 1.0f || sum[0] + sum[1] < 0.0f);
    }

    template <int kChunk, int kCount, class Maxima>
    __device__ __forceinline__ void chunks(
        float (&scores)[kCount], float exponent_scale, const float (&tile_shift)[2], Maxima maxima, float (&rescale)[2]) {
        if constexpr (kChunk < kChunks) {
            constexpr int kGroups = kCount / 4;
            chunk<kGroups * kChunk / kChunks * 4, kGroups*(kChunk + 1) / kChunks * 4>(
                scores, exponent_scale, tile_shift, maxima, rescale);
            chunks<kChunk + 1>(scores, exponent_scale, tile_shift, maxima, rescale);
        }
    }

    template <int kBegin, int kEnd, int kCount, class Maxima>
    __device__ __forceinline__ void chunk(
        float (&scores)[kCount], float exponent_scale, const float (&tile_shift)[2], Maxima maxima, float (&rescale)[2]) {
        float maximum[2], exponent[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            maximum[r] = row_maximum<kBegin, kEnd>(scores, r);
            exponent[r] = fmaf(maximum[r], exponent_scale, tile_shift[r]);
        }
        if (maxima.are_wanted()) maxima.note(exponent);
        const bool too_large = exponent[0] - reference[0] > kSlack || exponent[1] - reference[1] > kSlack;
        if (__any_sync(0xffffffff, too_large || is_large(reference[0]) || is_large(reference[1]))) {
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const float factor = raise_reference(r, maximum[r], exponent[r], exponent_scale, kSlack);
                rescale[r] *= factor;
                sum[r] *= factor;
#pragma unroll
                for (int i = 0; i < kBegin; i += 4) {
                    scores[i + 2 * r] *= factor;
                    scores[i + 2 * r + 1] *= factor;
                }
            }
        }
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const Line line = line_of(r, exponent_scale, tile_shift, true);
            float even_sum = 0.0f, odd_sum = 0.0f;
#pragma unroll
            for (int i = kBegin; i < kEnd; i += 4) {
                float& even = scores[i + 2 * r];
                float& odd = scores[i + 2 * r + 1];
                even = exp2_approximate(fmaf(even, line.factor, line.shift));
                odd = exp2_approximate(fmaf(odd, line.factor, line.shift));
                even_sum += even;
                odd_sum += odd;
            }
            sum[r] += even_sum + odd_sum;
        }
    }

    // The same, but the probabilities go to `p`, narrowed, and the scores stay. So no maximum is looked for beforehand:
    // that the reference was too low shows in the sums, and then the tile is done again. kFirst: there is no reference
    // yet.
    template <class Element, bool kFirst, int kCount, class Maxima>
    __device__ __forceinline__ bool step_apart(
        const float (&scores)[kCount], u32 (&p)[kCount / 2], float exponent_scale, const float (&tile_shift)[2],
        Maxima maxima, float (&rescale)[2]) {
        rescale[0] = rescale[1] = 1.0f;
        float tile_sum[2];
        bool raised = false;
        // A loop, so that the exponentials are there once. ptxas unrolls it where the way back has code of its own.
#pragma unroll 1
        while (true) {
            bool must_raise = kFirst;
            if constexpr (!kFirst) {
                exponentiate<Element>(scores, p, exponent_scale, tile_shift, raised, tile_sum);
                if (raised) break;
                // A reference of -inf gives infinite or NaN sums, so it counts as too low.
                const bool too_low = !(tile_sum[0] <= kSumLimit) | !(tile_sum[1] <= kSumLimit);
                must_raise = __any_sync(0xffffffff, too_low);
                if (!must_raise && !maxima.are_wanted()) break;
            }
            const float maximum[2] = {row_maximum<0, kCount>(scores, 0), row_maximum<0, kCount>(scores, 1)};
            const float exponent[2] = {
                fmaf(maximum[0], exponent_scale, tile_shift[0]), fmaf(maximum[1], exponent_scale, tile_shift[1])};
            if (must_raise) {
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    rescale[r] = raise_reference(r, maximum[r], exponent[r], exponent_scale, 0.0f);
                }
            }
            if (maxima.are_wanted()) maxima.note(exponent);
            if (!must_raise) break;
            raised = true;
            if constexpr (kFirst) {
                exponentiate<Element>(scores, p, exponent_scale, tile_shift, true, tile_sum);
                break;
            }
        }
        sum[0] = fmaf(sum[0], rescale[0], tile_sum[0]);
        sum[1] = fmaf(sum[1], rescale[1], tile_sum[1]);
        return raised;
    }

    // Over the columns of this thread.
    template <int kBegin, int kEnd, int kCount>
    static __device__ __forceinline__ float row_maximum(const float (&scores)[kCount], int r) {
        float even = scores[kBegin + 2 * r], odd = scores[kBegin + 2 * r + 1];
#pragma unroll
        for (int i = kBegin + 4; i < kEnd; i += 4) {
            even = fmaxf(even, scores[i + 2 * r]);
            odd = fmaxf(odd, scores[i + 2 * r + 1]);
        }
        return fmaxf(even, odd);
    }

    template <class Element, int kCount>
    __device__ __forceinline__ void exponentiate(
        const float (&scores)[kCount], u32 (&p)[kCount / 2], float exponent_scale, const float (&tile_shift)[2],
        bool maximum_is_known, float (&tile_sum)[2]) const {
        const Line line[2] = {
            line_of(0, exponent_scale, tile_shift, maximum_is_known),
            line_of(1, exponent_scale, tile_shift, maximum_is_known)};
        float even_sum[2] = {0.0f, 0.0f}, odd_sum[2] = {0.0f, 0.0f};
#pragma unroll
        for (int i = 0; i < kCount; i += 2) {
            const int r = i / 2 % 2;
            const float even = exp2_approximate(fmaf(scores[i], line[r].factor, line[r].shift));
            const float odd = exp2_approximate(fmaf(scores[i + 1], line[r].factor, line[r].shift));
            even_sum[r] += even;
            odd_sum[r] += odd;
            p[i / 2] = Element::narrow(even, odd);
        }
        tile_sum[0] = even_sum[0] + odd_sum[0];
        tile_sum[1] = even_sum[1] + odd_sum[1];
    }

    // So is -inf.
    static __device__ __forceinline__ bool is_large(float exponent) {
        return kMayBeLarge && fabsf(exponent) >= kLarge;
    }

    // Volatile, or it is worked out early and takes a register all along.
    static __device__ __forceinline__ float power_above(float scale) {
        u32 power;
        asm volatile("{ .reg .b32 next; add.u32 next, %1, 0x7fffff; and.b32 %0, next, 0xff800000; }"
                     : "=r"(power) : "r"(__float_as_uint(scale)));
        return __uint_as_float(power);
    }

    // What takes the scores of a row to exponents less the reference.
    struct Line {
        float factor, shift;
    };

    __device__ __forceinline__ Line line_of(
        int r, float exponent_scale, const float (&tile_shift)[2], bool maximum_is_known) const {
        return {
            is_large(reference[r]) ? power_above(exponent_scale) : exponent_scale,
            // A row without a kept key in this tile either: its scores are all -inf, and must give 0.
            maximum_is_known && reference[r] == negative_infinity() ? 0.0f : tile_shift[r] - reference[r]};
    }

    // Raises the reference to the exponent of the maximum that the quad has, if that exceeds it by more than `slack`.
    // Returns what earlier probabilities are to be multiplied by.
    __device__ __forceinline__ float raise_reference(
        int r, float lane_maximum, float lane_exponent, float exponent_scale, float slack) {
        float exponent = over_quad(lane_exponent, [](float a, float b) { return fmaxf(a, b); });
        if constexpr (kMayBeLarge) {
            if (is_large(lane_exponent)) lane_exponent = lane_maximum * power_above(exponent_scale);
            const float exact = over_quad(lane_exponent, [](float a, float b) { return fmaxf(a, b); });
            if (is_large(exponent)) exponent = exact;
        }
        if (!(exponent - reference[r] > slack)) return 1.0f;
        const float rescale = exp2_approximate(reference[r] - exponent);
        reference[r] = exponent;
        return rescale;
    }

    __device__ __forceinline__ void finish(float exponent_scale) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            sum[r] = over_quad(sum[r], [](float a, float b) { return a + b; });
            // A score that has no exponent makes its row NaN.
            if (reference[r] == -negative_infinity()) sum[r] = __int_as_float(0x7fffffff);
            if (is_large(reference[r])) reference[r] *= exponent_scale * reciprocal_approximate(power_above(exponent_scale));
        }
    }
};

}  // namespace flex::hopper
