//! From a checked body to the code that builds its expression.
//!
//! The code is straight-line: one `let` for each node. Variables are renamed on every assignment, so a `let mut` that
//! two branches change becomes a `select` after them; loops stay loops and unroll when they run. What a branch
//! evaluates without needing its value (a `let` that may fault) is kept by scopes: see the `Lowering` of the run-time
//! support.

use std::collections::BTreeMap;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};

use crate::ast::{
    Arm, Binary, Block, Body, Bound, Expr, ExprKind, For, Origin, Part, Pattern, Stmt, Unary, Var, VarId,
    walk_block, walk_expr,
};
use crate::check::Checked;
use crate::check::methods::{self, Arguments};
use crate::types::{Known, Source, Ty};

/// The path of the run-time support.
pub(crate) fn support() -> TokenStream {
    support_at(Span::call_site())
}

/// The same, for calls that should be blamed on a place in the user's code.
pub(crate) fn support_at(span: Span) -> TokenStream {
    quote_spanned!(span=> ::flex_attention::__private)
}

/// The type of the language of mods, as an expression.
pub(crate) fn type_tokens(ty: Ty) -> TokenStream {
    let (support, variant) = (support(), Ident::new(ty.variant(), Span::call_site()));
    quote!(#support::Type::#variant)
}

/// The name that the generated code uses for its state.
pub(crate) fn lowering() -> Ident {
    Ident::new("lowering", Span::mixed_site())
}

/// The name of a captured view or scalar in the generated code.
fn parameter(var: VarId) -> Ident {
    format_ident!("p{}", var.0, span = Span::mixed_site())
}

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

    fn block(&mut self, block: &Block) -> Option<Ident> {
        for stmt in &block.stmts {
            self.stmt(stmt);
        }
        block.tail.as_ref().and_then(|tail| self.expr(tail))
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Let { var, init } => {
                let node = self.value(init);
                self.assign(*var, node, may_fault(init));
            }
            Stmt::Discard { value, .. } => {
                if let Some(node) = self.expr(value)
                    && may_fault(value)
                {
                    self.keep(&node);
                }
            }
            Stmt::Assign { var, op, value, .. } => {
                let node = self.value(value);
                let Some((op, _)) = op else { return self.assign(*var, node, may_fault(value)) };
                let old = self.current[var].clone();
                let node = self.join(op.names().1, &old, &node);
                self.assign(*var, node, may_fault(value) || divides(*op));
            }
            Stmt::For(each) => self.for_loop(each),
        }
    }

    fn assign(&mut self, var: VarId, node: Ident, may_fault: bool) {
        if may_fault {
            self.keep(&node);
        }
        self.current.insert(var, node);
    }

    fn for_loop(&mut self, each: &For) {
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

    fn value(&mut self, expr: &Expr) -> Ident {
        self.expr(expr).expect("checked expressions have a value where one is used")
    }

    fn expr(&mut self, expr: &Expr) -> Option<Ident> {
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

    /// The type, as an expression of the generated code.
    fn type_of(&self, known: &Known) -> TokenStream {
        let (support, l) = (support(), lowering());
        let source = match known {
            Known::Is(ty) => return type_tokens(*ty),
            Known::Integer(source) | Known::Float(source) | Known::Unknown(source) => source.as_ref(),
            Known::Mistake => None,
        };
        match source {
            None => type_tokens(Ty::I32),
            Some(Source::Capture(var)) => {
                let name = parameter(*var);
                let method = if self.body.vars[var.0].rank().is_some() { "element_type" } else { "type_of" };
                let method = Ident::new(method, Span::call_site());
                quote!(#l.#method(#name))
            }
            Some(Source::Constant(path)) => quote!(#support::ConstantValue::scalar(#path).ty()),
            Some(Source::Result(path)) => callee(path, &quote!(__callee::__signature(&()).result())),
            Some(Source::Parameter(path, i)) => {
                callee(path, &quote!(__callee::__signature(&()).parameter(#i)))
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

    /// The arms of a `match` from the first on, as a chain of conditions.
    fn arms(&mut self, subject: &Ident, arms: &[Arm]) -> Option<Ident> {
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

    fn join(&mut self, op: &str, a: &Ident, b: &Ident) -> Ident {
        let (support, op) = (support(), Ident::new(op, Span::call_site()));
        self.node(quote!(binary(#support::BinaryOp::#op, #a, #b)))
    }

    /// Keeps a condition that decides over statements only: no value evaluates it.
    fn keep_test(&mut self, condition: &Expr, test: &Ident, value: &Option<Ident>) {
        if value.is_none() && may_fault(condition) {
            self.keep(test);
        }
    }

    /// `if condition { accept } else { reject }`, with the variables that either changes.
    fn choose(
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

/// What the code of one branch came to.
struct Branch {
    value: Option<Ident>,
    code: TokenStream,
    kept: bool,
    current: BTreeMap<VarId, Ident>,
}

/// An expression about the called function of a path. `__callee` is the function's builder where it has one; where the
/// function is not marked, the glob import stands in and says so.
fn callee(path: &syn::Path, about: &TokenStream) -> TokenStream {
    let (support, span) = (support(), crate::diagnostics::Place::of(path).span());
    let import = quote_spanned!(span=> use #path as __callee;);
    quote! {{
        #[allow(unused_imports)]
        #import
        #[allow(unused_imports)]
        use #support::unmarked::*;
        #about
    }}
}

/// The value of a constant that depends on the same constant of the called function: functions that call each other in a
/// circle make it depend on itself, which rustc reports at their names. Where the function is not marked, nothing more is
/// said than by [`callee`].
pub(crate) fn calls_of(path: &syn::Path) -> TokenStream {
    let (support, constant) = (support(), circle(Span::call_site()));
    let import = quote_spanned!(crate::diagnostics::Place::of(path).span()=> use #path as __callee;);
    quote! {{
        #[allow(unused_imports)]
        #import
        #[allow(unused_imports)]
        use #support::unmarked::calls::*;
        __callee::#constant
    }}
}

/// The name of that constant, which is part of rustc's message.
pub(crate) fn circle(span: Span) -> Ident {
    Ident::new("MODS_MUST_NOT_CALL_EACH_OTHER_IN_A_CIRCLE", span)
}

fn exponent(arg: &Expr) -> TokenStream {
    match &arg.kind {
        ExprKind::Int { value, .. } => proc_macro2::Literal::i128_unsuffixed(*value).into_token_stream(),
        ExprKind::Constant(path) => path.to_token_stream(),
        _ => unreachable!("the check asks for a constant"),
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

/// Whether evaluating an expression can be noticed even where its value is not used: loads, divisions, calls. Names
/// cannot: what they stand for was kept where it was made.
fn may_fault(expr: &Expr) -> bool {
    let mut found = false;
    walk_expr(expr, &mut |part| {
        let Part::Expr(expr) = part else { return };
        found |= match &expr.kind {
            ExprKind::Load { .. } | ExprKind::Call { .. } => true,
            ExprKind::Binary { op, .. } => divides(*op),
            ExprKind::Method { name, .. } => name == "div_euclid" || name == "rem_euclid",
            _ => false,
        };
    });
    found
}

fn divides(op: Binary) -> bool {
    matches!(op, Binary::Div | Binary::Rem)
}
