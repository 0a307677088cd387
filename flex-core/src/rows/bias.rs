//! Score mods that add a bias of the key or of the distance: their biases, evaluated once each.

use std::ops::Range;

use super::{RowEvaluator, RowProgram, RowRegisters, ScoreRows};
use crate::analysis::score_bias::{BiasAlong, score_bias};
use crate::isa::InstructionSet;
use crate::mods::BoundExpr;

/// The keys whose biases are evaluated at a time.
const TILE: usize = 128;

/// The bias of a score mod, ready to be evaluated.
#[derive(Clone, Debug)]
pub(crate) struct BiasProgram {
    program: RowProgram,
    is_subtracted: bool,
    along: BiasAlong,
}

impl BiasProgram {
    /// Lowers the bias that is all there is to a score mod, if it is one.
    pub(super) fn of(score_mod: &BoundExpr) -> Option<Self> {
        let expr = score_mod.expr();
        let found = score_bias(expr)?;
        let captures = score_mod.captures().to_vec();
        let bias = BoundExpr::new(score_mod.name(), expr.rooted_at(found.bias), captures).ok()?;
        let (is_subtracted, along) = (found.is_subtracted, found.along);
        Some(Self { program: RowProgram::new(&bias), is_subtracted, along })
    }

    /// How much earlier in a table the bias of a key is, from one query to the next.
    pub(crate) fn step(&self) -> usize {
        match self.along {
            BiasAlong::Key => 0,
            BiasAlong::Distance => 1,
        }
    }
}

/// Evaluates a bias.
#[derive(Debug)]
pub(crate) struct BiasEvaluator<'p> {
    bias: &'p BiasProgram,
    evaluator: RowEvaluator<'p>,
}

impl<'p> BiasEvaluator<'p> {
    /// An evaluator in memory that is already there.
    pub(crate) fn new(bias: &'p BiasProgram, isa: InstructionSet, registers: RowRegisters) -> Self {
        Self { bias, evaluator: RowEvaluator::with(&bias.program, TILE, isa, registers) }
    }

    /// Gives the memory back.
    pub(crate) fn into_registers(self) -> RowRegisters {
        self.evaluator.into_registers()
    }

    /// See [`BiasProgram::step`].
    pub(crate) fn step(&self) -> usize {
        self.bias.step()
    }

    /// The length of a table.
    pub(crate) fn table_len(rows: usize, keys: usize) -> usize {
        rows + keys.next_multiple_of(TILE) + TILE
    }

    /// Writes the biases of the queries, which are the first of `rows` rows, and the keys: that of row i and the j-th key
    /// to `table[(rows − 1 − i) · step + j]`, and zeros where there is no query or key. Says whether a softmax can add
    /// them: whether none of them faults, is NaN or +∞. Then only scores that are kept may be given their biases.
    ///
    /// # Panics
    /// If there is no query, there are fewer rows than queries, or the table is shorter than
    /// [`table_len`](Self::table_len).
    pub(crate) fn fill(
        &mut self,
        [b, h]: [usize; 2],
        queries: Range<usize>,
        rows: usize,
        keys: Range<usize>,
        table: &mut [f32],
    ) -> bool {
        // The last query meets every distance, if keys go on for as long as there are queries.
        let (spare, more) = (self.step() * (rows - queries.len()), self.step() * (queries.len() - 1));
        let (before, values) = table.split_at_mut(spare);
        before.fill(0.0);
        let count = keys.len() + more;
        for first in (0..count).step_by(TILE) {
            let lanes = 0..TILE.min(count - first);
            let outputs = &mut values[first..first + TILE];
            self.evaluator.tile(b, h, keys.start + first, lanes.len());
            let scores = ScoreRows { inputs: &mut [0.0; TILE], outputs, stride: TILE };
            let last = queries.end - 1;
            if self.evaluator.score_rows(last..last + 1, lanes, 1.0, scores, |_, _| true).is_err() {
                return false;
            }
        }
        values[count..].fill(0.0);
        if self.bias.is_subtracted {
            values[..count].iter_mut().for_each(|bias| *bias = -*bias);
        }
        values[..count].iter().fold(true, |all, bias| all & (*bias < f32::INFINITY))
    }
}
