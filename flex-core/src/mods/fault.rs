//! Faults of mods, as users see them.

use crate::analysis::interpret::{Fault, FaultKind, Point};

use super::BoundExpr;

/// A mod did what would have panicked in Rust: it loaded outside a captured view or divided an integer by zero.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub struct ModFault {
    /// The name of the mod.
    pub name: String,
    /// Where it was evaluated.
    pub at: Point,
    /// What happened.
    pub what: FaultReason,
}

/// What happened at a [`ModFault`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultReason {
    /// A captured view was indexed outside one of its axes.
    OutOfBounds {
        /// The name of the capture.
        capture: String,
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

impl ModFault {
    /// Names what an evaluation ran into.
    pub fn new(bound: &BoundExpr, at: Point, fault: Fault) -> Self {
        let what = match fault.kind {
            FaultKind::DivisionByZero => FaultReason::DivisionByZero,
            FaultKind::OutOfBounds { capture, axis, index, len } => {
                let capture = bound.captures()[capture.index()].name.clone();
                FaultReason::OutOfBounds { capture, axis, index, len }
            }
        };
        Self { name: bound.name().into(), at, what }
    }

    fn message(&self) -> String {
        let Self { name, at: Point { b, h, q, kv }, what } = self;
        let place = format!("mod `{name}` at b={b}, h={h}, q={q}, kv={kv}");
        match what {
            FaultReason::OutOfBounds { capture, axis, index, len } => format!(
                "{place} loads `{capture}` at index {index} of axis {axis}, expected 0..{len}: bind a longer `{capture}`, or \
                 guard the load with a condition on the index"
            ),
            FaultReason::DivisionByZero => format!(
                "{place} divides an integer by zero, expected a divisor other than 0: guard the division with a condition"
            ),
        }
    }
}
