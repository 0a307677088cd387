//! Batches of sequences of unequal length, packed one after the other.

use super::MaskError;

/// The number of the sequence that every position belongs to, from the cumulative lengths that packed batches come
/// with: `[0, 3, 5]` gives `[0, 0, 0, 1, 1]`. Bind it to a document mask; its block mask is proved in time proportional to
/// the rows of tiles.
///
/// # Errors
/// If the first number is not 0, or a number is smaller than the one before.
pub fn document_ids_from_cu_seqlens(cu_seqlens: &[i32]) -> Result<Vec<i32>, MaskError> {
    let error = |problem: String| Err(MaskError::SequenceEnds { problem });
    let Some((&0, _)) = cu_seqlens.split_first() else {
        return match cu_seqlens.first() {
            Some(first) => error(format!("starts with {first}")),
            None => error("is empty".into()),
        };
    };
    let total = cu_seqlens.last().copied().unwrap_or(0);
    let mut ids = Vec::with_capacity(total.max(0) as usize);
    for (id, pair) in cu_seqlens.windows(2).enumerate() {
        if pair[1] < pair[0] {
            return error(format!("falls from {} to {} at {}", pair[0], pair[1], id + 1));
        }
        ids.resize(pair[1] as usize, id as i32);
    }
    Ok(ids)
}
