//! Masks of sequences packed from several documents.

use crate::prelude::*;

/// Tokens see the tokens of their own document. `doc[i]` is the document of position `i`.
///
/// ```
/// let mask = flex_attention::library::document::bind(&[0, 0, 0, 1, 1])?;
/// # Ok::<(), flex_attention::BindError>(())
/// ```
#[mask_mod]
pub fn document(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
    doc[q] == doc[kv]
}

/// Tokens see earlier tokens of their own document, and themselves.
#[mask_mod]
pub fn document_causal(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
    document(b, h, q, kv, doc) && q >= kv
}

/// Like [`document_causal`](fn@document_causal), with other documents in every sequence of the batch: `doc` is
/// `[batch, len]`.
#[mask_mod]
pub fn document_per_batch(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 2>) -> bool {
    doc[[b, q]] == doc[[b, kv]] && q >= kv
}
