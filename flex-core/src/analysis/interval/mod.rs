//! Sound bounds of every node of an expression over a box of indices.
//!
//! [`IntervalProgram`] is an expression prepared for many boxes; [`IntervalAnalysis`] evaluates it on one box after
//! another. For each node it tells a [`ValueRange`] that contains the node's value at every point of the box, and
//! whether the node may fault at some point.
//!
//! What makes it sharper than plain interval arithmetic:
//! - integers are also linear forms of the inputs and of nodes that are not linear, so `q - kv >= w` or
//!   `q >= kv` is decided by the range of the one difference, in which common parts cancel;
//! - captured arrays answer range queries ([`Array::bounds`](crate::capture::Array::bounds));
//! - a branch that may fault is looked at again under the facts that its condition states, so guards count;
//! - besides what may be, it proves what must be: that a bound is reached or that a condition holds somewhere. That is
//!   how a tile is known to be mixed without reading one element of it.
//!
//! Soundness with wrapping: ranges are of exact integers in i64; where an exact result may leave the type, the range is
//! that of the type and the node's linear form is not used.

mod evaluate;
mod facts;
mod float;
mod integer;
pub(crate) mod lanes;
mod linear;
mod loads;
mod program;
mod range;
mod truth;

#[cfg(test)]
mod limits;
#[cfg(test)]
mod tests;

pub use evaluate::IntervalAnalysis;
pub use program::IntervalProgram;
pub use range::{FloatRange, IntRange, ValueRange};
pub use truth::Truth;

use crate::mask::Extent;

/// The indices from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The smallest index.
    pub first: i32,
    /// The largest index, not smaller than the first.
    pub last: i32,
}

impl Span {
    /// The indices from `first` to `last`, both included. In the wrong order they are swapped: a span is never empty.
    pub fn new(first: i32, last: i32) -> Self {
        Self { first: first.min(last), last: first.max(last) }
    }

    /// One index.
    pub const fn single(index: i32) -> Self {
        Self { first: index, last: index }
    }
}

/// A box of indices, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IndexBox {
    /// Indices in the batch.
    pub b: Span,
    /// Query heads.
    pub h: Span,
    /// Positions of queries.
    pub q: Span,
    /// Positions of keys.
    pub kv: Span,
}

impl IndexBox {
    /// All indices of an attention matrix.
    pub fn of(extent: &Extent) -> Self {
        let span = |len: usize| Span::new(0, i32::try_from(len.saturating_sub(1)).unwrap_or(i32::MAX));
        Self { b: span(extent.batch), h: span(extent.heads), q: span(extent.q_len), kv: span(extent.kv_len) }
    }
}
