//! Facts about rows that kernels may use: what PyTorch asks its users to promise.

use std::ops::Range;

use super::{BlockMask, MaskError, Origin, Run, TileKind};
use crate::analysis::kept_interval::KeptIntervals;
use crate::rows::{RowEvaluator, RowProgram};

impl BlockMask {
    /// Whether the tiles that are not skipped lie next to each other in every row, so that a kernel may walk from the
    /// first to the last. PyTorch calls this promise `BLOCKS_ARE_CONTIGUOUS`.
    pub fn blocks_are_contiguous(&self) -> bool {
        (0..self.rows.rows()).all(|row| are_contiguous(self.rows.row(row)))
    }

    /// The same of one row of tiles. Panics if there is no such row.
    pub fn row_is_contiguous(&self, b: usize, h: usize, q_block: usize) -> bool {
        are_contiguous(self.row(b, h, q_block))
    }

    /// Whether every query sees some key, so that no row of the softmax is empty. PyTorch calls this promise
    /// `ROWS_GUARANTEED_SAFE`. Proved by full tiles where there are some; only rows of tiles without one are evaluated, and
    /// of those only as much as it takes.
    ///
    /// # Errors
    /// Never for block masks of this process; the mask is known not to fault.
    pub fn rows_are_non_empty(&self) -> Result<bool, MaskError> {
        let program = RowProgram::proved(self.mask.bound());
        let mut evaluator = RowEvaluator::new(&program, CHUNK);
        let (batches, heads) = (
            if self.batch_rows == 0 { 1 } else { self.extent.batch },
            if self.head_rows == 0 { 1 } else { self.extent.heads },
        );
        for b in 0..batches {
            for h in 0..heads {
                for q_block in 0..self.q_blocks() {
                    if !self.blind_queries(&mut evaluator, b, h, q_block)?.is_empty() {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// The queries of one batch and head that see no key, as stretches in increasing order: their rows of the softmax are
    /// empty. Proved for rows of tiles that have a full tile or none at all; the others are evaluated as far as it takes.
    /// Panics if there is no such batch or head.
    ///
    /// # Errors
    /// Never for block masks of this process; the mask is known not to fault.
    pub fn empty_rows(&self, b: usize, h: usize) -> Result<Vec<Range<usize>>, MaskError> {
        let program = RowProgram::proved(self.mask.bound());
        let mut evaluator = RowEvaluator::new(&program, CHUNK);
        let mut found: Vec<Range<usize>> = Vec::new();
        for q_block in 0..self.q_blocks() {
            for q in self.blind_queries(&mut evaluator, b, h, q_block)? {
                match found.last_mut().filter(|last| last.end == q) {
                    Some(last) => last.end = q + 1,
                    None => found.push(q..q + 1),
                }
            }
        }
        Ok(found)
    }

    /// For every query the one interval of keys that it sees, if the mask is seen to keep one in every row: causal masks,
    /// windows, padding, documents in order, and all of these together.
    pub fn kept_intervals(&self) -> Option<KeptIntervals> {
        KeptIntervals::of(self)
    }

    /// The queries of a row of tiles that see no key.
    fn blind_queries(
        &self,
        evaluator: &mut RowEvaluator,
        b: usize,
        h: usize,
        q_block: usize,
    ) -> Result<Vec<usize>, MaskError> {
        let runs = self.row(b, h, q_block);
        if runs.iter().any(|run| run.kind() == TileKind::Full) {
            return Ok(Vec::new());
        }
        let q_end = self.extent.q_len.min((q_block + 1) * self.block.q);
        let mut open: Vec<usize> = (q_block * self.block.q..q_end).collect();
        for run in runs {
            let kv_end = self.extent.kv_len.min(run.end() as usize * self.block.kv);
            for kv in (run.first() as usize * self.block.kv..kv_end).step_by(CHUNK) {
                evaluator.tile(b, h, kv, CHUNK.min(kv_end - kv));
                let mut still_open = Vec::new();
                for &q in &open {
                    if !evaluator.mask_summary(q..q + 1)?.keeps_some {
                        still_open.push(q);
                    }
                }
                open = still_open;
                if open.is_empty() {
                    return Ok(open);
                }
            }
        }
        Ok(open)
    }

    /// Whether the tiles are exactly those of the mask, so that a skipped tile keeps nothing and a full one everything.
    pub fn is_exact(&self) -> bool {
        self.origin == Origin::Proved
    }
}

/// How many keys are evaluated at once.
const CHUNK: usize = 256;

fn are_contiguous(row: &[Run]) -> bool {
    row.windows(2).all(|pair| pair[0].end() == pair[1].first())
}
