//! What a mod takes and gives: the heads of functions and closures.

use proc_macro2::{Ident, Span};
use syn::parse::{Parse, ParseStream};

use super::ty;
use crate::ast::Origin;
use crate::diagnostics::{Errors, Place};
use crate::types::Ty;

/// Which macro was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Mask,
    Score,
    Function,
}

impl Kind {
    /// The parameters that come before the captures.
    pub(crate) fn inputs(self) -> &'static [(&'static str, Ty)] {
        const MASK: &[(&str, Ty)] = &[("b", Ty::I32), ("h", Ty::I32), ("q", Ty::I32), ("kv", Ty::I32)];
        const SCORE: &[(&str, Ty)] =
            &[("score", Ty::F32), ("b", Ty::I32), ("h", Ty::I32), ("q", Ty::I32), ("kv", Ty::I32)];
        match self {
            Self::Mask => MASK,
            Self::Score => SCORE,
            Self::Function => &[],
        }
    }

    /// The type of the result, where it is fixed.
    pub(crate) fn result(self) -> Option<Ty> {
        match self {
            Self::Mask => Some(Ty::Bool),
            Self::Score => Some(Ty::F32),
            Self::Function => None,
        }
    }

    /// What messages call it.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Mask => "mask mod",
            Self::Score => "score mod",
            Self::Function => "function of mods",
        }
    }

    /// The name of the attribute.
    pub(crate) fn attribute(self) -> &'static str {
        match self {
            Self::Mask => "mask_mod",
            Self::Score => "score_mod",
            Self::Function => "mod_fn",
        }
    }

    fn written_inputs(self) -> String {
        let inputs: Vec<_> =
            self.inputs().iter().map(|(name, ty)| format!("{name}: {}", ty.name())).collect();
        inputs.join(", ")
    }
}

/// A parameter of a function.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    pub(crate) ident: Ident,
    /// `None` after a mistake.
    pub(crate) ty: Option<ParameterType>,
}

/// What a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParameterType {
    Scalar(Ty),
    View { element: Ty, rank: usize },
}

impl ParameterType {
    pub(crate) fn origin(self) -> Origin {
        match self {
            Self::Scalar(ty) => Origin::Parameter(ty),
            Self::View { element, rank } => Origin::View { element, rank },
        }
    }
}

/// The head of a function.
#[derive(Clone, Debug)]
pub(crate) struct Signature {
    pub(crate) parameters: Vec<Parameter>,
    /// `None` after a mistake.
    pub(crate) result: Option<Ty>,
    /// Whether the function has mistakes, so that nothing can be built of it.
    pub(crate) is_stub: bool,
    /// Where the function's name stands.
    pub(crate) span: Span,
}

impl Signature {
    /// Reads the head of a function, reporting all that does not fit.
    pub(crate) fn read(kind: Kind, sig: &syn::Signature, errors: &mut Errors) -> Self {
        reject_qualifiers(sig, errors);
        let mut inputs = kind.inputs();
        if kind == Kind::Score && !inputs_start_with_score(sig) {
            errors.report(
                sig.paren_token.span.join(),
                format!(
                    "a score mod takes ({}) before what it captures; missing: `score: f32`",
                    kind.written_inputs()
                ),
            );
            inputs = Kind::Mask.inputs();
        }
        let mut parameters = Vec::new();
        for (position, argument) in sig.inputs.iter().enumerate() {
            let syn::FnArg::Typed(typed) = argument else {
                errors.report(
                    Place::of(argument),
                    "methods cannot be mods: move the function out of the `impl` and pass the fields as parameters",
                );
                continue;
            };
            let ident = parameter_name(&typed.pat, position, errors);
            let ty = match inputs.get(position) {
                Some(&(name, expected)) => {
                    input_type(kind, name, expected, &typed.ty, errors);
                    Some(ParameterType::Scalar(expected))
                }
                None => parameter_type(&typed.ty, errors),
            };
            parameters.push(Parameter { ident, ty });
        }
        if sig.inputs.len() < inputs.len() {
            let missing: Vec<_> = inputs[sig.inputs.len()..]
                .iter()
                .map(|(name, ty)| format!("`{name}: {}`", ty.name()))
                .collect();
            errors.report(
                sig.paren_token.span.join(),
                format!(
                    "a {} takes ({}) before what it captures; missing: {}",
                    kind.noun(),
                    kind.written_inputs(),
                    missing.join(", ")
                ),
            );
        }
        for i in 0..parameters.len() {
            if parameters[..i].iter().any(|p| p.ident == parameters[i].ident) {
                let ident = &parameters[i].ident;
                errors.report(ident.span(), format!("there are two parameters `{ident}`"));
            }
        }
        Self { parameters, result: result_type(kind, sig, errors), is_stub: false, span: sig.ident.span() }
    }
}

/// False if the parameters are those of a mask mod.
fn inputs_start_with_score(sig: &syn::Signature) -> bool {
    match sig.inputs.first() {
        Some(syn::FnArg::Typed(first)) => ty::scalar(&first.ty) != Ok(Ty::I32),
        _ => true,
    }
}

fn reject_qualifiers(sig: &syn::Signature, errors: &mut Errors) {
    if let Some(asyncness) = &sig.asyncness {
        errors.report(asyncness.span, "mods cannot be `async`: remove it");
    }
    if let syn::Safety::Unsafe(token) = &sig.safety {
        errors.report(token.span, "mods cannot be `unsafe`: remove it");
    }
    if let Some(abi) = &sig.abi {
        errors.report(Place::of(abi), "mods are plain Rust functions: remove `extern`");
    }
    if let Some(variadic) = &sig.variadic {
        errors.report(Place::of(variadic), "mods have a fixed number of parameters");
    }
    if !sig.generics.params.is_empty() {
        errors.report(
            Place::of(&sig.generics),
            "mods cannot be generic: write the types out (a view needs no lifetime: `View<f32, 1>`)",
        );
    }
    if let Some(clause) = &sig.generics.where_clause {
        errors.report(Place::of(clause), "mods have no `where` clauses: write the types out");
    }
}

fn parameter_name(pat: &syn::Pat, position: usize, errors: &mut Errors) -> Ident {
    match pat {
        syn::Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => {
            if let Some(mutability) = &name.mutability {
                let ident = &name.ident;
                errors.report(
                    mutability.span,
                    format!("parameters cannot be changed: remove `mut` and write `let mut my_{ident} = {ident};` inside"),
                );
            }
            name.ident.clone()
        }
        syn::Pat::Wild(wild) => Ident::new(&format!("_{position}"), wild.underscore_token.span),
        other => {
            errors
                .report(Place::of(other), "a parameter is a name with a type: patterns are not part of mods");
            Ident::new(&format!("_{position}"), Span::call_site())
        }
    }
}

fn input_type(kind: Kind, name: &str, expected: Ty, written: &syn::Type, errors: &mut Errors) {
    if ty::scalar(written) != Ok(expected) {
        errors.report(
            Place::of(written),
            format!(
                "expected `{}`: a {} takes ({}) before what it captures, and this stands for `{name}`",
                expected.name(),
                kind.noun(),
                kind.written_inputs()
            ),
        );
    }
}

fn parameter_type(written: &syn::Type, errors: &mut Errors) -> Option<ParameterType> {
    if let Some(view) = ty::view(written, errors) {
        return view.map(|(element, rank)| ParameterType::View { element, rank });
    }
    let array = match written {
        syn::Type::Reference(reference) => {
            matches!(*reference.elem, syn::Type::Slice(_) | syn::Type::Array(_))
        }
        syn::Type::Slice(_) | syn::Type::Array(_) => true,
        syn::Type::Path(path) => path.path.segments.last().is_some_and(|last| last.ident == "Vec"),
        _ => false,
    };
    if array {
        errors.report(
            Place::of(written),
            "arrays are captured as views: write `View<f32, 1>` (or i32, u32, bool; up to rank 4)",
        );
        return None;
    }
    match ty::scalar(written) {
        Ok(ty) => Some(ParameterType::Scalar(ty)),
        Err(message) => {
            let message = message.replace(
                "values in a mod are f32, i32, u32 or bool",
                "a mod takes f32, i32, u32, bool, and arrays of these as `View<T, N>`",
            );
            errors.report(Place::of(written), message);
            None
        }
    }
}

fn result_type(kind: Kind, sig: &syn::Signature, errors: &mut Errors) -> Option<Ty> {
    let expected = kind.result();
    match &sig.output {
        syn::ReturnType::Default => {
            let message = match expected {
                Some(ty) => format!("a {} returns `{}`: write `-> {}`", kind.noun(), ty.name(), ty.name()),
                None => "the function needs a result: write `-> f32` (or i32, u32, bool)".into(),
            };
            errors.report(sig.paren_token.span.close(), message);
            expected
        }
        syn::ReturnType::Type(_, written) => match (ty::scalar(written), expected) {
            (Ok(ty), Some(expected)) if ty != expected => {
                let message = format!("a {} returns `{}`, not `{}`", kind.noun(), expected.name(), ty.name());
                errors.report(Place::of(written), message);
                None
            }
            (Ok(ty), _) => Some(ty),
            (Err(message), _) => {
                let message = match expected {
                    Some(ty) => format!("a {} returns `{}`", kind.noun(), ty.name()),
                    None => message,
                };
                errors.report(Place::of(written), message);
                None
            }
        },
    }
}

/// The input of `mask_mod!` and `score_mod!`.
pub(crate) mod closure {
    use super::*;

    /// A closure with the names it gives to the inputs.
    pub(crate) struct Closure {
        pub(crate) syntax: syn::ExprClosure,
    }

    impl Parse for Closure {
        fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
            let expr: syn::Expr = input.parse().map_err(|error| {
                if input.is_empty() { syn::Error::new(Span::call_site(), EXAMPLE) } else { error }
            })?;
            if !input.is_empty() {
                return Err(input.error("expected one closure and nothing after it"));
            }
            match expr {
                syn::Expr::Closure(syntax) => Ok(Self { syntax }),
                other => Err(syn::Error::new_spanned(other, EXAMPLE)),
            }
        }
    }

    const EXAMPLE: &str = "expected a closure, such as `|b, h, q, kv| q >= kv` in `mask_mod!` and `|score, b, h, q, kv| score * 2.0` in \
                           `score_mod!`";

    /// The names of the inputs, reporting all that does not fit.
    pub(crate) fn inputs(kind: Kind, closure: &syn::ExprClosure, errors: &mut Errors) -> Vec<Ident> {
        if let Some(asyncness) = &closure.asyncness {
            errors.report(asyncness.span, "mods cannot be `async`: remove it");
        }
        let expected = kind.inputs();
        let mut names = Vec::new();
        for (position, pat) in closure.inputs.iter().enumerate() {
            let pat = match pat {
                syn::Pat::Type(typed) => {
                    if let Some(&(name, ty)) = expected.get(position)
                        && !matches!(&*typed.ty, syn::Type::Infer(_))
                    {
                        input_type(kind, name, ty, &typed.ty, errors);
                    }
                    &typed.pat
                }
                pat => pat,
            };
            names.push(parameter_name(pat, position, errors));
        }
        if names.len() != expected.len() {
            let list: Vec<_> = expected.iter().map(|(name, _)| *name).collect();
            errors.report(
                Place::from(closure.inputs_begin.span).to(closure.inputs_end.span.into()),
                format!(
                    "a {} takes {} parameters, got {}: write `|{}|`; everything else is captured by name",
                    kind.noun(),
                    expected.len(),
                    names.len(),
                    list.join(", ")
                ),
            );
        }
        if let (syn::ReturnType::Type(_, written), Some(ty)) = (&closure.output, kind.result())
            && super::ty::scalar(written) != Ok(ty)
        {
            errors.report(Place::of(written), format!("a {} returns `{}`", kind.noun(), ty.name()));
        }
        names
    }
}
