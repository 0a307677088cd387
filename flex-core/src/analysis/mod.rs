//! What can be known of an expression without running a kernel.

pub mod affine;
pub mod demand;
pub mod derivative;
pub mod distance;
pub mod faults;
pub mod interpret;
pub mod interval;
pub mod kept_interval;
pub mod score_bias;
pub mod simplify;
pub mod unsigned;
pub mod variance;
