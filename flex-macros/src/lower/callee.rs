//! Called functions, which the generated code reaches by the paths of the user's calls.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};

use super::names::support;

/// An expression about the called function of a path. `__callee` is the function's builder where it has one; where the
/// function is not marked, the glob import stands in and says so.
pub(super) fn callee(path: &syn::Path, about: &TokenStream) -> TokenStream {
    let (support, span) = (support(), crate::diagnostics::Place::of(path).span());
    let import = quote_spanned!(span=> use #path as __callee;);
    quote! {{
        #[allow(unused_imports)]
        #import
        #[allow(unused_imports)]
        use #support::unmarked::*;
        #about
    }}
}

/// The value of a constant that depends on the same constant of the called function: functions that call each other in a
/// circle make it depend on itself, which rustc reports at their names. Where the function is not marked, nothing more is
/// said than by [`callee`].
pub(crate) fn calls_of(path: &syn::Path) -> TokenStream {
    let (support, constant) = (support(), circle(Span::call_site()));
    let import = quote_spanned!(crate::diagnostics::Place::of(path).span()=> use #path as __callee;);
    quote! {{
        #[allow(unused_imports)]
        #import
        #[allow(unused_imports)]
        use #support::unmarked::calls::*;
        __callee::#constant
    }}
}

/// The name of that constant, which is part of rustc's message.
pub(crate) fn circle(span: Span) -> Ident {
    Ident::new("MODS_MUST_NOT_CALL_EACH_OTHER_IN_A_CIRCLE", span)
}
