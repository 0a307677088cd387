//! Facts about rows that kernels may use: what PyTorch asks its users to promise.

use super::{BlockMask, MaskError, Origin, TileKind};
use crate::rows::{RowEvaluator, RowProgram};

impl BlockMask {
    /// Whether the tiles that are not skipped lie next to each other in every row, so that a kernel may walk from the
    /// first to the last. PyTorch calls this promise `BLOCKS_ARE_CONTIGUOUS`.
    pub fn blocks_are_contiguous(&self) -> bool {
        (0..self.rows.rows())
            .all(|row| self.rows.row(row).windows(2).all(|pair| pair[0].end() == pair[1].first()))
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
                    if !self.row_of_tiles_is_safe(&mut evaluator, b, h, q_block)? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    fn row_of_tiles_is_safe(
        &self,
        evaluator: &mut RowEvaluator,
        b: usize,
        h: usize,
        q_block: usize,
    ) -> Result<bool, MaskError> {
        let runs = self.row(b, h, q_block);
        if runs.iter().any(|run| run.kind() == TileKind::Full) {
            return Ok(true);
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
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Whether the tiles are exactly those of the mask, so that a skipped tile keeps nothing and a full one everything.
    pub fn is_exact(&self) -> bool {
        self.origin == Origin::Proved
    }
}

/// How many keys are evaluated at once.
const CHUNK: usize = 256;
