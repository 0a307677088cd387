// The scheduler warp: fetches work items ahead of their use and announces them to the loader and the consumers.
//
// The grid is persistent. Block i starts with item i of `work_order`; further items come from the atomic counter, so a
// block that had short items takes more of them. The block that draws the last number sets the counter back to zero:
// a launch finds it at zero and leaves it there.
#pragma once
#include "hopper/forward/config.cuh"

namespace flex::hopper {

template <class Config>
__device__ __forceinline__ WorkItem work_item(const Problem& problem, unsigned position) {
    const unsigned query_tiles = tiles(problem.q_len, Config::kTileM);
    const unsigned item = problem.work_order ? problem.work_order[position] : position;
    WorkItem work;
    const unsigned row = item / query_tiles;
    work.query_tile = item % query_tiles;
    work.batch = row / problem.heads;
    work.head = row % problem.heads;
    const BlockMask& mask = problem.block_mask;
    if (mask.row_offsets) {
        const u64 list = u64(work.batch) * mask.batch_rows + u64(work.head) * mask.head_rows + work.query_tile;
        work.first_run = mask.row_offsets[list];
        work.runs_end = mask.row_offsets[list + 1];
        work.last_run = work.first_run < work.runs_end ? mask.runs[work.runs_end - 1] : Run{0, 0};
    } else {
        work.first_run = 0;
        work.runs_end = 1;
        work.last_run = {0, unsigned(tiles(problem.kv_len, Config::kTileN)) | Run::kFull};
    }
    return work;
}

// Run by one lane.
template <class Config>
__device__ __forceinline__ void schedule(const Problem& problem, ForwardSharedMemory<Config>& shared) {
    const unsigned items = unsigned(tiles(problem.q_len, Config::kTileM)) * problem.heads * problem.batch;
    RingPosition<ForwardSharedMemory<Config>::kWorkSlots> slot;
    unsigned position = blockIdx.x;
    while (true) {
        WorkItem work;
        if (position < items) {
            work = work_item<Config>(problem, position);
        } else {
            work = {-1, 0, 0, 0, 0, {0, 0}};
        }
        shared.work_empty[slot.stage].wait(slot.parity ^ 1);
        shared.work[slot.stage] = work;
        shared.work_full[slot.stage].arrive();
        if (position >= items) break;
        slot.advance();
        // `items` numbers are drawn in all: each block's first item is free, and each block draws once in vain.
        const unsigned drawn = atomicAdd(problem.next_work, 1u);
        if (drawn == items - 1) *problem.next_work = 0;
        position = drawn + gridDim.x;
    }
}

}  // namespace flex::hopper
