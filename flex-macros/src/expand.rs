//! What the macros put in place of the user's code.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};

use crate::ast::{Body, Origin, VarId, callees};
use crate::check::check;
use crate::diagnostics::{Errors, Place, unreachable};
use crate::lower::{calls_of, circle, lower, lowering, support, support_at, type_tokens};
use crate::parse::{Kind, Parameter, ParameterType, Parser, Signature, closure};
use crate::types::Ty;

/// `#[mask_mod]`, `#[score_mod]` and `#[mod_fn]`.
pub(crate) fn function(kind: Kind, attribute: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    if !attribute.is_empty() {
        errors.report(Place::of(&attribute), "this attribute takes no arguments");
    }
    let mut function: syn::ItemFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let error = match syn::parse2::<syn::Item>(item.clone()) {
                Ok(_) => {
                    let mut errors = Errors::default();
                    errors.report(
                        Place::of(&item),
                        format!("`#[{}]` stands above functions", kind.attribute()),
                    );
                    errors.into_tokens()
                }
                Err(_) => error.into_compile_error(),
            };
            return quote!(#error #item);
        }
    };
    let signature = Signature::read(kind, &function.sig, &mut errors);
    let code = function_code(&function, &signature, &mut errors);
    let builder = match code.filter(|_| errors.is_empty()) {
        Some(code) => builder(kind, &function, &signature, &code),
        None => {
            // The body's mistakes are reported once, by us.
            let body = unreachable(Span::call_site());
            function.block = Box::new(syn::parse_quote!({ #body }));
            function.attrs.push(syn::parse_quote!(#[allow(unused_variables, unused_mut)]));
            // A method cannot have a type beside it.
            if function.sig.receiver().is_some() {
                TokenStream::new()
            } else {
                stub(kind, &function, &signature)
            }
        }
    };
    let errors = errors.into_tokens();
    let native = native(kind, function);
    quote!(#native #builder #errors)
}

/// What is made of a function's body.
struct Code {
    /// Builds its expression.
    build: TokenStream,
    /// The calls of the functions that it calls.
    calls: Vec<TokenStream>,
}

/// The code of a function, if there are no mistakes in it.
fn function_code(function: &syn::ItemFn, signature: &Signature, errors: &mut Errors) -> Option<Code> {
    let mut parser = Parser::new(errors, Some(function.sig.ident.to_string()));
    let mut arguments = Vec::new();
    for parameter in &signature.parameters {
        let origin = parameter.ty.map_or(Origin::Mistake, ParameterType::origin);
        arguments.push(parser.declare(&parameter.ident, origin));
    }
    let body = parser.function_body(&function.block);
    let checked = check(&body, signature.result, errors);
    if !errors.is_empty() {
        return None;
    }
    let (code, value) = lower(&body, &checked, &arguments);
    let l = lowering();
    let calls = callees(&body.block).into_iter().map(calls_of).collect();
    Some(Code { build: quote!(#code #l.finish(#value)), calls })
}

/// The user's function, callable as before.
fn native(kind: Kind, mut function: syn::ItemFn) -> TokenStream {
    // Every mod has all indices, few use all of them.
    let inputs: Vec<Ident> = function.sig.inputs.iter().take(kind.inputs().len()).filter_map(named).collect();
    if !inputs.is_empty() {
        function.block.stmts.insert(0, syn::parse_quote!(let _ = (#(&#inputs,)*);));
    }
    quote! {
        #[allow(dead_code, clippy::too_many_arguments)]
        #function
    }
}

fn named(argument: &syn::FnArg) -> Option<Ident> {
    match argument {
        syn::FnArg::Typed(typed) => match &*typed.pat {
            syn::Pat::Ident(name) => Some(name.ident.clone()),
            _ => None,
        },
        syn::FnArg::Receiver(_) => None,
    }
}

/// The type beside the function that carries `bind`.
fn builder(kind: Kind, function: &syn::ItemFn, signature: &Signature, code: &Code) -> TokenStream {
    let Code { build, calls } = code;
    let support = support();
    let (ident, l) = (&function.sig.ident, lowering());
    let name = plain(ident);
    let circle = circle(ident.span());
    // All of it at the function's name: that is where rustc reports a circle.
    let circle = quote_spanned!(ident.span()=> pub const #circle: () = { #(#calls;)* };);
    let parameters = signature.parameters.iter().map(|p| match p.ty {
        Some(ParameterType::View { element, rank }) => {
            let (ty, rank) = (type_tokens(element), rank as u8);
            quote!(#support::Parameter::view(#ty, #rank))
        }
        Some(ParameterType::Scalar(ty)) => {
            let ty = type_tokens(ty);
            quote!(#support::Parameter::scalar(#ty))
        }
        None => unreachable!("code is only made for functions without mistakes"),
    });
    let result = type_tokens(signature.result.unwrap_or(Ty::Bool));
    let bind = bind(kind, signature, &name);
    let head = type_head(kind, function);
    let conditions = function.attrs.iter().filter(|attr| attr.path().is_ident("cfg"));
    quote! {
        #head
        #(#conditions)*
        #[allow(dead_code, unreachable_pub, clippy::too_many_arguments)]
        impl #ident {
            #bind

            const __SIGNATURE: #support::Signature =
                #support::Signature::new(#name, &[#(#parameters),*], #result);

            #[doc(hidden)]
            #circle

            #[doc(hidden)]
            pub fn __signature(_: &()) -> #support::Signature {
                Self::__SIGNATURE
            }

            #[doc(hidden)]
            #[allow(unused_variables, unused_mut, unused_assignments, clippy::all)]
            pub fn __build(
                builder: &mut #support::Builder,
                arguments: &[#support::Arg],
                _: &(),
            ) -> #support::NodeId {
                let mut #l = #support::Lowering::of_call(builder, &Self::__SIGNATURE, arguments);
                #build
            }
        }
    }
}

/// An empty type of the function's name: types and functions live in different namespaces, so one `use` brings both.
fn type_head(kind: Kind, function: &syn::ItemFn) -> TokenStream {
    let (vis, ident) = (&function.vis, &function.sig.ident);
    let name = plain(ident);
    let docs =
        function.attrs.iter().filter(|attr| attr.path().is_ident("doc") || attr.path().is_ident("cfg"));
    let how = match kind {
        Kind::Function => format!("What mods need to call [`{name}`](fn@{name})."),
        _ => format!("\n\n`{name}::bind` makes [`{name}`](fn@{name}) ready for use."),
    };
    quote! {
        #(#docs)*
        #[doc = #how]
        #[allow(non_camel_case_types)]
        #vis enum #ident {}
    }
}

/// `bind`, with one parameter a capture.
fn bind(kind: Kind, signature: &Signature, name: &str) -> TokenStream {
    let support = support();
    let (result, constructor) = match kind {
        Kind::Mask => (quote!(#support::MaskMod), quote!(bind_mask)),
        Kind::Score => (quote!(#support::ScoreMod), quote!(bind_score)),
        Kind::Function => return TokenStream::new(),
    };
    let captures: Vec<&Parameter> = signature.parameters.iter().skip(kind.inputs().len()).collect();
    let names: Vec<&Ident> = captures.iter().map(|p| &p.ident).collect();
    let types = captures.iter().map(|p| match p.ty {
        Some(ParameterType::View { element, rank }) => {
            let element = Ident::new(element.name(), Span::call_site());
            quote!(impl #support::IntoArray<#element, #rank>)
        }
        Some(ParameterType::Scalar(ty)) => {
            let ty = Ident::new(ty.name(), Span::call_site());
            quote!(impl #support::IntoScalar<#ty>)
        }
        None => quote!(impl ::core::marker::Sized),
    });
    let values = captures.iter().map(|p| {
        let (ident, text) = (&p.ident, plain(&p.ident));
        match p.ty {
            Some(ParameterType::View { element, rank }) => {
                let element = Ident::new(element.name(), Span::call_site());
                quote!(#support::bound_array::<#element, #rank>(#text, #ident))
            }
            Some(ParameterType::Scalar(ty)) => {
                let ty = Ident::new(ty.name(), Span::call_site());
                quote!(#support::bound_scalar::<#ty>(#text, #ident))
            }
            None => quote!(),
        }
    });
    let body = if captures.iter().any(|p| p.ty.is_none()) || signature.is_stub {
        unreachable(Span::call_site())
    } else {
        quote! {
            #support::#constructor(&Self::__SIGNATURE, ::std::vec![#(#values),*], Self::__build)
        }
    };
    let list: Vec<String> = captures
        .iter()
        .filter_map(|p| {
            let name = plain(&p.ident);
            Some(match p.ty? {
                ParameterType::View { element, rank } => {
                    format!("- `{name}`: an array of rank {rank} with {} elements\n", element.name())
                }
                ParameterType::Scalar(ty) => format!("- `{name}`: {}\n", ty.name()),
            })
        })
        .collect();
    let doc = if list.is_empty() {
        format!(" Makes `{name}` ready for use; it captures nothing.")
    } else {
        format!(" Gives `{name}` what it captures. Arrays are copied once.\n\n{}", list.concat())
    };
    let bind = Ident::new("bind", signature.span);
    quote! {
        #[doc = #doc]
        ///
        /// # Errors
        /// If the mod cannot be built from these captures.
        #[allow(unused_variables, clippy::needless_pass_by_value)]
        pub fn #bind(#(#names: #types),*) -> ::core::result::Result<#result, #support::BindError> {
            #body
        }
    }
}

/// What stands beside a function with mistakes, so that its uses are not reported as well.
fn stub(kind: Kind, function: &syn::ItemFn, signature: &Signature) -> TokenStream {
    let support = support();
    let ident = &function.sig.ident;
    let signature = Signature { is_stub: true, ..signature.clone() };
    let head = type_head(kind, function);
    let bind = bind(kind, &signature, &plain(ident));
    let body = unreachable(Span::call_site());
    let circle = circle(Span::call_site());
    let result = type_tokens(signature.result.unwrap_or(Ty::Bool));
    quote! {
        #head
        #[allow(dead_code)]
        impl #ident {
            #bind
            #[doc(hidden)]
            pub const #circle: () = ();
            #[doc(hidden)]
            pub fn __signature(_: &()) -> #support::Signature {
                #support::Signature::new("", &[], #result)
            }
            #[doc(hidden)]
            pub fn __build(_: &mut #support::Builder, _: &[#support::Arg], _: &()) -> #support::NodeId {
                #body
            }
        }
    }
}

/// `mask_mod!` and `score_mod!`.
pub(crate) fn closure(kind: Kind, input: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let support = support();
    let (result, constructor, native_result) = match kind {
        Kind::Score => (quote!(#support::ScoreMod), quote!(score_closure), quote!(f32)),
        _ => (quote!(#support::MaskMod), quote!(mask_closure), quote!(bool)),
    };
    let code = match syn::parse2::<closure::Closure>(input) {
        Ok(closure) => closure_code(kind, &closure.syntax, &native_result, &constructor, &mut errors),
        Err(error) => {
            errors.push(error);
            None
        }
    };
    match code.filter(|_| errors.is_empty()) {
        Some(code) => code,
        None => {
            let (errors, never) = (errors.into_tokens(), unreachable(Span::call_site()));
            quote!({
                #errors
                #[allow(unreachable_code)]
                { let never: #result = #never; never }
            })
        }
    }
}

fn closure_code(
    kind: Kind,
    closure: &syn::ExprClosure,
    native_result: &TokenStream,
    constructor: &TokenStream,
    errors: &mut Errors,
) -> Option<TokenStream> {
    let support = support();
    let inputs = closure::inputs(kind, closure, errors);
    let mut parser = Parser::new(errors, None);
    let mut arguments = Vec::new();
    for (ident, (_, ty)) in inputs.iter().zip(kind.inputs()) {
        arguments.push(parser.declare(ident, Origin::Parameter(*ty)));
    }
    let body = parser.closure_body(&closure.body);
    let checked = check(&body, kind.result(), errors);
    if !errors.is_empty() {
        return None;
    }
    let captures: Vec<VarId> = captures(&body);
    arguments.extend(&captures);
    let (code, value) = lower(&body, &checked, &arguments);

    let names: Vec<&Ident> = captures.iter().map(|var| &body.vars[var.0].ident).collect();
    let handles: Vec<Ident> =
        (0..names.len()).map(|i| format_ident!("captured_{i}", span = Span::mixed_site())).collect();
    let values = captures.iter().map(|var| {
        let var = &body.vars[var.0];
        let (ident, span, text) = (&var.ident, var.ident.span(), var.name());
        let support = support_at(span);
        match (var.rank(), &var.origin) {
            (Some(rank), _) => {
                quote_spanned!(span=> #support::CapturedView::<#rank>::captured_as(&#ident, #text))
            }
            (None, Origin::Passed) => {
                quote_spanned!(span=> #support::CapturedArgument::captured_as(&#ident, #text))
            }
            (None, _) => quote_spanned!(span=> #support::CapturedScalar::captured_as(&#ident, #text)),
        }
    });
    let bound: Vec<Ident> =
        (0..names.len()).map(|i| format_ident!("bound_{i}", span = Span::mixed_site())).collect();
    let input_types = kind.inputs().iter().map(|(_, ty)| Ident::new(ty.name(), Span::call_site()));
    let user = match &*closure.body {
        syn::Expr::Block(block) => block.block.to_token_stream(),
        other => other.to_token_stream(),
    };
    let l = lowering();
    let name = quote!(::core::concat!("closure at ", ::core::file!(), ":", ::core::line!()));
    Some(quote!({
        #(let (#handles, #bound) = #values;)*
        // Never called: here rustc checks the mod as the Rust it is.
        #[allow(unused_variables, clippy::all)]
        let _ = |#(#inputs: #input_types),*| -> #native_result {
            let _ = (#(&#inputs,)*);
            #(let #names = #handles;)*
            #user
        };
        #[allow(unused_variables, unused_mut, unused_assignments, clippy::all)]
        #support::#constructor(#name, ::std::vec![#(#bound),*], |#l: &mut #support::Lowering<'_>| {
            #code
            #l.finish(#value)
        })
    }))
}

/// The captures of a closure, in the order of their first use.
fn captures(body: &Body) -> Vec<VarId> {
    let captured = |i: &usize| matches!(body.vars[*i].origin, Origin::Captured { .. } | Origin::Passed);
    (0..body.vars.len()).filter(captured).map(VarId).collect()
}

fn plain(ident: &Ident) -> String {
    ident.to_string().trim_start_matches("r#").to_owned()
}
