//! Masks by the bits of positions.

use crate::prelude::*;

/// Tiles of `tile_len` tokens see those whose number differs from theirs in none of the given bits, as in the stages of a
/// butterfly: with `bits` of 3, every fourth.
#[mask_mod]
pub fn xor_tiles(b: i32, h: i32, q: i32, kv: i32, tile_len: i32, bits: i32) -> bool {
    ((q / tile_len) ^ (kv / tile_len)) & bits == 0
}
