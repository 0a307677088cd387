//! Masks of sequences packed from several documents.

use flex_core::mask::document_ids_from_cu_seqlens;

use crate::Error;
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

impl document {
    /// The mask of sequences packed one after the other, from the cumulative lengths that packed batches come with: `[0, 3,
    /// 5]` has 3 tokens of one sequence and 2 of another.
    ///
    /// ```
    /// let mask = flex_attention::library::document::from_cu_seqlens(&[0, 3, 5])?;
    /// # Ok::<(), flex_attention::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the first number is not 0, or a number is smaller than the one before.
    pub fn from_cu_seqlens(cu_seqlens: &[i32]) -> Result<MaskMod, Error> {
        Ok(Self::bind(document_ids_from_cu_seqlens(cu_seqlens)?)?)
    }
}

impl document_causal {
    /// As [`document::from_cu_seqlens`], causal within every sequence.
    ///
    /// # Errors
    /// If the first number is not 0, or a number is smaller than the one before.
    pub fn from_cu_seqlens(cu_seqlens: &[i32]) -> Result<MaskMod, Error> {
        Ok(Self::bind(document_ids_from_cu_seqlens(cu_seqlens)?)?)
    }
}

#[cfg(test)]
mod tests {
    use flex_core::analysis::interpret::{Point, mask};

    use super::*;

    #[test]
    fn packed_sequences_see_themselves() {
        // An empty sequence between two others is none.
        let cu_seqlens = [0, 3, 3, 5];
        let sequence = |i: i32| usize::from(i >= 3);
        let (both, causal) = (
            document::from_cu_seqlens(&cu_seqlens).unwrap(),
            document_causal::from_cu_seqlens(&cu_seqlens).unwrap(),
        );
        for (q, kv) in (0..5).flat_map(|q| (0..5).map(move |kv| (q, kv))) {
            let at = Point { b: 0, h: 0, q, kv };
            let same = sequence(q) == sequence(kv);
            assert_eq!(mask(both.bound(), at).unwrap(), same);
            assert_eq!(mask(causal.bound(), at).unwrap(), same && q >= kv);
        }
        // There is no position 5.
        assert!(mask(both.bound(), Point { b: 0, h: 0, q: 5, kv: 0 }).is_err());
    }

    #[test]
    fn ends_out_of_order_are_errors() {
        for wrong in [&[][..], &[1, 2], &[0, 4, 3]] {
            let error = document::from_cu_seqlens(wrong).unwrap_err().to_string();
            assert!(error.starts_with("cu_seqlens "), "{error}");
            assert!(document_causal::from_cu_seqlens(wrong).is_err());
        }
    }
}
