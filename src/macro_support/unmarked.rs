//! Stands in for the called function where it has no `#[mod_fn]`, so that the compiler says what is missing.

use super::{Arg, Builder, NodeId, Signature};

/// What a function must be for mods to call it: marked with `#[mod_fn]`, or a mod itself. Not to be implemented by hand.
#[diagnostic::on_unimplemented(
    message = "a mod can only call functions that are marked with `#[mod_fn]`, and other mods",
    label = "not marked with `#[mod_fn]`",
    note = "write `#[mod_fn]` above the function, or put its expression here"
)]
pub trait MarkedWithModFn {
    #[doc(hidden)]
    fn __signature(function: &Self) -> Signature;
    #[doc(hidden)]
    fn __build(builder: &mut Builder, arguments: &[Arg], function: &Self) -> NodeId;
}

// The name that calls look for.
pub use MarkedWithModFn as __callee;

/// For what constants say of calls: here nothing, as the message above is enough.
pub mod calls {
    #[allow(non_camel_case_types, reason = "the name that calls look for")]
    pub enum __callee {}

    impl __callee {
        pub const MODS_MUST_NOT_CALL_EACH_OTHER_IN_A_CIRCLE: () = ();
    }
}
