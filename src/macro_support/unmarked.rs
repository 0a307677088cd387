//! Stands in for the called function where it has no `#[mod_fn]`, so that the compiler says what is missing.

use super::{Builder, NodeId, Signature, Type};

#[diagnostic::on_unimplemented(
    message = "a mod can only call functions that are marked with `#[mod_fn]`, and other mods",
    label = "not marked with `#[mod_fn]`",
    note = "write `#[mod_fn]` above the function, or put its expression here"
)]
pub trait MarkedWithModFn {}

#[allow(non_camel_case_types)]
pub enum callee {}

impl callee {
    pub const __SIGNATURE: Signature = Signature::new("", &[], Type::I32);

    pub fn __build<Function: MarkedWithModFn + ?Sized>(builder: &mut Builder, _: &Function) -> NodeId {
        builder.constant(0i32)
    }
}
