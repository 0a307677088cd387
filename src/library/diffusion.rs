//! Masks of diffusion language models.

use crate::prelude::*;

/// The training mask of block diffusion (BD3-LM). The sequence is `len` noised tokens followed by the `len` clean ones,
/// both cut into blocks of `block` tokens. A noised block sees itself and the clean blocks before it; a clean block sees
/// itself and the clean blocks before it.
#[mask_mod]
pub fn block_diffusion(b: i32, h: i32, q: i32, kv: i32, len: i32, block: i32) -> bool {
    let (q_clean, kv_clean) = (q >= len, kv >= len);
    let q_block = if q_clean { q - len } else { q } / block;
    let kv_block = if kv_clean { kv - len } else { kv } / block;

    let own_block = q_block == kv_block && q_clean == kv_clean;
    let clean_past = kv_clean && q_block > kv_block;
    own_block || clean_past
}
