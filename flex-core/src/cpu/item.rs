//! One piece of work: some queries of the heads that share a key/value head, against all their keys.

use std::ops::Range;

use super::kernel::{Kernels, SUM_LANES, SoftmaxRows, TILE_KEYS};
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
    /// In proportion to the work.
    pub(super) cost: u64,
}

impl Job<'_> {
    /// What q is multiplied by when it is packed, and scores by before the exponential of 2. A score mod needs the
    /// plain q·k, which it then scales itself.
    fn factors(&self) -> (f32, f32) {
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
        let (mask_registers, score_registers) =
            (std::mem::take(&mut workspace.mask_registers), std::mem::take(&mut workspace.score_registers));
        let evaluator = |program, registers| RowEvaluator::with(program, TILE_KEYS, self.isa, registers);
        let mut pass = Pass {
            job: self,
            block_rows,
            head_dim,
            columns,
            factor: self.factors().1,
            tile: workspace.tile(self.kernels, rows, block_rows, head_dim, columns),
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
                let first = (item.batch * heads + head) * q_len;
                // SAFETY: the (batch, head, query) triples of different items are different.
                let mut rows = unsafe { output.rows(first + queries.start..first + queries.end) };
                for r in 0..queries.len() {
                    let row = i * block_rows + r;
                    let weighted = &pass.tile.out[row * columns..][..columns];
                    let sum = pass.tile.sums[row * SUM_LANES..][..SUM_LANES].iter().sum();
                    rows.write(r, value_dim, RowResult { weighted, sum, max: pass.tile.max[row] });
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
    head_dim: usize,
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
            let to = &mut self.tile.query[i * self.block_rows * self.head_dim..];
            let to = &mut to[..self.block_rows * self.head_dim];
            pack::query(kernels, &head, queries, job.factors().0, to);
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
        let mut from = 0;
        while let Some(key) = next(from) {
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
                    pack::key(kernels, &key_rows, keys.clone(), self.tile.key);
                    pack::value(kernels, &value_rows, keys.clone(), self.tile.value);
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
        let query = &self.tile.query[block.row * self.head_dim..][..self.block_rows * self.head_dim];
        let scores = &mut *self.tile.scores;
        kernels.scores(query, self.tile.key, self.head_dim, 0..len.div_ceil(kernels.panel), scores);
        if let Some(score) = &mut self.score {
            score.tile(block.batch, block.head, block.keys.start, len);
            let scale = self.job.problem.effective_scale();
            for (q, row) in block.queries.clone().zip(scores.chunks_exact_mut(TILE_KEYS)) {
                score.score_row(q, 0..len, scale, &mut row[..len], None)?;
            }
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
        let kernels = self.job.kernels;
        self.tile.keep.fill(false);
        if let Some(mask) = &mut self.mask {
            mask.tile(block.batch, block.head, block.keys.start, block.keys.len());
        }
        if let Some(score) = &mut self.score {
            score.tile(block.batch, block.head, block.keys.start, block.keys.len());
        }
        for first in (0..block.queries.len()).step_by(kernels.strip) {
            let queries = block.queries.start + first
                ..block.queries.end.min(block.queries.start + first + kernels.strip);
            let mut kept: Option<Range<usize>> = None;
            for (r, q) in queries.clone().enumerate() {
                let keep = &mut self.tile.keep[(first + r) * TILE_KEYS..][..TILE_KEYS];
                let Some(row) = self.job.keep_row(block, q, &mut self.mask, keep)? else { continue };
                kept = Some(kept.map_or(row.clone(), |k| k.start.min(row.start)..k.end.max(row.end)));
            }
            if let Some(kept) = kept {
                self.partial_strip(block, first, queries, kept)?;
            }
        }
        Ok(())
    }

    fn partial_strip(
        &mut self,
        block: &Block,
        first: usize,
        queries: Range<usize>,
        kept: Range<usize>,
    ) -> Result<(), ModFault> {
        let kernels = self.job.kernels;
        let rows = first..first + kernels.strip;
        let query = &self.tile.query[(block.row + first) * self.head_dim..][..kernels.strip * self.head_dim];
        let scores = &mut self.tile.scores[rows.start * TILE_KEYS..rows.end * TILE_KEYS];
        let panels = kept.start / kernels.panel..kept.end.div_ceil(kernels.panel);
        kernels.scores(query, self.tile.key, self.head_dim, panels, scores);
        let vectors = kept.start / kernels.lanes * kernels.lanes..kept.end.next_multiple_of(kernels.lanes);
        let keep = self.tile.keep[rows.start * TILE_KEYS..rows.end * TILE_KEYS].chunks_exact(TILE_KEYS);
        for (r, (row, keep)) in scores.chunks_exact_mut(TILE_KEYS).zip(keep).enumerate() {
            if let Some(score) = &mut self.score
                && r < queries.len()
            {
                let scale = self.job.problem.effective_scale();
                let lanes = kept.clone();
                score.score_row(
                    queries.start + r,
                    lanes.clone(),
                    scale,
                    &mut row[lanes.clone()],
                    Some(&keep[lanes]),
                )?;
            }
            for (s, keep) in row[vectors.clone()].iter_mut().zip(&keep[vectors.clone()]) {
                *s = if *keep { *s } else { f32::NEG_INFINITY };
            }
        }
        self.finish(block, rows, kept);
        Ok(())
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

impl Job<'_> {
    /// Sets `keep` of one row and returns the range of kept lanes, if there are any.
    fn keep_row(
        &self,
        block: &Block,
        q: usize,
        mask: &mut Option<RowEvaluator>,
        keep: &mut [bool],
    ) -> Result<Option<Range<usize>>, ModFault> {
        let mut fault = None;
        self.tiles.segments(block.batch, block.head, q, &block.keys, |segment, kind| {
            let lanes = segment.start - block.keys.start..segment.end - block.keys.start;
            match (kind, mask.as_mut()) {
                (TileKind::Partial, Some(mask)) if fault.is_none() => {
                    fault = mask.mask_row(q, lanes.clone(), &mut keep[lanes]).err();
                }
                _ => keep[lanes].fill(true),
            }
        });
        if let Some(fault) = fault {
            return Err(fault);
        }
        let first = keep.iter().position(|k| *k);
        let last = keep.iter().rposition(|k| *k);
        Ok(first.zip(last).map(|(first, last)| first..last + 1))
    }
}
