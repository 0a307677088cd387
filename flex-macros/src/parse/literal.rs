//! Literals.

use super::Parser;
use crate::ast::{Expr, ExprKind};
use crate::diagnostics::Place;
use crate::types::Ty;

impl Parser<'_> {
    pub(super) fn literal(&mut self, lit: &syn::Lit, negative: bool) -> Expr {
        let place = Place::of(lit);
        match lit {
            syn::Lit::Bool(value) => self.make(place, ExprKind::Bool(value.value)),
            syn::Lit::Int(int) => self.integer(int, negative, place),
            syn::Lit::Float(float) => {
                let suffix = match float.suffix() {
                    "" => false,
                    "f32" => true,
                    other => {
                        let message =
                            format!("`{other}` is not a type of mods: write `{}f32`", float.base10_digits());
                        return self.mistake(place, message);
                    }
                };
                let digits = float.base10_digits().to_owned();
                self.make(place, ExprKind::Float { digits, suffix })
            }
            syn::Lit::Str(_) | syn::Lit::ByteStr(_) | syn::Lit::CStr(_) => {
                self.mistake(place, "strings are not part of mods: values are f32, i32, u32 or bool")
            }
            syn::Lit::Char(_) | syn::Lit::Byte(_) => {
                self.mistake(place, "characters are not part of mods: write the number")
            }
            _ => self.mistake(place, "this literal is not part of mods: values are f32, i32, u32 or bool"),
        }
    }

    fn integer(&mut self, int: &syn::LitInt, negative: bool, place: Place) -> Expr {
        let suffix = match int.suffix() {
            "" => None,
            "f32" => {
                let digits = format!("{}.0", int.base10_digits());
                return self.make(place, ExprKind::Float { digits, suffix: true });
            }
            name => match Ty::from_name(name) {
                Some(ty) => Some(ty),
                None => {
                    let fitting = match name {
                        "f64" => "f32",
                        _ if name.starts_with('u') => "u32",
                        _ => "i32",
                    };
                    let message = format!(
                        "`{name}` is not a type of mods: write `{}{fitting}`, or leave the type out",
                        int.base10_digits()
                    );
                    return self.mistake(place, message);
                }
            },
        };
        match int.base10_parse::<i128>() {
            Ok(value) => {
                let value = if negative { -value } else { value };
                self.make(place, ExprKind::Int { value, suffix })
            }
            Err(_) => self.mistake(place, "this number does not fit into an i32 or u32"),
        }
    }
}
