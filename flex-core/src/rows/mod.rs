//! Evaluation of mods along rows of keys, many at a time: for tiles that no analysis decides.
//!
//! [`RowProgram`] is an expression compiled to operations on lanes, each done as often as it must be and no more: what
//! depends on batch and head is done once, what depends on the query once a row, what depends on the key once a column of
//! rows, and only the rest for every element. [`RowEvaluator`] runs it on up to [`LANES`] neighbouring keys:
//!
//! ```ignore
//! let program = RowProgram::new(mask.bound(), FaultChecks::Kept);
//! let mut rows = RowEvaluator::new(&program);
//! rows.start(b, h);
//! rows.columns(first_kv, 128);
//! for q in tile {
//!     rows.mask_row(q);
//!     let kept: &[u32] = rows.words(); // all ones where the mask holds, else 0
//! }
//! ```
//!
//! The values are those of the interpreter, bit for bit, up to the bits of NaNs. Nothing is read out of bounds: indices
//! are clamped, and whether an index was out of bounds where Rust would have loaded is told by
//! [`RowEvaluator::first_fault`].

mod compile;
mod evaluate;
mod kernels;
mod lanes;
#[cfg(test)]
mod tests;

pub use compile::RowProgram;
pub use evaluate::{RowEvaluator, RowSummary};
pub use lanes::LANES;

/// Whether a program tells faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultChecks {
    /// It does. For points at which faults have not been ruled out.
    Kept,
    /// It does not, and is faster. For points at which the expression is proved not to fault; at others the values mean
    /// nothing (but are safe to compute).
    Dropped,
}
