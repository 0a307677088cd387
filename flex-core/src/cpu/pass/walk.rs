//! Which windows of keys each block of rows visits.

use std::ops::Range;

use super::super::kernel::TILE_KEYS;
use super::super::tiles::{Coverage, tile_of};
use super::visit::Visit;
use super::{Pass, Stop};
use crate::mods::ModFault;

impl Pass<'_, '_> {
    /// Takes all blocks through the keys that some row keeps, chunk by chunk.
    pub(super) fn walk_intervals(&mut self, all: &Range<usize>) -> Result<(), Stop> {
        for start in all.clone().step_by(self.buffers.chunk_keys) {
            let chunk = start..all.end.min(start + self.buffers.chunk_keys);
            let mut is_packed = false;
            for i in 0..self.rows.blocks() {
                let keys = self.kept_keys(i, &chunk);
                if keys.is_empty() {
                    continue;
                }
                if !std::mem::replace(&mut is_packed, true) {
                    self.pack_keys(chunk.clone())?;
                }
                self.walk_chunk(i, i * self.sizes.block_rows, &chunk)?;
            }
        }
        Ok(())
    }

    /// Between which keys of a chunk the rows of a block keep some.
    fn kept_keys(&self, block: usize, chunk: &Range<usize>) -> Range<usize> {
        let block_rows = self.sizes.block_rows;
        let keys = hull(&self.buffers.kept[block * block_rows..][..block_rows]).unwrap_or(0..0);
        keys.start.max(chunk.start)..keys.end.min(chunk.end)
    }

    /// Takes a block through packed keys.
    pub(super) fn walk_chunk(
        &mut self,
        block: usize,
        slot: usize,
        chunk: &Range<usize>,
    ) -> Result<(), ModFault> {
        let keys = self.kept_keys(block, chunk);
        if keys.is_empty() {
            return Ok(());
        }
        let row = block * self.sizes.block_rows;
        let (head, queries) = self.rows.block(self.item, block);
        self.prepare_bias(head, chunk);
        let is_bounded = self.begin_keys(slot, false);
        let everywhere = kept_by_all(&self.buffers.kept[row..][..queries.len()]);
        let lanes = self.job.kernels.lanes;
        let mut first = (keys.start - chunk.start) / lanes * lanes;
        while chunk.start + first < keys.end {
            let window = chunk.start + first..keys.end.min(chunk.start + first + TILE_KEYS);
            let is_full = everywhere.start <= window.start && window.end <= everywhere.end;
            let is_full = is_full && window.len().is_multiple_of(lanes);
            let queries = queries.clone();
            let visit = Visit { head, queries, row, slot, keys: window, first, is_asked: false, is_bounded };
            match is_full {
                true => self.full(&visit)?,
                false => self.strips_of_intervals(&visit)?,
            }
            first += TILE_KEYS;
        }
        Ok(())
    }

    pub(super) fn walk_tiles(&mut self) -> Result<(), Stop> {
        let (job, item) = (self.job, self.item);
        let next = |from| {
            let heads = item.heads.clone();
            heads.filter_map(|h| job.tiles.next_key(item.batch, h, &item.queries, from)).min()
        };
        let mut from = item.keys.start;
        while let Some(key) = next(from).filter(|key| *key < item.keys.end) {
            let keys = tile_of(key, job.shape.kv_len);
            from = keys.end;
            let mut is_packed = false;
            for i in 0..self.rows.blocks() {
                let (head, queries) = self.rows.block(item, i);
                let coverage = job.tiles.coverage(item.batch, head, &queries, &keys);
                if coverage == Coverage::Skipped {
                    continue;
                }
                if !std::mem::replace(&mut is_packed, true) {
                    self.pack_keys(keys.clone())?;
                }
                self.prepare_bias(head, &keys);
                let row = i * self.sizes.block_rows;
                // Where all keys are kept, there is nothing to ask.
                let is_asked = coverage == Coverage::Partial;
                let is_bounded = self.begin_keys(row, is_asked);
                let visit = Visit {
                    head,
                    queries,
                    row,
                    slot: row,
                    keys: keys.clone(),
                    first: 0,
                    is_asked,
                    is_bounded,
                };
                match coverage {
                    Coverage::Full if keys.len().is_multiple_of(job.kernels.lanes) => self.full(&visit)?,
                    Coverage::Full => {
                        self.buffers.kept[row..][..visit.queries.len()]
                            .fill(keys.start as u32..keys.end as u32);
                        self.strips_of_intervals(&visit)?;
                    }
                    _ => self.asked_strips(&visit)?,
                }
            }
        }
        Ok(())
    }
}

/// The smallest interval that contains all given ones, if some is not empty.
pub(super) fn hull(kept: &[Range<u32>]) -> Option<Range<usize>> {
    let (mut start, mut end) = (u32::MAX, 0);
    for row in kept {
        let is_empty = row.start >= row.end;
        start = start.min(if is_empty { u32::MAX } else { row.start });
        end = end.max(if is_empty { 0 } else { row.end });
    }
    (start < end).then_some(start as usize..end as usize)
}

/// What is in all given intervals.
fn kept_by_all(kept: &[Range<u32>]) -> Range<usize> {
    let (start, end) =
        kept.iter().fold((0, u32::MAX), |(start, end), row| (row.start.max(start), row.end.min(end)));
    start as usize..end as usize
}
