//! One piece of work: some queries of the heads that share a key/value head, against all their keys.

use std::ops::Range;

use super::Preparation;
use super::kernel::{Kernels, Magnitudes, Multiplier, Packing, Precision, TILE_KEYS};
use super::output::Output;
use super::pack::Head;
use super::pass::{BiasTable, Bound, Pass, Rows, Stop};
use super::schedule;
use super::tiles::Tiles;
use super::workspace::{KeptOf, Sizes, Workspace};
use crate::attention::{AttentionError, Problem, Shape};
use crate::isa::Available;
use crate::rows::{BiasEvaluator, RowEvaluator, RowProgram};

/// Everything that is the same for all items of a call.
pub(super) struct Job<'a> {
    /// The number of the call in this process.
    pub(super) call: u64,
    pub(super) problem: &'a Problem<'a>,
    pub(super) shape: Shape,
    pub(super) isa: Available,
    pub(super) kernels: &'static Kernels,
    pub(super) tiles: Tiles<'a>,
    pub(super) mask: Option<&'a RowProgram>,
    pub(super) score: Option<&'a RowProgram>,
    /// That of weights is enough where lse is not wanted.
    pub(super) precision: Precision,
    /// Whether the maximum of each row is wanted.
    pub(super) wants_max: bool,
    pub(super) preparation: Preparation,
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

    /// What a score mod's scores are scaled by: q when it is packed, and the rest. 16-bit floats take powers of two only.
    pub(super) fn scales(&self) -> (f32, f32) {
        let scale = self.problem.effective_scale();
        let is_power_of_two = scale.is_normal() && scale.to_bits() << 9 == 0;
        match self.kernels.packing {
            Packing::F32 | Packing::F32Tiles => (scale, 1.0),
            _ if is_power_of_two || scale == 0.0 => (scale, 1.0),
            // Scores of −∞ stand for keys that are not kept; they remain that when they are scaled.
            _ => (scale.signum(), scale.abs()),
        }
    }

    /// Whose kept keys an item's rows have; `None` where there is no mask.
    pub(super) fn kept_of(&self, item: &Item) -> Option<KeptOf> {
        let (batch_rows, head_rows) = self.tiles.mask?.row_strides();
        Some(KeptOf {
            call: self.call,
            batch: if batch_rows == 0 { 0 } else { item.batch },
            heads: if head_rows == 0 { 0..item.heads.len() } else { item.heads.clone() },
            queries: item.queries.clone(),
            keys: item.keys.clone(),
            strip: self.kernels.strip,
        })
    }

    /// The values of an item and their stride, if they are f32 rows that make whole panels, and worth reading in place.
    fn value_in_place(&self, item: &Item) -> Option<(&[f32], usize)> {
        let batch = if self.shape.kv_batch == 1 { 0 } else { item.batch };
        let whole = self.shape.value_dim.is_multiple_of(self.kernels.panel);
        let head = Head::new(&self.problem.value, batch, item.kv_head);
        // Rows that lie a power of two apart share a part of the nearest cache only.
        let can_be_read = self.kernels.packing == Packing::F32 && !self.kernels.has_small_caches;
        head.f32_rows().filter(|_| whole && can_be_read)
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
        let mut may_be_bounded = true;
        loop {
            let stop = match self.try_to_run(item, may_be_bounded, output, workspace) {
                Ok(()) => return Ok(()),
                Err(stop) => stop,
            };
            match (stop, self.kernels.for_all_numbers()) {
                (Stop::Fault(fault), _) => return Err(fault.into()),
                (Stop::OutOfRange, _) => may_be_bounded = false,
                (Stop::NotRepresentable | Stop::NotWorthwhile, Some(kernels)) => {
                    let job = Job { kernels, ..*self };
                    return schedule::parts(item, kernels)
                        .try_for_each(|part| job.run(&part, output, workspace));
                }
                (Stop::NotRepresentable | Stop::NotWorthwhile, None) => {
                    unreachable!("these kernels are for all items")
                }
            }
        }
    }

    fn try_to_run(
        &self,
        item: &Item,
        may_be_bounded: bool,
        output: &Output,
        workspace: &mut Workspace,
    ) -> Result<(), Stop> {
        let Shape { head_dim, value_dim, .. } = self.shape;
        let rows = Rows::of(item, self.kernels.strip);
        let sizes = Sizes {
            rows: rows.len(),
            block_rows: rows.block_rows,
            units: self.kernels.packing.units(head_dim),
            columns: value_dim.next_multiple_of(self.kernels.panel),
        };
        let (mask_registers, score_registers) =
            (std::mem::take(&mut workspace.mask_registers), std::mem::take(&mut workspace.score_registers));
        let evaluator =
            |program, registers| RowEvaluator::with(program, TILE_KEYS, self.isa.set(), registers);
        let bias_program = self.score.and_then(RowProgram::bias);
        let bias_evaluator = bias_program.map(|bias| {
            BiasEvaluator::new(bias, self.isa.set(), std::mem::take(&mut workspace.bias_registers))
        });
        let mut bias_table = std::mem::take(&mut workspace.bias_table);
        let buffers = workspace.buffers(self.kernels, sizes, self.kept_of(item).as_ref());
        let bias = bias_evaluator.map(|evaluator| {
            let len = BiasEvaluator::table_len(rows.of_head(), buffers.chunk_keys);
            BiasTable::new(evaluator, bias_table.take(len))
        });
        let mut pass = Pass {
            job: self,
            item,
            rows,
            sizes,
            factor: self.factors().1,
            multiplier: Multiplier::new(self.kernels, self.precision),
            buffers,
            mask: self.mask.map(|program| evaluator(program, mask_registers)),
            score: self.score.map(|program| evaluator(program, score_registers)),
            bias,
            soft_cap: self.score.and_then(RowProgram::soft_cap),
            bound: if may_be_bounded { Bound::new(self, item) } else { None },
            value_in_place: self.value_in_place(item),
            magnitudes: Magnitudes::NONE,
        };
        let result = pass.run(output);
        let Pass { mask, score, bias, .. } = pass;
        if let Some(bias) = bias {
            workspace.bias_registers = bias.into_evaluator().into_registers();
        }
        workspace.bias_table = bias_table;
        workspace.mask_registers = mask.map(RowEvaluator::into_registers).unwrap_or_default();
        workspace.score_registers = score.map(RowEvaluator::into_registers).unwrap_or_default();
        result
    }
}
