//! The names that the generated code uses.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};

use crate::ast::VarId;
use crate::types::Ty;

/// The path of the run-time support.
pub(crate) fn support() -> TokenStream {
    support_at(Span::call_site())
}

/// The same, for calls that should be blamed on a place in the user's code.
pub(crate) fn support_at(span: Span) -> TokenStream {
    quote_spanned!(span=> ::flex_attention::__private)
}

/// The type of the language of mods, as an expression.
pub(crate) fn type_tokens(ty: Ty) -> TokenStream {
    let (support, variant) = (support(), Ident::new(ty.variant(), Span::call_site()));
    quote!(#support::Type::#variant)
}

/// The name that the generated code uses for its state.
pub(crate) fn lowering() -> Ident {
    Ident::new("lowering", Span::mixed_site())
}

/// The name of a captured view or scalar in the generated code.
pub(super) fn parameter(var: VarId) -> Ident {
    format_ident!("p{}", var.0, span = Span::mixed_site())
}
