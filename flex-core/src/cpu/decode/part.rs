//! Some keys of a head against all its rows.

use std::ops::Range;

use super::super::item::{Item, Job};
use super::super::kernel::{HeadRows, InPlace, Operands, Pipeline, SUM_LANES, SoftmaxRows, TILE_KEYS};
use super::super::output::{Output, RowResult};
use super::super::pack::{Head, RowBuffer};
use super::super::tiles::{Coverage, tile_of};
use super::super::workspace::Workspace;
use crate::attention::{AttentionError, MAX_HEAD_DIM, Shape};
use crate::mask::TileKind;
use crate::mods::ModFault;
use crate::rows::{RowEvaluator, ScoreRows};

/// Computes an item and writes its rows of the output. A head's queries are rows side by side.
///
/// # Errors
/// The first fault of a mod, in the order in which the item is worked on.
pub(in super::super) fn run(
    job: &Job,
    in_place: &InPlace,
    item: &Item,
    output: &Output,
    workspace: &mut Workspace,
) -> Result<(), AttentionError> {
    match in_place.for_values_not_finite() {
        None => run_with(job, in_place, item, output, workspace, |_| true).map(drop),
        Some(others) => {
            let is_finite = |out: &[f32]| out.iter().all(|x| x.is_finite());
            if !run_with(job, in_place, item, output, workspace, is_finite)? {
                run_with(job, others, item, output, workspace, |_| true)?;
            }
            Ok(())
        }
    }
}

/// Computes an item, and writes its rows of the output if they are good; returns whether they are.
fn run_with(
    job: &Job,
    in_place: &InPlace,
    item: &Item,
    output: &Output,
    workspace: &mut Workspace,
    is_good: impl Fn(&[f32]) -> bool,
) -> Result<bool, AttentionError> {
    let Shape { head_dim, value_dim, q_len, .. } = job.shape;
    let rows = item.heads.len() * q_len;
    let (query_len, out_len) = (in_place.query_len(rows, head_dim), in_place.out_len(value_dim));
    let kv_batch = if job.shape.kv_batch == 1 { 0 } else { item.batch };
    let head_rows = |tensor| {
        HeadRows::new(tensor, kv_batch, item.kv_head)
            .expect("the plan looked at the strides of key and value")
    };
    let evaluator = |program, registers| RowEvaluator::with(program, TILE_KEYS, job.isa.set(), registers);
    let (mask_registers, score_registers) =
        (std::mem::take(&mut workspace.mask_registers), std::mem::take(&mut workspace.score_registers));
    let Workspace { query, key, value, scores, plain_scores, out, max, sums, rescale, keep, scratch, .. } =
        workspace;
    keep.resize(keep.len().max(rows * TILE_KEYS), 0);
    let mut part = Part {
        job,
        in_place,
        batch: item.batch,
        heads: item.heads.clone(),
        rows,
        factor: job.factors().1,
        key: head_rows(&job.problem.key),
        value: head_rows(&job.problem.value),
        query: query.take(query_len),
        scores: scores.take(rows * TILE_KEYS),
        plain_scores: plain_scores.take(if job.score.is_some() { rows * TILE_KEYS } else { 0 }),
        keep: &mut keep[..rows * TILE_KEYS],
        out: out.take(rows * out_len),
        max: max.take(rows),
        sums: sums.take(rows * SUM_LANES),
        rescale: rescale.take(rows),
        scratch: value.take(in_place.scratch_len()),
        pipeline: Pipeline::new(in_place, rows, value_dim, key.take(Pipeline::buffer_len(rows))),
        masked: false,
        mask: job.mask.as_ref().map(|program| evaluator(program, mask_registers)),
        score: job.score.as_ref().map(|program| evaluator(program, score_registers)),
    };
    part.load_queries(&mut scratch.wide[0]);
    let result = part.all_tiles(item.keys.clone());
    let is_good = result.is_ok() && is_good(part.out);
    if is_good {
        part.write(item, output);
    }
    let Part { mask, score, .. } = part;
    workspace.mask_registers = mask.map(RowEvaluator::into_registers).unwrap_or_default();
    workspace.score_registers = score.map(RowEvaluator::into_registers).unwrap_or_default();
    result?;
    Ok(is_good)
}

/// An item while it is worked on.
struct Part<'w, 'p> {
    job: &'p Job<'p>,
    in_place: &'p InPlace,
    batch: usize,
    heads: Range<usize>,
    /// All queries of all heads.
    rows: usize,
    /// Of scores, before the exponential of 2.
    factor: f32,
    key: HeadRows<'p>,
    value: HeadRows<'p>,
    /// As the kernels want it.
    query: &'w mut [f32],
    /// `[rows][TILE_KEYS]`.
    scores: &'w mut [f32],
    /// The same before the score mod, if there is one.
    plain_scores: &'w mut [f32],
    /// `[rows][TILE_KEYS]`, 1 for kept keys of masked tiles.
    keep: &'w mut [u32],
    /// `[rows][out_len]`, unnormalised.
    out: &'w mut [f32],
    max: &'w mut [f32],
    sums: &'w mut [f32],
    rescale: &'w mut [f32],
    scratch: &'w mut [f32],
    /// For tiles that are there with all their keys, if the kernels have one.
    pipeline: Option<Pipeline<'w>>,
    /// Whether `keep` says what is kept of the last tile that entered the pipeline.
    masked: bool,
    mask: Option<RowEvaluator<'p>>,
    score: Option<RowEvaluator<'p>>,
}

/// What the rows keep of a tile.
struct Kept {
    /// The lanes between which all kept keys are.
    lanes: Range<usize>,
    /// Whether `keep` says which ones they are; otherwise all of them.
    masked: bool,
}

impl Part<'_, '_> {
    /// The heads, each with its rows.
    fn heads(&self) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
        let (heads, q_len) = (self.heads.clone(), self.job.shape.q_len);
        heads.enumerate().map(move |(i, head)| (head, i * q_len..(i + 1) * q_len))
    }

    fn load_queries(&mut self, buffer: &mut RowBuffer) {
        let job = self.job;
        let factor = job.factors().0;
        for (head, rows) in self.heads() {
            let queries = Head::new(&job.problem.query, self.batch, head);
            for (q, row) in rows.enumerate() {
                let values = queries.row(q, buffer);
                self.in_place.arrange(row, self.rows, values, factor, self.query);
            }
        }
    }

    fn all_tiles(&mut self, keys: Range<usize>) -> Result<(), ModFault> {
        let job = self.job;
        self.out.fill(0.0);
        self.sums.fill(0.0);
        self.max.fill(f32::NEG_INFINITY);
        let queries = 0..job.shape.q_len;
        let next = |heads: Range<usize>, batch, from| {
            heads.filter_map(|head| job.tiles.next_key(batch, head, &queries, from)).min()
        };
        let mut from = keys.start;
        while let Some(key) = next(self.heads.clone(), self.batch, from).filter(|key| *key < keys.end) {
            let tile = tile_of(key, job.shape.kv_len);
            from = tile.end;
            self.complete_scores()?;
            let Some(Kept { lanes, masked }) = self.kept(&tile)? else { continue };
            if self.pipeline.is_some() && lanes == (0..TILE_KEYS) {
                self.masked = masked;
                self.step(Some(tile.start));
            } else {
                self.drain()?;
                self.tile(tile, lanes, masked)?;
            }
        }
        self.drain()
    }

    /// A tile by itself, one stage after the other.
    fn tile(&mut self, keys: Range<usize>, lanes: Range<usize>, masked: bool) -> Result<(), ModFault> {
        let scores = if self.score.is_some() { &mut *self.plain_scores } else { &mut *self.scores };
        self.in_place.scores(self.query, &self.key, keys.start, lanes.clone(), scores, &self.value);
        self.modify_scores(&keys, &lanes, masked)?;

        // The softmax works on whole vectors.
        let softmax = self.in_place.softmax;
        let width = softmax.lanes;
        let vectors = lanes.start / width * width..lanes.end.next_multiple_of(width);
        for scores in self.scores.chunks_exact_mut(TILE_KEYS) {
            scores[vectors.start..lanes.start].fill(f32::NEG_INFINITY);
            scores[lanes.end..vectors.end].fill(f32::NEG_INFINITY);
        }
        if masked {
            self.drop_scores(&lanes);
        }
        let state = SoftmaxRows { max: self.max, sums: self.sums, rescale: self.rescale };
        softmax.softmax(self.scores, lanes.clone(), self.factor, state);
        self.in_place.values(
            self.scores,
            &self.value,
            keys.start,
            lanes,
            self.rescale,
            self.out,
            self.scratch,
            &self.key,
        );
        Ok(())
    }

    /// Makes the scores of the last tile that entered the pipeline those that its softmax takes, if there is one.
    fn complete_scores(&mut self) -> Result<(), ModFault> {
        let Some(pipeline) = &mut self.pipeline else { return Ok(()) };
        let scores = if self.score.is_some() { &mut *self.plain_scores } else { &mut *self.scores };
        let Some(tile) = pipeline.take_scores(scores) else { return Ok(()) };
        self.modify_scores(&(tile..tile + TILE_KEYS), &(0..TILE_KEYS), self.masked)?;
        if self.masked {
            self.drop_scores(&(0..TILE_KEYS));
        }
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.update_maxima(tile, self.scores, self.factor, self.max, self.sums);
        }
        Ok(())
    }

    /// Takes all tiles in the pipeline one stage on.
    fn step(&mut self, tile: Option<usize>) {
        let Some(pipeline) = &mut self.pipeline else { return };
        let (query, key, value, scores) = (&*self.query, &self.key, &self.value, &*self.scores);
        pipeline.step(tile, Operands { query, key, value, scores, sums: self.sums, out: self.out });
    }

    /// Takes all tiles in the pipeline through it.
    fn drain(&mut self) -> Result<(), ModFault> {
        while self.pipeline.as_ref().is_some_and(|pipeline| !pipeline.is_empty()) {
            self.complete_scores()?;
            self.step(None);
        }
        Ok(())
    }

    /// Scores of keys that are not kept become −∞.
    fn drop_scores(&mut self, lanes: &Range<usize>) {
        for (scores, keep) in self.scores.chunks_exact_mut(TILE_KEYS).zip(self.keep.chunks_exact(TILE_KEYS)) {
            for (score, &keep) in scores[lanes.clone()].iter_mut().zip(&keep[lanes.clone()]) {
                *score = if keep != 0 { *score } else { f32::NEG_INFINITY };
            }
        }
    }

    /// What is kept of a tile; `None` if nothing is. Faults of the mask were ruled out when its block mask was built.
    fn kept(&mut self, keys: &Range<usize>) -> Result<Option<Kept>, ModFault> {
        let (tiles, queries) = (self.job.tiles, 0..self.job.shape.q_len);
        let full = |(head, _)| tiles.coverage(self.batch, head, &queries, keys) == Coverage::Full;
        if self.heads().all(full) {
            return Ok(Some(Kept { lanes: 0..keys.len(), masked: false }));
        }
        self.keep.fill(0);
        for (head, rows) in self.heads() {
            self.ask_mask(head, rows, keys)?;
        }
        let mut lanes: Option<Range<usize>> = None;
        for keep in self.keep.chunks_exact(TILE_KEYS) {
            let kept = |keep: &u32| *keep != 0;
            if let (Some(first), Some(last)) = (keep.iter().position(kept), keep.iter().rposition(kept)) {
                let before = lanes.unwrap_or(first..last + 1);
                lanes = Some(before.start.min(first)..before.end.max(last + 1));
            }
        }
        Ok(lanes.map(|lanes| Kept { lanes, masked: true }))
    }

    /// Writes to `keep` which keys the queries of a head keep.
    fn ask_mask(&mut self, head: usize, rows: Range<usize>, keys: &Range<usize>) -> Result<(), ModFault> {
        let Self { job, batch, mask, keep, .. } = self;
        if let Some(mask) = mask {
            mask.tile(*batch, head, keys.start, keys.len());
        }
        // Queries of one block of the mask have the same runs.
        let block = job.tiles.mask.map_or(1, |mask| mask.block_size().q);
        let mut result = Ok(());
        for first in (0..rows.len()).step_by(block) {
            let queries = first..rows.len().min(first + block);
            let keep = &mut keep[(rows.start + first) * TILE_KEYS..(rows.start + queries.end) * TILE_KEYS];
            job.tiles.segments(*batch, head, first, keys, |segment, kind| {
                let lanes = segment.start - keys.start..segment.end - keys.start;
                match (kind, mask.as_mut()) {
                    (TileKind::Partial, Some(mask)) if result.is_ok() => {
                        let keep = &mut keep[lanes.start..];
                        result = mask.mask_rows(queries.clone(), lanes, keep, TILE_KEYS);
                    }
                    _ => keep.chunks_exact_mut(TILE_KEYS).for_each(|keep| keep[lanes.clone()].fill(1)),
                }
            });
        }
        result
    }

    /// Applies the score mod. Only faults of kept keys count.
    fn modify_scores(
        &mut self,
        keys: &Range<usize>,
        lanes: &Range<usize>,
        masked: bool,
    ) -> Result<(), ModFault> {
        let heads = self.heads();
        let Some(score) = &mut self.score else { return Ok(()) };
        let factor = self.job.scales().1;
        for (head, rows) in heads {
            let keep = &self.keep[rows.start * TILE_KEYS..rows.end * TILE_KEYS];
            let of_head = rows.start * TILE_KEYS..rows.end * TILE_KEYS;
            let scores = ScoreRows {
                inputs: &mut self.plain_scores[of_head.clone()],
                outputs: &mut self.scores[of_head],
                stride: TILE_KEYS,
            };
            score.tile(self.batch, head, keys.start, keys.len());
            let kept = |row: usize, lane: usize| !masked || keep[row * TILE_KEYS + lanes.start + lane] != 0;
            score.score_rows(0..rows.len(), lanes.clone(), factor, scores, kept)?;
        }
        Ok(())
    }

    fn write(&self, item: &Item, output: &Output) {
        let Shape { heads, value_dim, q_len, .. } = self.job.shape;
        let first = match item.partial {
            None => (item.batch * heads + item.heads.start) * q_len,
            Some(first) => first,
        };
        // SAFETY: the heads of different items, or their ranges of partial rows, are different.
        let mut rows = unsafe { output.rows(first..first + self.rows) };
        let mut weighted = [0.0; MAX_HEAD_DIM];
        for row in 0..self.rows {
            self.in_place.restore(self.out, row, self.rows, &mut weighted[..value_dim]);
            let sum = self.sums[row * SUM_LANES..][..SUM_LANES].iter().sum();
            let result = RowResult { weighted: &weighted, sum, max: self.max[row] };
            match item.partial {
                None => rows.write(row, value_dim, result),
                Some(_) => rows.write_partial(row, value_dim, result),
            }
        }
    }
}
