// Fused attention, forward, for sm_80 and up: cp.async into two stages of shared memory, mma.sync, online softmax.
//
// A block of threads computes one query tile of one head; a warp owns 16 or 32 of its rows from scores to output, so warps
// only meet to exchange stages. Full tiles run no mask code.
#pragma once
#include "flex/mod_traits.cuh"
#include "flex/problem.cuh"
#include "flex/products_f32.cuh"
#include "flex/products_half.cuh"
#include "flex/products_tf32.cuh"
#include "flex/row_terms.cuh"
#include "flex/softmax.cuh"
#include "flex/tile_copy.cuh"
#include "flex/tile_io.cuh"
#include "flex/tile_walk.cuh"

namespace flex {

// `Config` names Products, kHeadDim, kValueDim, kTileQ, kTileKv, kWarps, kVectorAccess; Mods and Captures are in scope.
template <class Config>
class ForwardPortable {
    using Products = typename Config::Products;
    using Element = typename Products::Element;
    static constexpr int kTileQ = Config::kTileQ, kTileKv = Config::kTileKv, kThreads = Config::kWarps * 32;
    static constexpr int kRows = kTileQ / Config::kWarps;  // of a warp
    static constexpr int kFragments = kRows / 16;
    static constexpr bool kVector = Config::kVectorAccess;
    using KeyLayout = RowLayout<Element, Config::kHeadDim>;
    using ValueLayout = RowLayout<Element, Config::kValueDim>;
    // Query rows; at the end, output rows.
    static constexpr int kQueryRowBytes = KeyLayout::kBytes > ValueLayout::kBytes ? KeyLayout::kBytes : ValueLayout::kBytes;
    static constexpr int kKeyBytes = kTileKv * KeyLayout::kBytes, kValueBytes = kTileKv * ValueLayout::kBytes;
    static_assert(kRows % 16 == 0 && kFragments >= 1 && kTileKv % 16 == 0);

    using Scores = Accumulator<kFragments, kTileKv>;
    using Output = Accumulator<kFragments, ValueLayout::kPadded>;
    // The row part of scores that are lines in the key.
    using Offsets = Select<ScoreIsLineInKey<Mods>::value, RowOffsets<kFragments>, NoOffsets>;
    using RowSoftmax = Softmax<kFragments, ScoresAreExponents<Mods>::value>;
    // Between the steps of the tensor cores there is time for them; the accurate sums of f32 would round more often.
    static constexpr bool kLinesComeFirst = Offsets::kAny && Products::kOnTensorCores;
    using TileCopy = Select<kVector, KeyValueCopy<Element, Config::kHeadDim, Config::kValueDim, kTileKv, kThreads>,
                            ElementwiseKeyValueCopy<Element, Config::kHeadDim, Config::kValueDim, kTileKv, kThreads>>;

  public:
    // What the threads share beside the tiles.
    struct alignas(16) Shared {
        Place place;
        TileWalk walk;     // the first thread's
        Tile upcoming[2];  // the tile of each stage; while one is worked on, its place is for the one after the next
    };
    static constexpr int kSharedBytes = 64 + kThreads * 16 + kTileQ * 4;  // in front of the tiles
    static_assert(sizeof(Shared) <= 64 && sizeof(typename TileCopy::Sources) == 16 && sizeof(RowTerms) == 16);

    __device__ __forceinline__ ForwardPortable(const Problem& problem, const Captures& captures, unsigned char* shared)
        : problem_(problem), captures_(captures), shared_(*reinterpret_cast<Shared*>(shared)),
          sources_(reinterpret_cast<typename TileCopy::Sources*>(shared + 64)),
          query_smem_(ptx::shared_address(shared) + kSharedBytes) {}

    __device__ __forceinline__ void run() {
        if (threadIdx.x == 0) find_place();
        __syncthreads();
        prepare_rows();
        RowSoftmax softmax;
        Output out;
        fill_zero<kFragments, ValueLayout::kPadded>(out);

        Tile tile = upcoming(0);
        if (tile.exists()) {
            const int batch = place().batch, head = place().head, kv_head = place().kv_head;
            load_rows<Element, Config::kHeadDim, kTileQ, kThreads, kVector>(query_smem_, kQueryRowBytes,
                                                                            Matrix<Element>::of(problem_.query, problem_.query_strides, batch, head),
                                                                            place().q_tile * kTileQ, problem_.q_len);
            sources().set(Matrix<Element>::of(problem_.key, problem_.key_strides, batch, kv_head),
                         Matrix<Element>::of(problem_.value, problem_.value_strides, batch, kv_head));
            copy_of(tile, 0).issue_all();
            ptx::cp_async_commit();
        }
        for (int stage = 0; tile.exists(); stage ^= 1) {
            // The tile has landed for every thread, and every thread is done with the other stage.
            ptx::cp_async_wait<0>();
            __syncthreads();
            const Tile next = upcoming(stage ^ 1);
            TileCopy copy = copy_of(next, stage ^ 1);
            Scores s;
            fill_zero<kFragments, kTileKv>(s);
            if constexpr (kLinesComeFirst) add_lines(s);
            Products::template scores<Config::kHeadDim, kTileKv, kFragments>(s, query_smem_ + warp() * kRows * kQueryRowBytes, kQueryRowBytes,
                                                                             stage_smem(stage), copy);
            ptx::cp_async_commit();
            apply_sign(s);
            if constexpr (Offsets::kAny && !kLinesComeFirst) add_lines(s);
            if (tile.partial() || (tile.index() + 1) * kTileKv > problem_.kv_len) {
                apply_mods<true>(s, tile);
            } else {
                apply_mods<false>(s, tile);
            }
            Offsets offsets;
            find_offsets(offsets, tile);
            Rows<kFragments> largest;
            softmax.find_largest<kTileKv>(largest, s, offsets);
            if (problem_.max_score != nullptr) note(largest);
            softmax.follow<ValueLayout::kPadded>(largest, out, factor());
            softmax.weigh<kTileKv>(s, factor(), offsets);
            Products::template accumulate<Config::kValueDim, kTileKv, kFragments>(out, s, stage_smem(stage) + kKeyBytes);
            // Everyone has read which tile this was; the next reading of the place is behind a barrier.
            if (threadIdx.x == 0) shared_.upcoming[stage] = shared_.walk.after(next, problem_, shared_.place);
            tile = next;
        }
        store(softmax, out);
    }

  private:
    const Problem& problem_;
    const Captures& captures_;
    Shared& shared_;
    typename TileCopy::Sources* sources_;  // a thread's, in shared memory
    unsigned query_smem_;
    typename Mods::Row rows_[kFragments][2];

    // Read anew at every use: a register is dearer than a load from shared memory.
    __device__ __forceinline__ const volatile Place& place() const { return shared_.place; }
    __device__ __forceinline__ Tile upcoming(int stage) const { return {const_cast<const volatile Tile&>(shared_.upcoming[stage]).bits}; }

    __device__ __forceinline__ unsigned stage_smem(int stage) const { return query_smem_ + kTileQ * kQueryRowBytes + stage * (kKeyBytes + kValueBytes); }
    __device__ __forceinline__ int warp() const { return int(threadIdx.x) / 32; }
    __device__ __forceinline__ int lane() const { return int(threadIdx.x) % 32; }
    // With 16 rows a warp there is a register for the address, with 32 there is none.
    __device__ __forceinline__ typename TileCopy::Sources& sources() const {
        return sources_[kFragments == 1 ? threadIdx.x : ptx::recompute_from(threadIdx.x)];
    }
    // The query of row i (0: upper, 1: lower half) of fragment m, maybe behind the last.
    __device__ __forceinline__ int query(int m, int i) const { return place().q_tile * kTileQ + warp() * kRows + 16 * m + 8 * i + lane() / 4; }

    __device__ __forceinline__ void find_place() {
        // Later query tiles tend to have longer lists of tiles: start them first.
        const unsigned item = problem_.work_order != nullptr ? problem_.work_order[blockIdx.x] : gridDim.x - 1 - blockIdx.x;
        const unsigned q_tiles = (unsigned(problem_.q_len) + kTileQ - 1) / kTileQ, batch_and_head = item / q_tiles;
        const int head = int(batch_and_head % problem_.heads);
        shared_.place = {int(batch_and_head / problem_.heads), head, head / (problem_.heads / problem_.kv_heads), int(item % q_tiles)};
        shared_.upcoming[0] = shared_.walk.first(problem_, shared_.place, kTileKv);
        shared_.upcoming[1] = shared_.walk.after(shared_.upcoming[0], problem_, shared_.place);
    }

    // The copy of a tile into a stage; of zeros if there is no such tile.
    __device__ __forceinline__ TileCopy copy_of(Tile tile, int stage) {
        const int first = tile.exists() ? tile.index() * kTileKv : problem_.kv_len;
        return {sources(), problem_.key_strides.row, problem_.value_strides.row, first, problem_.kv_len, stage_smem(stage)};
    }

    // Where the first of a row's four lanes remembers the largest score that it has seen.
    __device__ __forceinline__ unsigned largest_so_far() const {
        return query_smem_ - (kTileQ - first_row_of(ptx::recompute_from(threadIdx.x))) * 4;
    }
    __device__ __forceinline__ void note(const Rows<kFragments>& largest) {
        if (threadIdx.x % 4 != 0) return;
        const unsigned first = largest_so_far();
#pragma unroll
        for (int m = 0; m < kFragments; ++m)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const unsigned at = first + (16 * m + 8 * i) * 4;
                ptx::store_shared(at, __float_as_uint(fmaxf(ptx::load_shared(at), largest[m][i])));
            }
    }

    // What depends on the row alone, once. Rows behind the last query repeat it; their results are dropped.
    __device__ __forceinline__ void prepare_rows() {
        const int batch = place().batch, head = place().head;
#pragma unroll
        for (int m = 0; m < kFragments; ++m)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                if (threadIdx.x % 4 == 0) ptx::store_shared(largest_so_far() + (16 * m + 8 * i) * 4, __float_as_uint(minus_infinity()));
                const int q = min(query(m, i), problem_.q_len - 1);
                rows_[m][i] = Mods::row(problem_, captures_, batch, head, q);
                const RowTerms terms = RowTerms::of<Mods>(problem_, captures_, rows_[m][i], batch, head, q);
                terms.store(terms_of(threadIdx.x) + (16 * m + 8 * i) * kQueryRowBytes, threadIdx.x % 4);
            }
        __syncwarp();
    }

    // Scores times this factor, which is positive, are exponents of 2.
    __device__ __forceinline__ float factor() const {
        if constexpr (Mods::kHasScore) return exponent_scale<Mods>(problem_, captures_);
        return (problem_.scale == 0.0f ? 1.0f : fabsf(problem_.scale)) * 1.44269504088896340736f;
    }

    // A scale that is not positive turns or levels the scores, so that the largest has the largest weight.
    __device__ __forceinline__ void apply_sign(Scores& s) const {
        if constexpr (!Mods::kHasScore) {
            if (problem_.scale > 0.0f) return;
            const float sign = problem_.scale < 0.0f ? -1.0f : 0.0f;
#pragma unroll
            for (int m = 0; m < kFragments; ++m)
#pragma unroll
                for (int n = 0; n < kTileKv / 8; ++n)
#pragma unroll
                    for (int e = 0; e < 4; ++e) s[m][n][e] *= sign;
        }
    }

    // Adds slope * kv to the scores of rows that are lines in the key, but for what is the same in all columns of the lane.
    __device__ __forceinline__ void add_lines(Scores& s) const {
        const unsigned terms = ptx::recompute_from(terms_of(threadIdx.x));
#pragma unroll
        for (int m = 0; m < kFragments; ++m)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const float slope = RowTerms::load_line(terms + (16 * m + 8 * i) * kQueryRowBytes).x;
#pragma unroll
                for (int n = 0; n < kTileKv / 8; ++n)
#pragma unroll
                    for (int j = 0; j < 2; ++j) s[m][n][2 * i + j] = fmaf(slope, float(8 * n + j), s[m][n][2 * i + j]);
            }
    }

    // The rest of the lines.
    __device__ __forceinline__ void find_offsets(Offsets& offsets, Tile tile) const {
        if constexpr (Offsets::kAny) {
            const unsigned thread = ptx::recompute_from(threadIdx.x), terms = terms_of(thread);
            const float first_key = float(first_key_of(thread, tile));
#pragma unroll
            for (int m = 0; m < kFragments; ++m)
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    const float2 line = RowTerms::load_line(terms + (16 * m + 8 * i) * kQueryRowBytes);
                    offsets.row[m][i] = fmaf(line.x, first_key, line.y);
                }
        }
    }

    // Calls the score mod, and in tiles that may be `kCut` applies the mask and the end of the keys.
    template <bool kCut>
    __device__ __forceinline__ void apply_mods(Scores& s, Tile tile) const {
        constexpr bool kMaskIsInterval = Mods::kHasMask && Mods::kKeptKeysAreInterval, kMaskIsFunction = Mods::kHasMask && !kMaskIsInterval;
        constexpr bool kCallsScore = Mods::kHasScore && !Offsets::kAny;
        if constexpr (!kCut && !kCallsScore) return;
        const unsigned thread = ptx::recompute_from(threadIdx.x);
        const int batch = place().batch, head = place().head, first_query = place().q_tile * kTileQ + first_row_of(thread);
        const int first_key = first_key_of(thread, tile);
        unsigned kept_columns[kFragments][2][(kTileKv + 127) / 128];
        if constexpr (kCut) {
            const unsigned terms = terms_of(thread);
#pragma unroll
            for (int m = 0; m < kFragments; ++m)
#pragma unroll
                for (int i = 0; i < 2; ++i)
#pragma unroll
                    for (int w = 0; w < (kTileKv + 127) / 128; ++w) {
                        const int2 kept = kMaskIsInterval ? RowTerms::load_kept_keys(terms + (16 * m + 8 * i) * kQueryRowBytes) : int2{0, problem_.kv_len};
                        const int origin = first_key + 128 * w;
                        kept_columns[m][i][w] = columns_below(kept.y - origin);
                        if constexpr (kMaskIsInterval) kept_columns[m][i][w] &= ~columns_below(kept.x - origin);
                    }
        }
#pragma unroll
        for (int n = 0; n < kTileKv / 8; ++n)
#pragma unroll
            for (int j = 0; j < 2; ++j) {
                const int kv = first_key + 8 * n + j, kv_in = kCut ? min(kv, problem_.kv_len - 1) : kv;
                typename Mods::Column column;
                if constexpr (kMaskIsFunction || kCallsScore) column = Mods::column(problem_, captures_, batch, head, kv_in);
#pragma unroll
                for (int m = 0; m < kFragments; ++m)
#pragma unroll
                    for (int i = 0; i < 2; ++i) {
                        float& score = s[m][n][2 * i + j];
                        const int q = first_query + 16 * m + 8 * i, q_in = min(q, problem_.q_len - 1);
                        bool kept = true;
                        if constexpr (kCut) kept = kept_columns[m][i][n / 16] >> (2 * (n % 16) + j) & 1;
                        if constexpr (kCut && kMaskIsFunction) {
                            const bool live = kept && tile.partial() && q < problem_.q_len;
                            kept &= Mods::mask(problem_, captures_, rows_[m][i], column, batch, head, q_in, kv_in, live) | !tile.partial();
                        }
                        if constexpr (kCallsScore) {
                            const bool live = kept && q < problem_.q_len;
                            score = Mods::score(problem_, captures_, rows_[m][i], column, score, batch, head, q_in, kv_in, live);
                        }
                        if constexpr (kCut) score = kept ? score : minus_infinity();
                    }
            }
    }

    static __device__ __forceinline__ int first_row_of(unsigned thread) { return int(thread / 32 * kRows + thread % 32 / 4); }
    static __device__ __forceinline__ int first_key_of(unsigned thread, Tile tile) { return tile.index() * kTileKv + 2 * int(thread % 4); }
    __device__ __forceinline__ unsigned terms_of(unsigned thread) const { return query_smem_ + (first_row_of(thread) + 1) * kQueryRowBytes - 16; }

    __device__ __forceinline__ void store(const RowSoftmax& softmax, Output& out) {
        const unsigned thread = ptx::recompute_from(threadIdx.x);
        const int lane = int(thread % 32), first_row = int(thread / 32) * kRows;
        const int first_query = place().q_tile * kTileQ + first_row;
        const unsigned staged = query_smem_ + first_row * kQueryRowBytes;
        // Where query and output rows differ in length, a warp's output rows overlap other warps' query rows.
        if constexpr (kQueryRowBytes != KeyLayout::kBytes) __syncthreads();
        __syncwarp();
#pragma unroll
        for (int m = 0; m < kFragments; ++m)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int row = 16 * m + 8 * i + lane / 4;
                const float sum = row_sum(softmax.sum[m][i]), largest = ptx::load_shared(largest_so_far() + (16 * m + 8 * i) * 4);
                const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
                const unsigned target = staged + row * kQueryRowBytes + 2 * (lane % 4) * int(sizeof(Element));
#pragma unroll
                for (int n = 0; n < ValueLayout::kPadded / 8; ++n) {
                    const float x = out[m][n][2 * i] * inverse, y = out[m][n][2 * i + 1] * inverse;
                    if constexpr (sizeof(Element) == 2) {
                        ptx::store_shared(target + n * 16, Element::pack(x, y));
                    } else {
                        ptx::store_shared_2(target + n * 32, x, y);
                    }
                }
                if (lane % 4 == 0 && first_query + row < problem_.q_len) store_statistics(first_query + row, softmax.reference[m][i], sum, largest);
            }
        __syncwarp();
        const auto matrix = Matrix<Element>::of(problem_.out, problem_.out_strides, place().batch, place().head);
        store_rows<Element, Config::kValueDim, kRows, kVector>(matrix, first_query, problem_.q_len, staged, kQueryRowBytes);
    }

    __device__ __forceinline__ void store_statistics(int q, float reference, float sum, float largest) const {
        constexpr float kLn2 = 0.69314718055994530942f;
        const long long at = (static_cast<long long>(place().batch) * problem_.heads + place().head) * problem_.q_len + q;
        if (problem_.lse != nullptr) problem_.lse[at] = sum == 0.0f ? minus_infinity() : reference * factor() * kLn2 + logf(sum);
        if (problem_.max_score != nullptr) problem_.max_score[at] = largest * factor() * kLn2;
    }
};

template <class Config>
__device__ __forceinline__ void forward_portable(const Problem& problem, const Captures& captures) {
    extern __shared__ __align__(16) unsigned char smem[];
    ForwardPortable<Config>(problem, captures, smem).run();
}

}  // namespace flex
