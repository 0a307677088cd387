//! Expressions: a node for each, or what a name stands for.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};

use super::Lower;
use super::callee::callee;
use super::faults::may_fault;
use super::names::{lowering, support, support_at, type_tokens};
use crate::ast::{Block, Expr, ExprKind, Origin, Unary};
use crate::check::methods::{self, Arguments};
use crate::types::{Known, Ty};

impl Lower<'_> {
    pub(super) fn value(&mut self, expr: &Expr) -> Ident {
        self.expr(expr).expect("checked expressions have a value where one is used")
    }

    pub(super) fn expr(&mut self, expr: &Expr) -> Option<Ident> {
        let support = support();
        let call = match &expr.kind {
            ExprKind::Int { value, .. } => {
                let known = self.checked.expr(expr).clone();
                self.integer(*value, &known)
            }
            ExprKind::Float { digits, .. } => {
                let literal = proc_macro2::Literal::f32_suffixed(digits.parse().unwrap_or(f32::NAN));
                quote!(constant(#literal))
            }
            ExprKind::Bool(value) => quote!(constant(#value)),
            ExprKind::Constant(path) => {
                let span = expr.place.span();
                let support = support_at(span);
                let value = quote_spanned!(span=> #support::ConstantValue::scalar(#path));
                quote!(constant(#value))
            }
            ExprKind::Var(var) => return Some(self.current[var].clone()),
            ExprKind::Unary { op, operand } => {
                let x = self.value(operand);
                let op = Ident::new(if *op == Unary::Neg { "Neg" } else { "Not" }, Span::call_site());
                quote!(unary(#support::UnaryOp::#op, #x))
            }
            ExprKind::Binary { op, left, right, .. } => {
                let (a, b) = (self.value(left), self.value(right));
                let op = Ident::new(op.names().1, Span::call_site());
                quote!(binary(#support::BinaryOp::#op, #a, #b))
            }
            ExprKind::Logic { and, left, right } => {
                let a = self.value(left);
                let place = right.place;
                let lazy = Block { place, stmts: Vec::new(), tail: Some(right.clone()) };
                let decided = self.node(if *and { quote!(constant(false)) } else { quote!(constant(true)) });
                return self.choose(
                    &a,
                    |l| if *and { l.block(&lazy) } else { Some(decided.clone()) },
                    |l| if *and { Some(decided.clone()) } else { l.block(&lazy) },
                );
            }
            ExprKind::Cast { value, ty } => {
                let (x, ty) = (self.value(value), type_tokens(*ty));
                quote!(cast(#ty, #x))
            }
            ExprKind::Method { receiver, name, args, .. } => self.method(receiver, name, args),
            ExprKind::Call { path, args } => return Some(self.call(path, args)),
            ExprKind::Load { view, indices, .. } => {
                let indices: Vec<Ident> = indices.iter().map(|i| self.value(i)).collect();
                let view = &self.current[view];
                quote!(load(#view, &[#(#indices),*]))
            }
            ExprKind::Extent { view, axis } => {
                let view = &self.current[view];
                let axis = *axis as u8;
                quote!(extent(#view, #axis))
            }
            ExprKind::If { condition, accept, reject } => {
                let test = self.value(condition);
                let value = self.choose(
                    &test,
                    |l| l.block(accept),
                    |l| reject.as_ref().and_then(|reject| l.block(reject)),
                );
                self.keep_test(condition, &test, &value);
                return value;
            }
            ExprKind::Match { scrutinee, arms } => {
                let subject = self.value(scrutinee);
                if may_fault(scrutinee) {
                    self.keep(&subject);
                }
                return self.arms(&subject, arms);
            }
            ExprKind::Block(block) => return self.block(block),
            ExprKind::Mistake => unreachable!("code is only made for bodies without mistakes"),
        };
        Some(self.node(call))
    }

    fn integer(&self, value: i128, known: &Known) -> TokenStream {
        match known {
            Known::Is(Ty::U32) => {
                let value = value as u32;
                quote!(constant(#value))
            }
            Known::Is(Ty::I32) | Known::Integer(None) => {
                let value = value as i32;
                quote!(constant(#value))
            }
            other => {
                let (ty, value) = (self.type_of(other), value as i64);
                quote!(literal(#ty, #value))
            }
        }
    }

    fn method(&mut self, receiver: &Expr, name: &Ident, args: &[Expr]) -> TokenStream {
        let x = self.value(receiver);
        let method = methods::find(&name.to_string()).expect("only known methods pass the check");
        let args: Vec<TokenStream> = match method.arguments {
            Arguments::Same(_) => args.iter().map(|arg| self.value(arg).into_token_stream()).collect(),
            Arguments::Constant(_) => args.iter().map(exponent).collect(),
        };
        // The name without its place in the user's code: the generated call is not the user's.
        let name = Ident::new(&name.to_string(), Span::call_site());
        quote!(#name(#x #(, #args)*))
    }

    fn call(&mut self, path: &syn::Path, args: &[Expr]) -> Ident {
        let (support, l) = (support(), lowering());
        let args: Vec<TokenStream> = args
            .iter()
            .map(|arg| match &arg.kind {
                ExprKind::Var(var) if self.body.vars[var.0].rank().is_some() => {
                    let view = &self.current[var];
                    quote!(#support::Arg::View(#view))
                }
                ExprKind::Var(var) if matches!(self.body.vars[var.0].origin, Origin::Passed) => {
                    self.current[var].to_token_stream()
                }
                _ => {
                    let value = self.value(arg);
                    quote!(#support::Arg::Value(#value))
                }
            })
            .collect();
        let span = crate::diagnostics::Place::of(path).span();
        let build = quote_spanned!(span=> __callee::__build(builder, arguments, &()));
        let name = self.name();
        let call = callee(path, &quote!(#l.call(&[#(#args),*], |builder, arguments| #build)));
        self.emit(quote!(let #name = #call;));
        name
    }
}

fn exponent(arg: &Expr) -> TokenStream {
    match &arg.kind {
        ExprKind::Int { value, .. } => proc_macro2::Literal::i128_unsuffixed(*value).into_token_stream(),
        ExprKind::Constant(path) => path.to_token_stream(),
        _ => unreachable!("the check asks for a constant"),
    }
}
