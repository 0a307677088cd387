// The loader warps: each walks the runs of each work item and keeps the copy engine ahead of the consumers. Keys (and
// the query tile) and values have a warp each, so that neither queue waits for the other.
#pragma once
#include "hopper/forward/config.cuh"
#include "hopper/tma.cuh"

namespace flex::hopper {

// Visits the key tiles of a work item from the last to the first: visit(tile, full, is_final). Where scores grow
// towards the diagonal, the first tile visited holds the maximum, and nothing is rescaled later.
template <class Visit>
__device__ __forceinline__ void for_each_tile(const Problem& problem, const WorkItem& work, Visit visit) {
    Run run = work.last_run;
#pragma unroll 1
    for (unsigned i = work.runs_end; i-- > work.first_run;) {
        const bool final_run = i == work.first_run;
        const Run next_run = final_run ? Run{0, 0} : problem.block_mask.runs[i - 1];
#pragma unroll 1
        for (unsigned tile = run.first_tile + run.length(); tile-- > run.first_tile;) {
            visit(tile, run.full(), final_run && tile == run.first_tile);
        }
        run = next_run;
    }
}

// Calls load(item) for the announced items that have key tiles.
template <class Config, class Load>
__device__ __forceinline__ void for_each_item(ForwardSharedMemory<Config>& shared, Load load) {
    RingPosition<ForwardSharedMemory<Config>::kWorkSlots> slot;
    while (true) {
        shared.work_full[slot.stage].wait(slot.parity);
        const WorkItem work = shared.work[slot.stage];
        shared.work_empty[slot.stage].arrive();
        slot.advance();
        if (work.batch < 0) break;
        if (work.first_run < work.runs_end) load(work);
    }
}

// A tile of `kRows` rows and `kColumns` columns, panel by panel.
template <int kRows, int kColumns>
__device__ __forceinline__ void load_panels(
    const TensorMap& map, Mbarrier& full, unsigned char* destination, L2Policy policy, int row, int head, int batch) {
    full.arrive_expecting(panels(kColumns) * kRows * kPanelRowBytes);
#pragma unroll
    for (int panel = 0; panel < panels(kColumns); ++panel) {
        load_box(
            map, full, destination + panel * kRows * kPanelRowBytes, policy, panel * kPanelColumns, row, head, batch);
    }
}

// Coordinates in a tensor map, where a broadcast dimension (stride 0) has extent 1.
__device__ __forceinline__ int2 head_and_batch(const Strides& strides, int head, int batch) {
    return {strides.head ? head : 0, strides.batch ? batch : 0};
}

__device__ __forceinline__ int kv_head(const Problem& problem, const WorkItem& work) {
    return work.head / (problem.heads / problem.kv_heads);
}

template <class Config, class Mods>
__device__ __forceinline__ u32 tile_note(const Problem& problem, unsigned tile, bool full, bool is_final) {
    u32 note = tile;
    if (is_final) note |= TileNote::kLast;
    if (Mods::kHasMask && !full) note |= TileNote::kMasked;
    if ((tile + 1) * Config::kTileN > unsigned(problem.kv_len)) note |= TileNote::kEdge;
    return note;
}

// Run by one lane.
template <class Config, class Mods>
__device__ __forceinline__ void load_queries_and_keys(
    const Problem& problem, const TensorMap& query_map, const TensorMap& key_map, ForwardSharedMemory<Config>& shared) {
    RingPosition<Config::kStages> key;
    RingPosition<Config::kTermSlots> term_slot;
    u32 query_parity = 0;
    for_each_item<Config>(shared, [&](const WorkItem& work) {
        const int2 source = head_and_batch(problem.key_strides, kv_head(problem, work), work.batch);
        bool query_is_due = true;
        for_each_tile(problem, work, [&](unsigned tile, bool full, bool is_final) {
            shared.key_empty[key.stage].wait(key.parity ^ 1);
            u32 note = tile_note<Config, Mods>(problem, tile, full, is_final);
            if constexpr (Config::kStagesTerms) {
                note |= term_slot.stage << TileNote::kSlotShift;
                term_slot.advance();
            }
            shared.tile_notes[key.stage] = note;
            load_panels<Config::kTileN, Config::kHeadDim>(
                key_map, shared.key_full[key.stage], shared.key[key.stage], L2Policy::kEvictLast, tile * Config::kTileN,
                source.x, source.y);
            key.advance();
            if (query_is_due) {  // after the first keys: their stage is free long before the query's memory is
                query_is_due = false;
                const int2 query_source = head_and_batch(problem.query_strides, work.head, work.batch);
#pragma unroll
                for (int consumer = 0; consumer < Config::kConsumers; ++consumer) {
                    shared.query_empty[consumer].wait(query_parity ^ 1);
                    load_panels<kWarpgroupRows, Config::kHeadDim>(
                        query_map, shared.query_full[consumer], shared.query[consumer], L2Policy::kEvictFirst,
                        work.query_tile * Config::kTileM + consumer * kWarpgroupRows, query_source.x, query_source.y);
                }
                query_parity ^= 1;
            }
        });
    });
}

// Run by one lane.
template <class Config>
__device__ __forceinline__ void load_values(
    const Problem& problem, const TensorMap& value_map, ForwardSharedMemory<Config>& shared) {
    RingPosition<Config::kStages> value;
    for_each_item<Config>(shared, [&](const WorkItem& work) {
        const int2 source = head_and_batch(problem.value_strides, kv_head(problem, work), work.batch);
        for_each_tile(problem, work, [&](unsigned tile, bool, bool) {
            shared.value_empty[value.stage].wait(value.parity ^ 1);
            load_panels<Config::kTileN, Config::kValueDim>(
                value_map, shared.value_full[value.stage], shared.value[value.stage], L2Policy::kEvictLast,
                tile * Config::kTileN, source.x, source.y);
            value.advance();
        });
    });
}

}  // namespace flex::hopper
