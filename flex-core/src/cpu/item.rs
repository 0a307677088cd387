//! One piece of work: some queries of the heads that share a key/value head, against all their keys.

use std::ops::Range;

use super::kernel::{Kernels, Packing, SUM_LANES, TILE_KEYS};
use super::output::{self, FinishedRows, Output};
use super::pass::{Pass, Rows};
use super::tiles::Tiles;
use super::workspace::{Sizes, Workspace};
use crate::attention::{AttentionError, Problem, Shape};
use crate::isa::Available;
use crate::rows::{RowEvaluator, RowProgram};

/// Everything that is the same for all items of a call.
pub(super) struct Job<'a> {
    pub(super) problem: &'a Problem<'a>,
    pub(super) shape: Shape,
    pub(super) isa: Available,
    pub(super) kernels: &'static Kernels,
    pub(super) tiles: Tiles<'a>,
    pub(super) mask: Option<&'a RowProgram>,
    pub(super) score: Option<&'a RowProgram>,
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
            _ if self.score.is_some() => (self.scales().0, log2e),
            0.0 => (0.0, log2e),
            _ => (scale.signum(), scale.abs() * log2e),
        }
    }

    /// What a score mod's scores are scaled by: q when it is packed, and the rest. bf16 takes powers of two only.
    pub(super) fn scales(&self) -> (f32, f32) {
        let scale = self.problem.effective_scale();
        let is_power_of_two = scale.is_normal() && scale.to_bits() << 9 == 0;
        match self.kernels.packing {
            Packing::F32 => (scale, 1.0),
            _ if is_power_of_two => (scale, 1.0),
            _ => (1.0, scale),
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
        let rows = Rows::of(item, self.kernels.strip);
        let sizes = Sizes {
            rows: rows.len(),
            block_rows: rows.block_rows,
            units: self.kernels.packing.units(head_dim),
            columns: value_dim.next_multiple_of(self.kernels.panel),
        };
        let (mask_registers, score_registers) =
            (std::mem::take(&mut workspace.mask_registers), std::mem::take(&mut workspace.score_registers));
        let evaluator = |program, registers| RowEvaluator::with(program, TILE_KEYS, self.isa.set(), registers);
        let mut pass = Pass {
            job: self,
            item,
            rows,
            sizes,
            factor: self.factors().1,
            buffers: workspace.buffers(self.kernels, sizes),
            mask: self.mask.map(|program| evaluator(program, mask_registers)),
            score: self.score.map(|program| evaluator(program, score_registers)),
        };
        let result = pass.all_keys();
        if result.is_ok() {
            for i in 0..rows.blocks() {
                let (head, queries) = rows.block(item, i);
                let first = match item.partial {
                    None => (item.batch * heads + head) * q_len + queries.start,
                    Some(first) => first + (head - item.heads.start) * q_len + queries.start,
                };
                // SAFETY: the (batch, head, query) triples of different items, or their ranges of partial rows, are
                // different.
                let mut outputs = unsafe { output.rows(first..first + queries.len()) };
                let of_item = i * rows.block_rows..i * rows.block_rows + queries.len();
                let Sizes { columns: stride, .. } = sizes;
                let finished = FinishedRows {
                    weighted: &pass.buffers.out[of_item.start * stride..of_item.end * stride],
                    stride,
                    sums: &pass.buffers.sums[of_item.start * SUM_LANES..of_item.end * SUM_LANES],
                    max: &pass.buffers.max[of_item],
                    columns: value_dim,
                };
                match item.partial {
                    None => output::write_rows(self.isa, &mut outputs, finished),
                    Some(_) => output::write_partial_rows(&mut outputs, finished),
                }
            }
        }
        let Pass { mask, score, .. } = pass;
        workspace.mask_registers = mask.map(RowEvaluator::into_registers).unwrap_or_default();
        workspace.score_registers = score.map(RowEvaluator::into_registers).unwrap_or_default();
        result.map_err(AttentionError::from)
    }
}
