//! What a launch hands to a kernel: the structs of `templates/flex/problem.cuh`, field by field.
//!
//! A forward kernel has the parameters `(Problem, Captures)`, both by value; `Captures` is the block of 8-byte slots
//! that [`CaptureLayout`](crate::CaptureLayout) describes (one zero slot where a kernel has none). Pointers are device
//! addresses.

use bytemuck::{Pod, Zeroable};

/// Element strides of a `[batch, heads, len, head_dim]` tensor whose head dim has stride 1; 0 broadcasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Strides {
    /// Elements from one batch entry to the next.
    pub batch: i64,
    /// Elements from one head to the next.
    pub head: i64,
    /// Elements from one position to the next.
    pub row: i64,
}

/// The runs of a block mask in the tiles of the kernel that reads them ([`flex_core::mask::Run`] has the form of the
/// elements of `runs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockMask {
    /// `u32` a row of tiles and one more; 0 where every tile is full.
    pub row_offsets: u64,
    /// The runs of all rows.
    pub runs: u64,
    /// `[i32; 2]` a query: the first key it keeps and one past the last; 0 where the mods know the mask themselves.
    pub kept_keys: u64,
    /// Rows from one batch entry to the next; 0 where the mask does not depend on it.
    pub batch_rows: u32,
    /// Rows from one head to the next; 0 where the mask does not depend on it.
    pub head_rows: u32,
    /// Entries of `kept_keys` from one batch entry to the next; 0 where the mask does not depend on it.
    pub kept_batch_rows: u32,
    /// Entries of `kept_keys` from one head to the next; 0 where the mask does not depend on it.
    pub kept_head_rows: u32,
}

/// The first fault of a launch. Zero it before launching a kernel that [can fault](crate::CompiledKernel::can_fault).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Fault {
    /// 0 until a thread takes the record.
    pub claimed: i32,
    /// Position in the kernel's list of fault sites.
    pub site: i32,
    /// The offending index, as its 32 bits.
    pub index: i32,
    /// The index in the batch.
    pub batch: i32,
    /// The query head.
    pub head: i32,
    /// The position of the query.
    pub query: i32,
    /// The position of the key.
    pub key: i32,
}

/// Everything that changes from launch to launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Problem {
    /// `[batch, heads, q_len, head_dim]`.
    pub query: u64,
    /// `[batch, kv_heads, kv_len, head_dim]`.
    pub key: u64,
    /// `[batch, kv_heads, kv_len, value_dim]`.
    pub value: u64,
    /// `[batch, heads, q_len, value_dim]`.
    pub out: u64,
    /// `f32 [batch, heads, q_len]`, natural log; 0 when not asked for.
    pub lse: u64,
    /// `f32 [batch, heads, q_len]`, the largest kept score of a row; 0 when not asked for.
    pub max_score: u64,
    /// Of `query`.
    pub query_strides: Strides,
    /// Of `key`.
    pub key_strides: Strides,
    /// Of `value`.
    pub value_strides: Strides,
    /// Of `out`.
    pub out_strides: Strides,
    /// Sequences.
    pub batch: i32,
    /// Query heads.
    pub heads: i32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: i32,
    /// Queries a sequence.
    pub q_len: i32,
    /// Keys a sequence.
    pub kv_len: i32,
    /// The factor of q·k.
    pub scale: f32,
    /// Which tiles are skipped, full or partial.
    pub block_mask: BlockMask,
    /// `u32` an item: the work items in the order in which to start them; 0 for the kernel's own order.
    pub work_order: u64,
    /// A `u32` that persistent kernels find at zero.
    pub next_work: u64,
    /// A [`Fault`].
    pub fault: u64,
}

/// What a launch tells the kernel that judges tiles of a mask (`templates/mask_tiles.cuh`); its parameters are
/// `(MaskTiles, Captures)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct MaskTiles {
    /// The tiles, [`flex_core::mask::OpenTile`].
    pub tiles: u64,
    /// [`flex_core::mask::TileVerdict`] a tile.
    pub verdicts: u64,
    /// How many tiles.
    pub count: u32,
    /// Queries a sequence.
    pub q_len: i32,
    /// Keys a sequence.
    pub kv_len: i32,
    /// Queries a tile.
    pub tile_q: i32,
    /// Keys a tile.
    pub tile_kv: i32,
    /// Up to the alignment.
    pub _padding: u32,
}

const _: () = {
    assert!(size_of::<MaskTiles>() == 40);
    assert!(size_of::<Strides>() == 24);
    assert!(size_of::<BlockMask>() == 40);
    assert!(size_of::<Fault>() == 28);
    assert!(std::mem::offset_of!(Problem, query_strides) == 48);
    assert!(std::mem::offset_of!(Problem, batch) == 144);
    assert!(std::mem::offset_of!(Problem, block_mask) == 168);
    assert!(std::mem::offset_of!(Problem, work_order) == 208);
    assert!(size_of::<Problem>() == 232);
    assert!(size_of::<flex_core::mask::Run>() == 8);
};
