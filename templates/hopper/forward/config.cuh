// What a forward instance fixes at compile time, and what follows from it.
#pragma once
#include "flex/problem.cuh"
#include "hopper/descriptor.cuh"
#include "hopper/warpgroup.cuh"

namespace flex::hopper {

// The rows of the query tile that one consumer warpgroup owns.
constexpr int kWarpgroupRows = 64;

template <
    class Element_, int kHeadDim_, int kValueDim_, int kTileM_, int kTileN_, int kStages_, int kKeyTerms_ = 0,
    int kDistanceTerms_ = 0>
struct ForwardConfig {
    using Element = Element_;  // Bf16 or F16
    static constexpr int kHeadDim = kHeadDim_;
    static constexpr int kValueDim = kValueDim_;
    static constexpr int kTileM = kTileM_;  // queries of a work item
    static constexpr int kTileN = kTileN_;  // keys of a step
    static constexpr int kStages = kStages_;

    // Words that mods want staged for each key of a tile, and for each distance q - kv.
    static constexpr int kKeyTerms = kKeyTerms_;
    static constexpr int kDistanceTerms = kDistanceTerms_;
    static constexpr bool kStagesTerms = kKeyTerms + kDistanceTerms > 0;

    static constexpr int kConsumers = kTileM / kWarpgroupRows;
    static constexpr int kThreads = (1 + kConsumers) * kWarpgroupThreads;
    // setmaxnreg: 64 Ki registers, shared out unevenly.
    static constexpr int kProducerRegisters = kConsumers == 1 ? 56 : kConsumers == 2 ? 40 : 32;
    static constexpr int kConsumerRegisters = kConsumers == 1 ? 256 : kConsumers == 2 ? 232 : 160;

    // Whether registers suffice to keep the scores of a tile (N / 2 a thread) beside its probabilities and those of the
    // tile before (N / 4 each) and the output, with 40 left for everything else, or 32 where the tile is that of small
    // head dims.
    static constexpr bool kKeepScores =
        kHeadDim <= 128 && kTileN + kValueDim / 2 + (kConsumers == 3 ? 32 : 40) <= kConsumerRegisters;

    static constexpr int kQueryBytes = panels(kHeadDim) * kWarpgroupRows * kPanelRowBytes;  // of one consumer
    static constexpr int kKeyBytes = panels(kHeadDim) * kTileN * kPanelRowBytes;            // of one stage
    static constexpr int kValueBytes = panels(kValueDim) * kTileN * kPanelRowBytes;

    static constexpr int kTermSlots = kStages + 1;          // staging.cuh says why
    static constexpr int kDistances = kTileM + kTileN;      // one more than there are, for the sake of alignment
    static constexpr int kSlotWords = kKeyTerms * kTileN + kDistanceTerms * kDistances;
    static constexpr int kTermBytes = kTermSlots * kSlotWords * 4;

    // Dynamic shared memory of a block: the tiles, 1 KiB for what the roles tell each other, and staged terms.
    static constexpr int kSharedBytes =
        kConsumers * kQueryBytes + kStages * (kKeyBytes + kValueBytes) + 1024 + (kTermBytes + 1023) / 1024 * 1024;

    static_assert(kTileM % kWarpgroupRows == 0 && kConsumers >= 1 && kConsumers <= 3);
    static_assert(kTileN % 16 == 0 && kKeyBytes % kAtomBytes == 0, "a panel starts on a swizzle atom");
    static_assert(kHeadDim % 16 == 0 && kValueDim % 32 == 0);
    static_assert(kStages >= 2 && kTermSlots <= 8);
};

// A query tile of a head and the key tiles it attends to, as the scheduler announces it.
struct alignas(16) WorkItem {
    int batch;  // -1: no work is left
    int head, query_tile;
    unsigned first_run, runs_end;  // empty: every row is fully masked. Without a block mask, one run 0..1
    Run last_run;                  // the first to be visited: tiles are visited from the last to the first
};

// What the loader says of a key tile to the consumers: its index, and how to treat it.
struct TileNote {
    static constexpr u32 kLast = 1u << 31;    // the final one of the item
    static constexpr u32 kMasked = 1u << 30;  // the mask cuts here
    static constexpr u32 kEdge = 1u << 29;    // the tile reaches beyond the last key
    static constexpr u32 kIndex = kEdge - 1;

    // Where terms are staged, the bits above a shorter index say in which slot those of the tile are (staging.cuh).
    static constexpr int kSlotShift = 26;
    static constexpr u32 kShortIndex = (1u << kSlotShift) - 1;
    static __device__ __forceinline__ u32 slot(u32 note) { return note >> kSlotShift & 7; }
};

// Staged terms of the tiles that are on their way. A slot has those of distances, from the first query less the last key
// on, and then those of keys.
template <class Config, bool = Config::kStagesTerms>
struct TermSlots {};
template <class Config>
struct alignas(1024) TermSlots<Config, true> {
    u32 slots[Config::kTermSlots][Config::kSlotWords];

    __device__ __forceinline__ u32* distances(u32 slot, int word) {
        return &slots[slot][word * Config::kDistances];
    }
    __device__ __forceinline__ u32* keys(u32 slot, int word) {
        return &slots[slot][Config::kDistanceTerms * Config::kDistances + word * Config::kTileN];
    }
};

template <class Config>
struct alignas(1024) ForwardSharedMemory : TermSlots<Config> {
    unsigned char query[Config::kConsumers][Config::kQueryBytes];
    unsigned char key[Config::kStages][Config::kKeyBytes];
    unsigned char value[Config::kStages][Config::kValueBytes];

    Mbarrier query_full[Config::kConsumers], query_empty[Config::kConsumers];
    Mbarrier key_full[Config::kStages], key_empty[Config::kStages];
    Mbarrier value_full[Config::kStages], value_empty[Config::kStages];
    u32 tile_notes[Config::kStages];  // of the tiles in the key stages

    static constexpr int kWorkSlots = 2;
    Mbarrier work_full[kWorkSlots], work_empty[kWorkSlots];
    WorkItem work[kWorkSlots];

    // The loaders, each consumer warp, and the lanes that stage terms.
    static constexpr int kWorkReaders = 2 + 4 * Config::kConsumers + (Config::kStagesTerms ? 32 : 0);
    // Of the stages of keys: a warp each, or where all lanes read what is staged, all lanes.
    static constexpr int kKeyReaders = (Config::kStagesTerms ? 128 : 4) * Config::kConsumers;

    __device__ __forceinline__ void init() {
        for (int i = 0; i < Config::kConsumers; ++i) query_full[i].init(1), query_empty[i].init(1);
        for (int i = 0; i < Config::kStages; ++i) {
            key_full[i].init(Config::kStagesTerms ? 33 : 1), key_empty[i].init(kKeyReaders);
            value_full[i].init(1), value_empty[i].init(Config::kConsumers);
        }
        for (int i = 0; i < kWorkSlots; ++i) work_full[i].init(1), work_empty[i].init(kWorkReaders);
        fence_mbarrier_init();
    }
};

__device__ __forceinline__ int tiles(int length, int tile) { return (length - 1) / tile + 1; }

}  // namespace flex::hopper
