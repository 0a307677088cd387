//! What the code made by the macros calls. Not part of the public interface.

#![allow(missing_docs, reason = "hidden: called by generated code only")]

mod bind;
mod capture;
mod lowering;
mod methods;
mod signature;
pub mod unmarked;

pub use bind::{bind_mask, bind_score, bound_array, bound_scalar, mask_closure, score_closure};
pub use capture::{CapturedArgument, CapturedScalar, CapturedView};
pub use flex_core::capture::{IntoArray, IntoScalar};
pub use flex_core::ir::{Arg, BinaryOp, Builder, NodeId, Type, UnaryOp};
pub use flex_core::mods::{BindError, MaskMod, ScoreMod};
pub use lowering::{ConstantValue, Lowering};
pub use signature::{Parameter, Signature};
pub use unmarked::MarkedWithModFn;
