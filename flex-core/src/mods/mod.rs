//! Bound mods: an expression together with the values of its captures.

mod bound;
mod fault;
mod mask_mod;
mod score_mod;

pub use bound::{BindError, BoundExpr};
pub use fault::{FaultReason, ModFault};
pub use mask_mod::MaskMod;
pub use score_mod::ScoreMod;
