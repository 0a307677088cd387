//! Masks that are an interval of keys in every row.

use std::ops::Range;

use super::compile::Code;
use super::instr::{Op, Operand};
use super::scalar;
use crate::ir::{BinaryOp, Expr, Input, Node, NodeId, Type};

/// A conjunction of comparisons, each of kv with values of the row, and of tests of other values of the key.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    comparisons: Vec<Comparison>,
    pub(super) tests: Vec<ColumnTest>,
}

/// `column op row`: what a key is looked up for, as a document's number, against what the query is.
#[derive(Clone, Copy, Debug)]
pub(super) struct ColumnTest {
    pub(super) column: u32,
    pub(super) row: Operand,
    op: BinaryOp,
    ty: Type,
    /// Whether the row's value is on the left side.
    swapped: bool,
}

/// `left op right`.
#[derive(Clone, Copy, Debug)]
struct Comparison {
    op: BinaryOp,
    left: Affine,
    right: Affine,
}

/// `sign · kv + offset_sign · offset`, where the signs are −1, 0 or 1.
#[derive(Clone, Copy, Debug)]
struct Affine {
    sign: i64,
    offset_sign: i64,
    offset: Operand,
}

impl Affine {
    fn of_row(offset: Operand) -> Self {
        Self { sign: 0, offset_sign: 1, offset }
    }

    fn is_key_alone(self) -> bool {
        self.sign == 1 && self.offset_sign == 0
    }
}

/// The limits that are all there is to a mask, if they are.
pub(super) fn limits(expr: &Expr, code: &Code) -> Option<Limits> {
    if expr.result_type() != Type::Bool || code.fault.is_some() {
        return None;
    }
    let mut found = Limits::default();
    conjunction(expr, code, expr.root(), &mut found)?;
    Some(found)
}

fn conjunction(expr: &Expr, code: &Code, id: NodeId, found: &mut Limits) -> Option<()> {
    let value = code.values[id.index()];
    if !value.is_lanes() {
        let (left, right) = (Affine::of_row(value), Affine::of_row(Operand::Const(1)));
        found.comparisons.push(Comparison { op: BinaryOp::Eq, left, right });
        return Some(());
    }
    match *expr.node(id) {
        Node::Select { condition, accept, reject } if code.values[reject.index()] == Operand::Const(0) => {
            conjunction(expr, code, condition, found)?;
            conjunction(expr, code, accept, found)
        }
        Node::Binary(BinaryOp::And, a, b) if expr.ty(a) == Type::Bool => {
            conjunction(expr, code, a, found)?;
            conjunction(expr, code, b, found)
        }
        Node::Binary(op, a, b) if op.is_comparison() => {
            if op != BinaryOp::Ne
                && expr.ty(a) == Type::I32
                && let (Some(left), Some(right)) = (affine(expr, code, a), affine(expr, code, b))
            {
                found.comparisons.push(Comparison { op, left, right });
                return Some(());
            }
            let test = |column, row, swapped| ColumnTest { column, row, op, ty: expr.ty(a), swapped };
            found.tests.push(match (code.values[a.index()], code.values[b.index()]) {
                (Operand::Column(column), row) if !row.is_lanes() => test(column, row, false),
                (row, Operand::Column(column)) if !row.is_lanes() => test(column, row, true),
                _ => column_alone(value)?,
            });
            Some(())
        }
        _ => {
            found.tests.push(column_alone(value)?);
            Some(())
        }
    }
}

/// The test of a bool that depends on the key only.
fn column_alone(value: Operand) -> Option<ColumnTest> {
    let Operand::Column(column) = value else { return None };
    let (op, ty) = (BinaryOp::Eq, Type::Bool);
    Some(ColumnTest { column, row: Operand::Const(1), op, ty, swapped: false })
}

impl ColumnTest {
    fn holds(&self, column: u32, row: u32) -> bool {
        let inputs = if self.swapped { [row, column, 0] } else { [column, row, 0] };
        scalar::evaluate(Op::Binary(self.op, self.ty), inputs, &[]) != 0
    }

    /// The keys that pass, where these lie next to each other; empty if none does.
    pub(super) fn keys(&self, runs: &[ColumnRun], row: u32) -> Option<Range<usize>> {
        let mut passing = runs.iter().filter(|run| self.holds(run.value, row));
        let mut keys = match passing.next() {
            Some(run) => run.keys.clone(),
            None => return Some(0..0),
        };
        for run in passing {
            if run.keys.start != keys.end {
                return None;
            }
            keys.end = run.keys.end;
        }
        Some(keys)
    }
}

/// Neighbouring keys with one value of a column register.
#[derive(Clone, Debug)]
pub(super) struct ColumnRun {
    pub(super) value: u32,
    pub(super) keys: Range<usize>,
}

/// Adds the runs of some more keys.
pub(super) fn add_runs(runs: &mut Vec<ColumnRun>, first_key: usize, column: &[u32]) {
    let mut end = first_key;
    for group in column.chunks(16) {
        let last = runs.last_mut().filter(|run| run.keys.end == end);
        match last {
            Some(run) if group.iter().fold(true, |same, &value| same & (value == run.value)) => {
                run.keys.end += group.len();
            }
            _ => {
                for (i, &value) in group.iter().enumerate() {
                    match runs.last_mut() {
                        Some(run) if run.keys.end == end + i && run.value == value => run.keys.end += 1,
                        _ => runs.push(ColumnRun { value, keys: end + i..end + i + 1 }),
                    }
                }
            }
        }
        end += group.len();
    }
}

fn affine(expr: &Expr, code: &Code, id: NodeId) -> Option<Affine> {
    let value = code.values[id.index()];
    if !value.is_lanes() {
        return Some(Affine::of_row(value));
    }
    match *expr.node(id) {
        Node::Input(Input::Key) => Some(Affine { sign: 1, offset_sign: 0, offset: Operand::Const(0) }),
        Node::Binary(op @ (BinaryOp::Add | BinaryOp::Sub), a, b) => {
            let (a, b) = (affine(expr, code, a)?, affine(expr, code, b)?);
            let sign = if op == BinaryOp::Add { 1 } else { -1 };
            match (a.sign, b.sign) {
                (0, _) if a.offset_sign == 1 && b.is_key_alone() => Some(Affine { sign, ..a }),
                (_, 0) if b.offset_sign == 1 && a.is_key_alone() => {
                    Some(Affine { sign: 1, offset_sign: sign, offset: b.offset })
                }
                _ => None,
            }
        }
        _ => None,
    }
}

impl Limits {
    /// What is compared with, and with what.
    pub(super) fn operands(&self) -> impl Iterator<Item = Operand> {
        let comparisons = self.comparisons.iter();
        let offsets = comparisons.flat_map(|comparison| [comparison.left.offset, comparison.right.offset]);
        offsets.chain(self.tests.iter().flat_map(|test| [Operand::Column(test.column), test.row]))
    }

    /// The lanes of the keys `first..first + len` that satisfy all comparisons, whatever the tests say; `None` where an i32 would wrap around.
    pub(super) fn keys(
        &self,
        row_value: impl Fn(Operand) -> u32,
        first: i64,
        len: usize,
    ) -> Option<Range<usize>> {
        let value = |side: Affine| side.offset_sign * i64::from(row_value(side.offset) as i32);
        let end = first + len as i64;
        let (mut low, mut high) = (first, end);
        for Comparison { op, left, right } in &self.comparisons {
            for side in [*left, *right] {
                let offset = value(side);
                let reach = [offset + side.sign * first, offset + side.sign * (end - 1)];
                if reach.iter().any(|v| i32::try_from(*v).is_err()) {
                    return None;
                }
            }
            // sign · kv ≥ least and ≤ most.
            let sign = left.sign - right.sign;
            let bound = value(*right) - value(*left);
            let (least, most) = match op {
                BinaryOp::Lt => (i64::MIN / 2, bound - 1),
                BinaryOp::Le => (i64::MIN / 2, bound),
                BinaryOp::Gt => (bound + 1, i64::MAX / 2),
                BinaryOp::Ge => (bound, i64::MAX / 2),
                _ => (bound, bound),
            };
            let (from, to) = match sign {
                1 => (least, most),
                -1 => (-most, -least),
                0 if least <= 0 && 0 <= most => continue,
                0 => return Some(0..0),
                _ => return None,
            };
            low = low.max(from);
            high = high.min(to + 1);
        }
        if low >= high {
            return Some(0..0);
        }
        Some((low - first) as usize..(high - first) as usize)
    }
}
