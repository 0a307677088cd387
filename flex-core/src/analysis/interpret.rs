//! The executable meaning of an expression.

use crate::capture::CaptureValue;
use crate::ir::semantics::{self, Real, Value};
use crate::ir::{CaptureId, Expr, Input, Node, NodeId, Scalar};
use crate::mods::BoundExpr;

/// Where an expression is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Point {
    /// The index in the batch.
    pub b: i32,
    /// The query head.
    pub h: i32,
    /// The position of the query.
    pub q: i32,
    /// The position of the key.
    pub kv: i32,
}

/// An operation that Rust would have panicked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// The operation.
    pub node: NodeId,
    /// What happened.
    pub kind: FaultKind,
}

/// What happened at a [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// A captured view was indexed outside one of its axes.
    OutOfBounds {
        /// The view.
        capture: CaptureId,
        /// The axis, from 0.
        axis: u8,
        /// The index.
        index: i64,
        /// The length of the axis.
        len: usize,
    },
    /// An integer was divided by zero.
    DivisionByZero,
}

/// Evaluates one bound expression, keeping its working memory between points.
///
/// Every node is evaluated, operands first; a fault is a value that strict operations pass on and that a branch not
/// taken drops. So the order of the work does not show, and no recursion is needed.
#[derive(Clone, Debug)]
pub struct Interpreter<'a, R = f32> {
    bound: &'a BoundExpr,
    values: Vec<Result<Value<R>, Fault>>,
}

impl<'a, R: Real> Interpreter<'a, R> {
    /// An interpreter with the floats of `R`: `f32` is the meaning of the language, `f64` serves oracles.
    pub fn new(bound: &'a BoundExpr) -> Self {
        Self { bound, values: Vec::with_capacity(bound.expr().nodes().len()) }
    }

    /// The value of the expression's root. Masks ignore `score`.
    ///
    /// # Errors
    /// The first fault in Rust's order of evaluation.
    pub fn evaluate(&mut self, point: Point, score: R) -> Result<Value<R>, Fault> {
        let expr: &Expr = self.bound.expr();
        self.values.clear();
        for (i, node) in expr.nodes().iter().enumerate() {
            let value = self.node(NodeId(i as u32), node, point, score);
            self.values.push(value);
        }
        self.values[expr.root().index()]
    }

    fn node(&self, id: NodeId, node: &Node, point: Point, score: R) -> Result<Value<R>, Fault> {
        let get = |x: NodeId| self.values[x.index()];
        match *node {
            Node::Const(value) => Ok(value.into()),
            Node::Input(Input::Batch) => Ok(Value::I32(point.b)),
            Node::Input(Input::Head) => Ok(Value::I32(point.h)),
            Node::Input(Input::Query) => Ok(Value::I32(point.q)),
            Node::Input(Input::Key) => Ok(Value::I32(point.kv)),
            Node::Input(Input::Score) => Ok(Value::Real(score)),
            Node::Capture(capture) => match &self.bound.captures()[capture.index()].value {
                CaptureValue::Scalar(value) => Ok((*value).into()),
                CaptureValue::Array(_) => Ok(Value::I32(0)),
            },
            Node::Extent(capture, axis) => {
                let array = self.bound.captures()[capture.index()].array();
                Ok(Value::I32(array.map_or(0, |a| a.shape()[usize::from(axis)] as i32)))
            }
            Node::Load(capture, indices) => {
                let Some(array) = self.bound.captures()[capture.index()].array() else {
                    return Ok(Value::I32(0));
                };
                let mut at = [0i64; 4];
                for (slot, &index) in at.iter_mut().zip(indices.as_slice()) {
                    *slot = get(index)?.integer();
                }
                let mut offset = 0usize;
                for (axis, (&index, &len)) in at.iter().zip(array.shape()).enumerate() {
                    if index < 0 || index >= len as i64 {
                        let kind = FaultKind::OutOfBounds { capture, axis: axis as u8, index, len };
                        return Err(Fault { node: id, kind });
                    }
                    offset = offset * len + index as usize;
                }
                Ok(array.get(offset).unwrap_or(Scalar::I32(0)).into())
            }
            Node::Unary(op, x) => Ok(semantics::unary(op, get(x)?)),
            Node::Binary(op, a, b) => semantics::binary(op, get(a)?, get(b)?)
                .map_err(|_| Fault { node: id, kind: FaultKind::DivisionByZero }),
            Node::Select { condition, accept, reject } => {
                get(if get(condition)?.truth() { accept } else { reject })
            }
            Node::Cast(ty, x) => Ok(semantics::cast(ty, get(x)?)),
            Node::After { first, then } => get(first).and(get(then)),
        }
    }
}

/// Evaluates a mask at one point.
///
/// # Errors
/// The first fault in Rust's order of evaluation.
pub fn mask(bound: &BoundExpr, point: Point) -> Result<bool, Fault> {
    Interpreter::<f32>::new(bound).evaluate(point, 0.0).map(Value::truth)
}

/// Evaluates a score mod at one point.
///
/// # Errors
/// The first fault in Rust's order of evaluation.
pub fn score(bound: &BoundExpr, point: Point, score: f32) -> Result<f32, Fault> {
    Interpreter::<f32>::new(bound).evaluate(point, score).map(Value::real)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{Capture, IntoArray};
    use crate::ir::{BinaryOp, Builder, Type};

    fn guarded_load(guarded: bool) -> BoundExpr {
        let mut b = Builder::new();
        let doc = b.declare("doc", Type::I32, 1);
        let (q, len, one) = (b.input(Input::Query), b.extent(doc, 0), b.constant(1));
        let load = b.load(doc, &[q]);
        let hit = b.binary(BinaryOp::Eq, load, one);
        let inside = b.binary(BinaryOp::Lt, q, len);
        let root = if guarded { b.and_then(inside, hit) } else { b.binary(BinaryOp::And, inside, hit) };
        let array = (&[5i32, 1]).into_array();
        let captures = vec![Capture { name: "doc".into(), value: CaptureValue::Array(array) }];
        BoundExpr::new("test", b.finish(root).unwrap(), captures).unwrap()
    }

    fn at(q: i32) -> Point {
        Point { b: 0, h: 0, q, kv: 0 }
    }

    #[test]
    fn a_load_that_rust_would_not_execute_cannot_fault() {
        let bound = guarded_load(true);
        assert_eq!([0, 1, 2].map(|q| mask(&bound, at(q))), [Ok(false), Ok(true), Ok(false)]);
    }

    #[test]
    fn a_load_that_rust_would_execute_faults() {
        let fault = mask(&guarded_load(false), at(2)).unwrap_err();
        let expected = FaultKind::OutOfBounds { capture: CaptureId(0), axis: 0, index: 2, len: 2 };
        assert_eq!(fault.kind, expected);
    }
}
