//! What can be known of an expression without running a kernel.

pub mod interpret;
pub mod interval;
