//! Walking a block mask of any block size with the backend's own tiles.

use std::ops::Range;

use super::kernel::TILE_KEYS;
use crate::mask::{BlockMask, Run, TileKind};

/// What a mask says of some rows and the keys of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    /// No key is kept.
    Skipped,
    /// Every key is kept.
    Full,
    /// The mask must be asked.
    Partial,
}

/// The tiles of a problem.
#[derive(Clone, Copy)]
pub(super) struct Tiles<'a> {
    pub(super) mask: Option<&'a BlockMask>,
    pub(super) kv_len: usize,
}

impl<'a> Tiles<'a> {
    /// The mask's rows of runs for some queries.
    fn rows(
        mask: &'a BlockMask,
        b: usize,
        h: usize,
        queries: &Range<usize>,
    ) -> impl Iterator<Item = &'a [Run]> {
        let block = mask.block_size().q;
        (queries.start / block..queries.end.div_ceil(block)).map(move |row| mask.row(b, h, row))
    }

    /// The first key at or after `from` that some of the queries may see, if any.
    pub(super) fn next_key(&self, b: usize, h: usize, queries: &Range<usize>, from: usize) -> Option<usize> {
        let Some(mask) = self.mask else { return (from < self.kv_len).then_some(from) };
        let block = mask.block_size().kv;
        let first = |runs: &[Run]| {
            let next = runs.partition_point(|run| run.end() as usize * block <= from);
            runs.get(next).map(|run| from.max(run.first() as usize * block))
        };
        let key = Self::rows(mask, b, h, queries).filter_map(first).min()?;
        (key < self.kv_len).then_some(key)
    }

    /// From the first key that some of the queries may see to the last one; empty if there is none.
    pub(super) fn hull(&self, b: usize, h: usize, queries: &Range<usize>) -> Range<usize> {
        let Some(mask) = self.mask else { return 0..self.kv_len };
        let rows = Self::rows(mask, b, h, queries).filter_map(|runs| Some((runs.first()?, runs.last()?)));
        let ends = rows.map(|(first, last)| (first.first() as usize, last.end() as usize));
        let Some((first, end)) = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else { return 0..0 };
        let block = mask.block_size().kv;
        (first * block).min(self.kv_len)..(end * block).min(self.kv_len)
    }

    /// How the queries cover the keys of a tile.
    pub(super) fn coverage(
        &self,
        b: usize,
        h: usize,
        queries: &Range<usize>,
        keys: &Range<usize>,
    ) -> Coverage {
        let Some(mask) = self.mask else { return Coverage::Full };
        let mut all: Option<Coverage> = None;
        for runs in Self::rows(mask, b, h, queries) {
            let (mut kept, mut full) = (0, true);
            segments(mask, runs, keys, |segment, kind| {
                kept += segment.len();
                full &= kind == TileKind::Full;
            });
            let coverage = match kept {
                0 => Coverage::Skipped,
                n if n == keys.len() && full => Coverage::Full,
                _ => Coverage::Partial,
            };
            if *all.get_or_insert(coverage) != coverage {
                return Coverage::Partial;
            }
        }
        all.unwrap_or(Coverage::Skipped)
    }

    /// Calls `f` with every stretch of the keys that the mask does not skip for query `q`.
    pub(super) fn segments(
        &self,
        b: usize,
        h: usize,
        q: usize,
        keys: &Range<usize>,
        mut f: impl FnMut(Range<usize>, TileKind),
    ) {
        match self.mask {
            None => f(keys.clone(), TileKind::Full),
            Some(mask) => segments(mask, mask.row(b, h, q / mask.block_size().q), keys, f),
        }
    }

    /// The number of keys that the mask does not skip, summed over the queries' blocks: what the work is in proportion
    /// to.
    pub(super) fn cost(&self, b: usize, h: usize, queries: &Range<usize>) -> u64 {
        self.half_pairs(b, h, queries, |_| 2) / 2
    }

    /// About how many pairs the queries keep: half of what is in partial blocks.
    pub(super) fn kept_pairs(&self, b: usize, h: usize, queries: &Range<usize>) -> u64 {
        self.half_pairs(b, h, queries, |kind| if kind == TileKind::Full { 2 } else { 1 }) / 2
    }

    /// The pairs of all blocks that are not skipped, each so many halves.
    fn half_pairs(
        &self,
        b: usize,
        h: usize,
        queries: &Range<usize>,
        halves: impl Fn(TileKind) -> u64,
    ) -> u64 {
        let Some(mask) = self.mask else { return 2 * (self.kv_len * queries.len()) as u64 };
        let block = mask.block_size();
        let rows = Self::rows(mask, b, h, queries);
        rows.map(|runs| {
            let blocks: u64 = runs.iter().map(|run| u64::from(run.len()) * halves(run.kind())).sum();
            blocks * block.kv as u64 * block.q.min(queries.len()) as u64
        })
        .sum()
    }
}

fn segments(mask: &BlockMask, runs: &[Run], keys: &Range<usize>, mut f: impl FnMut(Range<usize>, TileKind)) {
    let block = mask.block_size().kv;
    let first = runs.partition_point(|run| run.end() as usize * block <= keys.start);
    for run in &runs[first..] {
        let start = run.first() as usize * block;
        if start >= keys.end {
            break;
        }
        f(start.max(keys.start)..(run.end() as usize * block).min(keys.end), run.kind());
    }
}

/// The tile that a key lies in.
pub(super) fn tile_of(key: usize, kv_len: usize) -> Range<usize> {
    let start = key / TILE_KEYS * TILE_KEYS;
    start..(start + TILE_KEYS).min(kv_len)
}
