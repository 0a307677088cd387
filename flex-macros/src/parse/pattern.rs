//! The patterns of `match`.

use super::{Parser, is_constant_name};
use crate::ast::{Arm, Expr, ExprKind, Origin, Pattern};
use crate::diagnostics::Place;

const ALLOWED: &str = "a mod matches integers and bools: patterns are literals, constants, ranges like `0..=3`, `a | b`, a name and `_`";

impl Parser<'_> {
    pub(super) fn arm(&mut self, arm: &syn::Arm) -> Arm {
        self.scoped(|p| {
            let (pat, guard) = match &arm.pat {
                syn::Pat::Guard(guarded) => (&*guarded.pat, Some(&*guarded.guard)),
                other => (other, None),
            };
            let mut patterns = Vec::new();
            let mut binding = None;
            if let syn::Pat::Ident(name) = pat
                && name.subpat.is_none()
                && !is_constant_name(&name.ident)
            {
                if let Some(mutability) = &name.mutability {
                    p.errors.report(
                        mutability.span,
                        "a name in a pattern cannot be `mut`: copy it with `let mut`",
                    );
                }
                binding = Some(p.declare(&name.ident, Origin::Binding));
                patterns.push(Pattern::Any);
            } else {
                p.pattern(pat, &mut patterns);
            }
            let guard = guard.map(|guard| p.expr(guard));
            let body = match &*arm.body {
                syn::Expr::Block(block) if block.label.is_none() => p.block(&block.block),
                other => p.block_of(other),
            };
            Arm { patterns, binding, guard, body }
        })
    }

    fn pattern(&mut self, pat: &syn::Pat, into: &mut Vec<Pattern>) {
        match pat {
            syn::Pat::Wild(_) => into.push(Pattern::Any),
            syn::Pat::Or(or) => or.cases.iter().for_each(|case| self.pattern(case, into)),
            syn::Pat::Paren(paren) => self.pattern(&paren.pat, into),
            syn::Pat::Lit(lit) => {
                let value = self.literal(&lit.lit, false);
                into.push(Pattern::Value(value));
            }
            syn::Pat::Verbatim(tokens) => match syn::parse2::<syn::Expr>(tokens.clone()) {
                Ok(expr) => self.pattern_value(&expr, into),
                Err(_) => self.errors.report(Place::of(pat), ALLOWED),
            },
            syn::Pat::Ident(name) if name.subpat.is_none() && is_constant_name(&name.ident) => {
                let path = syn::Path::from(name.ident.clone());
                let value = self.make(Place::of(name), ExprKind::Constant(path));
                into.push(Pattern::Value(value));
            }
            syn::Pat::Path(path) if path.qself.is_none() => {
                let value = self.make(Place::of(path), ExprKind::Constant(path.path.clone()));
                into.push(Pattern::Value(value));
            }
            syn::Pat::Range(range) => {
                let inclusive = matches!(range.limits, syn::RangeLimits::Closed(_));
                let low = range.start.as_deref().map(|bound| self.pattern_bound(bound));
                let high = range.end.as_deref().map(|bound| self.pattern_bound(bound));
                into.push(Pattern::Range { low, high, inclusive });
            }
            syn::Pat::Ident(name) if name.subpat.is_none() => {
                self.errors.report(Place::of(pat), "a name cannot be one of several alternatives: write `_`");
            }
            _ => {
                self.errors.report(Place::of(pat), ALLOWED);
                self.declare_mistaken(pat);
            }
        }
    }

    fn pattern_value(&mut self, expr: &syn::Expr, into: &mut Vec<Pattern>) {
        let value = self.pattern_bound(expr);
        into.push(Pattern::Value(value));
    }

    fn pattern_bound(&mut self, expr: &syn::Expr) -> Expr {
        match expr {
            syn::Expr::Lit(lit) => self.literal(&lit.lit, false),
            syn::Expr::Unary(syn::ExprUnary { op: syn::UnOp::Neg(_), expr: inner, .. }) => match &**inner {
                syn::Expr::Lit(lit) => self.literal(&lit.lit, true),
                _ => self.mistake(Place::of(expr), ALLOWED),
            },
            syn::Expr::Path(path) if path.qself.is_none() => {
                self.make(Place::of(path), ExprKind::Constant(path.path.clone()))
            }
            _ => self.mistake(Place::of(expr), ALLOWED),
        }
    }
}
