// The bulk tensor copy engine: one instruction moves a box of a tensor into shared memory, swizzled, zero-filled where
// the box leaves the tensor, and reports its bytes to an mbarrier.
#pragma once
#include "hopper/mbarrier.cuh"

namespace flex::hopper {

// Encoded by the driver (cuTensorMapEncodeTiled); a __grid_constant__ parameter of the kernel.
struct alignas(64) TensorMap {
    u64 opaque[16];
};

// How long the lines should live in L2: keys and values are read again by the other query tiles of the head.
enum class L2Policy : u64 { kEvictFirst = 0x12F0000000000000ull, kEvictLast = 0x14F0000000000000ull };

__device__ __forceinline__ void prefetch_tensor_map(const TensorMap& map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

__device__ __forceinline__ void load_box(
    const TensorMap& map, Mbarrier& full, void* destination, L2Policy policy, int column, int row, int head,
    int batch) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
        " [%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(shared_address(destination)),
        "l"(&map), "r"(shared_address(&full)), "r"(column), "r"(row), "r"(head), "r"(batch),
        "l"(static_cast<u64>(policy))
        : "memory");
}

}  // namespace flex::hopper
