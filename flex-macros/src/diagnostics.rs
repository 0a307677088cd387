//! Errors with places: collected, so that one compile reports every mistake of a mod.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote_spanned};

/// Where something stands in the user's code, from its first to its last token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    start: Span,
    end: Span,
}

impl Place {
    /// The place of some tokens.
    pub(crate) fn of(tokens: &impl ToTokens) -> Self {
        let mut tokens = tokens.to_token_stream().into_iter();
        let Some(first) = tokens.next() else { return Self::from(Span::call_site()) };
        let start = match &first {
            TokenTree::Group(group) => group.span_open(),
            other => other.span(),
        };
        let end = match tokens.last().unwrap_or(first) {
            TokenTree::Group(group) => group.span_close(),
            other => other.span(),
        };
        Self { start, end }
    }

    /// The first token's span, for tokens that should be blamed on this place.
    pub(crate) fn span(self) -> Span {
        self.start
    }

    /// From the start of this place to the end of another.
    pub(crate) fn to(self, last: Self) -> Self {
        Self { start: self.start, end: last.end }
    }

    fn error(self, message: String) -> syn::Error {
        let (start, end) = (self.start, self.end);
        let mut ends = TokenStream::new();
        Ident::new("start", start).to_tokens(&mut ends);
        Ident::new("end", end).to_tokens(&mut ends);
        syn::Error::new_spanned(ends, message)
    }
}

impl From<Span> for Place {
    fn from(span: Span) -> Self {
        Self { start: span, end: span }
    }
}

/// The mistakes found so far.
#[derive(Debug, Default)]
pub(crate) struct Errors(Option<syn::Error>);

impl Errors {
    /// Adds a mistake.
    pub(crate) fn report(&mut self, place: impl Into<Place>, message: impl Into<String>) {
        self.push(place.into().error(message.into()));
    }

    /// Adds a mistake that another parser has found.
    pub(crate) fn push(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// Whether nothing was reported.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The mistakes as `compile_error!` calls; nothing when there are none.
    pub(crate) fn into_tokens(self) -> TokenStream {
        self.0.map(syn::Error::into_compile_error).unwrap_or_default()
    }
}

/// A statement that never runs but gives the type checker a value of any type.
pub(crate) fn unreachable(span: Span) -> TokenStream {
    quote_spanned!(span=> ::core::unreachable!())
}
