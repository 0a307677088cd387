// Forward attention for Hopper (sm_90a): a persistent grid of one block an SM. Warpgroup 0 feeds (a scheduler and two
// loaders, warps of one working lane each); every further warpgroup owns 64 query rows.
#pragma once
#include "hopper/forward/consumer.cuh"
#include "hopper/forward/loader.cuh"
#include "hopper/forward/scheduler.cuh"
#include "hopper/forward/staging.cuh"

namespace flex::hopper {

// The body of the kernel; Config is a ForwardConfig. See templates/README.md for the entry and its launch.
template <class Config, class Mods, class Captures>
__device__ __forceinline__ void forward(
    const Problem& problem, const Captures& captures, const TensorMap& query_map, const TensorMap& key_map,
    const TensorMap& value_map) {
    using Shared = ForwardSharedMemory<Config>;
    static_assert(sizeof(Shared) == Config::kSharedBytes, "as the host computes it");
    static_assert(sizeof(Shared) <= 232448, "a block of sm_90 has 227 KiB of shared memory");
    extern __shared__ __align__(1024) unsigned char dynamic_shared_memory[];
    Shared& shared = *reinterpret_cast<Shared*>(dynamic_shared_memory);

    if (threadIdx.x == 0) {
        prefetch_tensor_map(query_map);
        prefetch_tensor_map(key_map);
        prefetch_tensor_map(value_map);
        shared.init();
    }
    __syncthreads();

    // Uniform in a warp, and the compiler should know: roles are warps.
    const int warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0);
    if (warp < 4) {
        release_registers<Config::kProducerRegisters>();
        if (threadIdx.x % 32 == 0) {
            if (warp == 0) load_queries_and_keys<Config, Mods>(problem, query_map, key_map, shared);
            if (warp == 1) load_values<Config>(problem, value_map, shared);
            if (warp == 2) schedule<Config>(problem, shared);
        }
        if constexpr (Config::kStagesTerms) {
            if (warp == 3) Stager<Config, Mods, Captures>{problem, captures, shared, int(threadIdx.x % 32)}.run();
        }
    } else {
        claim_registers<Config::kConsumerRegisters>();
        Consumer<Config, Mods, Captures>(problem, captures, shared, warp / 4 - 1, threadIdx.x % kWarpgroupThreads)
            .run();
    }
}

}  // namespace flex::hopper
