//! Expressions.

use super::stmt::compound;
use super::{Parser, is_constant_name};
use crate::ast::{Binary, Expr, ExprKind, Origin, Unary, VarId};
use crate::diagnostics::Place;
use crate::types::Ty;

impl Parser<'_> {
    pub(super) fn expr(&mut self, expr: &syn::Expr) -> Expr {
        let place = Place::of(expr);
        match expr {
            syn::Expr::Paren(inner) => Expr { place, ..self.expr(&inner.expr) },
            syn::Expr::Group(inner) => self.expr(&inner.expr),
            syn::Expr::Lit(lit) => self.literal(&lit.lit, false),
            syn::Expr::Path(path) => self.path(path, place),
            syn::Expr::Unary(unary) => self.unary(unary, place),
            syn::Expr::Binary(binary) => self.binary(binary, expr, place),
            syn::Expr::Cast(cast) => {
                let value = self.expr(&cast.expr);
                match self.written_type(&cast.ty) {
                    Some(ty) => self.make(place, ExprKind::Cast { value: Box::new(value), ty }),
                    None => self.make(place, ExprKind::Mistake),
                }
            }
            syn::Expr::MethodCall(call) => self.method(call, place),
            syn::Expr::Call(call) => self.call(call, place),
            syn::Expr::Index(index) => self.load(index, place),
            syn::Expr::If(branch) => self.branch(branch, place),
            syn::Expr::Match(choice) => {
                let scrutinee = Box::new(self.expr(&choice.expr));
                let arms: Vec<_> = choice.arms.iter().map(|arm| self.arm(arm)).collect();
                if arms.is_empty() {
                    return self.mistake(place, "a `match` needs at least one arm");
                }
                self.make(place, ExprKind::Match { scrutinee, arms })
            }
            syn::Expr::Block(block) if block.label.is_none() => {
                let block = self.block(&block.block);
                self.make(place, ExprKind::Block(block))
            }
            syn::Expr::Assign(_) => self.misplaced_statement(expr),
            syn::Expr::Macro(call) => {
                self.macro_call(&call.mac);
                self.make(place, ExprKind::Mistake)
            }
            other => self.unsupported(other, place),
        }
    }

    fn unsupported(&mut self, expr: &syn::Expr, place: Place) -> Expr {
        let (place, message) = match expr {
            syn::Expr::Return(e) => (
                e.return_token.span.into(),
                "`return` is not part of mods: use `if` and `else` so that the last expression is the result",
            ),
            syn::Expr::Break(e) => (
                e.break_token.span.into(),
                "`break` is not part of mods: loops run to their end; use `if` inside the loop",
            ),
            syn::Expr::Continue(e) => {
                (e.continue_token.span.into(), "`continue` is not part of mods: use `if` inside the loop")
            }
            syn::Expr::While(e) => (
                e.while_token.span.into(),
                "`while` is not part of mods: use `for i in 0..8` with constant bounds, and `if` inside",
            ),
            syn::Expr::Loop(e) => (
                e.loop_token.span.into(),
                "`loop` is not part of mods: use `for i in 0..8` with constant bounds, and `if` inside",
            ),
            syn::Expr::ForLoop(e) => {
                (e.for_token.span.into(), "a `for` has no value: write it as a statement of its own")
            }
            syn::Expr::Closure(_) => (
                place,
                "closures inside a mod are not supported: write a function marked with `#[mod_fn]` and call it",
            ),
            syn::Expr::Reference(e) => {
                (e.and_token.span.into(), "there are no references in mods: leave the `&` out")
            }
            syn::Expr::RawAddr(_) => (place, "there are no pointers in mods"),
            syn::Expr::Try(e) => (
                e.question_token.span.into(),
                "`?` is not part of mods: a mod cannot fail; check the captured values before they are bound",
            ),
            syn::Expr::Async(_) | syn::Expr::Await(_) => (place, "`async` is not part of mods"),
            syn::Expr::Unsafe(e) => (e.unsafe_token.span.into(), "`unsafe` is not part of mods"),
            syn::Expr::Tuple(_) => {
                (place, "tuples are not part of mods, except in `let (a, b) = (x, y);` and `view[(i, j)]`")
            }
            syn::Expr::Array(_) | syn::Expr::Repeat(_) => (
                place,
                "arrays inside a mod are not supported: use `match` for a few values, or capture the array",
            ),
            syn::Expr::Struct(_) => (place, "structs are not part of mods: use one variable for each field"),
            syn::Expr::Field(_) => (
                place,
                "fields are not part of mods: copy the field into a variable outside, and capture the variable",
            ),
            syn::Expr::Range(_) => (
                place,
                "a range is no value in a mod: write `low <= x && x < high` to test whether x is in it",
            ),
            syn::Expr::Let(e) => {
                (e.let_token.span.into(), "`if let` is not part of mods: use `match` or `==`")
            }
            syn::Expr::Const(_) => (place, "`const` blocks are not part of mods: use a named constant"),
            syn::Expr::Block(block) => (
                block.label.as_ref().map_or(place, Place::of),
                "labels are not part of mods: use `if` and `else`",
            ),
            _ => (place, "this expression is not part of mods"),
        };
        self.mistake(place, message)
    }

    fn path(&mut self, path: &syn::ExprPath, place: Place) -> Expr {
        if path.qself.is_some() || path.path.segments.iter().any(|s| !s.arguments.is_empty()) {
            return self
                .mistake(place, "generic paths are not part of mods: name the value with a `const` outside");
        }
        let Some(ident) = path.path.get_ident() else {
            return self.make(place, ExprKind::Constant(path.path.clone()));
        };
        if ident == "self" {
            return self.mistake(place, "methods cannot be mods: pass the fields as parameters");
        }
        let known = self.scopes.iter().any(|scope| scope.contains_key(&ident.to_string()));
        if !known && is_constant_name(ident) {
            return self.make(place, ExprKind::Constant(path.path.clone()));
        }
        match self.lookup(ident) {
            Some(var) => self.make(place, ExprKind::Var(var)),
            None => {
                self.unknown_name(ident);
                self.make(place, ExprKind::Mistake)
            }
        }
    }

    fn unary(&mut self, unary: &syn::ExprUnary, place: Place) -> Expr {
        let op = match &unary.op {
            syn::UnOp::Neg(_) => {
                // The literal of `i32::MIN` only exists together with its sign.
                if let syn::Expr::Lit(syn::ExprLit { lit: lit @ syn::Lit::Int(int), .. }) = &*unary.expr
                    && int.suffix() != "f32"
                {
                    return Expr { place, ..self.literal(lit, true) };
                }
                Unary::Neg
            }
            syn::UnOp::Not(_) => Unary::Not,
            syn::UnOp::Deref(star) => {
                let message = "there are no references in mods: leave the `*` out";
                return self.mistake(star.span.into(), message);
            }
            _ => return self.mistake(place, "this operator is not part of mods"),
        };
        let operand = Box::new(self.expr(&unary.expr));
        self.make(place, ExprKind::Unary { op, operand })
    }

    fn binary(&mut self, binary: &syn::ExprBinary, expr: &syn::Expr, place: Place) -> Expr {
        if compound(&binary.op).is_some() {
            return self.misplaced_statement(expr);
        }
        let left = Box::new(self.expr(&binary.left));
        let right = Box::new(self.expr(&binary.right));
        let op = match &binary.op {
            syn::BinOp::And(_) => return self.make(place, ExprKind::Logic { and: true, left, right }),
            syn::BinOp::Or(_) => return self.make(place, ExprKind::Logic { and: false, left, right }),
            syn::BinOp::Add(_) => Binary::Add,
            syn::BinOp::Sub(_) => Binary::Sub,
            syn::BinOp::Mul(_) => Binary::Mul,
            syn::BinOp::Div(_) => Binary::Div,
            syn::BinOp::Rem(_) => Binary::Rem,
            syn::BinOp::BitXor(_) => Binary::Xor,
            syn::BinOp::BitAnd(_) => Binary::And,
            syn::BinOp::BitOr(_) => Binary::Or,
            syn::BinOp::Shl(_) => Binary::Shl,
            syn::BinOp::Shr(_) => Binary::Shr,
            syn::BinOp::Eq(_) => Binary::Eq,
            syn::BinOp::Ne(_) => Binary::Ne,
            syn::BinOp::Lt(_) => Binary::Lt,
            syn::BinOp::Le(_) => Binary::Le,
            syn::BinOp::Gt(_) => Binary::Gt,
            syn::BinOp::Ge(_) => Binary::Ge,
            _ => return self.mistake(place, "this operator is not part of mods"),
        };
        self.make(place, ExprKind::Binary { op, left, right })
    }

    fn branch(&mut self, branch: &syn::ExprIf, place: Place) -> Expr {
        let condition = Box::new(self.expr(&branch.cond));
        let accept = self.block(&branch.then_branch);
        let reject = branch.else_branch.as_ref().map(|(_, otherwise)| match &**otherwise {
            syn::Expr::Block(block) if block.label.is_none() => self.block(&block.block),
            other => self.block_of(other),
        });
        self.make(place, ExprKind::If { condition, accept, reject })
    }

    fn method(&mut self, call: &syn::ExprMethodCall, place: Place) -> Expr {
        if let Some(turbofish) = &call.turbofish {
            return self
                .mistake(Place::of(turbofish), "generic arguments are not part of mods: leave them out");
        }
        if let Some(extent) = self.extent(call, place) {
            return extent;
        }
        let receiver = Box::new(self.expr(&call.receiver));
        let args = call.args.iter().map(|arg| self.expr(arg)).collect();
        self.make(place, ExprKind::Method { owner: None, receiver, name: call.method.clone(), args })
    }

    /// `view.len()` and `view.dim(axis)`.
    fn extent(&mut self, call: &syn::ExprMethodCall, place: Place) -> Option<Expr> {
        let (is_len, is_dim) = (call.method == "len", call.method == "dim");
        if !is_len && !is_dim && call.method != "shape" {
            return None;
        }
        let view = self.view_name(&call.receiver)?;
        if !is_len && !is_dim {
            let message = "a mod asks for one axis at a time: write `.dim(0)`";
            return Some(self.mistake(call.method.span().into(), message));
        }
        let axis = match call.args.first() {
            None if is_len => 0,
            Some(syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(axis), .. }))
                if is_dim && call.args.len() == 1 =>
            {
                axis.base10_parse().unwrap_or(usize::MAX)
            }
            _ => {
                let message = if is_len {
                    "`len` takes no arguments"
                } else {
                    "`dim` takes the number of the axis: write `.dim(0)` for the first"
                };
                return Some(self.mistake(call.method.span().into(), message));
            }
        };
        if is_len {
            if let Origin::Captured { rank: rank @ None } = &mut self.vars[view.0].origin {
                *rank = Some(1);
            }
            if let Some(rank) = self.vars[view.0].rank().filter(|rank| *rank > 1) {
                let message =
                    format!("a view of rank {rank} has {rank} lengths: write `.dim(0)` for the first");
                return Some(self.mistake(call.method.span().into(), message));
            }
        }
        Some(self.make(place, ExprKind::Extent { view, axis }))
    }

    /// The view that a bare name stands for, or may stand for in a closure.
    fn view_name(&mut self, expr: &syn::Expr) -> Option<VarId> {
        let syn::Expr::Path(path) = expr else { return None };
        let ident = path.path.get_ident().filter(|ident| !is_constant_name(ident))?;
        let var = self.lookup(ident)?;
        matches!(self.vars[var.0].origin, Origin::View { .. } | Origin::Captured { .. }).then_some(var)
    }

    fn load(&mut self, index: &syn::ExprIndex, place: Place) -> Expr {
        let (indices, as_array) = match &*index.index {
            syn::Expr::Array(array) => (array.elems.iter().collect(), true),
            syn::Expr::Tuple(tuple) => (tuple.elems.iter().collect(), false),
            one => (vec![one], true),
        };
        let indices: Vec<Expr> = indices.into_iter().map(|i| self.expr(i)).collect();
        let base = Place::of(&index.expr);
        if matches!(&*index.expr, syn::Expr::Index(_)) {
            return self.mistake(place, "all indices of a view go into one bracket: write `view[[i, j]]`");
        }
        let Some(ident) = path_ident(&index.expr) else {
            return self
                .mistake(base, "only captured arrays can be indexed: give the array a name and capture it");
        };
        if is_constant_name(ident) {
            return self.mistake(
                base,
                format!("constant arrays cannot be indexed in a mod: capture `{ident}` as a `View`"),
            );
        }
        let Some(var) = self.lookup(ident) else {
            self.unknown_name(ident);
            return self.make(place, ExprKind::Mistake);
        };
        let got = indices.len();
        let name = self.vars[var.0].name();
        match &mut self.vars[var.0].origin {
            Origin::Captured { rank: rank @ None } if (1..=4).contains(&got) => *rank = Some(got),
            Origin::Captured { rank: None } => {
                return self
                    .mistake(Place::of(&index.index), format!("arrays have 1 to 4 axes, got {got} indices"));
            }
            Origin::Captured { rank: Some(rank) } | Origin::View { rank, .. } => {
                if *rank != got {
                    let rank = *rank;
                    let axes = ["i", "j", "k", "l"][..rank.min(4)].join(", ");
                    let write = if rank == 1 { format!("{name}[i]") } else { format!("{name}[[{axes}]]") };
                    let message = format!(
                        "`{name}` has rank {rank}, so it takes {}, got {got}: write `{write}`",
                        count(rank)
                    );
                    return self.mistake(Place::of(&index.index), message);
                }
            }
            Origin::Mistake => return self.make(place, ExprKind::Mistake),
            _ => {
                return self.mistake(base, format!("`{name}` is a single value and cannot be indexed"));
            }
        }
        self.make(place, ExprKind::Load { view: var, indices, as_array })
    }

    fn call(&mut self, call: &syn::ExprCall, place: Place) -> Expr {
        let args: Vec<Expr> = call.args.iter().map(|arg| self.expr(arg)).collect();
        let func = Place::of(&call.func);
        let syn::Expr::Path(syn::ExprPath { qself: None, path, .. }) = &*call.func else {
            return self.mistake(func, "only named functions can be called in a mod");
        };
        let last = path.segments.last().expect("a path has a segment");
        if path.segments.iter().any(|segment| !segment.arguments.is_empty()) {
            return self.mistake(
                func,
                "generic functions cannot be called in a mod: write one for the type you need",
            );
        }
        let single = path.get_ident();
        if single.is_some_and(|ident| self.own_name.as_deref() == Some(&ident.to_string())) {
            return self.mistake(
                func,
                "a mod cannot call itself: write a `for` loop over a constant range, or one function for each step",
            );
        }
        if let Some(ident) = single {
            let name = ident.to_string();
            let local = self.scopes.iter().any(|scope| scope.contains_key(&name));
            if local {
                return self.mistake(func, format!("`{name}` is a value, not a function"));
            }
        }
        if path.segments.len() == 2 {
            let owner = path.segments[0].ident.to_string();
            let method = last.ident.clone();
            if let Some(ty) = Ty::from_name(&owner) {
                return self.associated_call(ty, method, args, place);
            }
            if owner.starts_with(|c: char| c.is_ascii_uppercase()) {
                return self.mistake(
                    func,
                    "methods of types cannot be called in a mod: write a function marked with `#[mod_fn]`",
                );
            }
        }
        if last.ident.to_string().starts_with(|c: char| c.is_ascii_uppercase()) {
            return self
                .mistake(func, "structs and enums are not part of mods: values are f32, i32, u32 or bool");
        }
        self.make(place, ExprKind::Call { path: path.clone(), args })
    }

    /// `f32::max(a, b)` and `i32::from(flag)`.
    fn associated_call(
        &mut self,
        ty: Ty,
        method: proc_macro2::Ident,
        mut args: Vec<Expr>,
        place: Place,
    ) -> Expr {
        if method == "from" || args.is_empty() {
            let message =
                format!("`{}::{method}` is not part of mods: convert with `x as {}`", ty.name(), ty.name());
            return self.mistake(place, message);
        }
        let receiver = Box::new(args.remove(0));
        self.make(place, ExprKind::Method { owner: Some(ty), receiver, name: method, args })
    }
}

fn path_ident(expr: &syn::Expr) -> Option<&syn::Ident> {
    match expr {
        syn::Expr::Path(path) if path.qself.is_none() => path.path.get_ident(),
        syn::Expr::Paren(inner) => path_ident(&inner.expr),
        syn::Expr::Group(inner) => path_ident(&inner.expr),
        _ => None,
    }
}

fn count(rank: usize) -> String {
    if rank == 1 { "1 index".into() } else { format!("{rank} indices") }
}
