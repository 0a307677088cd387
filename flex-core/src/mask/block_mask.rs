//! A mask together with what is known of its tiles.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::{BlockSize, Extent, Run, RunTable, TileKind};
use crate::capture::{ArrayData, Capture, CaptureValue};
use crate::mods::MaskMod;

/// For every row of tiles the runs that a mask does not skip, and the mask itself for the partial ones.
///
/// A dimension (batch, heads) that the mask does not depend on is stored once. Whoever has a block mask also has a proof
/// that the mask does not fault inside its extent. Two are equal where their tiles are and their masks are written alike
/// over equal captures.
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
    pub(crate) origin: Origin,
    pub(crate) elements_evaluated: u64,
    pub(crate) transposed: OnceLock<RunTable>,
}

/// Where the tiles of a block mask come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// They are exactly those of the mask: absent where it keeps nothing, full where it keeps all, else partial.
    Proved,
    /// All are partial.
    Unskipped,
    /// The user gave them; the mask applies to the partial ones.
    Given,
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

    /// Where its tiles come from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The number of tiles along the queries, the last one possibly cut.
    pub fn q_blocks(&self) -> usize {
        self.extent.q_len.div_ceil(self.block.q)
    }

    /// The number of tiles along the keys, the last one possibly cut.
    pub fn kv_blocks(&self) -> usize {
        self.extent.kv_len.div_ceil(self.block.kv)
    }

    /// The runs of row `q_block` of batch `b` and head `h`, in increasing order. Panics if there is no such row.
    pub fn row(&self, b: usize, h: usize, q_block: usize) -> &[Run] {
        self.rows.row(b * self.batch_rows + h * self.head_rows + q_block)
    }

    /// What the mask does to a tile; `None` where it is skipped. Panics if there is no such row of tiles.
    pub fn tile(&self, b: usize, h: usize, q_block: usize, kv_block: usize) -> Option<TileKind> {
        let row = self.row(b, h, q_block);
        let after = row.partition_point(|run| run.first() as usize <= kv_block);
        row[..after].last().filter(|run| kv_block < run.end() as usize).map(|run| run.kind())
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

    /// How many (batch, head) pairs are stored, and how many pairs of the extent each stands for.
    pub(crate) fn groups(&self) -> (usize, usize) {
        let stored = self.rows.rows() / self.q_blocks();
        (stored, self.extent.batch * self.extent.heads / stored)
    }

    /// The number of elements of the attention matrices, batch · heads · q_len · kv_len; saturated where it overflows.
    pub fn numel(&self) -> usize {
        let Extent { batch, heads, q_len, kv_len } = self.extent;
        [heads, q_len, kv_len].iter().fold(batch, |product, &len| product.saturating_mul(len))
    }

    /// The number of tiles of all batches and heads; saturated where it overflows.
    pub fn tiles_total(&self) -> u64 {
        let Extent { batch, heads, .. } = self.extent;
        [self.q_blocks(), self.kv_blocks()]
            .iter()
            .fold((batch * heads) as u64, |product, &len| product.saturating_mul(len as u64))
    }

    /// The number of full tiles of all batches and heads; saturated where it overflows.
    pub fn tiles_full(&self) -> u64 {
        self.count(TileKind::Full)
    }

    /// The number of partial tiles of all batches and heads; saturated where it overflows.
    pub fn tiles_partial(&self) -> u64 {
        self.count(TileKind::Partial)
    }

    fn count(&self, kind: TileKind) -> u64 {
        let of_kind = self.rows.runs.iter().filter(|run| run.kind() == kind);
        of_kind.map(|run| u64::from(run.len())).sum::<u64>().saturating_mul(self.groups().1 as u64)
    }

    /// The share of tiles that are skipped, in percent. Causal over 2048 × 2048 with blocks of 128 has 46.875.
    pub fn sparsity(&self) -> f64 {
        let kept: u64 = self.rows.runs.iter().map(|run| u64::from(run.len())).sum();
        let stored = self.rows.rows() as u64 * self.kv_blocks() as u64;
        100.0 * (1.0 - kept as f64 / stored as f64)
    }

    /// The memory of the tiles in bytes, with the transposed ones if they were asked for; without the mask's captures.
    pub fn bytes(&self) -> usize {
        self.rows.bytes() + self.transposed.get().map_or(0, RunTable::bytes)
    }

    /// At how many points the mask was evaluated when this block mask was built; 0 where everything was proved.
    pub fn elements_evaluated(&self) -> u64 {
        self.elements_evaluated
    }
}

impl PartialEq for BlockMask {
    fn eq(&self, other: &Self) -> bool {
        self.extent == other.extent
            && self.block == other.block
            && self.row_strides() == other.row_strides()
            && self.origin == other.origin
            && self.rows == other.rows
            && same_mask(&self.mask, &other.mask)
    }
}

fn same_mask(a: &MaskMod, b: &MaskMod) -> bool {
    let same_capture = |(x, y): (&Capture, &Capture)| {
        x.name == y.name
            && match (&x.value, &y.value) {
                (CaptureValue::Scalar(x), CaptureValue::Scalar(y)) => x == y,
                (CaptureValue::Array(x), CaptureValue::Array(y)) => {
                    x.id() == y.id() || x.shape() == y.shape() && same_data(x.data(), y.data())
                }
                _ => false,
            }
    };
    let (a, b) = (a.bound(), b.bound());
    a.expr() == b.expr() && a.captures().iter().zip(b.captures().iter()).all(same_capture)
}

/// Whether two arrays hold the same bits: a NaN equals itself.
fn same_data(a: &ArrayData, b: &ArrayData) -> bool {
    match (a, b) {
        (ArrayData::F32(a), ArrayData::F32(b)) => {
            a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()))
        }
        (a, b) => a == b,
    }
}
