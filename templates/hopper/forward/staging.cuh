// Terms of mods that many elements of a tile share, and that cost a load: what depends on the key alone, and what depends on
// the distance q - kv alone. A warp of the feeding warpgroup computes them once a tile, and consumers read them from shared
// memory.
//
// They belong to the keys of a tile: a stage of keys is full when they are there too. They are read until the scores of a
// tile are modified, when the keys' stage is free long since. So they have a ring of one slot more than there are stages: a
// stage is released after the scores of the tile before were modified.
#pragma once
#include "flex/mod_traits.cuh"
#include "hopper/forward/loader.cuh"

#ifndef FLEX_DISTANCE_VECTOR
#define FLEX_DISTANCE_VECTOR 2
#endif

namespace flex::hopper {

// Terms, a word each, as words.
template <class Terms, int kCount>
union TermWords {
    Terms terms;
    u32 words[kCount];
    __device__ __forceinline__ TermWords() {}
};

// Where a slot keeps a term of a key, so that a thread reads those of its columns in 16 keys at once.
__device__ __forceinline__ int key_word(int key) {
    return (key & -16) | (key & 6) << 1 | (key & 8) >> 2 | (key & 1);
}

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
            for_each_tile(problem, work, [&](unsigned tile, bool full, bool) {
                shared.key_empty[key.stage].wait(key.parity ^ 1);
                if (StagedTerms<Mods>::kInFullTiles || !full) stage(work, tile * Config::kTileN, slot.stage);
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
                [&](int at, int word, u32 value) {
                    u32* const to = shared.distances(slot, word);
                    constexpr int V = FLEX_DISTANCE_VECTOR;
                    if (at < Config::kDistances) to[V * at] = value;
                    if (V >= 2 && at + 1 < Config::kDistances) to[V * (at + 1) + 1] = value;
                    if (V == 4) {
                        if (at + 8 < Config::kDistances) to[V * (at + 8) + 2] = value;
                        if (at + 9 < Config::kDistances) to[V * (at + 9) + 3] = value;
                    }
                });
        }
        if constexpr (kKeyTerms > 0) {
            store<kKeyTerms, Config::kTileN>(
                [&](int at) {
                    return Mods::key_terms(problem, captures, work.batch, work.head, min(first_key + at, last_key));
                },
                [&](int at, int word, u32 value) { shared.keys(slot, word)[key_word(at)] = value; });
        }
    }

    // Four loads of a lane at a time: for more there are no registers.
    template <int kTerms, int kCount, class Compute, class Store>
    __device__ __forceinline__ void store(Compute compute, Store store_word) const {
        constexpr int kFew = (Config::kProducerRegisters < 40 ? 2 : 4) / kTerms, kAtATime = kFew > 0 ? kFew : 1;
        static_assert(kCount % 32 == 0 || kCount % 16 == 0);
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

// What a consumer thread reads of a slot: the terms of four columns at a time.
template <class Config, class Mods>
struct TermReader {
    using KeyTerms = typename StagedTerms<Mods>::KeyTerms;
    using DistanceTerms = typename StagedTerms<Mods>::DistanceTerms;
    static constexpr int kKeyWords = Config::kKeyTerms, kDistanceWords = Config::kDistanceTerms;
    static constexpr int V = FLEX_DISTANCE_VECTOR;

    const u32* key;       // of the thread's first column
    const u32* distance;  // of the thread's upper row and first column

    TermWords<KeyTerms, kKeyWords + 1> keys[4];
    // Of the upper row, and of the lower row, which is 8 further: where the upper row was two columns before.
    TermWords<DistanceTerms, kDistanceWords + 1> upper[4], lower[4];

    __device__ __forceinline__ TermReader() {}
    __device__ __forceinline__ TermReader(ForwardSharedMemory<Config>& shared, u32 slot, int row, int lane_column) {
        if constexpr (kKeyWords > 0) key = shared.keys(slot, 0) + 2 * lane_column;
        if constexpr (kDistanceWords > 0) {
            distance = shared.distances(slot, 0) + V * (row - lane_column + Config::kTileN - 1);
#pragma unroll
            for (int w = 0; w < kDistanceWords; ++w) read_pair(upper[2], upper[3], 8, w);
        }
    }

    __device__ __forceinline__ void read(int group) {
#pragma unroll
        for (int w = 0; w < kKeyWords; ++w) {
            const uint4 four = *reinterpret_cast<const uint4*>(key + w * Config::kTileN + 16 * group);
            keys[0].words[w] = four.x, keys[1].words[w] = four.y;
            keys[2].words[w] = four.z, keys[3].words[w] = four.w;
        }
#pragma unroll
        for (int w = 0; w < kDistanceWords; ++w) {
            lower[0].words[w] = upper[2].words[w], lower[1].words[w] = upper[3].words[w];
            if constexpr (V == 4) {
                const uint4 four = *reinterpret_cast<const uint4*>(at(-16 * group, w));
                upper[0].words[w] = four.x, upper[1].words[w] = four.y;
                upper[2].words[w] = four.z, upper[3].words[w] = four.w;
            } else {
                read_pair(upper[0], upper[1], -16 * group, w);
                read_pair(upper[2], upper[3], -16 * group - 8, w);
            }
            lower[2].words[w] = upper[0].words[w], lower[3].words[w] = upper[1].words[w];
        }
    }

private:
    __device__ __forceinline__ const u32* at(int offset, int w) const {
        return distance + V * (offset + w * Config::kDistances);
    }
    template <class Words>
    __device__ __forceinline__ void read_pair(Words& even, Words& odd, int offset, int w) const {
        if constexpr (V == 1) {
            even.words[w] = *at(offset, w), odd.words[w] = *at(offset - 1, w);
        } else {
            const uint2 two = *reinterpret_cast<const uint2*>(at(offset, w));
            even.words[w] = two.x, odd.words[w] = two.y;
        }
    }
};

}  // namespace flex::hopper
