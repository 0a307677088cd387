//! Running a compiled expression.

use super::compile::{Action, Class, RowProgram};
use super::kernels;
use super::lanes::{GROUP, LANES, Lanes, Operand};
use crate::ir::Input;

/// Evaluates a [`RowProgram`] on rows of up to [`LANES`] neighbouring keys.
///
/// Call [`start`](Self::start), then [`columns`](Self::columns), then [`mask_row`](Self::mask_row) or
/// [`score_row`](Self::score_row) for as many queries as there are; each call holds until it is made again.
#[derive(Clone, Debug)]
pub struct RowEvaluator<'p> {
    program: &'p RowProgram,
    registers: Vec<Lanes>,
    /// The keys in use.
    len: usize,
    /// A row that is the same for all lanes, spelled out.
    spread: Box<Lanes>,
}

/// What a row of a mask holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowSummary {
    /// Whether the mask holds for some key of the row.
    pub some_true: bool,
    /// Whether the mask does not hold for some key of the row.
    pub some_false: bool,
}

impl<'p> RowEvaluator<'p> {
    /// An evaluator at no place yet.
    pub fn new(program: &'p RowProgram) -> Self {
        let mut registers = vec![Lanes::ZERO; program.registers];
        for &(register, bits) in &program.constants {
            registers[register as usize].0[0] = bits;
        }
        Self { program, registers, len: 0, spread: Box::new(Lanes::ZERO) }
    }

    /// Goes to a batch and a head.
    pub fn start(&mut self, b: i32, h: i32) {
        self.set(Class::Fixed, Input::Batch, b as u32);
        self.set(Class::Fixed, Input::Head, h as u32);
        kernels::run(&self.program.ops[Class::Fixed as usize], &mut self.registers, 1);
    }

    /// Goes to the keys `first .. first + len`, of which there are at most [`LANES`]; more are ignored.
    pub fn columns(&mut self, first: i32, len: usize) {
        self.len = len.min(LANES);
        for op in &self.program.ops[Class::Column as usize] {
            if let Action::Input(Input::Key) = op.action {
                let lanes = &mut self.registers[op.to as usize].0;
                lanes.iter_mut().zip(0..).for_each(|(lane, i)| *lane = first.wrapping_add(i) as u32);
            }
        }
        let groups = self.groups();
        kernels::run(&self.program.ops[Class::Column as usize], &mut self.registers, groups);
    }

    /// Evaluates a mask at a query and all keys in use. [`words`](Self::words) has the result.
    pub fn mask_row(&mut self, q: i32) -> RowSummary {
        self.row(q);
        match self.program.result.0 {
            Operand::Scalar(register) => {
                let value = self.registers[register as usize].0[0] != 0;
                RowSummary { some_true: value, some_false: !value }
            }
            Operand::Lane(register) => {
                let words = &self.registers[register as usize].0[..self.len];
                let (some_true, some_false) = kernels::extremes(words);
                RowSummary { some_true, some_false }
            }
        }
    }

    /// Replaces the scores of a query and all keys in use by what the score mod makes of them. `scores` has as many
    /// elements as there are keys; more are ignored.
    pub fn score_row(&mut self, q: i32, scores: &mut [f32]) {
        let len = self.len.min(scores.len());
        for op in &self.program.ops[Class::Element as usize] {
            if let Action::Input(Input::Score) = op.action {
                let lanes = &mut self.registers[op.to as usize].0;
                lanes.iter_mut().zip(&scores[..len]).for_each(|(lane, score)| *lane = score.to_bits());
            }
        }
        self.row(q);
        for (score, &bits) in scores[..len].iter_mut().zip(self.words()) {
            *score = f32::from_bits(bits);
        }
    }

    /// The values of the last row as 32 bits each: bools are all ones or 0.
    pub fn words(&mut self) -> &[u32] {
        match self.program.result.0 {
            Operand::Lane(register) => &self.registers[register as usize].0[..self.len],
            Operand::Scalar(register) => {
                self.spread.0[..self.len].fill(self.registers[register as usize].0[0]);
                &self.spread.0[..self.len]
            }
        }
    }

    /// The first key in use, counted from 0, at which the expression faults in the last row. Always `None` for programs
    /// that dropped the checks.
    pub fn first_fault(&self) -> Option<usize> {
        match self.program.fault? {
            Operand::Scalar(register) => (self.registers[register as usize].0[0] != 0).then_some(0),
            Operand::Lane(register) => {
                self.registers[register as usize].0[..self.len].iter().position(|&fault| fault != 0)
            }
        }
    }

    fn row(&mut self, q: i32) {
        self.set(Class::Row, Input::Query, q as u32);
        let groups = self.groups();
        kernels::run(&self.program.ops[Class::Row as usize], &mut self.registers, 1);
        kernels::run(&self.program.ops[Class::Element as usize], &mut self.registers, groups);
    }

    fn groups(&self) -> usize {
        self.len.div_ceil(GROUP)
    }

    fn set(&mut self, class: Class, input: Input, value: u32) {
        for op in &self.program.ops[class as usize] {
            if matches!(op.action, Action::Input(i) if i == input) {
                self.registers[op.to as usize].0[0] = value;
            }
        }
    }
}
