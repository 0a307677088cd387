//! Masks of padded batches.

use crate::prelude::*;

/// Sequence `b` has `lens[b]` tokens; what is behind them neither sees nor is seen.
#[mask_mod]
pub fn padding(b: i32, h: i32, q: i32, kv: i32, lens: View<i32, 1>) -> bool {
    q < lens[b] && kv < lens[b]
}
