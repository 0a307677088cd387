//! Decoding: few queries against many keys.
//!
//! The work is to read keys and values, so they are read once, in place, for all rows of their head: no packing. The
//! keys of a head are split into parts, one an item, whose results are combined at the end; the parts depend on the
//! problem only.

mod part;
mod plan;

pub(super) use part::run;
pub(super) use plan::{items, kernels, part_keys};
