// What generated mods may leave out of the list in default_mods.cuh, and what then holds.
#pragma once
#include "flex/problem.cuh"

namespace flex {

template <class...>
using Void = void;

template <bool kFirst, class A, class B>
struct SelectType {
    using Type = A;
};
template <class A, class B>
struct SelectType<false, A, B> {
    using Type = B;
};
template <bool kFirst, class A, class B>
using Select = typename SelectType<kFirst, A, B>::Type;

template <class Mods, class = void>
struct ScoreIsLineInKey {
    static constexpr bool value = false;
};
template <class Mods>
struct ScoreIsLineInKey<Mods, Void<decltype(Mods::kScoreIsLineInKey)>> {
    static constexpr bool value = Mods::kHasScore && Mods::kScoreIsLineInKey;
};

// The code of an element is so long that there should be few copies of it.
template <class Mods, class = void>
struct ElementIsLong {
    static constexpr bool value = false;
};
template <class Mods>
struct ElementIsLong<Mods, Void<decltype(Mods::kElementIsLong)>> {
    static constexpr bool value = Mods::kElementIsLong;
};

// What kernels may compute once a tile and keep in shared memory, rather than for each element.
template <class Mods, class = void>
struct StagedTerms {
    struct KeyTerms {};
    struct DistanceTerms {};
    static constexpr bool kAny = false, kInFullTiles = false;
};
template <class Mods>
struct StagedTerms<Mods, Void<decltype(Mods::kStagesInFullTiles)>> {
    using KeyTerms = typename Mods::KeyTerms;
    using DistanceTerms = typename Mods::DistanceTerms;
    static constexpr bool kAny = true, kInFullTiles = Mods::kStagesInFullTiles;
};

template <class Mods, class = void>
struct HasExponentScale {
    static constexpr bool value = false;
};
template <class Mods>
struct HasExponentScale<Mods, Void<decltype(&Mods::exponent_scale)>> {
    static constexpr bool value = true;
};

template <class Mods>
struct ScoresAreExponents {
    static constexpr bool value = Mods::kHasScore && !HasExponentScale<Mods>::value;
};

// What a score, modified or raw, is multiplied by to become an exponent of 2.
template <class Mods, class Captures>
__device__ __forceinline__ float exponent_scale(const Problem& problem, const Captures& captures) {
    if constexpr (!Mods::kHasScore) {
        return problem.scale * 1.44269504088896340736f;
    } else if constexpr (HasExponentScale<Mods>::value) {
        return Mods::exponent_scale(problem, captures);
    } else {
        return 1.0f;
    }
}

}  // namespace flex
