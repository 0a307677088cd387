//! `match`: a chain of conditions.

use proc_macro2::Ident;
use quote::quote;

use super::Lower;
use super::names::support;
use crate::ast::{Arm, Expr, ExprKind, Pattern};

impl Lower<'_> {
    /// The arms of a `match` from the first on, as a chain of conditions.
    pub(super) fn arms(&mut self, subject: &Ident, arms: &[Arm]) -> Option<Ident> {
        let (arm, rest) = arms.split_first().expect("a match has arms");
        if let Some(binding) = arm.binding {
            self.current.insert(binding, subject.clone());
        }
        // rustc has checked that the arms are exhaustive, so the last one needs no test.
        let test = if rest.is_empty() { None } else { self.patterns(subject, &arm.patterns) };
        match (test, rest.is_empty(), &arm.guard) {
            (_, true, _) | (None, _, None) => self.block(&arm.body),
            (Some(test), _, None) => self.choose(&test, |l| l.block(&arm.body), |l| l.arms(subject, rest)),
            (test, _, Some(guard)) => {
                let test = match test {
                    None => self.value(guard),
                    Some(test) => {
                        let no = self.node(quote!(constant(false)));
                        self.choose(&test, |l| Some(l.value(guard)), |_| Some(no))
                            .expect("a guard has a value")
                    }
                };
                let value = self.choose(&test, |l| l.block(&arm.body), |l| l.arms(subject, rest));
                self.keep_test(guard, &test, &value);
                value
            }
        }
    }

    /// Whether a value matches one of the patterns; `None` if every value does.
    fn patterns(&mut self, subject: &Ident, patterns: &[Pattern]) -> Option<Ident> {
        let mut any: Option<Ident> = None;
        for pattern in patterns {
            let test = match pattern {
                Pattern::Any => return None,
                Pattern::Value(value) => {
                    if let ExprKind::Bool(value) = value.kind {
                        if value {
                            subject.clone()
                        } else {
                            let support = support();
                            self.node(quote!(unary(#support::UnaryOp::Not, #subject)))
                        }
                    } else {
                        self.compare("Eq", subject, value)
                    }
                }
                Pattern::Range { low, high, inclusive } => {
                    let low = low.as_ref().map(|low| self.compare("Ge", subject, low));
                    let upper = if *inclusive { "Le" } else { "Lt" };
                    let high = high.as_ref().map(|high| self.compare(upper, subject, high));
                    match (low, high) {
                        (Some(low), Some(high)) => self.join("And", &low, &high),
                        (Some(one), None) | (None, Some(one)) => one,
                        (None, None) => return None,
                    }
                }
            };
            any = Some(match any {
                None => test,
                Some(before) => self.join("Or", &before, &test),
            });
        }
        any
    }

    fn compare(&mut self, op: &str, subject: &Ident, value: &Expr) -> Ident {
        let value = self.value(value);
        self.join(op, subject, &value)
    }
}
