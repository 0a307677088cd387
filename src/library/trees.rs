//! Masks of token trees, as speculative decoding verifies them.

use crate::prelude::*;

/// A query is a node of a tree of draft tokens: it sees the `prefix_len` tokens before the tree and its own ancestors.
/// Key `prefix_len + i` is node `i`; `ancestors[[q, i]]` tells whether node `i` is `q` or one of its ancestors.
#[mask_mod]
pub fn tree(b: i32, h: i32, q: i32, kv: i32, prefix_len: i32, ancestors: View<bool, 2>) -> bool {
    kv < prefix_len || ancestors[[q, kv - prefix_len]]
}

/// The same for nodes in depth-first order, where the descendants of node `i` are the nodes up to `last[i]`: linear
/// memory, and whole tiles can be skipped.
///
/// ```
/// // 0 ─ 1 ─ 2
/// //  └─ 3
/// let mask = flex_attention::library::tree_intervals::bind(100, &[3, 2, 2, 3])?;
/// # Ok::<(), flex_attention::BindError>(())
/// ```
#[mask_mod]
pub fn tree_intervals(b: i32, h: i32, q: i32, kv: i32, prefix_len: i32, last: View<i32, 1>) -> bool {
    kv < prefix_len || (kv - prefix_len <= q && q <= last[kv - prefix_len])
}
