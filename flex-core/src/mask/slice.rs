//! Parts of block masks, with their meaning kept.

use std::ops::Range;
use std::sync::OnceLock;

use super::builder::{Judgement, Plan};
use super::{BlockMask, BlockSize, Extent, MaskError, Origin, Run, RunTable};
use crate::ir::Input;
use crate::mods::MaskMod;

/// The part of every dimension that a slice keeps.
struct Ranges {
    batch: Range<usize>,
    heads: Range<usize>,
    q: Range<usize>,
    kv: Range<usize>,
}

impl Ranges {
    fn check(&self, extent: Extent) -> Result<Extent, MaskError> {
        let dims = [
            ("batch", &self.batch, extent.batch),
            ("heads", &self.heads, extent.heads),
            ("q", &self.q, extent.q_len),
            ("kv", &self.kv, extent.kv_len),
        ];
        for (dimension, range, len) in dims {
            if range.is_empty() || range.end > len {
                let Range { start, end } = *range;
                return Err(MaskError::OutsideExtent { dimension, start, end, len });
            }
        }
        let [batch, heads, q_len, kv_len] = dims.map(|(_, range, _)| range.len());
        Ok(Extent { batch, heads, q_len, kv_len })
    }
}

impl BlockMask {
    /// The part of some batches, heads, queries and keys: element (b, h, q, kv) of the result is element
    /// (b + batch.start, …) of this mask, and its mask is shifted to say so. The rows of tiles are copied where the ranges
    /// lie on the grid of tiles, and built again otherwise.
    ///
    /// # Errors
    /// If a range is empty or reaches outside the extent, or the tiles were given and the ranges cut them.
    pub fn slice(
        &self,
        batch: Range<usize>,
        heads: Range<usize>,
        q: Range<usize>,
        kv: Range<usize>,
    ) -> Result<Self, MaskError> {
        let ranges = Ranges { batch, heads, q, kv };
        let extent = ranges.check(self.extent)?;
        let mut mask = self.mask.clone();
        let starts = [
            (Input::Batch, "b_offset", ranges.batch.start),
            (Input::Head, "h_offset", ranges.heads.start),
            (Input::Query, "q_offset", ranges.q.start),
            (Input::Key, "kv_offset", ranges.kv.start),
        ];
        for (input, name, start) in starts {
            if start > 0 && mask.bound().expr().uses(input) {
                mask = mask.shift(input, name, start as i32);
            }
        }
        let on_grid = |range: &Range<usize>, block: usize, len: usize| {
            range.start.is_multiple_of(block) && (range.end == len || range.end.is_multiple_of(block))
        };
        let aligned = on_grid(&ranges.q, self.block.q, self.extent.q_len)
            && on_grid(&ranges.kv, self.block.kv, self.extent.kv_len);
        match aligned {
            true => self.copy_part(mask, extent, &ranges),
            false => self.rebuilt(&mask, extent, self.block, "cut tiles of"),
        }
    }

    /// The part of some queries and keys, for all batches and heads. See [`slice`](Self::slice).
    ///
    /// # Errors
    /// As [`slice`](Self::slice).
    pub fn crop(&self, q: Range<usize>, kv: Range<usize>) -> Result<Self, MaskError> {
        self.slice(0..self.extent.batch, 0..self.extent.heads, q, kv)
    }

    /// The block mask of the same extent for queries that start at position `offset`: row q is row q + offset of the mask.
    ///
    /// # Errors
    /// If the shifted mask faults, or the tiles were given.
    pub fn shift_q(&self, offset: i32) -> Result<Self, MaskError> {
        self.rebuilt(&self.mask.shift_q(offset), self.extent, self.block, "shift")
    }

    /// The same mask with tiles of another size.
    ///
    /// # Errors
    /// If the block size is zero or too large, or the tiles were given.
    pub fn retile(&self, block_size: impl Into<BlockSize>) -> Result<Self, MaskError> {
        self.rebuilt(&self.mask, self.extent, block_size.into(), "retile")
    }

    fn rebuilt(
        &self,
        mask: &MaskMod,
        extent: Extent,
        block: BlockSize,
        operation: &'static str,
    ) -> Result<Self, MaskError> {
        let judgement = self.judgement(operation)?;
        Self::from_plan(&Plan::new(mask, extent, block, judgement)?, None)
    }

    /// How tiles of this mask are found again.
    pub(super) fn judgement(&self, operation: &'static str) -> Result<Judgement, MaskError> {
        match self.origin {
            Origin::Proved => Ok(Judgement::Exact),
            Origin::Unskipped => Ok(Judgement::FaultsOnly),
            Origin::Given => Err(MaskError::GivenTiles { operation }),
        }
    }

    /// Copies the rows of an aligned part.
    fn copy_part(&self, mask: MaskMod, extent: Extent, ranges: &Ranges) -> Result<Self, MaskError> {
        let blocks = |range: &Range<usize>, block: usize| range.start / block..range.end.div_ceil(block);
        let (q, kv) = (blocks(&ranges.q, self.block.q), blocks(&ranges.kv, self.block.kv));
        let once = |range: &Range<usize>, stride: usize| if stride == 0 { 0..1 } else { range.clone() };
        let mut table = RunTable::with_capacity(q.len());
        for b in once(&ranges.batch, self.batch_rows) {
            for h in once(&ranges.heads, self.head_rows) {
                for q_block in q.clone() {
                    let runs = clipped(self.row(b, h, q_block), kv.start as u32, kv.end as u32);
                    table.runs.extend(runs);
                    table.end_row()?;
                }
            }
        }
        let head_rows = if self.head_rows == 0 { 0 } else { q.len() };
        let heads = if self.head_rows == 0 { 1 } else { extent.heads };
        let batch_rows = if self.batch_rows == 0 { 0 } else { q.len() * heads };
        Ok(Self {
            mask,
            extent,
            block: self.block,
            batch_rows,
            head_rows,
            rows: table.into(),
            origin: self.origin,
            elements_evaluated: 0,
            transposed: OnceLock::new(),
        })
    }
}

/// The part of a row between two tiles, counted from the first.
pub(super) fn clipped(row: &[Run], first: u32, end: u32) -> impl Iterator<Item = Run> {
    let from = row.partition_point(move |run| run.end() <= first);
    row[from..].iter().take_while(move |run| run.first() < end).map(move |run| {
        let start = run.first().max(first);
        Run::new(start - first, run.end().min(end) - start, run.kind())
    })
}
