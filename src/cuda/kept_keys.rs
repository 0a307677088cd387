//! The keys that each query keeps, as a table: for masks that keep one interval a row but cannot be computed from the
//! row alone, such as sorted documents. The kernel then compares with two numbers instead of evaluating the mask.

use flex_core::analysis::kept_interval::KeptIntervals;
use flex_core::mask::BlockMask;
use rayon::prelude::*;

/// The intervals of a mask.
#[derive(Debug)]
pub(super) struct KeptKeys {
    intervals: KeptIntervals,
    batch: usize,
    heads: usize,
    q_len: usize,
}

impl KeptKeys {
    /// The intervals of a block mask, for the batch entries and heads that it depends on.
    pub(super) fn new(intervals: KeptIntervals, mask: &BlockMask) -> Self {
        let extent = mask.extent();
        let (batch_rows, head_rows) = mask.row_strides();
        let batch = if batch_rows == 0 { 1 } else { extent.batch };
        let heads = if head_rows == 0 { 1 } else { extent.heads };
        Self { intervals, batch, heads, q_len: extent.q_len }
    }

    /// `[first, end)` of every query.
    pub(super) fn table(&self) -> Vec<[i32; 2]> {
        let entry = |i: usize| {
            let (b, h, q) = (i / self.q_len / self.heads, i / self.q_len % self.heads, i % self.q_len);
            let kept = self.intervals.row(b as i32, h as i32, q as i32);
            [kept.start, kept.end]
        };
        (0..self.batch * self.heads * self.q_len).into_par_iter().map(entry).collect()
    }

    /// Entries from one batch entry and from one head to the next; 0 where the mask does not depend on them.
    pub(super) fn strides(&self) -> (u32, u32) {
        let step = |count: usize, rows: usize| if count == 1 { 0 } else { rows as u32 };
        (step(self.batch, self.heads * self.q_len), step(self.heads, self.q_len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::document_causal;
    use flex_core::mask::{Extent, create_block_mask};

    #[test]
    fn sorted_documents_have_a_table() {
        let extent = Extent { batch: 2, heads: 3, q_len: 6, kv_len: 6 };
        let mask = document_causal::bind(&[0, 0, 0, 4, 4, 7]).unwrap();
        let mask = create_block_mask(&mask, extent).unwrap();
        let kept = KeptKeys::new(KeptIntervals::of(&mask).unwrap(), &mask);
        assert_eq!(kept.table(), [[0, 1], [0, 2], [0, 3], [3, 4], [3, 5], [5, 6]]);
        assert_eq!(kept.strides(), (0, 0));
    }
}
