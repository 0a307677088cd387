//! What an evaluation came to, in a form that two evaluators can be compared by.

use crate::analysis::interpret::{FaultKind, Interpreter, Point};
use crate::ir::Scalar;
use crate::mods::BoundExpr;

/// A value or a fault. All NaNs are one NaN; other floats are equal only with equal bits. The node of a fault is left
/// out, because transformed expressions number their nodes differently.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// The value.
    Value(Scalar),
    /// The first fault in Rust's order of evaluation.
    Fault(FaultKind),
}

impl From<Scalar> for Outcome {
    fn from(value: Scalar) -> Self {
        match value {
            Scalar::F32(v) if v.is_nan() => Self::Value(Scalar::F32(f32::NAN)),
            other => Self::Value(other),
        }
    }
}

/// The outcome by the interpreter.
pub fn outcome(bound: &BoundExpr, at: Point, score: f32) -> Outcome {
    match Interpreter::<f32>::new(bound).evaluate(at, score) {
        Ok(value) => Scalar::from(value).into(),
        Err(fault) => Outcome::Fault(fault.kind),
    }
}
