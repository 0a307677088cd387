//! What happens where a block of rows meets a window of keys: scores, score mod, weights, and their sums of values.

use std::ops::Range;

use super::super::kernel::{
    MAX_STRIPS, QueryRows, SUM_LANES, ScoreChange, SoftmaxRows, TILE_KEYS, ValueRows, WeightedRows,
};
use super::super::workspace::Buffers;
use super::walk::hull;
use super::{BLOCK_ROWS, Pass};
use crate::mask::TileKind;
use crate::mods::ModFault;
use crate::rows::ScoreRows;

/// A block of rows and a window of at most [`TILE_KEYS`] packed keys.
pub(super) struct Visit {
    pub(super) head: usize,
    pub(super) queries: Range<usize>,
    /// The block's first row in the item, and in the buffers of rows.
    pub(super) row: usize,
    pub(super) slot: usize,
    pub(super) keys: Range<usize>,
    /// Where the window begins in the packed keys.
    pub(super) first: usize,
    /// Whether the mask is asked key by key.
    pub(super) is_asked: bool,
    /// Whether the scores are known to be small, see [`Bound`](super::Bound).
    pub(super) is_bounded: bool,
}

impl Pass<'_, '_> {
    /// All keys of the window are kept, and they are whole vectors.
    pub(super) fn full(&mut self, visit: &Visit) -> Result<(), ModFault> {
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
    pub(super) fn strips_of_intervals(&mut self, visit: &Visit) -> Result<(), ModFault> {
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
    pub(super) fn asked_strips(&mut self, visit: &Visit) -> Result<(), ModFault> {
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
        let is_modified = self.has_modified_scores(visit);
        let (buffers, units) = (&mut self.buffers, self.sizes.units);
        let query = match in_place {
            Some((from, stride)) => QueryRows::InPlace { rows: &from[rows.start * stride..], stride },
            None => {
                QueryRows::Packed(&buffers.query[(visit.slot + rows.start) * units..][..rows.len() * units])
            }
        };
        let to = if is_modified { &mut *buffers.plain_scores } else { &mut *buffers.scores };
        let to = &mut to[rows.start * TILE_KEYS..rows.end * TILE_KEYS];
        self.multiplier.scores(query, buffers.key, units, visit.first, lanes, to);
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
        if !self.has_modified_scores(visit) {
            return Ok(());
        }
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

    /// The softmax of some rows of the block: scores, changed first where the score mod is only that, become weights.
    fn weights(
        &mut self,
        visit: &Visit,
        rows: Range<usize>,
        lanes: Range<usize>,
        kept: Option<&[Range<u32>]>,
    ) {
        let row_of_head = visit.queries.start - self.item.queries.start + rows.start;
        let (rows_of_head, scale) = (self.rows.of_head(), self.job.scales().1);
        let bias = self.bias.as_ref().and_then(|b| b.added(rows_of_head, row_of_head, visit.first));
        let change = match (self.bounded_change(visit), self.soft_cap(visit), bias) {
            (Some(change), _, _) => change,
            (None, Some(soft_cap), _) => ScoreChange::SoftCap(scale, soft_cap),
            (None, None, Some(bias)) => ScoreChange::Bias(scale, bias),
            (None, None, None) => ScoreChange::Nothing,
        };
        let buffers = &mut self.buffers;
        let of_block = visit.slot + rows.start..visit.slot + rows.end;
        let state = SoftmaxRows {
            max: &mut buffers.max[of_block.clone()],
            sums: &mut buffers.sums[of_block.start * SUM_LANES..of_block.end * SUM_LANES],
            rescale: &mut buffers.rescale[rows.clone()],
        };
        let scores = &mut buffers.scores[rows.start * TILE_KEYS..rows.end * TILE_KEYS];
        let before = if buffers.weights.is_empty() { 0 } else { self.job.kernels.weights_len(rows.start) };
        let weights = &mut buffers.weights[before..];
        let rows = WeightedRows { scores, weights, keys: lanes, kept, change, factor: self.factor };
        self.multiplier.softmax(rows, state);
    }

    /// Adds the products of some rows' weights and the values, strip by strip over its lanes.
    fn values(&mut self, visit: &Visit, rows: Range<usize>, lanes: &[Range<usize>]) {
        let (buffers, columns) = (&mut self.buffers, self.sizes.columns);
        let of_block = visit.slot + rows.start..visit.slot + rows.end;
        let weights = if buffers.weights.is_empty() { &*buffers.scores } else { &*buffers.weights };
        let weights = &weights[self.job.kernels.weights_len(rows.start)..];
        let value = match self.value_in_place {
            Some((rows, stride)) => ValueRows::InPlace { rows: &rows[visit.keys.start * stride..], stride },
            None => {
                ValueRows::Packed { panels: &*buffers.value, units: buffers.value_units, first: visit.first }
            }
        };
        let out = &mut buffers.out[of_block.start * columns..of_block.end * columns];
        self.multiplier.values(weights, value, lanes, &buffers.rescale[rows], out, columns);
    }
}
