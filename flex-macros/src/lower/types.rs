//! Types that are only known where the generated code runs: they are those of captures, constants and functions.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;

use super::Lower;
use super::callee::callee;
use super::names::{lowering, parameter, support, type_tokens};
use crate::types::{Known, Source, Ty};

impl Lower<'_> {
    /// The type, as an expression of the generated code.
    pub(super) fn type_of(&self, known: &Known) -> TokenStream {
        let (support, l) = (support(), lowering());
        let source = match known {
            Known::Is(ty) => return type_tokens(*ty),
            Known::Integer(source) | Known::Float(source) | Known::Unknown(source) => source.as_ref(),
            Known::Mistake => None,
        };
        match source {
            None => type_tokens(Ty::I32),
            Some(Source::Capture(var)) => {
                let name = parameter(*var);
                let method = if self.body.vars[var.0].rank().is_some() { "element_type" } else { "type_of" };
                let method = Ident::new(method, Span::call_site());
                quote!(#l.#method(#name))
            }
            Some(Source::Constant(path)) => quote!(#support::ConstantValue::scalar(#path).ty()),
            Some(Source::Result(path)) => callee(path, &quote!(__callee::__signature(&()).result())),
            Some(Source::Parameter(path, i)) => {
                callee(path, &quote!(__callee::__signature(&()).parameter(#i)))
            }
        }
    }
}
