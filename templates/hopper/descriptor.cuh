// Matrix descriptors: how wgmma finds an operand in shared memory.
//
// Operands lie in panels of 64 columns of 16 bits: a row of a panel is 128 bytes, swizzled in atoms of 8 rows
// (SWIZZLE_128B), panels follow each other. A panel starts on a multiple of 1024 bytes.
#pragma once
#include "hopper/mbarrier.cuh"

namespace flex::hopper {

constexpr int kPanelColumns = 64;
constexpr int kPanelRowBytes = 128;
constexpr int kAtomBytes = 8 * kPanelRowBytes;

constexpr int panels(int columns) { return (columns + kPanelColumns - 1) / kPanelColumns; }

// bits 0-13 address / 16, 16-29 leading offset / 16, 32-45 stride offset / 16, 62-63 = 1: swizzle of 128 bytes.
template <int kLeadingBytes>
__device__ __forceinline__ u64 matrix_descriptor(u32 shared_byte_address) {
    constexpr u64 kFixed =
        (1ull << 62) | (static_cast<u64>(kAtomBytes >> 4) << 32) | (static_cast<u64>(kLeadingBytes >> 4) << 16);
    return kFixed | ((shared_byte_address & 0x3FFFFu) >> 4);
}

// An operand whose rows are the columns of the product and whose columns are summed over (Q and K in Q Kᵀ).
template <int kRows>
struct KMajorOperand {
    u64 first;

    __device__ __forceinline__ explicit KMajorOperand(u32 address) : first(matrix_descriptor<16>(address)) {}
    // The 16 summed columns of `step`.
    __device__ __forceinline__ u64 step(int step) const {
        return first + (((step / 4) * kRows * kPanelRowBytes + (step % 4) * 32) >> 4);
    }
};

// An operand whose rows are summed over and whose columns are the columns of the product (V in P V).
template <int kRows>
struct MnMajorOperand {
    u64 first;

    __device__ __forceinline__ explicit MnMajorOperand(u32 address)
        : first(matrix_descriptor<kRows * kPanelRowBytes>(address)) {}
    // The 16 summed rows of `step`.
    __device__ __forceinline__ u64 step(int step) const { return first + ((step * 16 * kPanelRowBytes) >> 4); }
};

}  // namespace flex::hopper
