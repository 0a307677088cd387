//! Types that a mod may write.

use super::Parser;
use crate::diagnostics::{Errors, Place};
use crate::types::Ty;

/// A scalar type, or what to write instead.
pub(crate) fn scalar(ty: &syn::Type) -> Result<Ty, String> {
    let syn::Type::Path(path) = unwrapped(ty) else {
        return Err(match ty {
            syn::Type::Reference(_) => {
                "references are not part of mods: scalars are passed by value, arrays as `View<T, N>`".into()
            }
            syn::Type::Tuple(_) => "tuples are not part of mods: use one value after the other".into(),
            _ => "values in a mod are f32, i32, u32 or bool".into(),
        });
    };
    let name = path.path.segments.last().map(|s| s.ident.to_string()).unwrap_or_default();
    if let Some(ty) = path.path.get_ident().and_then(|_| Ty::from_name(&name)) {
        return Ok(ty);
    }
    Err(match name.as_str() {
        "f64" | "f16" | "f128" | "bf16" => {
            format!("`{name}` is not a type of mods: scores and floats are `f32`")
        }
        "i8" | "i16" | "i64" | "i128" | "isize" => {
            format!("`{name}` is not a type of mods: indices and integers are `i32` (or `u32`)")
        }
        "u8" | "u16" | "u64" | "u128" | "usize" => {
            format!("`{name}` is not a type of mods: integers are `u32`, indices are `i32`")
        }
        _ => "values in a mod are f32, i32, u32 or bool".into(),
    })
}

/// `View<T, N>`: the elements' type and the rank. `None` if the type is no view.
pub(crate) fn view(ty: &syn::Type, errors: &mut Errors) -> Option<Option<(Ty, usize)>> {
    let syn::Type::Path(path) = unwrapped(ty) else { return None };
    let last = path.path.segments.last()?;
    if last.ident != "View" {
        return None;
    }
    let syn::PathArguments::AngleBracketed(arguments) = &last.arguments else {
        errors
            .report(Place::of(ty), "a view needs its element type and rank: write `View<i32, 1>` or another");
        return Some(None);
    };
    let arguments: Vec<_> =
        arguments.args.iter().filter(|a| !matches!(a, syn::GenericArgument::Lifetime(_))).collect();
    let [syn::GenericArgument::Type(element), rank] = arguments[..] else {
        errors
            .report(Place::of(ty), "a view needs its element type and rank: write `View<i32, 1>` or another");
        return Some(None);
    };
    let element = scalar(element).map_err(|message| {
        let message = message.replace("values in a mod are", "the elements of a view are");
        errors.report(Place::of(element), message);
    });
    let rank = constant_rank(rank).filter(|rank| (1..=4).contains(rank)).ok_or_else(|| {
        errors.report(Place::of(rank), "the rank of a view is the number of its axes: write 1, 2, 3 or 4");
    });
    Some(element.ok().zip(rank.ok()))
}

fn constant_rank(argument: &syn::GenericArgument) -> Option<usize> {
    match argument {
        syn::GenericArgument::Const(syn::Expr::Lit(lit)) => match &lit.lit {
            syn::Lit::Int(int) => int.base10_parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

fn unwrapped(ty: &syn::Type) -> &syn::Type {
    match ty {
        syn::Type::Paren(inner) => unwrapped(&inner.elem),
        syn::Type::Group(inner) => unwrapped(&inner.elem),
        other => other,
    }
}

impl Parser<'_> {
    /// The type of a `let` or a cast; `_` and mistakes give `None`.
    pub(super) fn written_type(&mut self, ty: &syn::Type) -> Option<Ty> {
        if matches!(unwrapped(ty), syn::Type::Infer(_)) {
            return None;
        }
        scalar(ty).map_err(|message| self.errors.report(Place::of(ty), message)).ok()
    }
}
