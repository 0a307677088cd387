//! Masks by the order of positions.

use crate::prelude::*;

/// A query sees itself and all keys before it.
#[mask_mod]
pub fn causal(b: i32, h: i32, q: i32, kv: i32) -> bool {
    q >= kv
}
