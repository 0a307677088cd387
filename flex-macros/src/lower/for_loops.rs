//! Loops: they stay loops in the generated code, and unroll when it runs.

use std::collections::BTreeMap;

use proc_macro2::{Ident, Span};
use quote::{quote, quote_spanned};

use super::Lower;
use crate::ast::{Block, Bound, For, Part, Stmt, VarId, walk_block};

impl Lower<'_> {
    pub(super) fn for_loop(&mut self, each: &For) {
        let span = each.place.span();
        let bound = |bound: &Bound| {
            let tokens = &bound.tokens;
            match bound.value.and_then(|value| i64::try_from(value).ok()) {
                Some(value) => quote!(#value),
                None => quote_spanned!(span=> ((#tokens) as i64)),
            }
        };
        let (start, end) = (bound(&each.start), bound(&each.end));
        let end = if each.inclusive { quote!((#end + 1)) } else { end };
        if each.start.value.is_none() || each.end.value.is_none() {
            let message = crate::parse::too_many_iterations();
            let most = crate::parse::MAX_ITERATIONS as i64;
            self.emit(quote_spanned! {span=>
                const _: () = ::core::assert!(#end - #start <= #most, #message);
            });
        }
        let changed: Vec<VarId> = assigned_in(&each.body, &self.current);
        let slots: Vec<Ident> = changed.iter().map(|_| self.name()).collect();
        for (var, slot) in changed.iter().zip(&slots) {
            let node = &self.current[var];
            self.code.extend(quote!(let mut #slot = #node;));
        }
        let outer = std::mem::take(&mut self.code);
        let before = self.current.clone();
        for (var, slot) in changed.iter().zip(&slots) {
            let node = self.name();
            self.emit(quote!(let #node = #slot;));
            self.current.insert(*var, node);
        }
        let counter = Ident::new("iteration", Span::mixed_site());
        if let Some(var) = each.var {
            let ty = self.type_of(self.checked.var(var));
            let node = self.node(quote!(literal(#ty, #counter)));
            self.current.insert(var, node);
        }
        self.block(&each.body);
        for (var, slot) in changed.iter().zip(&slots) {
            let node = self.current[var].clone();
            self.emit(quote!(#slot = #node;));
        }
        let body = std::mem::replace(&mut self.code, outer);
        self.current = before;
        self.emit(quote! { for #counter in #start..#end { #body } });
        for (var, slot) in changed.iter().zip(&slots) {
            let node = self.name();
            self.emit(quote!(let #node = #slot;));
            self.current.insert(*var, node);
        }
    }
}

/// The variables of the surroundings that a block assigns.
fn assigned_in(block: &Block, outside: &BTreeMap<VarId, Ident>) -> Vec<VarId> {
    let mut found = Vec::new();
    walk_block(block, &mut |part| {
        if let Part::Stmt(Stmt::Assign { var, .. }) = part
            && outside.contains_key(var)
            && !found.contains(var)
        {
            found.push(*var);
        }
    });
    found
}
