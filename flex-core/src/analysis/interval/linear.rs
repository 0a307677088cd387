//! Integer nodes as linear forms of others, so that equal parts of two sides cancel.

use std::collections::HashMap;

use crate::capture::CaptureValue;
use crate::ir::{BinaryOp, Expr, Node, NodeId, Scalar, UnaryOp};
use crate::mods::BoundExpr;

/// `constant + Σ factor · node`, before wrapping. The nodes are inputs and whatever is not linear itself, in the order
/// of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Linear {
    pub(super) constant: i64,
    pub(super) terms: Vec<(NodeId, i64)>,
}

/// Forms with larger numbers or more terms are not followed: sums of their ranges stay far within i64.
const MAX_FACTOR: i64 = 1 << 26;
const MAX_CONSTANT: i64 = 1 << 40;
const MAX_TERMS: usize = 6;

impl Linear {
    fn constant(value: i64) -> Self {
        Self { constant: value, terms: Vec::new() }
    }

    fn of(node: NodeId) -> Self {
        Self { constant: 0, terms: vec![(node, 1)] }
    }

    /// `self + factor · other`, unless it has too many terms or too large numbers.
    pub(super) fn plus(&self, other: &Self, factor: i64) -> Option<Self> {
        let constant = self.constant.checked_add(other.constant.checked_mul(factor)?)?;
        let mut terms = self.terms.clone();
        for &(node, f) in &other.terms {
            let f = f.checked_mul(factor)?;
            match terms.iter_mut().find(|(n, _)| *n == node) {
                Some(term) => term.1 += f,
                None => terms.push((node, f)),
            }
        }
        terms.retain(|&(_, f)| f != 0);
        terms.sort_unstable();
        let small = terms.len() <= MAX_TERMS
            && constant.abs() <= MAX_CONSTANT
            && terms.iter().all(|&(_, f)| f.abs() <= MAX_FACTOR);
        small.then_some(Self { constant, terms })
    }

    pub(super) fn shares_a_term_with(&self, other: &Self) -> bool {
        self.terms.iter().any(|(node, _)| other.terms.iter().any(|(n, _)| n == node))
    }
}

/// The same terms up to sign and constant: facts about one form are facts about all that share its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) id: u32,
    /// The form is `sign · shape + constant`.
    pub(super) sign: i64,
    pub(super) constant: i64,
}

/// The linear forms of an expression's integer nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct LinearForms {
    forms: Vec<Option<Linear>>,
    ids: HashMap<Vec<(NodeId, i64)>, u32>,
    shapes: Vec<Vec<(NodeId, i64)>>,
}

impl LinearForms {
    pub(super) fn new(bound: &BoundExpr) -> Self {
        let expr = bound.expr();
        let mut all = Self::default();
        for id in expr.ids() {
            let form = expr.ty(id).is_integer().then(|| all.form(bound, expr, id));
            all.forms.push(form);
        }
        all
    }

    /// The form of an integer node; none for other types.
    pub(super) fn get(&self, id: NodeId) -> Option<&Linear> {
        self.forms[id.index()].as_ref()
    }

    /// The difference of two integer nodes.
    pub(super) fn difference(&self, a: NodeId, b: NodeId) -> Option<Linear> {
        self.get(a)?.plus(self.get(b)?, -1)
    }

    /// The shape of a form; none for constants.
    pub(super) fn shape(&mut self, form: &Linear) -> Option<Shape> {
        let sign = form.terms.first()?.1.signum();
        let terms: Vec<_> = form.terms.iter().map(|&(node, f)| (node, f * sign)).collect();
        let next = self.shapes.len() as u32;
        let id = *self.ids.entry(terms.clone()).or_insert(next);
        if id == next {
            self.shapes.push(terms);
        }
        Some(Shape { id, sign, constant: form.constant })
    }

    /// The terms of a shape.
    pub(super) fn terms(&self, shape: u32) -> &[(NodeId, i64)] {
        &self.shapes[shape as usize]
    }

    fn form(&self, bound: &BoundExpr, expr: &Expr, id: NodeId) -> Linear {
        let get = |x: NodeId| self.get(x);
        let constant = |x: NodeId| get(x).filter(|form| form.terms.is_empty()).map(|form| form.constant);
        let form = match *expr.node(id) {
            Node::Const(value) => integer(value).map(Linear::constant),
            Node::Capture(capture) => match &bound.captures()[capture.index()].value {
                CaptureValue::Scalar(value) => integer(*value).map(Linear::constant),
                CaptureValue::Array(_) => None,
            },
            Node::Extent(capture, axis) => {
                let array = bound.captures()[capture.index()].array();
                array.map(|array| Linear::constant(array.shape()[usize::from(axis)] as i64))
            }
            Node::Unary(UnaryOp::Neg, x) => get(x).and_then(|x| Linear::constant(0).plus(x, -1)),
            Node::Cast(_, x) => get(x).cloned(),
            Node::Binary(BinaryOp::Add, a, b) => get(a).zip(get(b)).and_then(|(a, b)| a.plus(b, 1)),
            Node::Binary(BinaryOp::Sub, a, b) => get(a).zip(get(b)).and_then(|(a, b)| a.plus(b, -1)),
            Node::Binary(BinaryOp::Mul, a, b) => match (constant(a), constant(b)) {
                (_, Some(factor)) => get(a).and_then(|a| Linear::constant(0).plus(a, factor)),
                (Some(factor), _) => get(b).and_then(|b| Linear::constant(0).plus(b, factor)),
                _ => None,
            },
            Node::Binary(BinaryOp::Shl, a, amount) => constant(amount).and_then(|amount| {
                get(a).and_then(|a| Linear::constant(0).plus(a, 1 << amount.rem_euclid(32)))
            }),
            _ => None,
        };
        form.unwrap_or_else(|| Linear::of(id))
    }
}

fn integer(value: Scalar) -> Option<i64> {
    match value {
        Scalar::I32(v) => Some(v.into()),
        Scalar::U32(v) => Some(v.into()),
        _ => None,
    }
}
