// A consumer warpgroup: 64 query rows against every key tile of the list. The products of a step run asynchronously:
// while P V of the last tile is under way, the softmax of this tile is computed.
#pragma once
#include "hopper/forward/output.cuh"
#include "hopper/forward/scores.cuh"
#include "hopper/wgmma.cuh"

namespace flex::hopper {

template <class Config, class Mods, class Captures>
struct Consumer {
    using Shared = ForwardSharedMemory<Config>;
    using Element = typename Config::Element;
    using Terms = TermReader<Config, Mods>;
    using Scores = float[Config::kTileN / 2];
    using Probabilities = u32[Config::kTileN / 4];
    using Output = float[Config::kValueDim / 2];

    // Long code of mods needs the registers, and should not be there twice.
    static constexpr bool kKeepScores = Config::kKeepScores && !ElementIsLong<Mods>::value;

    using Rows = ScoreRows<Config, Mods, Captures>;
    // Lines are proved to be small. Beside score mods the softmax in place has no registers for what large scores take.
    using Softmax = OnlineSoftmax<
        !ScoresAreExponents<Mods>::value && !Rows::kScoreIsLine && (kKeepScores || !Rows::kCallsScore)>;

    const Problem& problem;
    const Captures& captures;
    Shared& shared;
    const u32 warpgroup;  // among the consumers
    const int thread;     // of the warpgroup
    RingPosition<Config::kStages> key, value;
    RingPosition<Shared::kWorkSlots> slot;
    u32 query_parity = 0;

    __device__ __forceinline__
    Consumer(const Problem& problem, const Captures& captures, Shared& shared, u32 warpgroup, int thread)
        : problem(problem), captures(captures), shared(shared), warpgroup(warpgroup), thread(thread) {}

    // What roles tell each other in shared memory, one lane of a warp reads, which tells the others, and later says that it
    // may be written again: so each read is ordered before the next write by the arrival of its own thread. Staged terms
    // all lanes read, and so all of them arrive.
    __device__ __forceinline__ bool speaks_for_warp() const { return thread % 32 == 0; }
    template <class Word>
    static __device__ __forceinline__ Word from_speaker(Word word) {
        return __shfl_sync(0xffffffff, word, 0);
    }

    // One lane speaks for the warpgroup: a wgmma of a warpgroup completes for all its warps at once.
    __device__ __forceinline__ void release(Mbarrier& empty) const {
        if (thread == 0) empty.arrive();
    }

    __device__ __forceinline__ void issue_query_key(Scores& scores) const {
        using Product = Wgmma<Element, Config::kTileN>;
        const KMajorOperand<kWarpgroupRows> query(shared_address(shared.query[warpgroup]));
        const KMajorOperand<Config::kTileN> keys(shared_address(shared.key[key.stage]));
        wgmma_fence();
        constexpr int kSteps = Config::kHeadDim / 16;
#pragma unroll
        for (int step = 0; step + 4 <= kSteps; step += 4) {
            Product::four_shared_shared(scores, query.step(step), keys.step(step), step != 0);
        }
#pragma unroll
        for (int step = kSteps / 4 * 4; step < kSteps; ++step) {
            Product::shared_shared(scores, query.step(step), keys.step(step), step != 0);
        }
        wgmma_commit();
    }

    __device__ __forceinline__ void issue_probability_value(const Probabilities& p, Output& out) const {
        using Product = Wgmma<Element, Config::kValueDim>;
        const MnMajorOperand<Config::kTileN> values(shared_address(shared.value[value.stage]));
        wgmma_fence();
        constexpr int kSteps = Config::kTileN / 16;
#pragma unroll
        for (int step = 0; step + 4 <= kSteps; step += 4) {
            Product::four_registers_shared(out, p + 4 * step, values.step(step));
        }
#pragma unroll
        for (int step = kSteps / 4 * 4; step < kSteps; ++step) {
            Product::registers_shared(out, p + 4 * step, values.step(step));
        }
        wgmma_commit();
    }

    __device__ __forceinline__ void await_key() { shared.key_full[key.stage].wait(key.parity); }
    __device__ __forceinline__ void await_value() { shared.value_full[value.stage].wait(value.parity); }

    // What the loader said of the tile whose keys have arrived. Read while the products are under way: between a softmax
    // and the next products it costs 3 % of the speed.
    __device__ __forceinline__ u32 read_note() const {
        u32 tile_note = 0;
        if (speaks_for_warp()) tile_note = *static_cast<volatile u32*>(&shared.tile_notes[key.stage]);
        return from_speaker(tile_note);
    }

    // The scores of the tile have landed.
    __device__ __forceinline__ void release_key(u32 tile_note) {
        if (Config::kStagesTerms || speaks_for_warp()) shared.key_empty[key.stage].arrive();
        key.advance();
        if (tile_note & TileNote::kLast) release(shared.query_empty[warpgroup]);
    }

    __device__ __forceinline__ void release_value() {
        release(shared.value_empty[value.stage]);
        value.advance();
    }

    __device__ __forceinline__ int first_key(u32 tile_note) const {
        constexpr u32 kIndex = Config::kStagesTerms ? TileNote::kShortIndex : TileNote::kIndex;
        return static_cast<int>(tile_note & kIndex) * Config::kTileN + 2 * (thread & 3);
    }

    // The staged terms of a tile.
    __device__ __forceinline__ Terms terms(u32 tile_note) const {
        const int row = int(warpgroup) * kWarpgroupRows + row_in_warpgroup();
        return Terms(shared, TileNote::slot(tile_note), row, 2 * (thread & 3));
    }

    __device__ __forceinline__ int row_in_warpgroup() const { return thread / 32 * 16 + thread % 32 / 4; }

    static __device__ __forceinline__ void narrow(const Scores& scores, Probabilities& p) {
#pragma unroll
        for (int i = 0; i < Config::kTileN / 4; ++i) p[i] = Element::narrow(scores[2 * i], scores[2 * i + 1]);
    }

    // Volatile, or the moves end up between products, which ptxas then serialises (C7513).
    static __device__ __forceinline__ void move(const Probabilities& from, Probabilities& to) {
#pragma unroll
        for (int i = 0; i < Config::kTileN / 4; ++i) {
            asm volatile("mov.b32 %0, %1;" : "=r"(to[i]) : "r"(from[i]) : "memory");
        }
    }

    static __device__ __forceinline__ void scale_output(Output& out, const float (&rescale)[2]) {
#pragma unroll
        for (int i = 0; i < Config::kValueDim / 2; ++i) out[i] *= rescale[(i / 2) % 2];
    }

    // One step of the loop: Q K of the next tile is issued, then P V of this one; while that is under way, the next
    // scores become probabilities. Returns whether the next tile was the final one.
    __device__ __forceinline__ bool step(
        const Rows& rows, const RowMaxima& maxima, float exponent_scale, Scores& scores, Softmax& softmax,
        Output& out, Probabilities& p, Probabilities& next_p) {
        float rescale[2];
        issue_query_key(scores);
        issue_probability_value(p, out);
        const u32 tile_note = read_note();
        wgmma_wait<1>();
        pin(scores);
        release_key(tile_note);
        float tile_shift[2];
        rows.apply(scores, first_key(tile_note), tile_note, terms(tile_note), exponent_scale, tile_shift);
        bool must_rescale;
        if constexpr (kKeepScores) {
            must_rescale = softmax.template step_apart<Element, false>(
                scores, next_p, exponent_scale, tile_shift, maxima, rescale);
            pin(next_p);
        } else {
            must_rescale = softmax.step_in_place(scores, exponent_scale, tile_shift, maxima, rescale);
            pin(scores);
        }
        // Besides being due, these waits keep the softmax above the next one: ptxas would move that up to here.
        const bool is_final = tile_note & TileNote::kLast;
        RingPosition<Config::kStages> next_value = value;
        next_value.advance();
        if (!is_final) await_key();
        shared.value_full[next_value.stage].wait(next_value.parity);
        wgmma_wait<0>();
        pin(out);
        release_value();
        if (must_rescale) scale_output(out, rescale);
        if constexpr (!kKeepScores) narrow(scores, next_p);
        return is_final;
    }

    struct Item {
        int batch, head, first_query;
        bool has_tiles;

        __device__ __forceinline__ bool exists() const { return batch >= 0; }
    };

    __device__ __forceinline__ Item next_item() {
        shared.work_full[slot.stage].wait(slot.parity);
        const WorkItem& announced = shared.work[slot.stage];
        const int row = int(warpgroup) * kWarpgroupRows + row_in_warpgroup();
        Item item{};
        if (speaks_for_warp()) {
            item = {
                announced.batch, announced.head, announced.query_tile * Config::kTileM,
                announced.first_run < announced.runs_end};
            shared.work_empty[slot.stage].arrive();
        }
        slot.advance();
        return {
            from_speaker(item.batch), from_speaker(item.head), from_speaker(item.first_query) + row,
            from_speaker(item.has_tiles)};
    }

    __device__ __forceinline__ void await_first_tile(const Item& item) {
        if (item.exists() && item.has_tiles) {
            shared.query_full[warpgroup].wait(query_parity);
            query_parity ^= 1;
            await_key();
        }
    }

    // The last P V of an item and its output; meanwhile the next item begins. Its first scores have landed on return.
    // Without a next item they are computed all the same, from what is left in shared memory, and never looked at:
    // ptxas serialises products that are under a condition.
    __device__ __forceinline__ void conclude(
        Item& item, const Probabilities& p, float exponent_scale, Scores& scores, Softmax& softmax, Output& out) {
        issue_probability_value(p, out);
        const Item next = next_item();
        await_first_tile(next);
        issue_query_key(scores);
        wgmma_wait<1>();
        pin(out);
        release_value();
        softmax.finish(exponent_scale);
        store_output<Config>(problem, item.batch, item.head, item.first_query, thread % 32, out, softmax);
        wgmma_wait<0>();
        pin(scores);
        item = next;
    }

    // An item, whose first scores have landed.
    __device__ __forceinline__ void attend(Item& item, Scores& scores, float exponent_scale) {
        const Rows rows(problem, captures, item.batch, item.head, item.first_query);
        const RowMaxima maxima{problem, item.batch, item.head, item.first_query, thread % 32};
        if (maxima.are_wanted()) maxima.reset();
        Output out;
#pragma unroll
        for (int i = 0; i < Config::kValueDim / 2; ++i) out[i] = 0.0f;
        Softmax softmax;
        softmax.reset();
        Probabilities p;
        float rescale[2], tile_shift[2];
        const u32 tile_note = read_note();
        release_key(tile_note);
        rows.apply(
            scores, first_key(tile_note), tile_note | TileNote::kEdge, terms(tile_note), exponent_scale, tile_shift);
        if constexpr (kKeepScores) {
            softmax.template step_apart<Element, true>(
                scores, p, exponent_scale, tile_shift, maxima, rescale);
        } else {
            softmax.step_in_place(scores, exponent_scale, tile_shift, maxima, rescale);
            narrow(scores, p);
        }
        bool is_final = tile_note & TileNote::kLast;
        if (!is_final) await_key();
        await_value();
        if constexpr (kKeepScores) {
            // Probabilities of two tiles are alive at a time, and change places.
            Probabilities other_p;
            while (!is_final) {
                is_final = step(rows, maxima, exponent_scale, scores, softmax, out, p, other_p);
                if (is_final) {
                    move(other_p, p);
                    break;
                }
                is_final = step(rows, maxima, exponent_scale, scores, softmax, out, other_p, p);
            }
        } else {
            while (!is_final) is_final = step(rows, maxima, exponent_scale, scores, softmax, out, p, p);
        }
        conclude(item, p, exponent_scale, scores, softmax, out);
    }

    __device__ __forceinline__ void run() {
        const float exponent_scale = flex::exponent_scale<Mods>(problem, captures);
        Item item = next_item();
        while (item.exists()) {
            if (!item.has_tiles) {
                store_nothing<Config>(problem, item.batch, item.head, item.first_query, thread % 32);
                item = next_item();
                continue;
            }
            Scores scores;
            await_first_tile(item);
            issue_query_key(scores);
            wgmma_wait<0>();
            pin(scores);
            do attend(item, scores, exponent_scale);
            while (item.exists() && item.has_tiles);
        }
    }
};

}  // namespace flex::hopper
