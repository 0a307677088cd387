//! Score mods that the softmax applies itself: a bias of the key or of the distance, from a table, and a soft cap.

use std::ops::Range;

use super::super::kernel::AddedBias;
use super::Pass;
use super::visit::Visit;
use crate::rows::{BiasEvaluator, SoftCap};

/// The biases of a head and the keys that are packed.
pub(in super::super) struct BiasTable<'w, 'p> {
    evaluator: BiasEvaluator<'p>,
    table: &'w mut [f32],
    /// The head and the keys that it holds.
    of: Option<(usize, Range<usize>)>,
    /// Whether the softmax can add them. What faults is left to the score mod itself, which knows what is kept.
    is_usable: bool,
}

impl<'w, 'p> BiasTable<'w, 'p> {
    /// A table in memory of [`BiasEvaluator::table_len`] floats.
    pub(in super::super) fn new(evaluator: BiasEvaluator<'p>, table: &'w mut [f32]) -> Self {
        Self { evaluator, table, of: None, is_usable: false }
    }

    /// The biases of the query in row `row` of `rows` of its head, and of those after it, from the packed key `first` on.
    pub(super) fn added(&self, rows: usize, row: usize, first: usize) -> Option<AddedBias<'_>> {
        let step = self.evaluator.step();
        let first = (rows - 1 - row) * step + first;
        self.is_usable.then_some(AddedBias { table: self.table, first, step })
    }

    /// Gives the evaluator back.
    pub(in super::super) fn into_evaluator(self) -> BiasEvaluator<'p> {
        self.evaluator
    }
}

impl Pass<'_, '_> {
    /// Evaluates the biases of a head and some packed keys, unless they are there.
    pub(super) fn prepare_bias(&mut self, head: usize, keys: &Range<usize>) {
        let (item, rows) = (self.item, self.rows.of_head());
        let Some(bias) = &mut self.bias else { return };
        let of = Some((head, keys.clone()));
        if bias.of != of {
            let heads = [item.batch, head];
            bias.is_usable = bias.evaluator.fill(heads, item.queries.clone(), rows, keys.clone(), bias.table);
            bias.of = of;
        }
    }

    /// Whether there is a score mod that the softmax does not apply itself.
    pub(super) fn has_modified_scores(&self, visit: &Visit) -> bool {
        let adds_bias = self.bias.as_ref().is_some_and(|bias| bias.is_usable);
        self.score.is_some() && !adds_bias && self.soft_cap(visit).is_none()
    }

    /// The cap that the softmax applies.
    pub(super) fn soft_cap(&self, visit: &Visit) -> Option<SoftCap> {
        // −∞ stands for keys that an asked mask does not keep, and would be capped as well.
        self.soft_cap.filter(|_| !visit.is_asked)
    }
}
