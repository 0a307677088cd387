// Judges tiles of a mask, a warp each: whether some element is kept, whether some is not, and whether one faults.
// Instantiated with generated `Captures` and `Mods`, or with the default ones.
#pragma once
#include "flex/fault.cuh"
#include "flex/problem.cuh"

namespace flex {

// flex_core::mask::OpenTile.
struct OpenTile {
    static constexpr unsigned kMayFault = 1u << 31;

    unsigned batch, head, q_tile, kv_tile_and_may_fault;

    __device__ unsigned kv_tile() const { return kv_tile_and_may_fault & ~kMayFault; }
    __device__ bool may_fault() const { return kv_tile_and_may_fault & kMayFault; }
};

// What a launch tells the kernel (flex-codegen, `abi::MaskTiles`).
struct MaskTiles {
    const OpenTile* tiles;
    unsigned char* verdicts;  // one a tile: flex_core::mask::TileVerdict
    unsigned count;
    int q_len, kv_len, tile_q, tile_kv;
};

constexpr int kMaskTilesWarps = 4;
constexpr unsigned char kKeeps = 1, kSkips = 2, kFaults = 4;

// The keys that a lane looks at in a row at a time, so that what depends on the row alone is shared between them. What
// depends on the key alone stays in registers all along the rows.
template <class Mods>
struct KeysOfLane {
    static constexpr int kCount = sizeof(typename Mods::Column) <= 16 ? 4 : 2;
};

// One warp's tile, from its first row to its last or until nothing more can be learned. Lanes look at neighbouring keys.
template <class Mods>
__device__ __forceinline__ unsigned char judge_tile(const MaskTiles& job, const Problem& problem,
                                                    const Captures& captures, const OpenTile& tile, int lane) {
    constexpr int kKeys = KeysOfLane<Mods>::kCount, kStep = 32 * kKeys, kRowsBetweenVotes = 4;
    const int b = int(tile.batch), h = int(tile.head);
    const int q_first = int(tile.q_tile) * job.tile_q, kv_first = int(tile.kv_tile()) * job.tile_kv;
    const int rows = min(job.q_len - q_first, job.tile_q), keys = min(job.kv_len - kv_first, job.tile_kv);
    bool kept = false, skipped = false;
    for (unsigned step = 0; step < unsigned(keys); step += kStep) {
        // Lanes behind the last key look at it once more, which changes nothing.
        int kv[kKeys];
        typename Mods::Column column[kKeys];
#pragma unroll
        for (int i = 0; i < kKeys; ++i) {
            kv[i] = kv_first + int(min(step + 32 * i + lane, unsigned(keys - 1)));
            column[i] = Mods::column(problem, captures, b, h, kv[i]);
        }
#pragma unroll 1
        for (int row_of_tile = 0; row_of_tile < rows; ++row_of_tile) {
            const int q = q_first + row_of_tile;
            const typename Mods::Row row = Mods::row(problem, captures, b, h, q);
#pragma unroll
            for (int i = 0; i < kKeys; ++i) {
                const bool keep = Mods::mask(problem, captures, row, column[i], b, h, q, kv[i], true);
                kept |= keep;
                skipped |= !keep;
            }
            if (row_of_tile % kRowsBetweenVotes == 0 && !tile.may_fault() && __any_sync(~0u, kept) &&
                __any_sync(~0u, skipped))
                return kKeeps | kSkips;
        }
    }
    return (__any_sync(~0u, kept) ? kKeeps : 0) | (__any_sync(~0u, skipped) ? kSkips : 0);
}

template <class Mods>
__device__ __forceinline__ void judge_tiles(const MaskTiles& job, const Captures& captures) {
    // Which fault it is the host finds out; here it matters in which tile.
    __shared__ Fault faults[kMaskTilesWarps];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    Problem problem{};
    problem.q_len = job.q_len;
    problem.kv_len = job.kv_len;
    problem.fault = &faults[warp];
    for (unsigned i = blockIdx.x * kMaskTilesWarps + warp; i < job.count; i += gridDim.x * kMaskTilesWarps) {
        if constexpr (Mods::kCanFault) {
            if (lane == 0) faults[warp].claimed = 0;
            __syncwarp();
        }
        unsigned char verdict = judge_tile<Mods>(job, problem, captures, job.tiles[i], lane);
        if constexpr (Mods::kCanFault) {
            __syncwarp();
            if (faults[warp].claimed != 0) verdict |= kFaults;
            __syncwarp();
        }
        if (lane == 0) job.verdicts[i] = verdict;
    }
}

}  // namespace flex
