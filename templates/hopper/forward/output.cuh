// The end of a work item: normalise, narrow, and store straight from registers, 16 bytes a thread and 64 a quad, so
// that no shared memory is held up while the loader already fetches the next item.
#pragma once
#include "hopper/forward/config.cuh"
#include "hopper/forward/softmax.cuh"

namespace flex::hopper {

// Lane c of a quad gives word c of each of four groups, and gets the four words of group c.
__device__ __forceinline__ void transpose_quad(u32 (&words)[4], int lane) {
    const bool odd = lane & 1, high = lane & 2;
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
        const u32 received = __shfl_xor_sync(0xffffffff, odd ? words[i] : words[i + 1], 1);
        (odd ? words[i] : words[i + 1]) = received;
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const u32 received = __shfl_xor_sync(0xffffffff, high ? words[i] : words[i + 2], 2);
        (high ? words[i] : words[i + 2]) = received;
    }
}

// The maximum score of rows, where it is asked for: it is kept in the result itself, because nothing else needs it and
// registers are scarce. One lane of a quad has its two rows to itself.
struct RowMaxima {
    const Problem& problem;
    const int batch, head, first_query;
    const int lane;

    __device__ __forceinline__ bool are_wanted() const { return problem.max_score != nullptr; }

    __device__ __forceinline__ void reset() const {
        for_each([&](int, float& maximum) { maximum = negative_infinity(); });
    }

    // Exponents of 2, of this thread's columns.
    __device__ __forceinline__ void note(const float (&exponents)[2]) const {
        float over_columns[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            over_columns[r] = over_quad(exponents[r], [](float a, float b) { return fmaxf(a, b); });
        }
        for_each([&](int r, float& maximum) { maximum = fmaxf(maximum, over_columns[r] * kLn2); });
    }

private:
    template <class Visit>
    __device__ __forceinline__ void for_each(Visit visit) const {
        int query = first_query;
        asm volatile("" : "+r"(query));  // so that the address is not worked out, and kept, where nobody asks for it
        float* const maxima = problem.max_score + (u64(batch) * problem.heads + head) * problem.q_len + query;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            if (query + 8 * r < problem.q_len && (lane & 3) == 0) visit(r, maxima[8 * r]);
        }
    }
};

template <class Config, class Softmax>
__device__ __forceinline__ void store_output(
    const Problem& problem, int batch, int head, int first_query, int lane, const float (&out)[Config::kValueDim / 2],
    const Softmax& softmax) {
    const u64 head_row = (u64(batch) * problem.heads + head) * problem.q_len;
    char* const head_out =
        static_cast<char*>(problem.out) + 2 * (batch * problem.out_strides.batch + head * problem.out_strides.head);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        const int query = first_query + 8 * r;
        const bool inside = query < problem.q_len;
        const float sum = softmax.sum[r];
        const float inverse = sum == 0.0f ? 0.0f : reciprocal_approximate(sum);
        if (inside && (lane & 3) == 0) {
            if (problem.lse) {
                problem.lse[head_row + query] =
                    sum == 0.0f ? negative_infinity() : (softmax.reference[r] + log2_approximate(sum)) * kLn2;
            }
        }
        char* const row_out = head_out + 2 * (query * problem.out_strides.row) + 16 * (lane & 3);
#pragma unroll
        for (int block = 0; block < Config::kValueDim / 32; ++block) {
            u32 words[4];
#pragma unroll
            for (int group = 0; group < 4; ++group) {
                const int i = 16 * block + 4 * group + 2 * r;
                words[group] = Config::Element::narrow(out[i] * inverse, out[i + 1] * inverse);
            }
            transpose_quad(words, lane);
            if (inside) {
                *reinterpret_cast<uint4*>(row_out + 64 * block) = make_uint4(words[0], words[1], words[2], words[3]);
            }
        }
    }
}

// Rows without a key: the output is 0, and there is no score. Loops, because it happens seldom and code takes time to
// compile.
template <class Config>
__device__ __forceinline__ void store_nothing(const Problem& problem, int batch, int head, int first_query, int lane) {
    const u64 head_row = (u64(batch) * problem.heads + head) * problem.q_len;
    char* const head_out =
        static_cast<char*>(problem.out) + 2 * (batch * problem.out_strides.batch + head * problem.out_strides.head);
#pragma unroll 1
    for (int query = first_query; query < min(first_query + 16, problem.q_len); query += 8) {
        if ((lane & 3) == 0) {
            if (problem.lse) problem.lse[head_row + query] = negative_infinity();
            if (problem.max_score) problem.max_score[head_row + query] = negative_infinity();
        }
        char* const row_out = head_out + 2 * (query * problem.out_strides.row) + 16 * (lane & 3);
#pragma unroll 1
        for (int byte = 0; byte < 2 * Config::kValueDim; byte += 64) {
            *reinterpret_cast<uint4*>(row_out + byte) = make_uint4(0, 0, 0, 0);
        }
    }
}

}  // namespace flex::hopper
