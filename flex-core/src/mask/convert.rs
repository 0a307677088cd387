//! Block masks as the lists of tiles that PyTorch keeps.

use std::sync::OnceLock;

use super::builder::{Judgement, Plan, countable_rows};
use super::{BlockMask, BlockSize, Extent, MaskError, Origin, Run, RunTable, TileKind};
use crate::ir::Input;
use crate::mods::MaskMod;

/// Lists of tiles a row, as in PyTorch's `BlockMask`: row `(b · heads + h) · q_blocks + q_block` has
/// `num_blocks[row]` tiles, which are the first so many of `indices[row · kv_blocks ..][.. kv_blocks]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvBlocks {
    /// Batches, or 1 for all.
    pub batch: usize,
    /// Heads, or 1 for all.
    pub heads: usize,
    /// Rows of tiles.
    pub q_blocks: usize,
    /// Tiles a row, and the width of the lists of indices.
    pub kv_blocks: usize,
    /// How many partial tiles each row has (`kv_num_blocks`).
    pub num_blocks: Vec<i32>,
    /// Which (`kv_indices`); past the number of a row they mean nothing.
    pub indices: Vec<i32>,
    /// How many full tiles each row has (`full_kv_num_blocks`).
    pub full_num_blocks: Vec<i32>,
    /// Which (`full_kv_indices`).
    pub full_indices: Vec<i32>,
}

impl BlockMask {
    /// The tiles as lists. A dimension that is stored once has length 1 in them.
    ///
    /// # Errors
    /// If there are too many tiles to list: the lists have an entry for every tile, skipped or not.
    pub fn to_kv_blocks(&self) -> Result<KvBlocks, MaskError> {
        const MAX_ENTRIES: usize = 1 << 31;
        let (rows, width) = (self.rows.rows(), self.kv_blocks());
        let entries = rows.saturating_mul(width);
        if entries > MAX_ENTRIES {
            return Err(MaskError::TooLarge { what: "tiles", got: entries, max: MAX_ENTRIES });
        }
        let list = |kind: TileKind| {
            let (mut counts, mut indices) = (Vec::with_capacity(rows), vec![0; entries]);
            for row in 0..rows {
                let mut slots = indices[row * width..(row + 1) * width].iter_mut();
                let of_kind = self.rows.row(row).iter().filter(|run| run.kind() == kind);
                let tiles = of_kind.flat_map(|run| run.first()..run.end());
                counts.push(tiles.zip(&mut slots).map(|(tile, slot)| *slot = tile as i32).count() as i32);
            }
            (counts, indices)
        };
        let (num_blocks, indices) = list(TileKind::Partial);
        let (full_num_blocks, full_indices) = list(TileKind::Full);
        Ok(KvBlocks {
            batch: if self.batch_rows == 0 { 1 } else { self.extent.batch },
            heads: if self.head_rows == 0 { 1 } else { self.extent.heads },
            q_blocks: self.q_blocks(),
            kv_blocks: width,
            num_blocks,
            indices,
            full_num_blocks,
            full_indices,
        })
    }

    /// A block mask of the listed tiles: full ones keep everything, partial ones what `mask` keeps
    /// ([`MaskMod::all`] for all), the others nothing. The lists decide, whatever the mask says of the tiles.
    ///
    /// # Errors
    /// If the lists do not have the lengths that the extent asks for, name a tile that does not exist or one twice, or
    /// if the mask faults somewhere inside the extent.
    pub fn from_kv_blocks(
        lists: &KvBlocks,
        mask: &MaskMod,
        extent: Extent,
        block_size: impl Into<BlockSize>,
    ) -> Result<Self, MaskError> {
        let plan = Plan::new(mask, extent, block_size.into(), Judgement::FaultsOnly)?;
        let (q_blocks, kv_blocks) = (plan.q_blocks(), plan.kv_blocks());
        check_lists(lists, extent, q_blocks, kv_blocks)?;
        let elements_evaluated = plan.run(plan.all_tiles(), None)?.elements_evaluated;
        let expr = mask.bound().expr();
        let by_batch = lists.batch > 1 || expr.uses(Input::Batch);
        let by_head = lists.heads > 1 || expr.uses(Input::Head);
        let batches = if by_batch { extent.batch } else { 1 };
        let heads = if by_head { extent.heads } else { 1 };
        let mut table = RunTable::with_capacity(countable_rows([batches, heads, q_blocks])?);
        let mut tiles = vec![None; kv_blocks];
        for b in 0..batches {
            for h in 0..heads {
                let (b, h) = (b.min(lists.batch - 1), h.min(lists.heads - 1));
                for q_block in 0..q_blocks {
                    let row = (b * lists.heads + h) * q_blocks + q_block;
                    tiles.fill(None);
                    fill(&mut tiles, row, TileKind::Partial, &lists.num_blocks, &lists.indices)?;
                    fill(&mut tiles, row, TileKind::Full, &lists.full_num_blocks, &lists.full_indices)?;
                    push_row(&mut table, &tiles)?;
                }
            }
        }
        let head_rows = if by_head { q_blocks } else { 0 };
        let batch_rows = if by_batch { q_blocks * heads } else { 0 };
        Ok(Self {
            mask: mask.clone(),
            extent,
            block: plan.block,
            batch_rows,
            head_rows,
            rows: table.into(),
            origin: Origin::Given,
            elements_evaluated,
            transposed: OnceLock::new(),
        })
    }
}

fn check_lists(lists: &KvBlocks, extent: Extent, q_blocks: usize, kv_blocks: usize) -> Result<(), MaskError> {
    let length = |list, expected: usize, got: usize| match expected == got {
        true => Ok(()),
        false => Err(MaskError::ListLength { list, expected, got }),
    };
    if lists.batch != 1 {
        length("batch", extent.batch, lists.batch)?;
    }
    if lists.heads != 1 {
        length("heads", extent.heads, lists.heads)?;
    }
    length("q_blocks", q_blocks, lists.q_blocks)?;
    length("kv_blocks", kv_blocks, lists.kv_blocks)?;
    let rows = [lists.heads, q_blocks].iter().fold(lists.batch, |rows, &n| rows.saturating_mul(n));
    length("num_blocks", rows, lists.num_blocks.len())?;
    length("indices", rows.saturating_mul(kv_blocks), lists.indices.len())?;
    length("full_num_blocks", rows, lists.full_num_blocks.len())?;
    length("full_indices", rows.saturating_mul(kv_blocks), lists.full_indices.len())
}

/// Marks the listed tiles of a row.
fn fill(
    tiles: &mut [Option<TileKind>],
    row: usize,
    kind: TileKind,
    counts: &[i32],
    indices: &[i32],
) -> Result<(), MaskError> {
    let kv_blocks = tiles.len();
    let error = |problem: String| MaskError::TileIndex { row, problem, kv_blocks };
    let count = usize::try_from(counts[row]).ok().filter(|&count| count <= kv_blocks);
    let count = count.ok_or_else(|| error(format!("{} tiles", counts[row])))?;
    for &index in &indices[row * kv_blocks..][..count] {
        let tile = usize::try_from(index).ok().and_then(|i| tiles.get_mut(i));
        match tile {
            None => return Err(error(format!("tile {index}"))),
            Some(Some(_)) => return Err(error(format!("tile {index} twice"))),
            Some(free) => *free = Some(kind),
        }
    }
    Ok(())
}

fn push_row(table: &mut RunTable, tiles: &[Option<TileKind>]) -> Result<(), MaskError> {
    let mut first = 0;
    for part in tiles.chunk_by(|a, b| a == b) {
        if let Some(kind) = part[0] {
            table.runs.push(Run::new(first, part.len() as u32, kind));
        }
        first += part.len() as u32;
    }
    table.end_row()
}
