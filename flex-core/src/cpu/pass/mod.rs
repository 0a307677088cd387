//! An item on its way through its keys: which windows of keys each block of rows visits (`walk`), and what happens there
//! (`visit`).
//!
//! Where every row keeps an interval of keys, a block walks from the first key that one of its rows keeps to the last, in
//! windows that begin where the block begins; a strip of rows computes what some of its rows keep, and the softmax knows
//! the interval of each row. Other masks are walked in tiles of a fixed grid and asked key by key where the block mask
//! says that a tile is partial.

mod bound;
mod score_change;
mod visit;
mod walk;

use std::ops::Range;

use super::Preparation;
use super::item::{Item, Job};
use super::kernel::{Magnitudes, Multiplier, Packing, SUM_LANES};
use super::output::{self, FinishedRows, Output};
use super::pack::{self, Head, Packed};
use super::workspace::{Buffers, Sizes};
use crate::mask::Origin;
use crate::mods::ModFault;
use crate::rows::{RowEvaluator, SoftCap};
pub(super) use bound::Bound;
pub(super) use score_change::BiasTable;

/// The rows of a block: the queries that go through a window of keys together. Their scores stay in the nearest cache.
pub(super) const BLOCK_ROWS: usize = 32;

/// Rows of values that are further apart, in floats, share too few sets of the nearest cache to be read many times where
/// they lie.
const DENSE_STRIDE: usize = 64;

/// How many rows must meet each packed key for the lengths of queries and keys to take less time than the maxima of scores.
const LEAST_REUSE_OF_LENGTHS: f64 = 192.0;

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

    /// The rows of a head, a query each but for the last ones.
    pub(super) fn of_head(self) -> usize {
        self.blocks_per_head * self.block_rows
    }

    /// The head and the queries of a block.
    pub(super) fn block(self, item: &Item, i: usize) -> (usize, Range<usize>) {
        let (head, block) = (item.heads.start + i / self.blocks_per_head, i % self.blocks_per_head);
        let start = item.queries.start + block * self.block_rows;
        (head, start..(start + self.block_rows).min(item.queries.end))
    }
}

/// Why an item is not computed to its end.
pub(super) enum Stop {
    /// A mod faults.
    Fault(ModFault),
    /// There are numbers that the kernels cannot represent.
    NotRepresentable,
    /// Too few rows meet each packed key for what it takes to prepare it for the kernels.
    NotWorthwhile,
    /// There are sums of values that are too large or too small where no maximum was subtracted from scores.
    OutOfRange,
}

impl From<ModFault> for Stop {
    fn from(fault: ModFault) -> Self {
        Self::Fault(fault)
    }
}

/// An item while it is worked on.
pub(super) struct Pass<'w, 'p> {
    pub(super) job: &'p Job<'p>,
    pub(super) item: &'p Item,
    pub(super) rows: Rows,
    pub(super) sizes: Sizes,
    pub(super) factor: f32,
    pub(super) multiplier: Multiplier,
    pub(super) buffers: Buffers<'w>,
    pub(super) mask: Option<RowEvaluator<'p>>,
    pub(super) score: Option<RowEvaluator<'p>>,
    /// Of a score mod that is a bias.
    pub(super) bias: Option<BiasTable<'w, 'p>>,
    /// Of a score mod that is a soft cap.
    pub(super) soft_cap: Option<SoftCap>,
    /// Where scores may be known to be small.
    pub(super) bound: Option<Bound<'p>>,
    /// The rows of the values and their stride, where the kernels can read them as they are.
    pub(super) value_in_place: Option<(&'p [f32], usize)>,
    /// Of what has been packed, where that matters.
    pub(super) magnitudes: Magnitudes,
}

impl<'p> Pass<'_, 'p> {
    /// Computes the rows and writes them.
    ///
    /// # Errors
    /// The first fault of a mod on the way, or another reason to stop. Some rows may be written then.
    pub(super) fn run(&mut self, output: &Output) -> Result<(), Stop> {
        let block_rows = self.sizes.block_rows;
        // From the first to the last key of some row, if what rows keep are intervals.
        let all = self.rows_are_intervals().then(|| walk::hull(self.buffers.kept).unwrap_or(0..0));
        self.prepare_where_worthwhile(all.as_ref())?;
        if let Some(keys) = all.as_ref().filter(|all| all.len() <= self.buffers.chunk_keys) {
            // Blocks come one after the other, each from its queries to its results in the nearest cache.
            if !keys.is_empty() {
                self.pack_keys(keys.clone())?;
            }
            for i in 0..self.rows.blocks() {
                self.begin(i, 0)?;
                self.walk_chunk(i, 0, keys)?;
                self.finish(i, 0, output)?;
            }
            return Ok(());
        }
        self.value_in_place = self.value_in_place.filter(|(_, stride)| *stride <= DENSE_STRIDE);
        for i in 0..self.rows.blocks() {
            self.begin(i, i * block_rows)?;
        }
        match &all {
            Some(all) => self.walk_intervals(all)?,
            None => self.walk_tiles()?,
        }
        for i in 0..self.rows.blocks() {
            self.finish(i, i * block_rows, output)?;
        }
        Ok(())
    }

    /// Packs the queries of a block, and makes its results those of no key.
    fn begin(&mut self, block: usize, slot: usize) -> Result<(), Stop> {
        let Sizes { block_rows, units, columns, .. } = self.sizes;
        let (head, queries) = self.rows.block(self.item, block);
        let in_place = self.query_in_place(head, &queries).is_some();
        let (buffers, rows) = (&mut self.buffers, slot..slot + block_rows);
        if let Some(bound) = &mut self.bound {
            bound.include_queries(self.item.batch, self.rows.block(self.item, block));
        }
        if !in_place {
            let head = Head::new(&self.job.problem.query, self.item.batch, head);
            let to = &mut buffers.query[rows.start * units..rows.end * units];
            let (kernels, scratch) = (self.job.kernels, &mut *buffers.scratch);
            let task = Packed { kernels, head, rows: queries, scratch, to, magnitudes: &mut self.magnitudes };
            pack::query(self.job.isa, task, self.job.factors().0);
        }
        buffers.out[rows.start * columns..rows.end * columns].fill(0.0);
        buffers.sums[rows.start * SUM_LANES..rows.end * SUM_LANES].fill(0.0);
        buffers.max[rows].fill(f32::NEG_INFINITY);
        self.check_magnitudes()
    }

    fn check_magnitudes(&self) -> Result<(), Stop> {
        if self.magnitudes.are_exact_as_planes() { Ok(()) } else { Err(Stop::NotRepresentable) }
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
    fn finish(&self, block: usize, slot: usize, output: &Output) -> Result<(), Stop> {
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
        self.check_sums(&finished)?;
        // SAFETY: the (batch, head, query) triples of different items, or their ranges of partial rows, are different.
        let mut outputs = unsafe { output.rows(first..first + queries.len()) };
        match item.partial {
            None => output::write_rows(self.job.isa, &mut outputs, finished),
            Some(_) => output::write_partial_rows(&mut outputs, finished),
        }
        Ok(())
    }

    /// Finds the interval of keys that each row keeps, if that is what rows keep.
    fn rows_are_intervals(&mut self) -> bool {
        let (item, tiles) = (self.item, &self.job.tiles);
        if self.buffers.kept_of.is_some() {
            return true;
        }
        let per_head = self.rows.of_head();
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

    /// Gives up on planes, or on lengths, where too few rows meet each packed key for what these take.
    ///
    /// # Errors
    /// If others had better compute the item.
    fn prepare_where_worthwhile(&mut self, of_intervals: Option<&Range<usize>>) -> Result<(), Stop> {
        let (job, shape) = (self.job, &self.job.shape);
        let least_reuse = job.kernels.least_reuse(shape.head_dim + shape.value_dim);
        let nothing_to_prepare = least_reuse == 0.0 && self.bound.is_none();
        if nothing_to_prepare || job.preparation != Preparation::WhereWorthwhile {
            return Ok(());
        }
        let reuse = self.reuse(of_intervals);
        self.bound = self.bound.take().filter(|_| reuse >= LEAST_REUSE_OF_LENGTHS);
        if reuse < least_reuse { Err(Stop::NotWorthwhile) } else { Ok(()) }
    }

    /// How many rows meet each key that is packed, on average; where the mask has to be asked, about half of a partial
    /// block.
    fn reuse(&self, of_intervals: Option<&Range<usize>>) -> f64 {
        let (item, tiles) = (self.item, &self.job.tiles);
        let (pairs, keys): (u64, _) = match of_intervals {
            Some(all) => (self.buffers.kept.iter().map(|keys| keys.len() as u64).sum(), all.len()),
            None => (
                item.heads.clone().map(|h| tiles.kept_pairs(item.batch, h, &item.queries)).sum(),
                tiles.hull(item.batch, item.heads.start, &item.queries).len(),
            ),
        };
        pairs as f64 / keys.max(1) as f64
    }

    fn pack_keys(&mut self, keys: Range<usize>) -> Result<(), Stop> {
        let (job, item) = (self.job, self.item);
        let batch = if job.shape.kv_batch == 1 { 0 } else { item.batch };
        let kernels = job.kernels;
        let Buffers { key, value, value_units, scratch, .. } = &mut self.buffers;
        let (key, value, magnitudes) = (&mut **key, &mut **value, &mut self.magnitudes);
        let head = Head::new(&job.problem.key, batch, item.kv_head);
        pack::key(job.isa, Packed { kernels, head, rows: keys.clone(), scratch, to: key, magnitudes });
        if self.value_in_place.is_none() {
            let head = Head::new(&job.problem.value, batch, item.kv_head);
            pack::value(
                job.isa,
                Packed { kernels, head, rows: keys.clone(), scratch, to: value, magnitudes },
                *value_units,
            );
        }
        if let Some(bound) = &mut self.bound {
            bound.set_keys(&keys, self.magnitudes);
        }
        self.check_magnitudes()
    }
}
