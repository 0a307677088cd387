// What mods say of a query row alone, computed once and kept in shared memory: registers are what the kernel is short of.
#pragma once
#include "flex/mod_traits.cuh"
#include "flex/ptx.cuh"

namespace flex {

struct alignas(16) RowTerms {
    float2 line;     // slope and offset of scores that are lines in the key
    int2 kept_keys;  // [x, y), of masks that keep an interval

    template <class Mods, class Captures>
    static __device__ __forceinline__ RowTerms of(const Problem& problem, const Captures& captures, const typename Mods::Row& row, int batch, int head, int q) {
        RowTerms terms{};
        if constexpr (ScoreIsLineInKey<Mods>::value) terms.line = Mods::key_line(problem, captures, row, batch, head, q);
        if constexpr (Mods::kHasMask && Mods::kKeptKeysAreInterval) terms.kept_keys = Mods::kept_keys(problem, captures, row, batch, head, q);
        return terms;
    }

    // To shared memory: the four lanes of a row store a word each.
    __device__ __forceinline__ void store(unsigned target, unsigned word) const {
        const int first = __float_as_int(word == 0 ? line.x : line.y), second = word == 2 ? kept_keys.x : kept_keys.y;
        ptx::store_shared(target + 4 * word, unsigned(word < 2 ? first : second));
    }
    static __device__ __forceinline__ float2 load_line(unsigned source) { return ptx::load_shared_2(source); }
    static __device__ __forceinline__ int2 load_kept_keys(unsigned source) {
        const float2 bits = ptx::load_shared_2(source + 8);
        return {__float_as_int(bits.x), __float_as_int(bits.y)};
    }
};

// A lane's columns of a row are 2 (lane % 4) + 8 n + j, j = 0, 1, from the tile's first key on. Bit 2 n + j is set where the
// column's distance from the lane's first, 8 n + j, is below `limit`. For up to 16 n.
__device__ __forceinline__ unsigned columns_below(int limit) {
    const int clamped = max(limit, 0);
    return ptx::shift_left(1, 2 * (clamped >> 3) + min(clamped & 7, 2)) - 1;
}

}  // namespace flex
