//! Masks of sequences that start with a prefix.

use crate::prelude::*;

/// The first `prefix[b]` keys of sequence `b` are seen by all queries; after them, attention is causal.
#[mask_mod]
pub fn prefix_lm(b: i32, h: i32, q: i32, kv: i32, prefix: View<i32, 1>) -> bool {
    kv < prefix[b] || q >= kv
}

/// Several continuations of one prompt, packed behind it: causal, and a query sees the first `prefix_len` keys and those
/// of its own continuation. `branch[i]` is the continuation that position `i` belongs to.
///
/// ```
/// // A prompt of two tokens with continuations of two tokens and one token.
/// let mask = flex_attention::library::shared_prefix::bind(2, &[-1, -1, 0, 0, 1])?;
/// # Ok::<(), flex_attention::BindError>(())
/// ```
#[mask_mod]
pub fn shared_prefix(b: i32, h: i32, q: i32, kv: i32, prefix_len: i32, branch: View<i32, 1>) -> bool {
    q >= kv && (kv < prefix_len || branch[q] == branch[kv])
}
