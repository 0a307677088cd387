//! Mods evaluated by rows: the CPU's way to run an expression fast.
//!
//! A [`RowProgram`] is a bound expression lowered to a straight line of instructions, sorted by variance: what depends
//! on b and h only runs once a head, what depends on q once a row, what depends on kv once a tile, and the rest once an
//! element, with the keys of a row in vector lanes. A [`RowEvaluator`] holds the registers. Its use is always
//! [`tile`](RowEvaluator::tile), then the rows of that tile in any order:
//!
//! ```
//! # use flex_core::{ir::*, mods::MaskMod, rows::{RowEvaluator, RowProgram}};
//! # let mut builder = Builder::new();
//! # let (q, kv) = (builder.input(Input::Query), builder.input(Input::Key));
//! # let root = builder.binary(BinaryOp::Ge, q, kv);
//! # let causal = MaskMod::new("causal", builder.finish(root)?, vec![])?;
//! let program = RowProgram::new(causal.bound());
//! let mut rows = RowEvaluator::new(&program, 128);   // tiles of at most 128 keys
//! let mut keep = [false; 128];
//! rows.tile(0, 0, 256, 128);                         // batch 0, head 0, keys 256..384
//! rows.mask_row(300, 0..128, &mut keep)?;            // query 300 and all keys of the tile
//! assert_eq!(keep.iter().filter(|k| **k).count(), 45);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Values are those of the interpreter bit by bit, but for the transcendental functions of score mods, which are
//! vector code within 2 ulp. Faults are exact: lanes compute on (with clamped indices and a divisor of 1) and carry a
//! bool for "Rust would have panicked here", which branches not taken drop; the lane that has it set at the end is
//! given to the interpreter for the error.

mod bias;
mod bounds;
mod compile;
mod evaluator;
mod instr;
mod lanes;
mod math;
mod program;
mod scalar;
mod soft_cap;

#[cfg(test)]
mod tests;

pub(crate) use bias::BiasEvaluator;
pub use evaluator::{RowEvaluator, RowRegisters, RowSummary, ScoreRows};
pub(crate) use math::{Fma, Fused, Separate};
pub(crate) use program::LoweredOnce;
pub use program::RowProgram;
pub(crate) use soft_cap::SoftCap;
