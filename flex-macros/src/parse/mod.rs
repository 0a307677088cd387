//! From syn's syntax to [`crate::ast`]: which Rust a mod may use, and what to write instead of the rest.

mod expr;
mod literal;
mod pattern;
mod signature;
mod stmt;
mod ty;

pub(crate) use signature::{Kind, Parameter, ParameterType, Signature, closure};
pub(crate) use stmt::{MAX_ITERATIONS, too_many_iterations};

use std::collections::HashMap;

use proc_macro2::Ident;

use crate::ast::{Block, Body, Expr, ExprKind, Origin, Part, Var, VarId, walk_block};
use crate::diagnostics::{Errors, Place};

/// Reads one body.
pub(crate) struct Parser<'e> {
    errors: &'e mut Errors,
    vars: Vec<Var>,
    scopes: Vec<HashMap<String, VarId>>,
    expressions: usize,
    /// The function's own name: calling it would not end.
    own_name: Option<String>,
    /// Whether free names are captures, as in closures.
    captures: bool,
}

impl<'e> Parser<'e> {
    /// A parser for a function (with its name) or a closure, which captures.
    pub(crate) fn new(errors: &'e mut Errors, own_name: Option<String>) -> Self {
        let captures = own_name.is_none();
        Self { errors, vars: Vec::new(), scopes: vec![HashMap::new()], expressions: 0, own_name, captures }
    }

    /// Brings a name into scope.
    pub(crate) fn declare(&mut self, ident: &Ident, origin: Origin) -> VarId {
        let id = self.new_var(ident, origin);
        let scope = self.scopes.last_mut().expect("there is always the scope of the parameters");
        scope.insert(ident.to_string(), id);
        id
    }

    /// Reads the body of a function.
    pub(crate) fn function_body(mut self, block: &syn::Block) -> Body {
        let block = self.block(block);
        self.finish(block)
    }

    /// Reads the body of a closure.
    pub(crate) fn closure_body(mut self, body: &syn::Expr) -> Body {
        let block = match body {
            syn::Expr::Block(block) if block.label.is_none() && block.attrs.is_empty() => {
                self.block(&block.block)
            }
            other => self.block_of(other),
        };
        self.finish(block)
    }

    fn finish(mut self, block: Block) -> Body {
        // What a name that is only passed on stands for is up to the captured value.
        let mut uses = vec![(0usize, 0usize); self.vars.len()];
        walk_block(&block, &mut |part| match part {
            Part::Expr(Expr { kind: ExprKind::Var(var), .. }) => uses[var.0].0 += 1,
            Part::Expr(Expr { kind: ExprKind::Call { args, .. }, .. }) => {
                for arg in args {
                    if let ExprKind::Var(var) = arg.kind {
                        uses[var.0].1 += 1;
                    }
                }
            }
            _ => {}
        });
        for (var, (all, passed)) in self.vars.iter_mut().zip(uses) {
            if matches!(var.origin, Origin::Captured { rank: None }) && all > 0 && all == passed {
                var.origin = Origin::Passed;
            }
        }
        Body { vars: self.vars, block, expressions: self.expressions }
    }

    /// An expression as a block: the arm of a `match` may also be an assignment.
    fn block_of(&mut self, expr: &syn::Expr) -> Block {
        let place = Place::of(expr);
        if stmt::is_statement(expr) {
            let mut stmts = Vec::new();
            self.statement(expr, &mut stmts);
            return Block { place, stmts, tail: None };
        }
        Block { place, stmts: Vec::new(), tail: Some(Box::new(self.expr(expr))) }
    }

    fn new_var(&mut self, ident: &Ident, origin: Origin) -> VarId {
        self.vars.push(Var { ident: ident.clone(), origin });
        VarId(self.vars.len() - 1)
    }

    /// What a name stands for. In a closure, a free name becomes a capture.
    fn lookup(&mut self, ident: &Ident) -> Option<VarId> {
        let name = ident.to_string();
        if let Some(id) = self.scopes.iter().rev().find_map(|scope| scope.get(&name)) {
            return Some(*id);
        }
        if !self.captures {
            return None;
        }
        let id = self.new_var(ident, Origin::Captured { rank: None });
        self.scopes[0].insert(name, id);
        Some(id)
    }

    fn scoped<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        self.scopes.push(HashMap::new());
        let result = read(self);
        self.scopes.pop();
        result
    }

    fn make(&mut self, place: Place, kind: ExprKind) -> Expr {
        self.expressions += 1;
        Expr { id: self.expressions - 1, place, kind }
    }

    fn mistake(&mut self, place: Place, message: impl Into<String>) -> Expr {
        self.errors.report(place, message);
        self.make(place, ExprKind::Mistake)
    }
}

/// Whether a name is written as constants are.
fn is_constant_name(ident: &Ident) -> bool {
    let name = ident.to_string();
    name.chars().any(|c| c.is_ascii_uppercase()) && !name.chars().any(|c| c.is_ascii_lowercase())
}
