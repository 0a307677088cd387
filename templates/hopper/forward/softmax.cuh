// The online softmax over the two rows that a thread shares with the other three of its quad.
#pragma once
#include "hopper/element.cuh"

namespace flex::hopper {

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

// Scores are accumulator registers of wgmma; an exponent is a score times `exponent_scale`, in base 2.
struct OnlineSoftmax {
    // Probabilities are relative to a reference that follows the maximum only when that has grown by more than this, so
    // sums and outputs are hardly ever rescaled. They stay below 2^8, well inside f16.
    static constexpr float kSlack = 8.0f;

    float maximum[2];    // of the exponents so far
    float reference[2];  // what the probabilities are relative to
    float sum[2];        // of this thread's columns only

    __device__ __forceinline__ void reset() {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            maximum[r] = reference[r] = negative_infinity();
            sum[r] = 0.0f;
        }
    }

    // Turns the scores of a tile into probabilities. What came before must be multiplied by `rescale`.
    template <int kCount>
    __device__ __forceinline__ void step(float (&scores)[kCount], float exponent_scale, float (&rescale)[2]) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            float even = scores[2 * r], odd = scores[2 * r + 1];
#pragma unroll
            for (int i = 4; i < kCount; i += 4) {
                even = fmaxf(even, scores[i + 2 * r]);
                odd = fmaxf(odd, scores[i + 2 * r + 1]);
            }
            const float tile_maximum =
                over_quad(fmaxf(even, odd), [](float a, float b) { return fmaxf(a, b); }) * exponent_scale;
            maximum[r] = fmaxf(maximum[r], tile_maximum);
            rescale[r] = 1.0f;
            if (tile_maximum > reference[r] + kSlack) {
                rescale[r] = exp2_approximate(reference[r] - tile_maximum);
                reference[r] = tile_maximum;
            }
            sum[r] *= rescale[r];
            // A row without a kept key yet: its scores are all -inf, and must give 0.
            const float shift = reference[r] == negative_infinity() ? 0.0f : -reference[r];
            float even_sum = 0.0f, odd_sum = 0.0f;
#pragma unroll
            for (int i = 0; i < kCount; i += 4) {
                float& a = scores[i + 2 * r];
                float& b = scores[i + 2 * r + 1];
                a = exp2_approximate(fmaf(a, exponent_scale, shift));
                b = exp2_approximate(fmaf(b, exponent_scale, shift));
                even_sum += a;
                odd_sum += b;
            }
            sum[r] += even_sum + odd_sum;
        }
    }

    __device__ __forceinline__ void finish() {
#pragma unroll
        for (int r = 0; r < 2; ++r) sum[r] = over_quad(sum[r], [](float a, float b) { return a + b; });
    }
};

}  // namespace flex::hopper
