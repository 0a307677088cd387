// Fused attention, forward, for sm_80 and up: cp.async into two stages of shared memory, mma.sync, online softmax.
//
// A block of threads computes one query tile of one head; a warp owns 16 or 32 of its rows from scores to output, so warps
// only meet to exchange stages. Full tiles run no mask code.
#pragma once
#include "flex/problem.cuh"
#include "flex/products_f32.cuh"
#include "flex/products_half.cuh"
#include "flex/products_tf32.cuh"
#include "flex/softmax.cuh"
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
    using KeyLayout = RowLayout<Element, Config::kHeadDim>;
    using ValueLayout = RowLayout<Element, Config::kValueDim>;
    // Query rows; at the end, output rows.
    static constexpr int kQueryRowBytes = KeyLayout::kBytes > ValueLayout::kBytes ? KeyLayout::kBytes : ValueLayout::kBytes;
    static constexpr int kKeyBytes = kTileKv * KeyLayout::kBytes, kValueBytes = kTileKv * ValueLayout::kBytes;
    static_assert(kRows % 16 == 0 && kFragments >= 1 && kTileKv % 16 == 0);

    using Scores = Accumulator<kFragments, kTileKv>;
    using Output = Accumulator<kFragments, ValueLayout::kPadded>;

    const Problem& problem_;
    const Captures& captures_;
    int batch_, head_, q_tile_;
    unsigned query_smem_, stage_smem_;
    typename Mods::Row rows_[kFragments][2];
    int2 kept_[kFragments][2];
    // exp2(score * factor_) is the weight; scores that no mod has scaled are first made to grow with the weight.
    float sign_ = 1.0f, factor_ = 1.0f;

    __device__ __forceinline__ int warp() const { return int(threadIdx.x) / 32; }
    __device__ __forceinline__ int lane() const { return int(threadIdx.x) % 32; }
    // The query of row i (0: upper, 1: lower half) of fragment m, maybe behind the last.
    __device__ __forceinline__ int query(int m, int i) const { return q_tile_ * kTileQ + warp() * kRows + 16 * m + 8 * i + lane() / 4; }

    __device__ __forceinline__ void load_key_and_value(const Matrix<Element>& key, const Matrix<Element>& value, int tile, int stage) {
        const unsigned smem = stage_smem_ + stage * (kKeyBytes + kValueBytes);
        load_rows<Element, Config::kHeadDim, kTileKv, kThreads, Config::kVectorAccess>(smem, KeyLayout::kBytes, key, tile * kTileKv, problem_.kv_len);
        load_rows<Element, Config::kValueDim, kTileKv, kThreads, Config::kVectorAccess>(smem + kKeyBytes, ValueLayout::kBytes, value, tile * kTileKv,
                                                                                       problem_.kv_len);
    }

    // What depends on the row alone, once. Rows behind the last query repeat it; their results are dropped.
    __device__ __forceinline__ void prepare_rows() {
#pragma unroll
        for (int m = 0; m < kFragments; ++m)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int q = min(query(m, i), problem_.q_len - 1);
                rows_[m][i] = Mods::row(problem_, captures_, batch_, head_, q);
                if constexpr (Mods::kKeptKeysAreInterval) {
                    kept_[m][i] = Mods::kept_keys(problem_, captures_, rows_[m][i], batch_, head_, q);
                    kept_[m][i].y = min(kept_[m][i].y, problem_.kv_len);
                }
            }
        if constexpr (!Mods::kHasScore) {
            constexpr float kLog2E = 1.44269504088896340736f;
            sign_ = problem_.scale > 0.0f ? 1.0f : problem_.scale < 0.0f ? -1.0f : 0.0f;
            factor_ = (problem_.scale == 0.0f ? 1.0f : fabsf(problem_.scale)) * kLog2E;
        }
    }

    __device__ __forceinline__ bool keeps(const Tile& tile, const typename Mods::Column& column, int m, int i, int q, int kv, int kv_in) const {
        if constexpr (Mods::kHasMask && Mods::kKeptKeysAreInterval) {
            return kv >= kept_[m][i].x && kv < kept_[m][i].y;
        } else if constexpr (Mods::kHasMask) {
            const bool there = kv < problem_.kv_len;
            const bool kept = Mods::mask(problem_, captures_, rows_[m][i], column, batch_, head_, q, kv_in, there && query(m, i) < problem_.q_len);
            return there && (kept || !tile.partial);
        } else {
            return kv < problem_.kv_len;
        }
    }

    // Applies the score mod, and in tiles that may be `kCut` the mask and the end of the keys.
    template <bool kCut>
    __device__ __forceinline__ void apply_mods(Scores& s, const Tile& tile) const {
        if constexpr (!kCut && !Mods::kHasScore) return;
        const int first = tile.index * kTileKv + 2 * (lane() % 4);
#pragma unroll
        for (int n = 0; n < kTileKv / 8; ++n)
#pragma unroll
            for (int j = 0; j < 2; ++j) {
                const int kv = first + 8 * n + j;
                const int kv_in = kCut ? min(kv, problem_.kv_len - 1) : kv;
                const typename Mods::Column column = Mods::column(problem_, captures_, batch_, head_, kv_in);
#pragma unroll
                for (int m = 0; m < kFragments; ++m)
#pragma unroll
                    for (int i = 0; i < 2; ++i) {
                        float& score = s[m][n][2 * i + j];
                        const int q = min(query(m, i), problem_.q_len - 1);
                        const bool kept = !kCut || keeps(tile, column, m, i, q, kv, kv_in);
                        if constexpr (Mods::kHasScore) {
                            const bool live = kept && query(m, i) < problem_.q_len;
                            score = Mods::score(problem_, captures_, rows_[m][i], column, score, batch_, head_, q, kv_in, live);
                        }
                        if constexpr (kCut) score = kept ? score : minus_infinity();
                    }
            }
    }

    // A scale that is not positive turns or levels the scores.
    __device__ __forceinline__ void apply_sign(Scores& s) const {
        if constexpr (!Mods::kHasScore) {
            if (sign_ > 0.0f) return;
#pragma unroll
            for (int m = 0; m < kFragments; ++m)
#pragma unroll
                for (int n = 0; n < kTileKv / 8; ++n)
#pragma unroll
                    for (int e = 0; e < 4; ++e) s[m][n][e] *= sign_;
        }
    }

    __device__ __forceinline__ void store(const Softmax<kFragments>& softmax, Output& out) {
        const unsigned staged = query_smem_ + warp() * kRows * kQueryRowBytes;
        const float largest_sign = 0.69314718055994530942f;
        // Where query and output rows differ in length, a warp's output rows overlap other warps' query rows.
        if constexpr (kQueryRowBytes != KeyLayout::kBytes) __syncthreads();
        __syncwarp();
#pragma unroll
        for (int m = 0; m < kFragments; ++m)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const float sum = row_sum(softmax.sum[m][i]);
                const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
                const unsigned row = staged + (16 * m + 8 * i + lane() / 4) * kQueryRowBytes;
#pragma unroll
                for (int n = 0; n < ValueLayout::kPadded / 8; ++n) {
                    const int column = 8 * n + 2 * (lane() % 4);
                    const float x = out[m][n][2 * i] * inverse, y = out[m][n][2 * i + 1] * inverse;
                    if constexpr (sizeof(Element) == 2) {
                        ptx::store_shared(row + column * 2, Element::pack(x, y));
                    } else {
                        ptx::store_shared_2(row + column * 4, x, y);
                    }
                }
                const int q = query(m, i);
                if (lane() % 4 == 0 && q < problem_.q_len) {
                    const long long at = (static_cast<long long>(batch_) * problem_.heads + head_) * problem_.q_len + q;
                    const float largest = softmax.largest[m][i] * factor_ * largest_sign;
                    if (problem_.lse != nullptr) problem_.lse[at] = sum == 0.0f ? minus_infinity() : largest + logf(sum);
                    if (problem_.max_score != nullptr) problem_.max_score[at] = largest;
                }
            }
        __syncwarp();
        const auto matrix = Matrix<Element>::of(problem_.out, problem_.out_strides, batch_, head_);
        store_rows<Element, Config::kValueDim, kRows, Config::kVectorAccess>(matrix, q_tile_ * kTileQ + warp() * kRows, problem_.q_len, staged,
                                                                            kQueryRowBytes);
    }

  public:
    static constexpr int kSmemBytes = kTileQ * kQueryRowBytes + 2 * (kKeyBytes + kValueBytes);

    __device__ __forceinline__ ForwardPortable(const Problem& problem, const Captures& captures, unsigned smem)
        : problem_(problem), captures_(captures), query_smem_(smem), stage_smem_(smem + kTileQ * kQueryRowBytes) {
        // Later query tiles tend to have longer lists of tiles: start them first.
        const unsigned item = problem.work_order != nullptr ? problem.work_order[blockIdx.x] : gridDim.x - 1 - blockIdx.x;
        const int q_tiles = (problem.q_len + kTileQ - 1) / kTileQ;
        q_tile_ = int(item % unsigned(q_tiles));
        const int batch_and_head = int(item / unsigned(q_tiles));
        head_ = batch_and_head % problem.heads;
        batch_ = batch_and_head / problem.heads;
    }

    __device__ __forceinline__ void run() {
        const int kv_head = head_ / (problem_.heads / problem_.kv_heads);
        const auto query_rows = Matrix<Element>::of(problem_.query, problem_.query_strides, batch_, head_);
        const auto key = Matrix<Element>::of(problem_.key, problem_.key_strides, batch_, kv_head);
        const auto value = Matrix<Element>::of(problem_.value, problem_.value_strides, batch_, kv_head);

        Softmax<kFragments> softmax;
        Output out;
        fill_zero<kFragments, ValueLayout::kPadded>(out);
        prepare_rows();

        TileWalk walk(problem_, batch_, head_, q_tile_, kTileKv);
        Tile tile, next;
        bool more = walk.next(next);
        if (more) {
            load_rows<Element, Config::kHeadDim, kTileQ, kThreads, Config::kVectorAccess>(query_smem_, kQueryRowBytes, query_rows, q_tile_ * kTileQ,
                                                                                         problem_.q_len);
            load_key_and_value(key, value, next.index, 0);
            ptx::cp_async_commit();
        }
        for (int stage = 0; more; stage ^= 1) {
            tile = next;
            more = walk.next(next);
            // The tile has landed for every thread, and every thread is done with the other stage.
            ptx::cp_async_wait<0>();
            __syncthreads();
            if (more) load_key_and_value(key, value, next.index, stage ^ 1);
            ptx::cp_async_commit();

            const unsigned smem = stage_smem_ + stage * (kKeyBytes + kValueBytes);
            Scores s;
            Products::template scores<Config::kHeadDim, kTileKv, kFragments>(s, query_smem_ + warp() * kRows * kQueryRowBytes, kQueryRowBytes, smem);
            apply_sign(s);
            if (tile.cut) {
                apply_mods<true>(s, tile);
            } else {
                apply_mods<false>(s, tile);
            }
            softmax.template step<kTileKv, ValueLayout::kPadded>(s, out, factor_);
            Products::template accumulate<Config::kValueDim, kTileKv, kFragments>(out, s, smem + kKeyBytes);
        }
        store(softmax, out);
    }
};

template <class Config>
__device__ __forceinline__ void forward_portable(const Problem& problem, const Captures& captures) {
    extern __shared__ __align__(16) unsigned char smem[];
    ForwardPortable<Config>(problem, captures, ptx::shared_address(smem)).run();
}

}  // namespace flex
