//! A mask together with what is known of its tiles.

use std::sync::Arc;

use super::{BlockSize, Extent, Run, RunTable};
use crate::mods::MaskMod;

/// For every row of tiles the runs that a mask does not skip, and the mask itself for the partial ones.
///
/// A dimension (batch, heads) that the mask does not depend on is stored once.
#[derive(Clone, Debug)]
pub struct BlockMask {
    pub(crate) mask: MaskMod,
    pub(crate) extent: Extent,
    pub(crate) block: BlockSize,
    /// Rows of tiles from one batch to the next, 0 where the mask does not depend on the batch.
    pub(crate) batch_rows: usize,
    /// Rows of tiles from one head to the next, 0 where the mask does not depend on the head.
    pub(crate) head_rows: usize,
    pub(crate) rows: Arc<RunTable>,
}

impl BlockMask {
    /// The mask, for the partial tiles.
    pub fn mask_mod(&self) -> &MaskMod {
        &self.mask
    }

    /// The size it was built for.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// The size of its tiles.
    pub fn block_size(&self) -> BlockSize {
        self.block
    }

    /// The number of tiles along the queries, the last one possibly cut.
    pub fn q_blocks(&self) -> usize {
        self.extent.q_len.div_ceil(self.block.q)
    }

    /// The number of tiles along the keys, the last one possibly cut.
    pub fn kv_blocks(&self) -> usize {
        self.extent.kv_len.div_ceil(self.block.kv)
    }

    /// The runs of row `q_block` of batch `b` and head `h`, in increasing order.
    pub fn row(&self, b: usize, h: usize, q_block: usize) -> &[Run] {
        self.rows.row(b * self.batch_rows + h * self.head_rows + q_block)
    }

    /// All rows, as they are stored: row `b * batch_rows + h * head_rows + q_block`.
    pub fn table(&self) -> &RunTable {
        &self.rows
    }

    /// [`table`](Self::table), shared by the clones of this mask and by no other: its address identifies the mask to those
    /// who keep copies of it on devices.
    pub fn shared_table(&self) -> &Arc<RunTable> {
        &self.rows
    }

    /// The strides in rows of [`table`](Self::table) of batch and head; 0 for a dimension stored once.
    pub fn row_strides(&self) -> (usize, usize) {
        (self.batch_rows, self.head_rows)
    }
}
