//! An item on its way through its keys: which windows of keys each block of rows visits, and what happens there.
//!
//! Where every row keeps an interval of keys, a block walks from the first key that one of its rows keeps to the last, in
//! windows that begin where the block begins; a strip of rows computes what some of its rows keep, and the softmax knows
//! the interval of each row. Other masks are walked in tiles of a fixed grid and asked key by key where the block mask
//! says that a tile is partial.

use std::ops::Range;

use super::item::{Item, Job};
use super::kernel::{MAX_STRIPS, Packing, QueryRows, SUM_LANES, SoftmaxRows, TILE_KEYS, ValueRows};
use super::output::{self, FinishedRows, Output};
use super::pack::{self, Head, Packed};
use super::tiles::{Coverage, tile_of};
use super::workspace::{Buffers, Sizes};
use crate::mask::{Origin, TileKind};
use crate::mods::ModFault;
use crate::rows::{RowEvaluator, ScoreRows};

/// The rows of a block: the queries that go through a window of keys together. Their scores stay in the nearest cache.
pub(super) const BLOCK_ROWS: usize = 32;

/// Rows of values that are further apart, in floats, share too few sets of the nearest cache to be read many times where
/// they lie.
const DENSE_STRIDE: usize = 64;

/// How the queries of an item become rows: head by head, in blocks, the last one of a head with rows to spare.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    heads: usize,
    blocks_per_head: usize,
    pub(super) block_rows: usize,
}

impl Rows {
    pub(super) fn of(item: &Item, strip: usize) -> Self {
        let block_rows = BLOCK_ROWS.min(item.queries.len().next_multiple_of(strip));
        let blocks_per_head = item.queries.len().div_ceil(block_rows);
        Self { heads: item.heads.len(), blocks_per_head, block_rows }
    }

    pub(super) fn blocks(self) -> usize {
        self.heads * self.blocks_per_head
    }

    pub(super) fn len(self) -> usize {
        self.blocks() * self.block_rows
    }

    /// The head and the queries of a block.
    pub(super) fn block(self, item: &Item, i: usize) -> (usize, Range<usize>) {
        let (head, block) = (item.heads.start + i / self.blocks_per_head, i % self.blocks_per_head);
        let start = item.queries.start + block * self.block_rows;
        (head, start..(start + self.block_rows).min(item.queries.end))
    }
}

/// An item while it is worked on.
pub(super) struct Pass<'w, 'p> {
    pub(super) job: &'p Job<'p>,
    pub(super) item: &'p Item,
    pub(super) rows: Rows,
    pub(super) sizes: Sizes,
    pub(super) factor: f32,
    pub(super) buffers: Buffers<'w>,
    pub(super) mask: Option<RowEvaluator<'p>>,
    pub(super) score: Option<RowEvaluator<'p>>,
    /// The rows of the values and their stride, where the kernels can read them as they are.
    pub(super) value_in_place: Option<(&'p [f32], usize)>,
}

/// A block of rows and a window of at most [`TILE_KEYS`] packed keys.
struct Visit {
    head: usize,
    queries: Range<usize>,
    /// The block's first row in the item, and in the buffers of rows.
    row: usize,
    slot: usize,
    keys: Range<usize>,
    /// Where the window begins in the packed keys.
    first: usize,
}

impl<'p> Pass<'_, 'p> {
    /// Computes the rows and writes them.
    ///
    /// # Errors
    /// The first fault of a mod on the way.
    pub(super) fn run(&mut self, output: &Output) -> Result<(), ModFault> {
        let block_rows = self.sizes.block_rows;
        let intervals = self.rows_are_intervals();
        if intervals && let Some(keys) = self.one_chunk() {
            // Blocks come one after the other, each from its queries to its results in the nearest cache.
            if !keys.is_empty() {
                self.pack_keys(keys.clone());
            }
            for i in 0..self.rows.blocks() {
                self.begin(i, 0);
                self.walk_chunk(i, 0, &keys)?;
                self.finish(i, 0, output);
            }
            return Ok(());
        }
        self.value_in_place = self.value_in_place.filter(|(_, stride)| *stride <= DENSE_STRIDE);
        for i in 0..self.rows.blocks() {
            self.begin(i, i * block_rows);
        }
        match intervals {
            true => self.walk_intervals()?,
            false => self.walk_tiles()?,
        }
        for i in 0..self.rows.blocks() {
            self.finish(i, i * block_rows, output);
        }
        Ok(())
    }

    /// Packs the queries of a block, and makes its results those of no key.
    fn begin(&mut self, block: usize, slot: usize) {
        let Sizes { block_rows, units, columns, .. } = self.sizes;
        let (head, queries) = self.rows.block(self.item, block);
        let in_place = self.query_in_place(head, &queries).is_some();
        let (buffers, rows) = (&mut self.buffers, slot..slot + block_rows);
        if !in_place {
            let head = Head::new(&self.job.problem.query, self.item.batch, head);
            let to = &mut buffers.query[rows.start * units..rows.end * units];
            let (kernels, scratch) = (self.job.kernels, &mut *buffers.scratch);
            let task = Packed { kernels, head, rows: queries, scratch, to };
            pack::query(self.job.isa, task, self.job.factors().0);
        }
        buffers.out[rows.start * columns..rows.end * columns].fill(0.0);
        buffers.sums[rows.start * SUM_LANES..rows.end * SUM_LANES].fill(0.0);
        buffers.max[rows].fill(f32::NEG_INFINITY);
    }

    /// The queries of a block where they lie, and their stride, if the kernels can read them there.
    fn query_in_place(&self, head: usize, queries: &Range<usize>) -> Option<(&'p [f32], usize)> {
        let job = self.job;
        if job.kernels.packing != Packing::F32
            || job.factors().0 != 1.0
            || queries.len() != self.sizes.block_rows
        {
            return None;
        }
        let (rows, stride) = Head::new(&job.problem.query, self.item.batch, head).f32_rows()?;
        (stride > 1).then(|| (&rows[queries.start * stride..], stride))
    }

    /// Writes the results of a block.
    fn finish(&self, block: usize, slot: usize, output: &Output) {
        let (item, shape, stride) = (self.item, &self.job.shape, self.sizes.columns);
        let (head, queries) = self.rows.block(item, block);
        let first = match item.partial {
            None => (item.batch * shape.heads + head) * shape.q_len + queries.start,
            Some(first) => first + (head - item.heads.start) * shape.q_len + queries.start,
        };
        let rows = slot..slot + queries.len();
        let finished = FinishedRows {
            weighted: &self.buffers.out[rows.start * stride..rows.end * stride],
            stride,
            sums: &self.buffers.sums[rows.start * SUM_LANES..rows.end * SUM_LANES],
            max: &self.buffers.max[rows.clone()],
            columns: shape.value_dim,
        };
        // SAFETY: the (batch, head, query) triples of different items, or their ranges of partial rows, are different.
        let mut outputs = unsafe { output.rows(first..first + queries.len()) };
        match item.partial {
            None => output::write_rows(self.job.isa, &mut outputs, finished),
            Some(_) => output::write_partial_rows(&mut outputs, finished),
        }
    }

    /// Finds the interval of keys that each row keeps, if that is what rows keep.
    fn rows_are_intervals(&mut self) -> bool {
        let (item, tiles) = (self.item, &self.job.tiles);
        if self.buffers.kept_of.is_some() {
            return true;
        }
        let per_head = self.rows.blocks_per_head * self.sizes.block_rows;
        for (head, kept) in item.heads.clone().zip(self.buffers.kept.chunks_exact_mut(per_head)) {
            let (kept, spare) = kept.split_at_mut(item.queries.len());
            spare.fill(0..0);
            let (Some(block_mask), Some(mask)) = (tiles.mask, &mut self.mask) else {
                kept.fill(item.keys.start as u32..item.keys.end as u32);
                continue;
            };
            // Of given tiles, what is skipped may be anything.
            if block_mask.origin() == Origin::Given {
                return false;
            }
            let keys = tiles.hull(item.batch, head, &item.queries);
            let keys = keys.start.max(item.keys.start)..keys.end.min(item.keys.end);
            if keys.is_empty() {
                kept.fill(0..0);
            } else if !mask.mask_intervals([item.batch, head], item.queries.clone(), keys, kept) {
                return false;
            }
        }
        *self.buffers.kept_of = self.job.kept_of(item);
        true
    }

    /// The keys that some row keeps, if they are intervals that are packed at one go.
    fn one_chunk(&self) -> Option<Range<usize>> {
        let all = hull(self.buffers.kept).unwrap_or(0..0);
        (all.len() <= self.buffers.chunk_keys).then_some(all)
    }

    fn walk_intervals(&mut self) -> Result<(), ModFault> {
        let Some(all) = hull(self.buffers.kept) else { return Ok(()) };
        for start in all.clone().step_by(self.buffers.chunk_keys) {
            let chunk = start..all.end.min(start + self.buffers.chunk_keys);
            let mut is_packed = false;
            for i in 0..self.rows.blocks() {
                let keys = self.kept_keys(i, &chunk);
                if keys.is_empty() {
                    continue;
                }
                if !std::mem::replace(&mut is_packed, true) {
                    self.pack_keys(chunk.clone());
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
    fn walk_chunk(&mut self, block: usize, slot: usize, chunk: &Range<usize>) -> Result<(), ModFault> {
        let keys = self.kept_keys(block, chunk);
        if keys.is_empty() {
            return Ok(());
        }
        let row = block * self.sizes.block_rows;
        let (head, queries) = self.rows.block(self.item, block);
        let everywhere = kept_by_all(&self.buffers.kept[row..][..queries.len()]);
        let lanes = self.job.kernels.lanes;
        let mut first = (keys.start - chunk.start) / lanes * lanes;
        while chunk.start + first < keys.end {
            let window = chunk.start + first..keys.end.min(chunk.start + first + TILE_KEYS);
            let is_full = everywhere.start <= window.start && window.end <= everywhere.end;
            let is_full = is_full && window.len().is_multiple_of(lanes);
            let visit = Visit { head, queries: queries.clone(), row, slot, keys: window, first };
            match is_full {
                true => self.full(&visit)?,
                false => self.strips_of_intervals(&visit)?,
            }
            first += TILE_KEYS;
        }
        Ok(())
    }

    fn walk_tiles(&mut self) -> Result<(), ModFault> {
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
                    self.pack_keys(keys.clone());
                }
                let row = i * self.sizes.block_rows;
                let visit = Visit { head, queries, row, slot: row, keys: keys.clone(), first: 0 };
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

    fn pack_keys(&mut self, keys: Range<usize>) {
        let (job, item) = (self.job, self.item);
        let batch = if job.shape.kv_batch == 1 { 0 } else { item.batch };
        let kernels = job.kernels;
        let Buffers { key, value, value_units, scratch, .. } = &mut self.buffers;
        let (key, value) = (&mut **key, &mut **value);
        let head = Head::new(&job.problem.key, batch, item.kv_head);
        pack::key(job.isa, Packed { kernels, head, rows: keys.clone(), scratch, to: key });
        if self.value_in_place.is_none() {
            let head = Head::new(&job.problem.value, batch, item.kv_head);
            pack::value(job.isa, Packed { kernels, head, rows: keys, scratch, to: value }, *value_units);
        }
    }

    /// All keys of the window are kept, and they are whole vectors.
    fn full(&mut self, visit: &Visit) -> Result<(), ModFault> {
        let rows = 0..self.sizes.block_rows;
        let lanes = [const { 0..0 }; MAX_STRIPS].map(|_| 0..visit.keys.len());
        let lanes = &lanes[..rows.len() / self.job.kernels.strip];
        self.plain_scores(visit, rows.clone(), lanes);
        self.score_mod(visit, rows.clone(), lanes[0].clone(), |_, _| true)?;
        self.weights(visit, rows.clone(), lanes[0].clone(), None);
        self.values(visit, rows, lanes);
        Ok(())
    }

    /// Each strip of rows is cut to the keys that some of its rows keep.
    fn strips_of_intervals(&mut self, visit: &Visit) -> Result<(), ModFault> {
        let (strip, block_rows) = (self.job.kernels.strip, self.sizes.block_rows);
        let mut kept = [const { 0..0 }; BLOCK_ROWS];
        for (kept, row) in kept.iter_mut().zip(&self.buffers.kept[visit.row..][..block_rows]) {
            let lane = |key: u32| (key as usize).clamp(visit.keys.start, visit.keys.end) - visit.keys.start;
            *kept = lane(row.start) as u32..lane(row.end) as u32;
        }
        let kept = &kept[..block_rows];
        let mut lanes = [const { 0..0 }; MAX_STRIPS];
        for (lanes, kept) in lanes.iter_mut().zip(kept.chunks_exact(strip)) {
            *lanes = hull(kept).unwrap_or(0..0);
        }
        let lanes = &lanes[..block_rows / strip];
        self.plain_scores(visit, 0..block_rows, lanes);
        for (i, (lanes, kept)) in lanes.iter().zip(kept.chunks_exact(strip)).enumerate() {
            if !lanes.is_empty() {
                let rows = i * strip..(i + 1) * strip;
                let keep = |row: usize, lane: usize| kept[row].contains(&(lane as u32));
                self.score_mod(visit, rows.clone(), lanes.clone(), keep)?;
                self.weights(visit, rows, lanes.clone(), Some(kept));
            }
        }
        self.values(visit, 0..block_rows, lanes);
        Ok(())
    }

    /// The mask is asked for every key of a tile, and each strip of rows cut to the keys between which it keeps some.
    fn asked_strips(&mut self, visit: &Visit) -> Result<(), ModFault> {
        let strip = self.job.kernels.strip;
        if let Some(mask) = &mut self.mask {
            mask.tile(self.item.batch, visit.head, visit.keys.start, visit.keys.len());
            mask.prepare_rows(self.item.queries.clone());
        }
        for first in (0..visit.queries.len()).step_by(strip) {
            let start = visit.queries.start + first;
            let queries = start..visit.queries.end.min(start + strip);
            let Some(lanes) = self.ask_mask(visit, &queries)? else { continue };
            let keep = std::mem::take(&mut self.buffers.keep);
            let rows = first..first + strip;
            let is_kept = |row: usize, lane: usize| keep[row * TILE_KEYS + lane] != 0;
            self.plain_scores(visit, rows.clone(), std::slice::from_ref(&lanes));
            let result = self.score_mod(visit, rows.clone(), lanes.clone(), is_kept);
            let width = self.job.kernels.lanes;
            let vectors = lanes.start / width * width..lanes.end.next_multiple_of(width);
            let scores = self.buffers.scores[first * TILE_KEYS..].chunks_exact_mut(TILE_KEYS);
            for (row, keep) in scores.zip(keep.chunks_exact(TILE_KEYS)) {
                for (score, &keep) in row[vectors.clone()].iter_mut().zip(&keep[vectors.clone()]) {
                    *score = if keep != 0 { *score } else { f32::NEG_INFINITY };
                }
            }
            self.buffers.keep = keep;
            result?;
            self.weights(visit, rows.clone(), lanes.clone(), None);
            self.values(visit, rows, &[lanes]);
        }
        Ok(())
    }

    /// Asks the mask for every key, into `keep`; returns the lanes between which all kept ones are, if there are any.
    fn ask_mask(&mut self, visit: &Visit, queries: &Range<usize>) -> Result<Option<Range<usize>>, ModFault> {
        let Buffers { keep, .. } = &mut self.buffers;
        keep.fill(0);
        let tiles = &self.job.tiles;
        let block_rows = tiles.mask.map_or(1, |mask| mask.block_size().q);
        let mut fault = None;
        let mut first = queries.start;
        while first < queries.end {
            let same_runs = first..queries.end.min((first / block_rows + 1) * block_rows);
            let keep = &mut keep[(first - queries.start) * TILE_KEYS..];
            tiles.segments(self.item.batch, visit.head, first, &visit.keys, |segment, kind| {
                let lanes = segment.start - visit.keys.start..segment.end - visit.keys.start;
                match (kind, &mut self.mask) {
                    (TileKind::Partial, Some(mask)) if fault.is_none() => {
                        let keep = &mut keep[lanes.start..];
                        fault = mask.mask_rows(same_runs.clone(), lanes, keep, TILE_KEYS).err();
                    }
                    _ => keep
                        .chunks_mut(TILE_KEYS)
                        .take(same_runs.len())
                        .for_each(|keep| keep[lanes.clone()].fill(1)),
                }
            });
            first = same_runs.end;
        }
        if let Some(fault) = fault {
            return Err(fault);
        }
        let mut any = [0; TILE_KEYS];
        for keep in keep.chunks_exact(TILE_KEYS) {
            for (any, keep) in any.iter_mut().zip(keep) {
                *any |= keep;
            }
        }
        let (first, last) = (any.iter().position(|k| *k != 0), any.iter().rposition(|k| *k != 0));
        Ok(first.zip(last).map(|(first, last)| first..last + 1))
    }

    /// The products of query and key of some rows of the block, over the vectors around the lanes of each strip; to
    /// where the score mod finds them, if there is one.
    fn plain_scores(&mut self, visit: &Visit, rows: Range<usize>, lanes: &[Range<usize>]) {
        let in_place = self.query_in_place(visit.head, &visit.queries);
        let (buffers, units) = (&mut self.buffers, self.sizes.units);
        let query = match in_place {
            Some((from, stride)) => QueryRows::InPlace { rows: &from[rows.start * stride..], stride },
            None => {
                QueryRows::Packed(&buffers.query[(visit.slot + rows.start) * units..][..rows.len() * units])
            }
        };
        let to = if self.score.is_some() { &mut *buffers.plain_scores } else { &mut *buffers.scores };
        let to = &mut to[rows.start * TILE_KEYS..rows.end * TILE_KEYS];
        self.job.kernels.scores(query, buffers.key, units, visit.first, lanes, to);
    }

    /// Applies the score mod, if there is one, to some lanes of some rows of the block. `keep` gets the row, counted from
    /// the first one, and the lane of an element.
    fn score_mod(
        &mut self,
        visit: &Visit,
        rows: Range<usize>,
        lanes: Range<usize>,
        keep: impl Fn(usize, usize) -> bool,
    ) -> Result<(), ModFault> {
        let Some(score) = &mut self.score else { return Ok(()) };
        let start = visit.queries.start + rows.start;
        let queries = start..visit.queries.end.min(start + rows.len());
        score.tile(self.item.batch, visit.head, visit.keys.start, visit.keys.len());
        score.prepare_rows(self.item.queries.clone());
        let floats = rows.start * TILE_KEYS..rows.end * TILE_KEYS;
        let (inputs, outputs) =
            (&mut self.buffers.plain_scores[floats.clone()], &mut self.buffers.scores[floats]);
        let keep = |row, lane| keep(row, lanes.start + lane);
        let score_rows = ScoreRows { inputs, outputs, stride: TILE_KEYS };
        score.score_rows(queries, lanes.clone(), self.job.scales().1, score_rows, keep)
    }

    /// The softmax of some rows of the block: scores become weights.
    fn weights(
        &mut self,
        visit: &Visit,
        rows: Range<usize>,
        lanes: Range<usize>,
        kept: Option<&[Range<u32>]>,
    ) {
        let buffers = &mut self.buffers;
        let of_block = visit.slot + rows.start..visit.slot + rows.end;
        let state = SoftmaxRows {
            max: &mut buffers.max[of_block.clone()],
            sums: &mut buffers.sums[of_block.start * SUM_LANES..of_block.end * SUM_LANES],
            rescale: &mut buffers.rescale[rows.clone()],
        };
        let scores = &mut buffers.scores[rows.start * TILE_KEYS..rows.end * TILE_KEYS];
        self.job.kernels.softmax(scores, lanes, kept, self.factor, state);
    }

    /// Adds the products of some rows' weights and the values, strip by strip over its lanes.
    fn values(&mut self, visit: &Visit, rows: Range<usize>, lanes: &[Range<usize>]) {
        let (buffers, columns) = (&mut self.buffers, self.sizes.columns);
        let of_block = visit.slot + rows.start..visit.slot + rows.end;
        let weights = &buffers.scores[rows.start * TILE_KEYS..rows.end * TILE_KEYS];
        let value = match self.value_in_place {
            Some((rows, stride)) => ValueRows::InPlace { rows: &rows[visit.keys.start * stride..], stride },
            None => {
                ValueRows::Packed { panels: &*buffers.value, units: buffers.value_units, first: visit.first }
            }
        };
        let out = &mut buffers.out[of_block.start * columns..of_block.end * columns];
        self.job.kernels.values(weights, value, lanes, &buffers.rescale[rows], out, columns);
    }
}

/// The smallest interval that contains all given ones, if some is not empty.
fn hull(kept: &[Range<u32>]) -> Option<Range<usize>> {
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
