// Terms of mods that many elements of a tile share, and that cost a load: what depends on the key alone, and what depends on
// the distance q - kv alone. A warp of the feeding warpgroup computes them once a tile, and consumers read them from shared
// memory.
//
// A stage of keys is full when the terms of its tile are there too. It is free when the scores have landed, but then the
// terms are yet to be read. So they have a ring of their own, of one slot more: when a stage becomes free, the terms of the
// tile before have been read.
#pragma once
#include "flex/mod_traits.cuh"
#include "hopper/forward/loader.cuh"

namespace flex::hopper {

// Terms, a word each, as words.
template <class Terms, int kCount>
union TermWords {
    Terms terms;
    u32 words[kCount > 0 ? kCount : 1];
    __device__ __forceinline__ TermWords() {}
};

// The warp that stages. Lanes take every 32nd key and distance; each arrives at the barriers itself.
template <class Config, class Mods, class Captures>
struct Stager {
    static constexpr int kKeyTerms = Config::kKeyTerms, kDistanceTerms = Config::kDistanceTerms;

    const Problem& problem;
    const Captures& captures;
    ForwardSharedMemory<Config>& shared;
    const int lane;

    __device__ __forceinline__ void run() const {
        RingPosition<Config::kStages> key;
        RingPosition<Config::kTermSlots> slot;
        for_each_item<Config>(shared, [&](const WorkItem& work) {
            // Consumers treat the first tile of an item, and those at the ends of the sequences, as if the mask cut there.
            bool is_first = true;
            const bool has_last_query = (work.query_tile + 1) * Config::kTileM > problem.q_len;
            for_each_tile(problem, work, [&](unsigned tile, bool full, bool) {
                const int first_key = tile * Config::kTileN;
                shared.key_empty[key.stage].wait(key.parity ^ 1);
                if (StagedTerms<Mods>::kInFullTiles || !full || is_first || has_last_query ||
                    first_key + Config::kTileN > problem.kv_len) {
                    stage(work, first_key, slot.stage);
                }
                is_first = false;
                shared.key_full[key.stage].arrive();
                key.advance();
                slot.advance();
            });
        });
    }

private:
    // Indices that reach mods lie inside the tensors.
    __device__ __forceinline__ void stage(const WorkItem& work, int first_key, u32 slot) const {
        const int last_key = problem.kv_len - 1;
        if constexpr (kDistanceTerms > 0) {
            const int first_distance = work.query_tile * Config::kTileM - first_key - (Config::kTileN - 1);
            store<kDistanceTerms, Config::kDistances>(
                [&](int at) {
                    const int distance = min(max(first_distance + at, -last_key), problem.q_len - 1);
                    return Mods::distance_terms(problem, captures, work.batch, work.head, distance);
                },
                [&](int at, int word, u32 value) { shared.distances(slot, word)[at] = value; });
        }
        if constexpr (kKeyTerms > 0) {
            store<kKeyTerms, Config::kTileN>(
                [&](int at) {
                    return Mods::key_terms(problem, captures, work.batch, work.head, min(first_key + at, last_key));
                },
                [&](int at, int word, u32 value) { shared.keys(slot, word)[at] = value; });
        }
    }

    // A few of a lane at a time: for more there are no registers.
    template <int kTerms, int kCount, class Compute, class Store>
    __device__ __forceinline__ void store(Compute compute, Store store_word) const {
        constexpr int kFew = (Config::kProducerRegisters < 40 ? 2 : 4) / kTerms;
        constexpr int kAtATime = kFew > 0 ? kFew : 1;
#pragma unroll 1
        for (int first = lane; first < kCount; first += 32 * kAtATime) {
            TermWords<decltype(compute(0)), kTerms> terms[kAtATime];
#pragma unroll
            for (int i = 0; i < kAtATime; ++i) terms[i].terms = compute(first + 32 * i);
#pragma unroll
            for (int i = 0; i < kAtATime; ++i) {
                if (first + 32 * i < kCount) {
#pragma unroll
                    for (int word = 0; word < kTerms; ++word) store_word(first + 32 * i, word, terms[i].words[word]);
                }
            }
        }
    }
};

// What a consumer thread reads of a slot: the terms of four of its columns at a time, for both of its rows.
template <class Config, class Mods>
struct TermReader {
    static constexpr int kKeyTerms = Config::kKeyTerms, kDistanceTerms = Config::kDistanceTerms;

    const u32* key;       // of the thread's first column
    const u32* distance;  // of its upper row and first column

    TermWords<typename StagedTerms<Mods>::KeyTerms, kKeyTerms> keys[4];
    // The lower row is 8 further: where the upper row was two columns before.
    TermWords<typename StagedTerms<Mods>::DistanceTerms, kDistanceTerms> upper[4], lower[4];

    __device__ __forceinline__ TermReader() {}

    // `row` and `column`: the first of the thread in the tile.
    __device__ __forceinline__ TermReader(ForwardSharedMemory<Config>& shared, u32 slot, int row, int column) {
        if constexpr (kKeyTerms > 0) key = shared.keys(slot, 0) + column;
        if constexpr (kDistanceTerms > 0) {
            distance = shared.distances(slot, 0) + (row - column + Config::kTileN - 1);
#pragma unroll
            for (int word = 0; word < kDistanceTerms; ++word) read_pair(upper[2], upper[3], word, 8);
        }
    }

    // Those of the next 16 keys, in ascending order.
    __device__ __forceinline__ void read(int group) {
#pragma unroll
        for (int word = 0; word < kKeyTerms; ++word) {
            const u32* const of_word = key + word * Config::kTileN + 16 * group;
            const uint2 first = *reinterpret_cast<const uint2*>(of_word);
            const uint2 second = *reinterpret_cast<const uint2*>(of_word + 8);
            keys[0].words[word] = first.x, keys[1].words[word] = first.y;
            keys[2].words[word] = second.x, keys[3].words[word] = second.y;
        }
#pragma unroll
        for (int word = 0; word < kDistanceTerms; ++word) {
            lower[0].words[word] = upper[2].words[word], lower[1].words[word] = upper[3].words[word];
            read_pair(upper[0], upper[1], word, -16 * group);
            read_pair(upper[2], upper[3], word, -16 * group - 8);
            lower[2].words[word] = upper[0].words[word], lower[3].words[word] = upper[1].words[word];
        }
    }

private:
    template <class Words>
    __device__ __forceinline__ void read_pair(Words& even, Words& odd, int word, int offset) const {
        const u32* const of_word = distance + word * Config::kDistances;
        even.words[word] = of_word[offset];
        odd.words[word] = of_word[offset - 1];
    }
};

}  // namespace flex::hopper
