//! What float operations do to ranges.
//!
//! Sums, products, quotients and roots round correctly, and rounding is monotone, so bounds computed in f32 are bounds.
//! The transcendental functions are widened by more than any implementation in use here is off.

use super::{FloatRange, Truth};
use crate::ir::{BinaryOp, UnaryOp};

/// Relative and absolute slack of transcendental functions.
const SLACK: f32 = 1e-5;
const TINY: f32 = 1e-30;

fn widen(r: FloatRange) -> FloatRange {
    let down = |v: f32| if v.is_finite() { v - v.abs() * SLACK - TINY } else { v };
    let up = |v: f32| if v.is_finite() { v + v.abs() * SLACK + TINY } else { v };
    // An overflow to infinity may have been a large number elsewhere, and the reverse.
    let lo = if r.lo == f32::INFINITY { f32::MAX * (1.0 - SLACK) } else { down(r.lo) };
    FloatRange { lo, hi: up(r.hi), nan: r.nan }
}

/// The range of `op x`, a float.
pub(super) fn unary(op: UnaryOp, x: FloatRange) -> FloatRange {
    use UnaryOp::*;
    let FloatRange { lo, hi, nan } = x;
    if x.is_empty() {
        return x;
    }
    let monotone = |f: fn(f32) -> f32| FloatRange { lo: f(lo), hi: f(hi), nan };
    match op {
        Neg => FloatRange { lo: -hi, hi: -lo, nan },
        Abs if lo >= 0.0 => x,
        Abs if hi <= 0.0 => FloatRange { lo: -hi, hi: -lo, nan },
        Abs => FloatRange { lo: 0.0, hi: hi.max(-lo), nan },
        // Zeros have a sign too, which bounds do not tell.
        Signum => {
            FloatRange { lo: if lo > 0.0 { 1.0 } else { -1.0 }, hi: if hi < 0.0 { -1.0 } else { 1.0 }, nan }
        }
        Sqrt => FloatRange { lo: lo.max(0.0).sqrt(), hi: hi.max(0.0).sqrt(), nan: nan || lo < 0.0 },
        Floor => monotone(f32::floor),
        Ceil => monotone(f32::ceil),
        Round => monotone(f32::round),
        Trunc => monotone(f32::trunc),
        Exp => at_least_zero(widen(monotone(f32::exp))),
        Exp2 => at_least_zero(widen(monotone(f32::exp2))),
        Ln | Log2 => {
            let f = if op == Ln { f32::ln } else { f32::log2 };
            let r = widen(FloatRange { lo: f(lo.max(0.0)), hi: f(hi.max(0.0)), nan: nan || lo < 0.0 });
            // Near 1 the result is near 0 and its error is that of the argument.
            FloatRange { lo: r.lo - SLACK, hi: r.hi + SLACK, ..r }
        }
        Tanh => {
            let r = widen(monotone(f32::tanh));
            FloatRange { lo: r.lo.max(-1.0), hi: r.hi.min(1.0), nan }
        }
        Sin | Cos => {
            let infinite = lo == f32::NEG_INFINITY || hi == f32::INFINITY;
            FloatRange { lo: -1.0, hi: 1.0, nan: nan || infinite }
        }
        Not | IsNan | CountOnes | LeadingZeros | TrailingZeros => FloatRange::ANY,
    }
}

fn at_least_zero(r: FloatRange) -> FloatRange {
    FloatRange { lo: r.lo.max(0.0), ..r }
}

/// The range of `a op b`, a float.
pub(super) fn binary(op: BinaryOp, a: FloatRange, b: FloatRange) -> FloatRange {
    use BinaryOp::*;
    let nan = a.nan || b.nan;
    if matches!(op, Min | Max) {
        return extremum(op, a, b);
    }
    if a.is_empty() || b.is_empty() {
        // x.powf(NaN) is 1 for x = 1, and NaN.powf(0) is 1.
        return if op == Pow {
            FloatRange::ANY
        } else {
            FloatRange { nan: true, ..FloatRange::single(f32::NAN) }
        };
    }
    let infinite = |r: FloatRange| r.lo == f32::NEG_INFINITY || r.hi == f32::INFINITY;
    let has_zero = |r: FloatRange| r.lo <= 0.0 && 0.0 <= r.hi;
    match op {
        Add => sum(a, b, nan),
        Sub => sum(a, FloatRange { lo: -b.hi, hi: -b.lo, nan: b.nan }, nan),
        Mul => {
            let nan = nan || infinite(a) && has_zero(b) || infinite(b) && has_zero(a);
            let corners = [a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi];
            match corners.iter().any(|c| c.is_nan()) {
                true => FloatRange { nan, ..FloatRange::ANY },
                false => extremes(corners, nan),
            }
        }
        Div if has_zero(b) || infinite(a) && infinite(b) => FloatRange::ANY,
        Div => extremes([a.lo / b.lo, a.lo / b.hi, a.hi / b.lo, a.hi / b.hi], nan),
        Rem => {
            let nan = nan || infinite(a) || has_zero(b);
            let top = (a.hi.abs().max(a.lo.abs())).min(b.hi.abs().max(b.lo.abs()));
            let lo = if a.lo >= 0.0 { 0.0 } else { -top };
            FloatRange { lo, hi: if a.hi <= 0.0 { 0.0 } else { top }, nan }
        }
        Pow if a.lo > 0.0 && !nan && !infinite(a) && !infinite(b) => {
            let corners = [a.lo.powf(b.lo), a.lo.powf(b.hi), a.hi.powf(b.lo), a.hi.powf(b.hi)];
            at_least_zero(widen(extremes(corners, nan)))
        }
        _ => FloatRange::ANY,
    }
}

fn sum(a: FloatRange, b: FloatRange, nan: bool) -> FloatRange {
    let opposed = |x: FloatRange, y: FloatRange| x.hi == f32::INFINITY && y.lo == f32::NEG_INFINITY;
    let (lo, hi) = (a.lo + b.lo, a.hi + b.hi);
    let nan = nan || opposed(a, b) || opposed(b, a);
    match lo.is_nan() || hi.is_nan() {
        true => FloatRange { nan, ..FloatRange::ANY },
        false => FloatRange { lo, hi, nan },
    }
}

fn extremum(op: BinaryOp, a: FloatRange, b: FloatRange) -> FloatRange {
    let pick = if op == BinaryOp::Min { f32::min } else { f32::max };
    let mut r = FloatRange { lo: pick(a.lo, b.lo), hi: pick(a.hi, b.hi), nan: a.nan && b.nan };
    // A NaN loses, so the other side alone is a possible result.
    if a.nan {
        r = FloatRange { nan: r.nan, ..r.hull(b) };
    }
    if b.nan {
        r = FloatRange { nan: r.nan, ..r.hull(a) };
    }
    r
}

/// What is known of a comparison.
pub(super) fn compare(op: BinaryOp, a: FloatRange, b: FloatRange) -> Truth {
    use BinaryOp::*;
    if a.is_empty() || b.is_empty() {
        return Truth::always(op == Ne);
    }
    let (may_be_true, may_be_false) = match op {
        Lt => (a.lo < b.hi, a.hi >= b.lo),
        Le => (a.lo <= b.hi, a.hi > b.lo),
        Gt => (a.hi > b.lo, a.lo <= b.hi),
        Ge => (a.hi >= b.lo, a.lo < b.hi),
        _ => {
            let one = a.lo == a.hi && b.lo == b.hi && a.lo == b.lo;
            (a.lo <= b.hi && b.lo <= a.hi, !one)
        }
    };
    let nan = a.nan || b.nan;
    let truth = Truth::new([may_be_false || nan, may_be_true], [false, false]);
    if op == Ne { truth.not() } else { truth }
}

fn extremes(corners: [f32; 4], nan: bool) -> FloatRange {
    let fold = |f: fn(f32, f32) -> f32| corners[1..].iter().fold(corners[0], |x, &y| f(x, y));
    FloatRange { lo: fold(f32::min), hi: fold(f32::max), nan }
}
