// The key/value tiles of a query tile, in order.
#pragma once
#include "flex/problem.cuh"
#include "flex/ptx.cuh"

namespace flex {

// A key/value tile, in one register.
struct Tile {
    int bits;

    __device__ __forceinline__ bool exists() const { return bits >= 0; }
    __device__ __forceinline__ int index() const { return bits >> 1; }
    // The mask is to be evaluated.
    __device__ __forceinline__ bool partial() const { return bits & 1; }
};

// Where a block of threads works. In shared memory, because registers are what the kernels are short of.
struct Place {
    int batch, head, kv_head, q_tile;
};

// Walks the tiles of a row of the block mask, or all of them. One thread walks, a step ahead of the others.
class TileWalk {
  public:
    __device__ __forceinline__ Tile first(const Problem& problem, const Place& place, int tile_kv) {
        runs_done_ = 0;
        if (problem.block_mask.row_offsets != nullptr) return next_run(problem.block_mask, place);
        end_ = (problem.kv_len - 1) / tile_kv * 2 + 2;
        return {0};
    }

    // The tile after `tile`; one that does not exist behind the last.
    __device__ __forceinline__ Tile after(Tile tile, const Problem& problem, const Place& place) {
        if (!tile.exists()) return tile;
        if (tile.bits + 2 != end_) return {tile.bits + 2};
        if (problem.block_mask.row_offsets == nullptr) return {-1};
        return next_run(problem.block_mask, place);
    }

  private:
    int end_;  // the bits of one past the run's last tile
    unsigned runs_done_;

    __device__ __forceinline__ Tile next_run(const BlockMask& mask, const Place& place) {
        const unsigned* row = mask.row_offsets + (static_cast<long long>(place.batch) * mask.batch_rows +
                                                  static_cast<long long>(place.head) * mask.head_rows + place.q_tile);
        const unsigned run_index = row[0] + runs_done_++;
        if (run_index >= row[1]) return {-1};
        const Run run = mask.runs[run_index];
        const Tile tile{int(run.first_tile) * 2 + !run.full()};
        end_ = tile.bits + int(run.length()) * 2;
        return tile;
    }
};

}  // namespace flex
