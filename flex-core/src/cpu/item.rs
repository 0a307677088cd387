//! One piece of work: some queries of the heads that share a key/value head, against all their keys.

use std::ops::Range;

use super::kernel::{Kernels, MAX_STRIP, SUM_LANES, SoftmaxRows, TILE_KEYS};
use super::output::{Output, RowResult};
use super::pack::{self, Head};
use super::tiles::{Coverage, Tiles, tile_of};
use super::workspace::{Tile, Workspace};
use crate::attention::{AttentionError, Problem, Shape};
use crate::isa::InstructionSet;
use crate::mask::TileKind;
use crate::mods::ModFault;
use crate::rows::{RowEvaluator, RowProgram};

/// The rows of a block: the queries that go through a tile of keys together. Their scores stay in the nearest cache.
pub(super) const BLOCK_ROWS: usize = 32;

/// Everything that is the same for all items of a call.
pub(super) struct Job<'a> {
    pub(super) problem: &'a Problem<'a>,
    pub(super) shape: Shape,
    pub(super) isa: InstructionSet,
    pub(super) kernels: &'static Kernels,
    pub(super) tiles: Tiles<'a>,
    pub(super) mask: Option<RowProgram>,
    pub(super) score: Option<RowProgram>,
}

/// What an item covers.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) batch: usize,
    pub(super) kv_head: usize,
    /// Query heads of this key/value head.
    pub(super) heads: Range<usize>,
    pub(super) queries: Range<usize>,
    pub(super) keys: Range<usize>,
    /// In proportion to the work.
    pub(super) cost: u64,
    /// The first row of the partial results, where the keys of a row are split among items.
    pub(super) partial: Option<usize>,
}

impl Job<'_> {
    /// What q is multiplied by when it is packed, and scores by before the exponential of 2. A score mod needs the
    /// plain q·k, which it then scales itself.
    pub(super) fn factors(&self) -> (f32, f32) {
        let scale = self.problem.effective_scale();
        let log2e = std::f32::consts::LOG2_E;
        match scale {
            _ if self.score.is_some() => (1.0, log2e),
            0.0 => (0.0, log2e),
            _ => (scale.signum(), scale.abs() * log2e),
        }
    }

    /// Computes an item and writes its rows of the output.
    ///
    /// # Errors
    /// The first fault of a mod, in the order in which the item is worked on.
    pub(super) fn run(
        &self,
        item: &Item,
        output: &Output,
        workspace: &mut Workspace,
    ) -> Result<(), AttentionError> {
        let Shape { head_dim, value_dim, heads, q_len, .. } = self.shape;
        let block_rows = BLOCK_ROWS.min(item.queries.len().next_multiple_of(self.kernels.strip));
        let blocks = item.queries.len().div_ceil(block_rows);
        let rows = item.heads.len() * blocks * block_rows;
        let columns = value_dim.next_multiple_of(self.kernels.panel);
        let units = self.kernels.packing.units(head_dim);
        let (mask_registers, score_registers) =
            (std::mem::take(&mut workspace.mask_registers), std::mem::take(&mut workspace.score_registers));
        let evaluator = |program, registers| RowEvaluator::with(program, TILE_KEYS, self.isa, registers);
        let mut pass = Pass {
            job: self,
            block_rows,
            units,
            columns,
            factor: self.factors().1,
            tile: workspace.tile(self.kernels, rows, block_rows, units, columns),
            mask: self.mask.as_ref().map(|program| evaluator(program, mask_registers)),
            score: self.score.as_ref().map(|program| evaluator(program, score_registers)),
        };
        let block_of = |i: usize| {
            let (head, block) = (item.heads.start + i / blocks, i % blocks);
            let start = item.queries.start + block * block_rows;
            (head, start..(start + block_rows).min(item.queries.end))
        };
        let result = pass.all_tiles(item, item.heads.len() * blocks, &block_of);
        if result.is_ok() {
            for i in 0..item.heads.len() * blocks {
                let (head, queries) = block_of(i);
                let first = match item.partial {
                    None => (item.batch * heads + head) * q_len + queries.start,
                    Some(first) => first + (head - item.heads.start) * q_len + queries.start,
                };
                // SAFETY: the (batch, head, query) triples of different items, or their ranges of partial rows, are
                // different.
                let mut rows = unsafe { output.rows(first..first + queries.len()) };
                for r in 0..queries.len() {
                    let row = i * block_rows + r;
                    let weighted = &pass.tile.out[row * columns..][..columns];
                    let sum = pass.tile.sums[row * SUM_LANES..][..SUM_LANES].iter().sum();
                    let result = RowResult { weighted, sum, max: pass.tile.max[row] };
                    match item.partial {
                        None => rows.write(r, value_dim, result),
                        Some(_) => rows.write_partial(r, value_dim, result),
                    }
                }
            }
        }
        let Pass { mask, score, .. } = pass;
        workspace.mask_registers = mask.map(RowEvaluator::into_registers).unwrap_or_default();
        workspace.score_registers = score.map(RowEvaluator::into_registers).unwrap_or_default();
        result.map_err(AttentionError::from)
    }
}

/// An item while it is worked on.
struct Pass<'w, 'p> {
    job: &'p Job<'p>,
    block_rows: usize,
    /// Packed units of a row of query or key.
    units: usize,
    /// Columns of an output row in memory.
    columns: usize,
    factor: f32,
    tile: Tile<'w>,
    mask: Option<RowEvaluator<'p>>,
    score: Option<RowEvaluator<'p>>,
}

/// One block of rows and a tile of keys.
struct Block {
    batch: usize,
    head: usize,
    queries: Range<usize>,
    keys: Range<usize>,
    /// The first row in the item's buffers.
    row: usize,
}

impl Pass<'_, '_> {
    fn all_tiles(
        &mut self,
        item: &Item,
        blocks: usize,
        block_of: &dyn Fn(usize) -> (usize, Range<usize>),
    ) -> Result<(), ModFault> {
        let job = self.job;
        let (problem, kernels) = (job.problem, job.kernels);
        for i in 0..blocks {
            let (head, queries) = block_of(i);
            let head = Head::new(&problem.query, item.batch, head);
            let to = &mut self.tile.query[i * self.block_rows * self.units..];
            let to = &mut to[..self.block_rows * self.units];
            pack::query(kernels, &head, queries, job.factors().0, self.tile.scratch, to);
        }
        self.tile.out.fill(0.0);
        self.tile.sums.fill(0.0);
        self.tile.max.fill(f32::NEG_INFINITY);
        let kv_batch = if job.shape.kv_batch == 1 { 0 } else { item.batch };
        let key_rows = Head::new(&problem.key, kv_batch, item.kv_head);
        let value_rows = Head::new(&problem.value, kv_batch, item.kv_head);
        let next = |from| {
            let heads = item.heads.clone();
            heads.filter_map(|h| job.tiles.next_key(item.batch, h, &item.queries, from)).min()
        };
        let mut from = item.keys.start;
        while let Some(key) = next(from).filter(|key| *key < item.keys.end) {
            let keys = tile_of(key, job.shape.kv_len);
            from = keys.end;
            let mut packed = false;
            for i in 0..blocks {
                let (head, queries) = block_of(i);
                let coverage = job.tiles.coverage(item.batch, head, &queries, &keys);
                if coverage == Coverage::Skipped {
                    continue;
                }
                if !std::mem::replace(&mut packed, true) {
                    pack::key(kernels, &key_rows, keys.clone(), self.tile.scratch, self.tile.key);
                    pack::value(kernels, &value_rows, keys.clone(), self.tile.scratch, self.tile.value);
                }
                let row = i * self.block_rows;
                let block = Block { batch: item.batch, head, queries, keys: keys.clone(), row };
                match coverage {
                    Coverage::Full => self.full(&block)?,
                    _ => self.partial(&block)?,
                }
            }
        }
        Ok(())
    }

    /// All keys of the tile are kept.
    fn full(&mut self, block: &Block) -> Result<(), ModFault> {
        let kernels = self.job.kernels;
        let len = block.keys.len();
        let query = &self.tile.query[block.row * self.units..][..self.block_rows * self.units];
        let scores = &mut *self.tile.scores;
        kernels.scores(query, self.tile.key, self.units, 0..len.div_ceil(kernels.panel), scores);
        if let Some(score) = &mut self.score {
            score.tile(block.batch, block.head, block.keys.start, len);
            let scale = self.job.problem.effective_scale();
            score.score_rows(block.queries.clone(), 0..len, scale, scores, TILE_KEYS, |_, _| true)?;
        }
        if !len.is_multiple_of(kernels.lanes) {
            for row in scores.chunks_exact_mut(TILE_KEYS) {
                row[len..len.next_multiple_of(kernels.lanes)].fill(f32::NEG_INFINITY);
            }
        }
        self.finish(block, 0..self.block_rows, 0..len);
        Ok(())
    }

    /// The mask decides. Each strip of rows is cut to the keys that some of its rows keep.
    fn partial(&mut self, block: &Block) -> Result<(), ModFault> {
        let strip = self.job.kernels.strip;
        if let Some(mask) = &mut self.mask {
            mask.tile(block.batch, block.head, block.keys.start, block.keys.len());
        }
        if let Some(score) = &mut self.score {
            score.tile(block.batch, block.head, block.keys.start, block.keys.len());
        }
        for first in (0..block.queries.len()).step_by(strip) {
            let start = block.queries.start + first;
            let queries = start..block.queries.end.min(start + strip);
            let mut intervals = [const { 0..0 }; MAX_STRIP];
            if self.intervals(block, &queries, &mut intervals) {
                let lanes = intervals.iter().filter(|lanes| !lanes.is_empty());
                let kept = lanes.cloned().reduce(|a, b| a.start.min(b.start)..a.end.max(b.end));
                let Some(kept) = kept else { continue };
                let keeps = |row: usize, lane: usize| intervals[row].contains(&lane);
                self.masked_scores(block, first, queries, &kept, keeps)?;
                let rows = self.tile.scores[first * TILE_KEYS..].chunks_exact_mut(TILE_KEYS);
                for (row, lanes) in rows.zip(&intervals[..strip]) {
                    let vectors = vectors(self.job, &kept);
                    row[vectors.start..lanes.start.clamp(vectors.start, vectors.end)].fill(f32::NEG_INFINITY);
                    row[lanes.end.clamp(vectors.start, vectors.end)..vectors.end].fill(f32::NEG_INFINITY);
                }
                self.finish(block, first..first + strip, kept);
            } else if let Some(kept) = self.ask_mask(block, &queries)? {
                let keep = std::mem::take(&mut self.tile.keep);
                let scored = self.masked_scores(block, first, queries, &kept, |row, lane| {
                    keep[row * TILE_KEYS + lane] != 0
                });
                let rows = self.tile.scores[first * TILE_KEYS..].chunks_exact_mut(TILE_KEYS);
                let vectors = vectors(self.job, &kept);
                for (row, keep) in rows.zip(keep.chunks_exact(TILE_KEYS)) {
                    for (score, &keep) in row[vectors.clone()].iter_mut().zip(&keep[vectors.clone()]) {
                        *score = if keep != 0 { *score } else { f32::NEG_INFINITY };
                    }
                }
                self.tile.keep = keep;
                scored?;
                self.finish(block, first..first + strip, kept);
            }
        }
        Ok(())
    }

    /// Finds the lanes that each of the queries keeps where these are intervals known without asking key by key; says
    /// whether they are.
    fn intervals(&mut self, block: &Block, queries: &Range<usize>, intervals: &mut [Range<usize>]) -> bool {
        for (interval, q) in intervals.iter_mut().zip(queries.clone()) {
            let mut known = true;
            self.job.tiles.segments(block.batch, block.head, q, &block.keys, |segment, kind| {
                let lanes = segment.start - block.keys.start..segment.end - block.keys.start;
                let kept = match (kind, &mut self.mask) {
                    (TileKind::Partial, Some(mask)) => mask.mask_limits(q),
                    _ => Some(lanes.clone()),
                };
                let Some(kept) = kept.filter(|_| known) else { return known = false };
                let kept = kept.start.max(lanes.start)..kept.end.min(lanes.end);
                match kept.is_empty() {
                    true => {}
                    false if interval.start == interval.end => *interval = kept,
                    false if interval.end == kept.start => interval.end = kept.end,
                    false => known = false,
                }
            });
            if !known {
                return false;
            }
        }
        true
    }

    /// Asks the mask for every key, into `keep`; returns the lanes between which all kept ones are, if there are any.
    fn ask_mask(&mut self, block: &Block, queries: &Range<usize>) -> Result<Option<Range<usize>>, ModFault> {
        let Tile { keep, .. } = &mut self.tile;
        keep.fill(0);
        let block_rows = self.job.tiles.mask.map_or(1, |mask| mask.block_size().q);
        let mut fault = None;
        let mut first = queries.start;
        while first < queries.end {
            let same_runs = first..queries.end.min((first / block_rows + 1) * block_rows);
            let keep = &mut keep[(first - queries.start) * TILE_KEYS..];
            self.job.tiles.segments(block.batch, block.head, first, &block.keys, |segment, kind| {
                let lanes = segment.start - block.keys.start..segment.end - block.keys.start;
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

    /// The scores of a strip over the panels around `kept`, with the score mod applied. `keep` gets the row and the lane
    /// of an element.
    fn masked_scores(
        &mut self,
        block: &Block,
        first: usize,
        queries: Range<usize>,
        kept: &Range<usize>,
        keep: impl Fn(usize, usize) -> bool,
    ) -> Result<(), ModFault> {
        let kernels = self.job.kernels;
        let query = &self.tile.query[(block.row + first) * self.units..][..kernels.strip * self.units];
        let scores = &mut self.tile.scores[first * TILE_KEYS..(first + kernels.strip) * TILE_KEYS];
        let panels = kept.start / kernels.panel..kept.end.div_ceil(kernels.panel);
        kernels.scores(query, self.tile.key, self.units, panels, scores);
        let Some(score) = &mut self.score else { return Ok(()) };
        let scale = self.job.problem.effective_scale();
        let keep = |row, lane| keep(row, kept.start + lane);
        score.score_rows(queries, kept.clone(), scale, &mut scores[kept.start..], TILE_KEYS, keep)
    }

    /// The softmax of some rows of the block and their products with value.
    fn finish(&mut self, block: &Block, rows: Range<usize>, keys: Range<usize>) {
        let kernels = self.job.kernels;
        let scores = &mut self.tile.scores[rows.start * TILE_KEYS..rows.end * TILE_KEYS];
        let first = block.row + rows.start;
        let rescale = &mut self.tile.rescale[rows.clone()];
        let state = SoftmaxRows {
            max: &mut self.tile.max[first..first + rows.len()],
            sums: &mut self.tile.sums[first * SUM_LANES..(first + rows.len()) * SUM_LANES],
            rescale,
        };
        kernels.softmax(scores, keys.clone(), self.factor, state);
        let out = &mut self.tile.out[first * self.columns..(first + rows.len()) * self.columns];
        kernels.values(scores, self.tile.value, keys, &self.tile.rescale[rows], out, self.columns);
    }
}

/// The whole vectors around some lanes.
fn vectors(job: &Job, lanes: &Range<usize>) -> Range<usize> {
    let width = job.kernels.lanes;
    lanes.start / width * width..lanes.end.next_multiple_of(width)
}
