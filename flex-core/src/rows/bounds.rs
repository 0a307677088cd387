//! Masks that are an interval of keys in every row.

use std::ops::Range;

use super::compile::Code;
use super::instr::Operand;
use crate::ir::{BinaryOp, Expr, Input, Node, NodeId, Type};

/// A conjunction of comparisons, each of kv with values of the row.
#[derive(Clone, Debug)]
pub(super) struct Limits(Vec<Comparison>);

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
    let mut found = Vec::new();
    conjunction(expr, code, expr.root(), &mut found)?;
    Some(Limits(found))
}

fn conjunction(expr: &Expr, code: &Code, id: NodeId, found: &mut Vec<Comparison>) -> Option<()> {
    let value = code.values[id.index()];
    if !value.is_lanes() {
        let (left, right) = (Affine::of_row(value), Affine::of_row(Operand::Const(1)));
        found.push(Comparison { op: BinaryOp::Eq, left, right });
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
        Node::Binary(op, a, b) if op.is_comparison() && op != BinaryOp::Ne && expr.ty(a) == Type::I32 => {
            let (left, right) = (affine(expr, code, a)?, affine(expr, code, b)?);
            found.push(Comparison { op, left, right });
            Some(())
        }
        _ => None,
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
    /// The values of the row that are compared with.
    pub(super) fn operands(&self) -> impl Iterator<Item = Operand> {
        self.0.iter().flat_map(|comparison| [comparison.left.offset, comparison.right.offset])
    }

    /// The lanes of the keys `first..first + len` that satisfy all comparisons; `None` where an i32 would wrap around.
    pub(super) fn keys(
        &self,
        row_value: impl Fn(Operand) -> u32,
        first: i64,
        len: usize,
    ) -> Option<Range<usize>> {
        let value = |side: Affine| side.offset_sign * i64::from(row_value(side.offset) as i32);
        let end = first + len as i64;
        let (mut low, mut high) = (first, end);
        for Comparison { op, left, right } in &self.0 {
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
