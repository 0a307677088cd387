//! From a checked body to the code that builds its expression.
//!
//! The code is straight-line: one `let` for each node. Variables are renamed on every assignment, so a `let mut` that
//! two branches change becomes a `select` after them; loops stay loops and unroll when they run. What a branch
//! evaluates without needing its value (a `let` that may fault) is kept by scopes: see the `Lowering` of the run-time
//! support.

mod branches;
mod callee;
mod expressions;
mod faults;
mod for_loops;
mod matches;
mod names;
mod statements;
mod types;

use std::collections::BTreeMap;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};

use crate::ast::{Body, Origin, Var, VarId};
use crate::check::Checked;

pub(crate) use callee::{calls_of, circle};
pub(crate) use names::{lowering, support, support_at, type_tokens};

use names::parameter;

/// The code that builds a body: statements, and the name of the value. `variables` are the body's first variables, in
/// the order of the arguments.
pub(crate) fn lower(body: &Body, checked: &Checked, arguments: &[VarId]) -> (TokenStream, Ident) {
    let mut lower =
        Lower { body, checked, current: BTreeMap::new(), next: 0, kept: false, code: TokenStream::new() };
    for (position, &var) in arguments.iter().enumerate() {
        let (l, name) = (lowering(), parameter(var));
        let method = match &body.vars[var.0] {
            Var { origin: Origin::Passed, .. } => "argument",
            var if var.rank().is_some() => "view",
            _ => "value",
        };
        let method = Ident::new(method, Span::call_site());
        lower.emit(quote!(let #name = #l.#method(#position);));
        lower.current.insert(var, name);
    }
    let value = lower.block(&body.block).expect("a checked body has a value");
    (lower.code, value)
}

struct Lower<'a> {
    body: &'a Body,
    checked: &'a Checked,
    /// The node of every variable at this point.
    current: BTreeMap<VarId, Ident>,
    next: usize,
    /// Whether the current scope keeps something for its faults.
    kept: bool,
    code: TokenStream,
}

impl Lower<'_> {
    fn emit(&mut self, tokens: TokenStream) {
        self.code.extend(tokens);
    }

    fn name(&mut self) -> Ident {
        self.next += 1;
        format_ident!("n{}", self.next - 1, span = Span::mixed_site())
    }

    /// `let n = lowering.<call>;`
    fn node(&mut self, call: TokenStream) -> Ident {
        let (l, name) = (lowering(), self.name());
        self.emit(quote!(let #name = #l.#call;));
        name
    }

    fn keep(&mut self, node: &Ident) {
        let l = lowering();
        self.emit(quote!(#l.keep(#node);));
        self.kept = true;
    }

    fn join(&mut self, op: &str, a: &Ident, b: &Ident) -> Ident {
        let (support, op) = (support(), Ident::new(op, Span::call_site()));
        self.node(quote!(binary(#support::BinaryOp::#op, #a, #b)))
    }
}
