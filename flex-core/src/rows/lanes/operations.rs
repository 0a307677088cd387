//! What instructions do to lanes.

use super::super::instr::Op;
use super::super::math::{self, Fma};
use super::super::scalar;
use super::super::soft_cap::{SoftCap, Way, in_each_way};
use super::{GROUP, Group, Rows, Source};
use crate::ir::{BinaryOp, Type, UnaryOp};

#[inline(always)]
pub(super) fn map(rows: &mut Rows, f: impl Fn(u32) -> u32) {
    each_row!(rows, |dst, a| map_row(dst, a, &f));
}

#[inline(always)]
fn map_f32(rows: &mut Rows, f: impl Fn(f32) -> f32) {
    map(rows, |x| f(f32::from_bits(x)).to_bits());
}

#[inline(always)]
pub(super) fn zip(rows: &mut Rows, f: impl Fn(u32, u32) -> u32) {
    each_row!(rows, |dst, a, b| zip_row(dst, a, b, &f));
}

#[inline(always)]
fn zip_i32(rows: &mut Rows, f: impl Fn(i32, i32) -> i32) {
    zip(rows, |x, y| f(x as i32, y as i32) as u32);
}

#[inline(always)]
fn zip_f32(rows: &mut Rows, f: impl Fn(f32, f32) -> f32) {
    zip(rows, |x, y| f(f32::from_bits(x), f32::from_bits(y)).to_bits());
}

#[inline(always)]
fn map_row(dst: &mut [Group], a: Source, f: impl Fn(u32) -> u32) {
    match a {
        Source::Splat(a) => dst.fill([f(a); GROUP]),
        Source::Lanes(a) => {
            for (d, &a) in dst.as_flattened_mut().iter_mut().zip(a.as_flattened()) {
                *d = f(a);
            }
        }
    }
}

#[inline(always)]
fn zip_row(dst: &mut [Group], a: Source, b: Source, f: impl Fn(u32, u32) -> u32) {
    match (a, b) {
        (Source::Splat(a), b) => map_row(dst, b, |b| f(a, b)),
        (a, Source::Splat(b)) => map_row(dst, a, |a| f(a, b)),
        (Source::Lanes(a), Source::Lanes(b)) => {
            let sources = a.as_flattened().iter().zip(b.as_flattened());
            for (d, (&a, &b)) in dst.as_flattened_mut().iter_mut().zip(sources) {
                *d = f(a, b);
            }
        }
    }
}

#[inline(always)]
pub(super) fn select(dst: &mut [Group], condition: Source, accept: Source, reject: Source) {
    let condition = match condition {
        Source::Lanes(lanes) => lanes,
        Source::Splat(holds) => return map_row(dst, if holds != 0 { accept } else { reject }, |x| x),
    };
    match (accept, reject) {
        (Source::Splat(a), r) => zip_row(dst, Source::Lanes(condition), r, |c, r| if c != 0 { a } else { r }),
        (a, Source::Splat(r)) => zip_row(dst, Source::Lanes(condition), a, |c, a| if c != 0 { a } else { r }),
        (Source::Lanes(accept), Source::Lanes(reject)) => {
            let sources = accept.as_flattened().iter().zip(reject.as_flattened());
            let sources = condition.as_flattened().iter().zip(sources);
            for (d, (&c, (&a, &r))) in dst.as_flattened_mut().iter_mut().zip(sources) {
                *d = if c != 0 { a } else { r };
            }
        }
    }
}

/// `a · b + c`, each rounded: the bits of the two operations it stands for.
#[inline(always)]
pub(super) fn mul_add(dst: &mut [Group], a: Source, b: Source, c: Source) {
    let f = f32::from_bits;
    match (a, b, c) {
        (Source::Splat(a), Source::Lanes(b), Source::Lanes(c))
        | (Source::Lanes(b), Source::Splat(a), Source::Lanes(c)) => {
            let sources = b.as_flattened().iter().zip(c.as_flattened());
            for (d, (&b, &c)) in dst.as_flattened_mut().iter_mut().zip(sources) {
                *d = (f(a) * f(b) + f(c)).to_bits();
            }
        }
        (a, b, Source::Splat(c)) => zip_row(dst, a, b, |a, b| (f(a) * f(b) + f(c)).to_bits()),
        (Source::Splat(a), Source::Splat(b), c) => map_row(dst, c, |c| (f(a) * f(b) + f(c)).to_bits()),
        (Source::Lanes(a), Source::Lanes(b), Source::Lanes(c)) => {
            let sources = b.as_flattened().iter().zip(c.as_flattened());
            let sources = a.as_flattened().iter().zip(sources);
            for (d, (&a, (&b, &c))) in dst.as_flattened_mut().iter_mut().zip(sources) {
                *d = (f(a) * f(b) + f(c)).to_bits();
            }
        }
    }
}

#[inline(always)]
pub(super) fn cast(from: Type, to: Type, rows: &mut Rows) {
    match (from, to) {
        (Type::I32, Type::F32) => map(rows, |x| (x as i32 as f32).to_bits()),
        (Type::U32, Type::F32) => map(rows, |x| (x as f32).to_bits()),
        (Type::Bool, Type::F32) => map(rows, |x| (x as f32).to_bits()),
        (Type::F32, Type::I32) => map(rows, |x| f32::from_bits(x) as i32 as u32),
        (Type::F32, Type::U32) => map(rows, |x| f32::from_bits(x) as u32),
        // bool, i32 and u32 have the same bits.
        _ => map(rows, |x| x),
    }
}

#[inline(always)]
pub(super) fn unary<A: Fma>(op: UnaryOp, ty: Type, rows: &mut Rows, exact: bool) {
    use UnaryOp::*;
    match (op, ty) {
        (Neg, Type::F32) => map_f32(rows, |x| -x),
        (Neg, _) => map(rows, u32::wrapping_neg),
        (Not, Type::Bool) => map(rows, |x| x ^ 1),
        (Not, _) => map(rows, |x| !x),
        (Abs, Type::F32) => map_f32(rows, f32::abs),
        (Abs, _) => map(rows, |x| (x as i32).wrapping_abs() as u32),
        (Signum, Type::F32) => map_f32(rows, f32::signum),
        (Signum, _) => map(rows, |x| (x as i32).signum() as u32),
        (Sqrt, _) => map_f32(rows, f32::sqrt),
        (Floor, _) => map_f32(rows, f32::floor),
        (Ceil, _) => map_f32(rows, f32::ceil),
        (Round, _) => map_f32(rows, f32::round),
        (Trunc, _) => map_f32(rows, f32::trunc),
        (IsNan, _) => map(rows, |x| f32::from_bits(x).is_nan().into()),
        (CountOnes, _) => map(rows, u32::count_ones),
        (LeadingZeros, _) => map(rows, u32::leading_zeros),
        (TrailingZeros, _) => map(rows, u32::trailing_zeros),
        (op, ty) if exact => map(rows, |x| scalar::evaluate(Op::Unary(op, ty), [x, 0, 0], &[])),
        (Exp, _) => map_f32(rows, math::exp::<A>),
        (Exp2, _) => map_f32(rows, math::exp2::<A>),
        (Ln, _) => map_f32(rows, math::ln::<A>),
        (Log2, _) => map_f32(rows, math::log2::<A>),
        (Tanh, _) => tanh::<A>(rows),
        (Sin, _) => trigonometric(rows, math::sin::<A>, f32::sin),
        (Cos, _) => trigonometric(rows, math::cos::<A>, f32::cos),
    }
}

/// The lanes that are too large for the vector function are computed again, one by one.
#[inline(always)]
fn trigonometric(rows: &mut Rows, f: impl Fn(f32) -> f32, precise: impl Fn(f32) -> f32) {
    map_f32(rows, f);
    let large = |x: u32| f32::from_bits(x).abs() > math::TRIG_RANGE;
    each_row!(rows, |dst, a| match a {
        Source::Lanes(a) if a.as_flattened().iter().fold(false, |any, &x| any | large(x)) => {
            let lanes = dst.as_flattened_mut().iter_mut().zip(a.as_flattened());
            for (d, &x) in lanes.filter(|(_, x)| large(**x)) {
                *d = precise(f32::from_bits(x)).to_bits();
            }
        }
        _ => {}
    });
}

/// The hyperbolic tangent. Scores are capped so that most are far below the cap: a row of small ones needs no exponential.
#[inline(always)]
fn tanh<A: Fma>(rows: &mut Rows) {
    each_row!(rows, |dst, a| match a {
        Source::Lanes(a) => {
            let small = |any: bool, &x: &u32| any & (f32::from_bits(x).abs() < math::TANH_SMALL);
            if a.as_flattened().iter().fold(true, small) {
                map_row(dst, Source::Lanes(a), |x| math::tanh_small::<A>(f32::from_bits(x)).to_bits());
            } else {
                map_row(dst, Source::Lanes(a), |x| math::tanh::<A>(f32::from_bits(x)).to_bits());
            }
        }
        splat => map_row(dst, splat, |x| math::tanh::<A>(f32::from_bits(x)).to_bits()),
    });
}

/// `cap · tanh(a / divisor)` in one go.
#[inline(always)]
pub(super) fn soft_cap<A: Fma>(dst: &mut [Group], a: Source, divisor: Source, cap: Source) {
    let (Source::Splat(divisor), Source::Splat(cap)) = (divisor, cap) else { return };
    let cap = SoftCap::new(f32::from_bits(divisor), f32::from_bits(cap));
    let way = match a {
        Source::Lanes(lanes) => cap.way::<A>(lanes.as_flattened()),
        Source::Splat(_) => Way::Divided,
    };
    in_each_way!(cap, way, A, |capped| map_row(dst, a, |x| capped(f32::from_bits(x)).to_bits()));
}

/// Quotients by one divisor, as rounded as a division's.
#[inline(always)]
fn divide<A: Fma>(rows: &mut Rows) {
    each_row!(rows, |dst, a, b| match (a, b) {
        (Source::Lanes(a), Source::Splat(b)) if A::FUSED && math::has_reciprocal(f32::from_bits(b)) => {
            let b = f32::from_bits(b);
            let reciprocal = 1.0 / b;
            let usual = |all: bool, &x: &u32| all & math::divides_by_reciprocal(f32::from_bits(x));
            if a.as_flattened().iter().fold(true, usual) {
                let quotient = |x| math::quotient::<A>(f32::from_bits(x), b, reciprocal).to_bits();
                map_row(dst, Source::Lanes(a), quotient);
            } else {
                map_row(dst, Source::Lanes(a), |x| (f32::from_bits(x) / b).to_bits());
            }
        }
        (a, b) => zip_row(dst, a, b, |x, y| (f32::from_bits(x) / f32::from_bits(y)).to_bits()),
    });
}

/// The quotient towards zero: exact, since f64 has more than twice the bits.
#[inline(always)]
fn quotient(a: i32, b: i32) -> i32 {
    let b = if b == 0 { 1 } else { b };
    (f64::from(a) / f64::from(b)) as i64 as i32
}

#[inline(always)]
fn remainder(a: i32, b: i32) -> i32 {
    let b = if b == 0 { 1 } else { b };
    a.wrapping_sub(quotient(a, b).wrapping_mul(b))
}

#[inline(always)]
fn quotient_u32(a: u32, b: u32) -> u32 {
    let b = if b == 0 { 1 } else { b };
    (f64::from(a) / f64::from(b)) as i64 as u32
}

#[inline(always)]
pub(super) fn binary<A: Fma>(op: BinaryOp, ty: Type, rows: &mut Rows) {
    use BinaryOp::*;
    match (op, ty) {
        (Add, Type::F32) => zip_f32(rows, |x, y| x + y),
        (Sub, Type::F32) => zip_f32(rows, |x, y| x - y),
        (Mul, Type::F32) => zip_f32(rows, |x, y| x * y),
        (Div, Type::F32) => divide::<A>(rows),
        (Rem, Type::F32) => zip_f32(rows, |x, y| x % y),
        (Min, Type::F32) => zip_f32(rows, f32::min),
        (Max, Type::F32) => zip_f32(rows, f32::max),
        (Pow, _) => zip_f32(rows, f32::powf),
        (Add, _) => zip(rows, u32::wrapping_add),
        (Sub, _) => zip(rows, u32::wrapping_sub),
        (Mul, _) => zip(rows, u32::wrapping_mul),
        (Div, Type::I32) => zip_i32(rows, quotient),
        (Rem, Type::I32) => zip_i32(rows, remainder),
        (DivEuclid, Type::I32) => zip_i32(rows, |x, y| {
            let y = if y == 0 { 1 } else { y };
            let step = if y > 0 { -1 } else { 1 };
            quotient(x, y).wrapping_add(if remainder(x, y) < 0 { step } else { 0 })
        }),
        (RemEuclid, Type::I32) => zip_i32(rows, |x, y| {
            let y = if y == 0 { 1 } else { y };
            let r = remainder(x, y);
            r.wrapping_add(if r < 0 { y.wrapping_abs() } else { 0 })
        }),
        (Div | DivEuclid, _) => zip(rows, quotient_u32),
        (Rem | RemEuclid, _) => {
            zip(rows, |x, y| x.wrapping_sub(quotient_u32(x, y).wrapping_mul(if y == 0 { 1 } else { y })));
        }
        (Min, Type::I32) => zip_i32(rows, i32::min),
        (Max, Type::I32) => zip_i32(rows, i32::max),
        (Min, _) => zip(rows, u32::min),
        (Max, _) => zip(rows, u32::max),
        (And, _) => zip(rows, |x, y| x & y),
        (Or, _) => zip(rows, |x, y| x | y),
        (Xor, _) => zip(rows, |x, y| x ^ y),
        (Shl, _) => zip(rows, u32::wrapping_shl),
        (Shr, Type::I32) => zip(rows, |x, y| (x as i32).wrapping_shr(y) as u32),
        (Shr, _) => zip(rows, u32::wrapping_shr),
        (Eq | Ne | Lt | Le | Gt | Ge, Type::F32) => compare(op, rows, f32::from_bits),
        (Eq | Ne | Lt | Le | Gt | Ge, Type::I32) => compare(op, rows, |x| x as i32),
        (Eq | Ne | Lt | Le | Gt | Ge, _) => compare(op, rows, |x| x),
    }
}

#[inline(always)]
fn compare<T: PartialOrd>(op: BinaryOp, rows: &mut Rows, t: impl Fn(u32) -> T) {
    match op {
        BinaryOp::Eq => zip(rows, |x, y| (t(x) == t(y)).into()),
        BinaryOp::Ne => zip(rows, |x, y| (t(x) != t(y)).into()),
        BinaryOp::Lt => zip(rows, |x, y| (t(x) < t(y)).into()),
        BinaryOp::Le => zip(rows, |x, y| (t(x) <= t(y)).into()),
        BinaryOp::Gt => zip(rows, |x, y| (t(x) > t(y)).into()),
        _ => zip(rows, |x, y| (t(x) >= t(y)).into()),
    }
}
