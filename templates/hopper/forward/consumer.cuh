// A consumer warpgroup: 64 query rows against every key tile of the list. The products of a step run asynchronously: while
// P V of the last tile is under way, the softmax of this tile is computed.
#pragma once
#include "hopper/forward/output.cuh"
#include "hopper/forward/scores.cuh"
#include "hopper/wgmma.cuh"

namespace flex::hopper {

template <class Config, class Mods, class Captures>
struct Consumer {
    using Shared = ForwardSharedMemory<Config>;
    using Element = typename Config::Element;
    using Rows = ScoreRows<Config, Mods, Captures>;
    using Scores = float[Config::kTileN / 2];
    using Probabilities = u32[Config::kTileN / 4];
    using Output = float[Config::kValueDim / 2];

    const Problem& problem;
    const Captures& captures;
    Shared& shared;
    const u32 warpgroup;  // among the consumers
    const int thread;     // of the warpgroup
    Turns<Config::kConsumers, Config::kTakeTurns> turns;
    RingPosition<Config::kStages> key, value;
    RingPosition<2 * Config::kStages> note;

    __device__ __forceinline__ Consumer(const Problem& problem, const Captures& captures, Shared& shared, u32 warpgroup, int thread)
        : problem(problem), captures(captures), shared(shared), warpgroup(warpgroup), thread(thread), turns(warpgroup) {}

    // One lane speaks for the warpgroup: a wgmma of a warpgroup completes for all its warps at once.
    __device__ __forceinline__ void release(Mbarrier& empty) const {
        if (thread == 0) empty.arrive();
    }

    __device__ __forceinline__ void issue_query_key(Scores& scores) const {
        const KMajorOperand<kWarpgroupRows> query(shared_address(shared.query[warpgroup]));
        const KMajorOperand<Config::kTileN> keys(shared_address(shared.key[key.stage]));
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < Config::kHeadDim / 16; ++step) {
            Wgmma<Element, Config::kTileN>::shared_shared(scores, query.step(step), keys.step(step), step != 0);
        }
        wgmma_commit();
    }

    __device__ __forceinline__ void issue_probability_value(const Probabilities& p, Output& out) const {
        const MnMajorOperand<Config::kTileN> values(shared_address(shared.value[value.stage]));
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < Config::kTileN / 16; ++step) {
            Wgmma<Element, Config::kValueDim>::registers_shared(
                out, p[4 * step], p[4 * step + 1], p[4 * step + 2], p[4 * step + 3], values.step(step));
        }
        wgmma_commit();
    }

    __device__ __forceinline__ u32 await_key() {
        shared.key_full[key.stage].wait(key.parity);
        const u32 found = *static_cast<volatile u32*>(&shared.tile_notes[note.stage]);
        note.advance();
        return found;
    }

    // The scores of the tile have landed.
    __device__ __forceinline__ void release_key(u32 tile_note) {
        release(shared.key_empty[key.stage]);
        key.advance();
        if (tile_note & TileNote::kLast) release(shared.query_empty[warpgroup]);
    }

    __device__ __forceinline__ void release_value() {
        release(shared.value_empty[value.stage]);
        value.advance();
    }

    __device__ __forceinline__ int first_key(u32 tile_note) const {
        return static_cast<int>(tile_note & TileNote::kIndex) * Config::kTileN + 2 * (thread & 3);
    }

    static __device__ __forceinline__ void narrow(const Scores& scores, Probabilities& p) {
#pragma unroll
        for (int i = 0; i < Config::kTileN / 4; ++i) p[i] = Element::narrow(scores[2 * i], scores[2 * i + 1]);
    }

    static __device__ __forceinline__ void scale_output(Output& out, const float (&rescale)[2]) {
#pragma unroll
        for (int i = 0; i < Config::kValueDim / 2; ++i) out[i] *= rescale[(i / 2) % 2];
    }

    __device__ __forceinline__ void attend(const Rows& rows, float exponent_scale, OnlineSoftmax& softmax, Output& out) {
        Scores scores;
        Probabilities p;
        float rescale[2];

        u32 tile_note = await_key();
        issue_query_key(scores);
        wgmma_wait<0>();
        pin(scores);
        release_key(tile_note);
        rows.modify_and_mask(scores, first_key(tile_note), tile_note & TileNote::kMasked);
        softmax.step(scores, exponent_scale, rescale);
        narrow(scores, p);

        bool is_last = tile_note & TileNote::kLast;
        if (!is_last) tile_note = await_key();
        while (!is_last) {
            turns.take();
            issue_query_key(scores);
            shared.value_full[value.stage].wait(value.parity);
            issue_probability_value(p, out);
            turns.pass();
            wgmma_wait<1>();
            pin(scores);
            release_key(tile_note);
            if (tile_note & TileNote::kCareful) {
                rows.modify_and_mask(scores, first_key(tile_note), tile_note & TileNote::kMasked);
            } else {
                rows.modify(scores, first_key(tile_note));
            }
            const bool must_rescale = softmax.step(scores, exponent_scale, rescale);
            pin(scores);
            // Besides being due, this wait keeps the softmax above the next one: ptxas would move that up to here.
            is_last = tile_note & TileNote::kLast;
            if (!is_last) tile_note = await_key();
            wgmma_wait<0>();
            pin(out);
            release_value();
            if (must_rescale) scale_output(out, rescale);
            narrow(scores, p);
        }

        shared.value_full[value.stage].wait(value.parity);
        issue_probability_value(p, out);
        wgmma_wait<0>();
        pin(out);
        release_value();
    }

    __device__ __forceinline__ void run() {
        RingPosition<Shared::kWorkSlots> slot;
        u32 query_parity = 0;
        while (true) {
            shared.work_full[slot.stage].wait(slot.parity);
            const WorkItem& announced = shared.work[slot.stage];
            const int batch = announced.batch, head = announced.head, query_tile = announced.query_tile;
            const bool has_tiles = announced.first_run < announced.runs_end;
            __syncwarp();
            if (thread % 32 == 0) shared.work_empty[slot.stage].arrive();
            slot.advance();
            if (batch < 0) break;

            const int first_query =
                query_tile * Config::kTileM + int(warpgroup) * kWarpgroupRows + thread / 32 * 16 + thread % 32 / 4;
            Output out;
#pragma unroll
            for (int i = 0; i < Config::kValueDim / 2; ++i) out[i] = 0.0f;
            OnlineSoftmax softmax;
            softmax.reset();
            if (has_tiles) {
                const Rows rows(problem, captures, batch, head, first_query);
                const float exponent_scale =
                    Mods::kHasScore ? Mods::exponent_scale(problem, captures) : problem.scale * 1.44269504088896340736f;
                shared.query_full[warpgroup].wait(query_parity);
                query_parity ^= 1;
                attend(rows, exponent_scale, softmax, out);
                softmax.finish();
            }
            store_output<Config>(problem, batch, head, first_query, thread % 32, out, softmax);
        }
    }
};

}  // namespace flex::hopper
