// The key/value tiles of a query tile, in order.
#pragma once
#include "flex/problem.cuh"

namespace flex {

// A key/value tile. `cut`: some elements may be masked or lie behind the last key.
struct Tile {
    int index;
    bool partial;
    bool cut;
};

// Walks the tiles of a row of the block mask, or all of them.
class TileWalk {
  public:
    __device__ TileWalk(const Problem& problem, int batch, int head, int q_tile, int tile_kv) : runs_(problem.block_mask.runs) {
        const BlockMask& mask = problem.block_mask;
        last_tile_ = (problem.kv_len - 1) / tile_kv;
        last_tile_is_cut_ = problem.kv_len % tile_kv != 0;
        if (mask.row_offsets == nullptr) {
            run_ = run_end_ = 0;
            tile_end_ = last_tile_ + 1;
        } else {
            const unsigned* row = mask.row_offsets + (size_t(batch) * mask.batch_rows + size_t(head) * mask.head_rows + q_tile);
            run_ = row[0];
            run_end_ = row[1];
        }
    }

    // Steps to the next tile; false behind the last.
    __device__ __forceinline__ bool next(Tile& tile) {
        if (tile_ >= tile_end_) {
            if (run_ == run_end_) return false;
            const Run run = runs_[run_++];
            tile_ = int(run.first_tile);
            tile_end_ = tile_ + int(run.length());
            partial_ = !run.full();
        }
        tile.index = tile_++;
        tile.partial = partial_;
        tile.cut = partial_ || (last_tile_is_cut_ && tile.index == last_tile_);
        return true;
    }

  private:
    using size_t = unsigned long long;
    const Run* runs_;
    unsigned run_, run_end_;
    int tile_ = 0, tile_end_ = 0;
    int last_tile_;
    bool last_tile_is_cut_, partial_ = false;
};

}  // namespace flex
