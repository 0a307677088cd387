//! The numeric methods of mods: those that mean on every backend what they mean in Rust.

use proc_macro2::Ident;

use super::{Checker, advice};
use crate::ast::{Expr, ExprKind};
use crate::types::{Known, Ty, TyVar};

/// What a method takes besides its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arguments {
    /// This many values of the receiver's type.
    Same(usize),
    /// A constant of this type, which decides what is computed.
    Constant(Ty),
}

/// What a method gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Same,
    Is(Ty),
}

/// A method.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Method {
    name: &'static str,
    on: &'static [Ty],
    pub(crate) arguments: Arguments,
    output: Output,
}

const ALL: &[Ty] = &[Ty::I32, Ty::U32, Ty::F32];
const INTEGERS: &[Ty] = &[Ty::I32, Ty::U32];
const SIGNED: &[Ty] = &[Ty::I32, Ty::F32];
const FLOAT: &[Ty] = &[Ty::F32];
const I32: &[Ty] = &[Ty::I32];

const fn method(name: &'static str, on: &'static [Ty], arguments: Arguments, output: Output) -> Method {
    Method { name, on, arguments, output }
}

const METHODS: &[Method] = &{
    use Arguments::{Constant, Same};
    use Output::Is;
    const SAME: Output = Output::Same;
    [
        method("abs", SIGNED, Same(0), SAME),
        method("min", ALL, Same(1), SAME),
        method("max", ALL, Same(1), SAME),
        method("clamp", ALL, Same(2), SAME),
        method("signum", SIGNED, Same(0), SAME),
        method("rem_euclid", ALL, Same(1), SAME),
        method("div_euclid", ALL, Same(1), SAME),
        method("pow", INTEGERS, Constant(Ty::U32), SAME),
        method("powi", FLOAT, Constant(Ty::I32), SAME),
        method("powf", FLOAT, Same(1), SAME),
        method("sqrt", FLOAT, Same(0), SAME),
        method("exp", FLOAT, Same(0), SAME),
        method("exp2", FLOAT, Same(0), SAME),
        method("ln", FLOAT, Same(0), SAME),
        method("log2", FLOAT, Same(0), SAME),
        method("sin", FLOAT, Same(0), SAME),
        method("cos", FLOAT, Same(0), SAME),
        method("tanh", FLOAT, Same(0), SAME),
        method("floor", FLOAT, Same(0), SAME),
        method("ceil", FLOAT, Same(0), SAME),
        method("round", FLOAT, Same(0), SAME),
        method("trunc", FLOAT, Same(0), SAME),
        method("fract", FLOAT, Same(0), SAME),
        method("recip", FLOAT, Same(0), SAME),
        method("is_nan", FLOAT, Same(0), Is(Ty::Bool)),
        method("is_finite", FLOAT, Same(0), Is(Ty::Bool)),
        method("is_infinite", FLOAT, Same(0), Is(Ty::Bool)),
        method("is_positive", I32, Same(0), Is(Ty::Bool)),
        method("is_negative", I32, Same(0), Is(Ty::Bool)),
        method("count_ones", INTEGERS, Same(0), Is(Ty::U32)),
        method("leading_zeros", INTEGERS, Same(0), Is(Ty::U32)),
        method("trailing_zeros", INTEGERS, Same(0), Is(Ty::U32)),
        method("abs_diff", INTEGERS, Same(1), Is(Ty::U32)),
        method("unsigned_abs", I32, Same(0), Is(Ty::U32)),
        method("wrapping_add", INTEGERS, Same(1), SAME),
        method("wrapping_sub", INTEGERS, Same(1), SAME),
        method("wrapping_mul", INTEGERS, Same(1), SAME),
        method("wrapping_neg", INTEGERS, Same(0), SAME),
    ]
};

/// Methods that people know from Rust, and what to write in a mod.
const INSTEAD: &[(&str, &str)] = &[
    ("log10", "`x.ln() * std::f32::consts::LOG10_E`"),
    ("log", "`x.ln() / base.ln()`"),
    ("ln_1p", "`(1.0 + x).ln()`"),
    ("exp_m1", "`x.exp() - 1.0`"),
    ("tan", "`x.sin() / x.cos()`"),
    ("sinh", "`0.5 * (x.exp() - (-x).exp())`"),
    ("cosh", "`0.5 * (x.exp() + (-x).exp())`"),
    ("cbrt", "`x.powf(1.0 / 3.0)` for positive x"),
    ("hypot", "`(x * x + y * y).sqrt()`"),
    ("mul_add", "`x * a + b`"),
    ("copysign", "`if y < 0.0 { -x.abs() } else { x.abs() }`"),
    ("to_radians", "`x * (std::f32::consts::PI / 180.0)`"),
    ("to_degrees", "`x * (180.0 / std::f32::consts::PI)`"),
    ("round_ties_even", "`x.round()`"),
    ("div_ceil", "`(a + b - 1) / b`"),
    ("saturating_add", "`wrapping_add`, or check with `if`"),
    ("saturating_sub", "`(a - b).max(0)`, or `if a > b { a - b } else { 0 }` for u32"),
    ("saturating_mul", "`wrapping_mul`, or check with `if`"),
    ("checked_add", "`wrapping_add`, or check with `if`"),
    ("checked_sub", "`wrapping_sub`, or check with `if`"),
    ("checked_mul", "`wrapping_mul`, or check with `if`"),
    ("checked_div", "`if b != 0 { a / b } else { 0 }`"),
    ("ilog2", "`31 - x.leading_zeros()`"),
    ("is_power_of_two", "`x.count_ones() == 1`"),
    ("then", "`if condition { a } else { b }`"),
    ("then_some", "`if condition { a } else { b }`"),
    ("get", "an index, `view[i]`: an index outside is reported as an error when attention runs"),
    ("clone", "the value itself: all values are copied"),
    ("into", "`x as f32`, `x as i32` or `x as u32`"),
    ("try_into", "`x as f32`, `x as i32` or `x as u32`"),
    ("unwrap", "an expression that cannot fail"),
    ("iter", "`for i in 0..8` with constant bounds and `view[i]`"),
    ("eq", "`a == b`"),
    ("ne", "`a != b`"),
    ("lt", "`a < b`"),
    ("le", "`a <= b`"),
    ("gt", "`a > b`"),
    ("ge", "`a >= b`"),
    ("sigmoid", "`1.0 / (1.0 + (-x).exp())`"),
];

/// The method of a name.
pub(crate) fn find(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

impl Checker<'_> {
    pub(super) fn method(
        &mut self,
        owner: Option<Ty>,
        receiver: &Expr,
        name: &Ident,
        args: &[Expr],
    ) -> TyVar {
        let ty = self.expr(receiver);
        if let Some(owner) = owner {
            let owner = self.types.is(owner);
            self.expect(receiver, ty, owner, "");
        }
        let arg_types: Vec<TyVar> = args.iter().map(|arg| self.expr(arg)).collect();
        let Some(method) = find(&name.to_string()) else {
            self.unknown_method(name);
            arg_types.iter().chain([&ty]).for_each(|arg| self.types.give_up(*arg));
            return self.types.fresh(Known::Mistake);
        };
        if !self.receiver_fits(method, receiver, ty, name) {
            arg_types.iter().for_each(|arg| self.types.give_up(*arg));
            return match method.output {
                Output::Is(ty) => self.types.is(ty),
                Output::Same => self.types.fresh(Known::Mistake),
            };
        }
        self.arguments(method, name, ty, args, &arg_types);
        match method.output {
            Output::Same => ty,
            Output::Is(ty) => self.types.is(ty),
        }
    }

    fn arguments(&mut self, method: &Method, name: &Ident, ty: TyVar, args: &[Expr], arg_types: &[TyVar]) {
        let wanted = match method.arguments {
            Arguments::Same(count) => count,
            Arguments::Constant(_) => 1,
        };
        if args.len() != wanted {
            let plural = if wanted == 1 { "" } else { "s" };
            let message = format!("`{name}` takes {wanted} argument{plural}, got {}", args.len());
            arg_types.iter().for_each(|arg| self.types.give_up(*arg));
            return self.errors.report(name.span(), message);
        }
        match method.arguments {
            Arguments::Same(_) => {
                for (arg, arg_ty) in args.iter().zip(arg_types) {
                    self.expect(arg, *arg_ty, ty, &format!("`{name}` takes the type it is called on"));
                }
            }
            Arguments::Constant(exponent) => {
                let expected = self.types.is(exponent);
                if !matches!(args[0].kind, ExprKind::Int { .. } | ExprKind::Constant(_) | ExprKind::Mistake) {
                    let instead = match method.name {
                        "powi" => "; for others write `x.powf(y)`",
                        _ => "",
                    };
                    let message =
                        format!("the exponent of `{name}` must be a number or a named constant{instead}");
                    return self.errors.report(args[0].place, message);
                }
                self.expect(&args[0], arg_types[0], expected, &format!("the exponent of `{name}`"));
            }
        }
    }

    fn receiver_fits(&mut self, method: &Method, receiver: &Expr, ty: TyVar, name: &Ident) -> bool {
        let shown = advice::text(self.body, receiver);
        let message = match self.types.known(ty).clone() {
            Known::Mistake => return false,
            Known::Is(got) if method.on.contains(&got) => return true,
            Known::Is(got) => {
                let on: Vec<_> = method.on.iter().map(|ty| ty.name()).collect();
                let write = match (got, method.on) {
                    (Ty::Bool | Ty::Unit, _) => String::new(),
                    (_, [first, ..]) => {
                        let shown = shown.unwrap_or_else(|| "..".into());
                        let dots = if method.arguments == Arguments::Same(0) { "" } else { ".." };
                        format!(": write `({shown} as {}).{name}({dots})`", first.name())
                    }
                    _ => String::new(),
                };
                format!("`{name}` is a method of {}, this is {}{write}", on.join(" and "), got.name())
            }
            Known::Integer(None) => {
                let shown = shown.unwrap_or_else(|| "x".into());
                format!("Rust cannot tell the type of `{shown}` here: write `{shown}i32`")
            }
            Known::Float(None) => {
                let shown = shown.unwrap_or_else(|| "x".into());
                format!("Rust cannot tell the type of `{shown}` here: write `{shown}f32`")
            }
            Known::Unknown(None) => "the type of this value is not known here: write it in its `let`".into(),
            // Known when the mod is built. Where only one type has the method, it is that one.
            Known::Integer(Some(_)) | Known::Float(Some(_)) | Known::Unknown(Some(_)) => {
                if let [only] = method.on {
                    let only = self.types.is(*only);
                    self.expect(receiver, ty, only, "");
                }
                return true;
            }
        };
        self.errors.report(name.span(), message);
        self.types.give_up(ty);
        false
    }

    fn unknown_method(&mut self, name: &Ident) {
        let text = name.to_string();
        let message = match INSTEAD.iter().find(|(method, _)| *method == text) {
            Some((_, instead)) => format!("`{name}` is not part of mods: write {instead}"),
            None => {
                let all: Vec<_> = METHODS.iter().map(|method| method.name).collect();
                format!("`{name}` is not a method of mods; there are {}", all.join(", "))
            }
        };
        self.errors.report(name.span(), message);
    }
}
