// Rows of tensors to and from shared memory.
#pragma once
#include "flex/problem.cuh"
#include "flex/ptx.cuh"

namespace flex {

constexpr __host__ __device__ int round_up_to_power_of_2(int x) {
    int power = 1;
    while (power < x) power *= 2;
    return power;
}

// A row of `kColumns` elements in shared memory: padded with zeros to whole steps of the products, and by 16 bytes, so
// that a row is an odd number of 16-byte chunks and eight rows of one chunk column lie in different banks.
template <class Element, int kColumns>
struct RowLayout {
    static constexpr int kStep = sizeof(Element) == 4 ? 8 : 16;
    static constexpr int kPadded = (kColumns + kStep - 1) / kStep * kStep;
    static constexpr int kChunkElements = 16 / sizeof(Element);
    static constexpr int kChunks = kPadded / kChunkElements;
    static constexpr int kBytes = kChunks * 16 + 16;
    static_assert(kChunks % 2 == 0, "rows would share banks");
};

// One matrix of a tensor: a head of a sequence.
template <class Element>
struct Matrix {
    Element* data;
    long long row_stride;

    static __device__ Matrix of(const void* tensor, const Strides& strides, int batch, int head) {
        auto* data = static_cast<Element*>(const_cast<void*>(tensor));
        return {data + batch * strides.batch + head * strides.head, strides.row};
    }
    __device__ __forceinline__ Element* row(int i) const { return data + i * row_stride; }
};

// Copies 16 bytes from `source` to shared memory, zeros for what is not there. `readable`: some address to name where
// nothing is read.
template <class Element, int kColumns, bool kVectorAccess>
__device__ __forceinline__ void copy_chunk(unsigned target, const Element* source, const Element* readable, bool row_is_there, int column) {
    constexpr int kChunkElements = 16 / sizeof(Element);
    if constexpr (kVectorAccess) {
        const bool valid = row_is_there && (kColumns % RowLayout<Element, kColumns>::kStep == 0 || column < kColumns);
        ptx::cp_async_16(target, valid ? source : readable, valid);
    } else {
        unsigned words[4] = {0, 0, 0, 0};
#pragma unroll
        for (int e = 0; e < kChunkElements; ++e) {
            if (row_is_there && column + e < kColumns) {
                if constexpr (sizeof(Element) == 2) {
                    words[e / 2] |= unsigned(reinterpret_cast<const unsigned short*>(source)[e]) << (e % 2 * 16);
                } else {
                    words[e] = reinterpret_cast<const unsigned*>(source)[e];
                }
            }
        }
        ptx::store_shared_4(target, words);
    }
}

// Copies rows [first, first + kRows) of a matrix with `rows` rows to shared memory; rows and columns that are not there
// become zeros. The copies of vector access run on after the call: commit, wait and synchronise before reading.
template <class Element, int kColumns, int kRows, int kThreads, bool kVectorAccess>
__device__ __forceinline__ void load_rows(unsigned shared, int shared_row_bytes, const Matrix<Element>& matrix, int first, int rows) {
    using Layout = RowLayout<Element, kColumns>;
    constexpr int kTotal = kRows * Layout::kChunks;
    // Where it divides evenly, a thread keeps to one column of chunks and steps down by as many rows each time.
    constexpr bool kKeepsColumn = kThreads % Layout::kChunks == 0;
    constexpr int kRowStep = kThreads / Layout::kChunks;
    const int thread = ptx::recompute_from(threadIdx.x);
    int row = thread / Layout::kChunks, column = thread % Layout::kChunks * Layout::kChunkElements;
    unsigned target = shared + row * shared_row_bytes + column * int(sizeof(Element));
    const Element* source = matrix.row(first + row) + column;
#pragma unroll(kKeepsColumn ? 64 : 2)
    for (int i = 0; i < (kTotal + kThreads - 1) / kThreads; ++i) {
        if constexpr (!kKeepsColumn) {
            const int chunk = i * kThreads + thread;
            row = chunk / Layout::kChunks;
            column = chunk % Layout::kChunks * Layout::kChunkElements;
            target = shared + row * shared_row_bytes + column * int(sizeof(Element));
            source = matrix.row(first + row) + column;
        }
        if (kTotal % kThreads != 0 && row >= kRows) break;
        copy_chunk<Element, kColumns, kVectorAccess>(target, source, matrix.data, first + row < rows, column);
        if constexpr (kKeepsColumn) {
            row += kRowStep;
            target += kRowStep * shared_row_bytes;
            source += kRowStep * matrix.row_stride;
        }
    }
}

// Copies `kRows` rows of shared memory, which this warp has written, to rows [first, first + kRows) of a matrix, as far as
// they are there.
template <class Element, int kColumns, int kRows, bool kVectorAccess>
__device__ __forceinline__ void store_rows(const Matrix<Element>& matrix, int first, int rows, unsigned shared, int shared_row_bytes) {
    const int lane = int(threadIdx.x) % 32;
    if constexpr (kVectorAccess) {
        constexpr int kChunkElements = 16 / sizeof(Element), kChunks = kColumns / kChunkElements;
#pragma unroll 4
        for (int chunk = lane; chunk < kRows * kChunks; chunk += 32) {
            const int row = chunk / kChunks, column = chunk % kChunks * kChunkElements;
            if (first + row >= rows) break;
            uint4 words;
            asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                         : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                         : "r"(shared + row * shared_row_bytes + column * int(sizeof(Element))) : "memory");
            *reinterpret_cast<uint4*>(matrix.row(first + row) + column) = words;
        }
    } else {
#pragma unroll 1
        for (int i = lane; i < kRows * kColumns; i += 32) {
            const int row = i / kColumns, column = i % kColumns;
            if (first + row >= rows) break;
            const unsigned source = shared + row * shared_row_bytes + column * int(sizeof(Element));
            if constexpr (sizeof(Element) == 2) {
                unsigned short bits;
                asm volatile("ld.shared.u16 %0, [%1];" : "=h"(bits) : "r"(source) : "memory");
                *reinterpret_cast<unsigned short*>(matrix.row(first + row) + column) = bits;
            } else {
                unsigned bits;
                asm volatile("ld.shared.u32 %0, [%1];" : "=r"(bits) : "r"(source) : "memory");
                *reinterpret_cast<unsigned*>(matrix.row(first + row) + column) = bits;
            }
        }
    }
}

}  // namespace flex
