//! Blocks and statements.

use proc_macro2::Ident;

use super::{Parser, is_constant_name};
use crate::ast::{Binary, Block, Bound, ExprKind, For, Origin, Stmt, VarId};
use crate::diagnostics::Place;
use crate::types::Ty;

/// How often the body of a loop may be repeated.
pub(crate) const MAX_ITERATIONS: i128 = 256;

/// What to do about a longer loop.
pub(crate) fn too_many_iterations() -> String {
    format!("loops are unrolled, at most {MAX_ITERATIONS} times: put the values into a captured array")
}

const CONSTANT_BOUNDS: &str = "loops are unrolled, so their bounds must be constants: write `for i in 0..8` with numbers or named \
                               constants, and test inside the loop (`if i < n { .. }`)";

impl Parser<'_> {
    pub(super) fn block(&mut self, block: &syn::Block) -> Block {
        self.scoped(|p| {
            let mut stmts = Vec::new();
            let mut tail = None;
            for (i, stmt) in block.stmts.iter().enumerate() {
                let last = i + 1 == block.stmts.len();
                match stmt {
                    syn::Stmt::Local(local) => p.local(local, &mut stmts),
                    syn::Stmt::Expr(expr, None) if last && !is_statement(expr) => {
                        tail = Some(Box::new(p.expr(expr)));
                    }
                    syn::Stmt::Expr(expr, _) => p.statement(expr, &mut stmts),
                    syn::Stmt::Item(item) => p.errors.report(
                        Place::of(item),
                        "items cannot stand inside a mod: move this out of the function",
                    ),
                    syn::Stmt::Macro(call) => p.macro_call(&call.mac),
                }
            }
            Block { place: Place::of(block), stmts, tail }
        })
    }

    pub(super) fn macro_call(&mut self, call: &syn::Macro) {
        let name = call.path.segments.last().map(|s| s.ident.to_string()).unwrap_or_default();
        let instead = match name.as_str() {
            "println" | "print" | "eprintln" | "eprint" | "dbg" => {
                "call the function natively in a test to look at its values"
            }
            "assert" | "assert_eq" | "assert_ne" | "debug_assert" | "panic" | "todo" | "unimplemented"
            | "unreachable" => "a mod has no panics: check the captured values before they are bound",
            _ => "write the expression out, or a function marked with `#[mod_fn]`",
        };
        self.errors.report(
            Place::of(&call.path),
            format!("macros such as `{name}!` are not part of mods: {instead}"),
        );
    }

    fn local(&mut self, local: &syn::Local, stmts: &mut Vec<Stmt>) {
        let (pat, ty) = match &local.pat {
            syn::Pat::Type(typed) => (&*typed.pat, Some(&*typed.ty)),
            pat => (pat, None),
        };
        let Some(init) = &local.init else {
            self.errors.report(
                Place::of(local),
                "every `let` needs a value: write `let x = ...;` where it is known",
            );
            return self.declare_mistaken(pat);
        };
        if let Some((else_token, _)) = &init.diverge {
            self.errors.report(else_token.span, "`let ... else` is not part of mods: use `if` and `else`");
            return self.declare_mistaken(pat);
        }
        match pat {
            syn::Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => {
                let ty = ty.and_then(|ty| self.written_type(ty));
                let init = self.expr(&init.expr);
                let origin = Origin::Let { mutable: name.mutability.is_some(), ty };
                let var = self.declare(&name.ident, origin);
                stmts.push(Stmt::Let { var, init });
            }
            syn::Pat::Wild(_) => {
                let ty = ty.and_then(|ty| self.written_type(ty));
                let value = self.expr(&init.expr);
                stmts.push(Stmt::Discard { value, ty });
            }
            syn::Pat::Tuple(tuple) => self.local_tuple(tuple, ty, &init.expr, stmts),
            _ => {
                self.errors.report(
                    Place::of(pat),
                    "this pattern is not part of mods: write `let name = ...;` for one value after the other",
                );
                self.expr(&init.expr);
                self.declare_mistaken(pat);
            }
        }
    }

    /// `let (a, b) = (x, y);`
    fn local_tuple(
        &mut self,
        tuple: &syn::PatTuple,
        ty: Option<&syn::Type>,
        init: &syn::Expr,
        stmts: &mut Vec<Stmt>,
    ) {
        let values = match init {
            syn::Expr::Tuple(values) if values.elems.len() == tuple.elems.len() => values,
            _ => {
                let place = Place::of(init);
                self.errors.report(
                    place,
                    format!(
                        "values are single numbers in a mod: this needs {} values in parentheses",
                        tuple.elems.len()
                    ),
                );
                return tuple.elems.iter().for_each(|pat| self.declare_mistaken(pat));
            }
        };
        let types: Vec<Option<Ty>> = match ty {
            Some(syn::Type::Tuple(types)) if types.elems.len() == tuple.elems.len() => {
                types.elems.iter().map(|ty| self.written_type(ty)).collect()
            }
            Some(other) => {
                self.errors
                    .report(Place::of(other), "expected as many types in parentheses as there are names");
                vec![None; tuple.elems.len()]
            }
            None => vec![None; tuple.elems.len()],
        };
        let values: Vec<_> = values.elems.iter().map(|value| self.expr(value)).collect();
        for ((pat, value), ty) in tuple.elems.iter().zip(values).zip(types) {
            match pat {
                syn::Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => {
                    let origin = Origin::Let { mutable: name.mutability.is_some(), ty };
                    let var = self.declare(&name.ident, origin);
                    stmts.push(Stmt::Let { var, init: value });
                }
                syn::Pat::Wild(_) => stmts.push(Stmt::Discard { value, ty }),
                other => {
                    self.errors.report(Place::of(other), "only names and `_` can stand in a tuple pattern");
                }
            }
        }
    }

    /// Brings names into scope whose `let` was a mistake, so that their uses are not reported as well.
    pub(super) fn declare_mistaken(&mut self, pat: &syn::Pat) {
        struct Names(Vec<Ident>);
        impl<'ast> syn::visit::Visit<'ast> for Names {
            fn visit_pat_ident(&mut self, name: &'ast syn::PatIdent) {
                self.0.push(name.ident.clone());
                syn::visit::visit_pat_ident(self, name);
            }
        }
        let mut names = Names(Vec::new());
        syn::visit::Visit::visit_pat(&mut names, pat);
        for name in &names.0 {
            self.declare(name, Origin::Mistake);
        }
    }

    pub(super) fn statement(&mut self, expr: &syn::Expr, stmts: &mut Vec<Stmt>) {
        match expr {
            syn::Expr::Assign(syn::ExprAssign { left, right, .. })
                if matches!(**left, syn::Expr::Tuple(_)) =>
            {
                self.assign_tuple(left, right, stmts);
            }
            syn::Expr::Assign(assign) => {
                if let Some(var) = self.assigned(&assign.left) {
                    let value = self.expr(&assign.right);
                    stmts.push(Stmt::Assign { var, op: None, value });
                }
            }
            syn::Expr::Binary(binary) => match compound(&binary.op) {
                Some(op) => {
                    if let Some(var) = self.assigned(&binary.left) {
                        let value = self.expr(&binary.right);
                        let op = Some((op, Place::of(&binary.op)));
                        stmts.push(Stmt::Assign { var, op, value });
                    }
                }
                None => self.discard(expr, stmts),
            },
            syn::Expr::ForLoop(each) => {
                if let Some(each) = self.for_loop(each) {
                    stmts.push(Stmt::For(Box::new(each)));
                }
            }
            _ => self.discard(expr, stmts),
        }
    }

    /// `(a, b) = (x, y);`: all values come before the first assignment.
    fn assign_tuple(&mut self, left: &syn::Expr, right: &syn::Expr, stmts: &mut Vec<Stmt>) {
        let (syn::Expr::Tuple(targets), syn::Expr::Tuple(values)) = (left, right) else {
            let message = "values are single numbers in a mod: assign as many values in parentheses";
            return self.errors.report(Place::of(right), message);
        };
        if targets.elems.len() != values.elems.len() {
            let message = format!("expected {} values, one for each variable", targets.elems.len());
            return self.errors.report(Place::of(values), message);
        }
        let mut assignments = Vec::new();
        for (target, value) in targets.elems.iter().zip(&values.elems) {
            let Some(var) = self.assigned(target) else { continue };
            let init = self.expr(value);
            let name = self.vars[var.0].ident.clone();
            let new = self.new_var(&name, Origin::Let { mutable: false, ty: None });
            let value = self.make(init.place, ExprKind::Var(new));
            stmts.push(Stmt::Let { var: new, init });
            assignments.push(Stmt::Assign { var, op: None, value });
        }
        stmts.extend(assignments);
    }

    fn discard(&mut self, expr: &syn::Expr, stmts: &mut Vec<Stmt>) {
        let value = self.expr(expr);
        stmts.push(Stmt::Discard { value, ty: None });
    }

    /// The variable on the left of an assignment.
    fn assigned(&mut self, left: &syn::Expr) -> Option<VarId> {
        let place = Place::of(left);
        let ident = match left {
            syn::Expr::Path(path) if path.qself.is_none() => path.path.get_ident().cloned(),
            syn::Expr::Paren(paren) => return self.assigned(&paren.expr),
            syn::Expr::Index(_) => {
                self.errors.report(
                    place,
                    "captured arrays are read-only: a mod computes its result and changes nothing",
                );
                return None;
            }
            syn::Expr::Unary(syn::ExprUnary { op: syn::UnOp::Deref(_), .. }) => {
                self.errors.report(place, "there are no references in mods: assign to a `let mut` variable");
                return None;
            }
            _ => None,
        };
        let Some(ident) = ident else {
            self.errors.report(place, "only variables made with `let mut` can be assigned");
            return None;
        };
        let Some(var) = self.lookup(&ident) else {
            self.unknown_name(&ident);
            return None;
        };
        let name = self.vars[var.0].name();
        let message = match self.vars[var.0].origin {
            Origin::Let { mutable: true, .. } | Origin::Mistake => return Some(var),
            Origin::Let { .. } => {
                format!("`{name}` is not mutable: write `let mut {name} = ...;` where it is made")
            }
            Origin::Parameter(_) | Origin::Loop | Origin::Binding => {
                format!("`{name}` cannot be changed: make a copy first, `let mut my_{name} = {name};`")
            }
            Origin::View { .. } | Origin::Captured { .. } | Origin::Passed => {
                format!(
                    "`{name}` is captured and cannot be changed: make a copy first, `let mut my_{name} = {name};`"
                )
            }
        };
        self.errors.report(place, message);
        None
    }

    fn for_loop(&mut self, each: &syn::ExprForLoop) -> Option<For> {
        if let Some(label) = &each.label {
            self.errors
                .report(Place::of(label), "labels are not part of mods: there is no `break` or `continue`");
        }
        let name: Option<Ident> = match &*each.pat {
            syn::Pat::Ident(name) if name.mutability.is_none() && name.subpat.is_none() => {
                Some(name.ident.clone())
            }
            syn::Pat::Wild(_) => None,
            other => {
                self.errors.report(Place::of(other), "the variable of a loop is a name or `_`");
                None
            }
        };
        let range = match strip(&each.expr) {
            syn::Expr::Range(syn::ExprRange { start: Some(start), end: Some(end), limits, .. }) => {
                let inclusive = matches!(limits, syn::RangeLimits::Closed(_));
                self.bound(start).zip(self.bound(end)).map(|(start, end)| (start, end, inclusive))
            }
            other => {
                self.errors.report(Place::of(other), CONSTANT_BOUNDS);
                None
            }
        };
        let place = Place::of(&each.expr);
        if let Some((start, end, inclusive)) = &range
            && let Some((low, high)) = start.value.zip(end.value)
        {
            let count = high - low + i128::from(*inclusive);
            if count > MAX_ITERATIONS {
                self.errors.report(place, format!("{}; this one runs {count} times", too_many_iterations()));
            }
        }
        let (var, body) = self.scoped(|p| {
            let var = name.map(|name| p.declare(&name, Origin::Loop));
            (var, p.block(&each.body))
        });
        let (start, end, inclusive) = range?;
        Some(For { var, start, end, inclusive, place, body })
    }

    /// A constant expression of literals, named constants and arithmetic.
    fn bound(&mut self, expr: &syn::Expr) -> Option<Bound> {
        let mut constant = None;
        let place = Place::of(expr);
        if let Err(wrong) = constant_expression(expr, &mut constant) {
            self.errors.report(wrong, CONSTANT_BOUNDS);
            return None;
        }
        let value = match strip(expr) {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(int), .. }) => int.base10_parse().ok(),
            syn::Expr::Unary(syn::ExprUnary { op: syn::UnOp::Neg(_), expr, .. }) => match strip(expr) {
                syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(int), .. }) => {
                    int.base10_parse().ok().map(|value: i128| -value)
                }
                _ => None,
            },
            _ => None,
        };
        let ty = match strip(expr) {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(int), .. }) => Ty::from_name(int.suffix()),
            syn::Expr::Cast(cast) => self.written_type(&cast.ty),
            _ => None,
        };
        Some(Bound { place, tokens: quote::ToTokens::to_token_stream(expr), value, ty, constant })
    }

    pub(super) fn unknown_name(&mut self, ident: &Ident) {
        let message = if is_constant_name(ident) {
            format!("there is no constant `{ident}`")
        } else {
            format!(
                "`{ident}` is neither a parameter nor a local variable: a value from outside becomes a parameter, \
                 such as `{ident}: i32` or `{ident}: View<i32, 1>`, and is given to `bind`; constants are written in capitals"
            )
        };
        self.errors.report(ident.span(), message);
    }

    /// `x = 1` where a value is expected.
    pub(super) fn misplaced_statement(&mut self, expr: &syn::Expr) -> crate::ast::Expr {
        let place = Place::of(expr);
        self.errors
            .report(place, "an assignment has no value: write it as a statement of its own, ending with `;`");
        self.make(place, ExprKind::Mistake)
    }
}

/// Whether an expression in the last place of a block is a statement all the same.
pub(super) fn is_statement(expr: &syn::Expr) -> bool {
    match expr {
        syn::Expr::Assign(_) | syn::Expr::ForLoop(_) => true,
        syn::Expr::Binary(binary) => compound(&binary.op).is_some(),
        _ => false,
    }
}

fn strip(expr: &syn::Expr) -> &syn::Expr {
    match expr {
        syn::Expr::Paren(inner) => strip(&inner.expr),
        syn::Expr::Group(inner) => strip(&inner.expr),
        other => other,
    }
}

fn constant_expression(expr: &syn::Expr, constant: &mut Option<syn::Path>) -> Result<(), Place> {
    match strip(expr) {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(_), .. }) => Ok(()),
        syn::Expr::Path(path)
            if path.qself.is_none()
                && path.path.segments.last().is_some_and(|last| is_constant_name(&last.ident)) =>
        {
            constant.get_or_insert_with(|| path.path.clone());
            Ok(())
        }
        syn::Expr::Unary(syn::ExprUnary { op: syn::UnOp::Neg(_), expr, .. }) => {
            constant_expression(expr, constant)
        }
        // The type of the constant inside does not matter once it is cast.
        syn::Expr::Cast(cast) => constant_expression(&cast.expr, &mut None),
        syn::Expr::Binary(binary) if compound(&binary.op).is_none() => {
            constant_expression(&binary.left, constant)?;
            constant_expression(&binary.right, constant)
        }
        other => Err(Place::of(other)),
    }
}

/// The operation of `+=` and its like.
pub(super) fn compound(op: &syn::BinOp) -> Option<Binary> {
    Some(match op {
        syn::BinOp::AddAssign(_) => Binary::Add,
        syn::BinOp::SubAssign(_) => Binary::Sub,
        syn::BinOp::MulAssign(_) => Binary::Mul,
        syn::BinOp::DivAssign(_) => Binary::Div,
        syn::BinOp::RemAssign(_) => Binary::Rem,
        syn::BinOp::BitXorAssign(_) => Binary::Xor,
        syn::BinOp::BitAndAssign(_) => Binary::And,
        syn::BinOp::BitOrAssign(_) => Binary::Or,
        syn::BinOp::ShlAssign(_) => Binary::Shl,
        syn::BinOp::ShrAssign(_) => Binary::Shr,
        _ => return None,
    })
}
