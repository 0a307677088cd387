//! Masks whose kept keys in a row are an interval: conjunctions of comparisons of the key with something of the row.
//!
//! Kernels then compare the key with two bounds instead of evaluating the mask. Bounds are computed in 64 bits, so they are
//! exact; a form whose 32-bit evaluation could wrap for positions below 2³⁰ is not recognised.

use flex_core::analysis::variance::Inputs;
use flex_core::ir::{BinaryOp, Expr, Input, Node, NodeId, Scalar, Type, UnaryOp};

use super::variance::inputs_of_node;

/// Something that a kept key satisfies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// The row keeps keys at all only where this bool holds, or does not.
    Row { holds: NodeId, wanted: bool },
    /// `key ≥ bound`.
    AtLeast(Bound),
    /// `key ≤ bound`.
    AtMost(Bound),
}

/// A value of the row, in 64 bits: `other + step`, or with the key as part of a difference `other + row + step` or
/// `row − other + step`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) side: KeySide,
    pub(super) other: NodeId,
    pub(super) step: i64,
}

/// The side of a comparison that has the key: `key`, `key − row` or `row − key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeySide {
    Plain,
    Minus(NodeId),
    From(NodeId),
}

/// The conditions whose conjunction is the mask; `None` if the mask is not of that form.
pub(super) fn conditions(expr: &Expr) -> Option<Vec<Condition>> {
    let mut inputs: Vec<Inputs> = Vec::new();
    for node in expr.nodes() {
        inputs.push(inputs_of_node(node, |id| inputs[id.index()]));
    }
    let mut found = Vec::new();
    let finder = Finder { expr, inputs };
    finder.conjunct(expr.root(), true, &mut found).then_some(found)
}

struct Finder<'a> {
    expr: &'a Expr,
    inputs: Vec<Inputs>,
}

impl Finder<'_> {
    /// Adds the conditions under which `id` is `wanted`; false if they are not of the form.
    fn conjunct(&self, id: NodeId, wanted: bool, found: &mut Vec<Condition>) -> bool {
        if !self.inputs[id.index()].contains(Input::Key) {
            found.push(Condition::Row { holds: id, wanted });
            return true;
        }
        let is = |x: NodeId, value: bool| *self.expr.node(x) == Node::Const(Scalar::Bool(value));
        match *self.expr.node(id) {
            Node::Binary(BinaryOp::And, a, b) if wanted && self.expr.ty(a) == Type::Bool => {
                self.conjunct(a, true, found) && self.conjunct(b, true, found)
            }
            Node::Binary(BinaryOp::Or, a, b) if !wanted && self.expr.ty(a) == Type::Bool => {
                self.conjunct(a, false, found) && self.conjunct(b, false, found)
            }
            Node::Select { condition, accept, reject } if wanted && is(reject, false) => {
                self.conjunct(condition, true, found) && self.conjunct(accept, true, found)
            }
            Node::Select { condition, accept, reject } if !wanted && is(accept, true) => {
                self.conjunct(condition, false, found) && self.conjunct(reject, false, found)
            }
            Node::Unary(UnaryOp::Not, x) => self.conjunct(x, !wanted, found),
            Node::Binary(op, a, b) if op.is_comparison() && self.expr.ty(a) == Type::I32 => {
                self.comparison(op, a, b, wanted, found)
            }
            _ => false,
        }
    }

    fn comparison(
        &self,
        op: BinaryOp,
        a: NodeId,
        b: NodeId,
        wanted: bool,
        found: &mut Vec<Condition>,
    ) -> bool {
        use BinaryOp::*;
        let op = if wanted {
            op
        } else {
            match op {
                Lt => Ge,
                Le => Gt,
                Gt => Le,
                Ge => Lt,
                Ne => Eq,
                _ => return false,
            }
        };
        let of_row = |id: NodeId| !self.inputs[id.index()].contains(Input::Key);
        // With the key on the left.
        let (side, other, op) = if let Some(side) = self.key_side(a).filter(|_| of_row(b)) {
            (side, b, op)
        } else if let Some(side) = self.key_side(b).filter(|_| of_row(a)) {
            let mirrored = match op {
                Lt => Gt,
                Le => Ge,
                Gt => Lt,
                Ge => Le,
                same => same,
            };
            (side, a, mirrored)
        } else {
            return false;
        };
        let bound = |step| Bound { side, other, step };
        // row − key < x is key > row − x.
        let op = match (side, op) {
            (KeySide::From(_), Lt) => Gt,
            (KeySide::From(_), Le) => Ge,
            (KeySide::From(_), Gt) => Lt,
            (KeySide::From(_), Ge) => Le,
            (_, op) => op,
        };
        match op {
            Lt => found.push(Condition::AtMost(bound(-1))),
            Le => found.push(Condition::AtMost(bound(0))),
            Gt => found.push(Condition::AtLeast(bound(1))),
            Ge => found.push(Condition::AtLeast(bound(0))),
            Eq => found.extend([Condition::AtLeast(bound(0)), Condition::AtMost(bound(0))]),
            _ => return false,
        }
        true
    }

    fn key_side(&self, id: NodeId) -> Option<KeySide> {
        match *self.expr.node(id) {
            Node::Input(Input::Key) => Some(KeySide::Plain),
            Node::Binary(BinaryOp::Sub, a, b) => match (self.expr.node(a), self.expr.node(b)) {
                (Node::Input(Input::Key), _) if self.is_moderate(b) => Some(KeySide::Minus(b)),
                (_, Node::Input(Input::Key)) if self.is_moderate(a) => Some(KeySide::From(a)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the value lies within ±2³⁰, so that its difference to a key does not wrap.
    fn is_moderate(&self, id: NodeId) -> bool {
        match *self.expr.node(id) {
            Node::Input(Input::Batch | Input::Head | Input::Query) => true,
            Node::Const(Scalar::I32(v)) => v.unsigned_abs() <= 1 << 30,
            _ => false,
        }
    }
}
