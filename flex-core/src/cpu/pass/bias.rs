//! A score mod that is a bias of the key or of the distance: the softmax adds it from a table.

use std::ops::Range;

use super::super::kernel::AddedBias;
use super::Pass;
use crate::rows::BiasEvaluator;

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
    pub(super) fn added(&self, rows: usize, row: usize, first: usize, scale: f32) -> Option<AddedBias<'_>> {
        let step = self.evaluator.step();
        let first = (rows - 1 - row) * step + first;
        self.is_usable.then_some(AddedBias { table: self.table, first, step, scale })
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

    /// Whether the softmax adds a bias, so that nothing is left to do for the score mod.
    pub(super) fn adds_bias(&self) -> bool {
        self.bias.as_ref().is_some_and(|bias| bias.is_usable)
    }
}
