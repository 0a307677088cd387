//! Two branches: the variables that either changes become selections, and what a branch keeps for its faults counts only
//! where the branch is taken.

use std::collections::BTreeMap;

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::Lower;
use super::faults::may_fault;
use super::names::lowering;
use crate::ast::{Expr, VarId};

/// What the code of one branch came to.
struct Branch {
    value: Option<Ident>,
    code: TokenStream,
    kept: bool,
    current: BTreeMap<VarId, Ident>,
}

impl Lower<'_> {
    /// Keeps a condition that decides over statements only: no value evaluates it.
    pub(super) fn keep_test(&mut self, condition: &Expr, test: &Ident, value: &Option<Ident>) {
        if value.is_none() && may_fault(condition) {
            self.keep(test);
        }
    }

    /// `if condition { accept } else { reject }`, with the variables that either changes.
    pub(super) fn choose(
        &mut self,
        condition: &Ident,
        accept: impl FnOnce(&mut Self) -> Option<Ident>,
        reject: impl FnOnce(&mut Self) -> Option<Ident>,
    ) -> Option<Ident> {
        let before = self.current.clone();
        let accepted = self.branch(accept);
        self.current.clone_from(&before);
        let rejected = self.branch(reject);
        let changed: Vec<VarId> = before
            .iter()
            .filter(|(var, node)| accepted.current[*var] != **node || rejected.current[*var] != **node)
            .map(|(var, _)| *var)
            .collect();
        self.current = before;

        let values = accepted.value.clone().zip(rejected.value.clone());
        let l = lowering();
        if !accepted.kept && !rejected.kept {
            let (a, b) = (&accepted.code, &rejected.code);
            self.emit(quote!(#a #b));
            return self.select(condition, &changed, &accepted, &rejected, values);
        }
        // A branch with one result carries what it keeps in its value; otherwise it is kept next to the results.
        if let (Some((x, y)), true) = (&values, changed.is_empty()) {
            let mut close = |branch: &Branch, value: &Ident| {
                let code = &branch.code;
                if !branch.kept {
                    self.code.extend(quote!(#code));
                    return value.clone();
                }
                let whole = self.name();
                self.code.extend(quote!(#l.enter(); #code let #whole = #l.leave_with(#value);));
                whole
            };
            let (x, y) = (close(&accepted, x), close(&rejected, y));
            return Some(self.node(quote!(select(#condition, #x, #y))));
        }
        let mut close = |branch: &Branch, value: Option<&Ident>| {
            let code = &branch.code;
            let results = changed.iter().map(|var| &branch.current[var]).chain(value);
            let kept = self.name();
            self.code.extend(quote!(#l.enter(); #code let #kept = #l.leave(&[#(#results),*]);));
            kept
        };
        let a = close(&accepted, values.as_ref().map(|(x, _)| x));
        let b = close(&rejected, values.as_ref().map(|(_, y)| y));
        self.emit(quote!(#l.keep_either(#condition, #a, #b);));
        self.kept = true;
        let value = self.select(condition, &changed, &accepted, &rejected, values);
        for var in &changed {
            let node = self.current[var].clone();
            self.keep(&node);
        }
        value
    }

    fn select(
        &mut self,
        condition: &Ident,
        changed: &[VarId],
        accepted: &Branch,
        rejected: &Branch,
        values: Option<(Ident, Ident)>,
    ) -> Option<Ident> {
        for var in changed {
            let (x, y) = (&accepted.current[var], &rejected.current[var]);
            let node = self.node(quote!(select(#condition, #x, #y)));
            self.current.insert(*var, node);
        }
        values.map(|(x, y)| self.node(quote!(select(#condition, #x, #y))))
    }

    fn branch(&mut self, lower: impl FnOnce(&mut Self) -> Option<Ident>) -> Branch {
        let code = std::mem::take(&mut self.code);
        let kept = std::mem::take(&mut self.kept);
        let value = lower(self);
        Branch {
            value,
            code: std::mem::replace(&mut self.code, code),
            kept: std::mem::replace(&mut self.kept, kept),
            current: self.current.clone(),
        }
    }
}
