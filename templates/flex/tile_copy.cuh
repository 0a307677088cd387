// The copies of a key and a value tile to shared memory, in pieces: one 16-byte chunk a thread each. A warp issues them
// between the steps of a product.
#pragma once
#include "flex/tile_io.cuh"

namespace flex {

// The share of one thread in copying `kRows` rows: one column of chunks, every kRowStep-th row.
template <class Element, int kColumns, int kRows, int kThreads>
struct CopyShare {
    using Layout = RowLayout<Element, kColumns>;
    // A power of 2, so that a thread keeps to its column; threads beyond the row have nothing to copy.
    static constexpr int kThreadsPerRow = round_up_to_power_of_2(Layout::kChunks);
    static constexpr int kRowStep = kThreads / kThreadsPerRow;
    static constexpr int kPieces = (kRows + kRowStep - 1) / kRowStep;
    static_assert(kRowStep >= 1 && kThreads % kThreadsPerRow == 0);

    static __device__ __forceinline__ int row(unsigned thread) { return int(thread / kThreadsPerRow); }
    static __device__ __forceinline__ int column(unsigned thread) { return int(thread % kThreadsPerRow) * Layout::kChunkElements; }
    // Whether the thread copies this piece at all.
    static __device__ __forceinline__ bool has(int piece, unsigned thread) {
        const bool column_is_stored = kThreadsPerRow == Layout::kChunks || thread % kThreadsPerRow < Layout::kChunks;
        return column_is_stored && (kRows % kRowStep == 0 || piece * kRowStep + row(thread) < kRows);
    }
    // How many rows from its first on are there for the thread: all chunks behind are zeros.
    static __device__ __forceinline__ int rows_left(int rows, unsigned thread) {
        const bool column_is_there = kColumns == Layout::kPadded || column(thread) < kColumns;
        return column_is_there ? rows - row(thread) : 0;
    }
    static __device__ __forceinline__ unsigned target(unsigned tile_smem, unsigned thread) {
        return tile_smem + row(thread) * Layout::kBytes + column(thread) * int(sizeof(Element));
    }
};

// The copy of one tile of keys and, behind them, of values.
template <class Element, int kHeadDim, int kValueDim, int kTileKv, int kThreads>
class KeyValueCopy {
    using Key = CopyShare<Element, kHeadDim, kTileKv, kThreads>;
    using Value = CopyShare<Element, kValueDim, kTileKv, kThreads>;
    static constexpr int kPieces = Key::kPieces + Value::kPieces;

  public:
    // Where a thread's shares of a head's first tile start. In shared memory, as registers are dear.
    struct Sources {
        const Element* key;
        const Element* value;

        __device__ __forceinline__ void set(const Matrix<Element>& key_rows, const Matrix<Element>& value_rows) {
            key = key_rows.row(Key::row(threadIdx.x)) + Key::column(threadIdx.x);
            value = value_rows.row(Value::row(threadIdx.x)) + Value::column(threadIdx.x);
        }
    };

    // The tile starts at row `first`; what is not below `rows` becomes zeros.
    __device__ __forceinline__ KeyValueCopy(const volatile Sources& sources, long long key_stride, long long value_stride, int first, int rows,
                                            unsigned tile_smem)
        : sources_(sources), key_stride_(key_stride), value_stride_(value_stride), first_(first), rows_(rows - first), smem_(tile_smem) {}

    __device__ __forceinline__ void issue_all() {
#pragma unroll
        for (int i = 0; i < kPieces; ++i) issue(i);
    }

    // The pieces that are due at a step of a product; over all steps, all of them.
    __device__ __forceinline__ void issue_part(int step, int steps, int parts = 4) {
#pragma unroll
        for (int i = 0; i < kPieces; ++i)
            if (i * parts / kPieces * steps / parts == step) issue(i);
    }

  private:
    const volatile Sources& sources_;
    long long key_stride_, value_stride_;
    int first_, rows_;
    unsigned smem_;
    const Element* source_;
    unsigned target_;
    int rows_left_;

    __device__ __forceinline__ void issue(int piece) {
        if (piece < Key::kPieces) {
            if (piece == 0) start<Key>(sources_.key, key_stride_, smem_);
            issue<Key>(piece, key_stride_);
        } else {
            if (piece == Key::kPieces) start<Value>(sources_.value, value_stride_, smem_ + kTileKv * Key::Layout::kBytes);
            issue<Value>(piece - Key::kPieces, value_stride_);
        }
    }

    template <class Share>
    __device__ __forceinline__ void start(const Element* first_row, long long stride, unsigned smem) {
        const unsigned thread = ptx::recompute_from(threadIdx.x);
        source_ = first_row + first_ * stride;
        target_ = Share::target(smem, thread);
        rows_left_ = Share::rows_left(rows_, thread);
    }

    template <class Share>
    __device__ __forceinline__ void issue(int piece, long long stride) {
        if (Share::has(piece, threadIdx.x)) ptx::cp_async_16(target_ + piece * Share::kRowStep * Share::Layout::kBytes, source_, piece * Share::kRowStep < rows_left_);
        source_ += Share::kRowStep * stride;
    }
};

// The same for tensors without 16-byte alignment: element by element, all at once.
template <class Element, int kHeadDim, int kValueDim, int kTileKv, int kThreads>
class ElementwiseKeyValueCopy {
  public:
    struct Sources {
        Element* key;
        Element* value;

        __device__ __forceinline__ void set(const Matrix<Element>& key_rows, const Matrix<Element>& value_rows) {
            key = key_rows.data;
            value = value_rows.data;
        }
    };

    __device__ __forceinline__ ElementwiseKeyValueCopy(const Sources& sources, long long key_stride, long long value_stride, int first, int rows,
                                                       unsigned tile_smem)
        : key_{sources.key, key_stride}, value_{sources.value, value_stride}, first_(first), rows_(rows), smem_(tile_smem) {}

    __device__ __forceinline__ void issue_all() {
        if (first_ >= rows_) return;
        using KeyLayout = RowLayout<Element, kHeadDim>;
        using ValueLayout = RowLayout<Element, kValueDim>;
        load_rows<Element, kHeadDim, kTileKv, kThreads, false>(smem_, KeyLayout::kBytes, key_, first_, rows_);
        load_rows<Element, kValueDim, kTileKv, kThreads, false>(smem_ + kTileKv * KeyLayout::kBytes, ValueLayout::kBytes, value_, first_, rows_);
    }
    __device__ __forceinline__ void issue_part(int step, int, int = 1) {
        if (step == 0) issue_all();
    }

  private:
    Matrix<Element> key_, value_;
    int first_, rows_;
    unsigned smem_;
};

}  // namespace flex
