//! Masks by the order of positions.

use crate::prelude::*;

/// A query sees itself and all keys before it.
#[mask_mod]
pub fn causal(b: i32, h: i32, q: i32, kv: i32) -> bool {
    q >= kv
}

/// Causal over tiles of `tile_len` tokens in another order than that of their positions: `order[i]` says when tile `i` has its
/// turn, and a token sees the tiles that had theirs, and its own.
#[mask_mod]
pub fn permuted_tiles(b: i32, h: i32, q: i32, kv: i32, tile_len: i32, order: View<i32, 1>) -> bool {
    order[q / tile_len] >= order[kv / tile_len]
}
