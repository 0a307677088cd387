// What a launch tells a forward kernel. The Rust side mirrors these structs field by field (flex-codegen, `abi`).
#pragma once

namespace flex {

// A query or key index as the mods see it. Kernels that know the offset inside a tile at compile time say so: then a sum
// with the index has a part that is the same for all elements of a thread, and a constant. Mods that want it take
// `Index kv`; others take `int kv`.
struct Index {
    int value;
    int origin, offset;  // value = origin + offset
    float real;          // static_cast<float>(value), exact below 2^24

    __device__ Index(int value) : value(value), origin(value), offset(0), real(static_cast<float>(value)) {}
    // `value` as the kernel can best say it.
    __device__ Index(int value, int origin, int offset, float origin_real)
        : value(value), origin(origin), offset(offset), real(origin_real + static_cast<float>(offset)) {}
    __device__ operator int() const { return value; }
};

// Element strides; the head dim has stride 1. A broadcast dimension has stride 0.
struct Strides {
    long long batch, head, row;
};

// One stretch of neighbouring key/value tiles that are all full or all partial.
struct Run {
    static constexpr unsigned kFull = 1u << 31;

    unsigned first_tile;
    unsigned length_and_full;  // kFull: the mask is not evaluated here; the length is at least 1

    __device__ unsigned length() const { return length_and_full & ~kFull; }
    __device__ bool full() const { return length_and_full & kFull; }
};

// Runs of a (batch, head, q tile), in the kernel's own tile sizes: runs[row_offsets[i] .. row_offsets[i + 1]] with
// i = batch * batch_rows + head * head_rows + q_tile; a dimension the mask does not depend on has 0 rows.
struct BlockMask {
    const unsigned* row_offsets;  // null: every tile is full
    const Run* runs;
    // The keys [x, y) that each query keeps, kept_keys[batch * kept_batch_rows + head * kept_head_rows + q]: for mods that
    // know the mask only by this table. Null for the others.
    const int2* kept_keys;
    unsigned batch_rows, head_rows;
    unsigned kept_batch_rows, kept_head_rows;
};

// The first fault of a launch: a load out of bounds or a division by zero that Rust would have executed.
struct Fault {
    int claimed;  // 0 until a thread takes the record
    int site;     // which operation of the mods, in the order of the generated code
    int index;    // the offending index
    int batch, head, query, key;
};

struct Problem {
    const void* query;  // [batch, heads, q_len, head_dim]
    const void* key;    // [batch, kv_heads, kv_len, head_dim]
    const void* value;  // [batch, kv_heads, kv_len, value_dim]
    void* out;          // [batch, heads, q_len, value_dim]
    float* lse;         // [batch, heads, q_len], natural log; null when not asked for
    float* max_score;   // likewise
    Strides query_strides, key_strides, value_strides, out_strides;
    int batch, heads, kv_heads, q_len, kv_len;
    float scale;
    BlockMask block_mask;
    // Persistent kernels: work items in the order in which to start them, item = (batch * heads + head) * q_tiles + q_tile;
    // null: in order. `next_work` is a counter that the launch finds at zero and leaves at zero.
    const unsigned* work_order;
    unsigned* next_work;
    Fault* fault;
};

}  // namespace flex
