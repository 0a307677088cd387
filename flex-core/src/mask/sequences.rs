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
    match cu_seqlens.first() {
        None => return error("is empty".into()),
        Some(0) => {}
        Some(first) => return error(format!("starts with {first}")),
    }
    if let Some(i) = cu_seqlens.windows(2).position(|ends| ends[1] < ends[0]) {
        return error(format!("falls from {} to {} at {}", cu_seqlens[i], cu_seqlens[i + 1], i + 1));
    }
    let total = cu_seqlens.last().copied().unwrap_or(0);
    let mut ids = Vec::with_capacity(total as usize);
    for (id, ends) in cu_seqlens.windows(2).enumerate() {
        ids.resize(ends[1] as usize, id as i32);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_sequences_become_document_ids() {
        assert_eq!(document_ids_from_cu_seqlens(&[0, 3, 3, 5]).unwrap(), [0, 0, 0, 2, 2]);
        assert!(document_ids_from_cu_seqlens(&[0]).unwrap().is_empty());
        for wrong in [&[][..], &[1, 2], &[0, 4, 3], &[0, i32::MAX, 3], &[0, -1]] {
            assert!(matches!(document_ids_from_cu_seqlens(wrong), Err(MaskError::SequenceEnds { .. })));
        }
    }
}
