//! The language of mods as data: typed expressions over (b, h, q, kv, score) and captured arrays.
//!
//! An expression is a DAG in one arena, hash-consed, operands first. Its meaning is the interpreter's
//! ([`crate::analysis::interpret`]); every backend and every analysis answers to it.

mod builder;
mod expr;
mod node;
pub mod semantics;
pub mod text;
mod types;
mod verify;

pub use builder::{Arg, BuildError, Builder};
pub use expr::{CaptureDecl, Expr};
pub use node::{BinaryOp, CaptureId, Indices, Input, Node, NodeId, UnaryOp};
pub use types::{Scalar, Type};
pub use verify::{VerifyError, verify};
