//! What integer operations do to ranges.

use super::range::limits;
use super::{IntRange, Truth};
use crate::ir::semantics::{self, Value};
use crate::ir::{BinaryOp, Type, UnaryOp};

/// The range of an operation's result, and whether no value wrapped around.
pub(super) type Ranged = (IntRange, bool);

const WORDS: i64 = 1 << 32;

/// The range of a result whose exact value, before wrapping, lies between `lo` and `hi`.
pub(super) fn wrap(ty: Type, exact: IntRange) -> Ranged {
    let (min, max) = limits(ty);
    if min <= exact.lo && exact.hi <= max {
        return (exact, true);
    }
    // All values may wrap by the same number of words, as the difference of two u32 does when it is negative.
    let shift = (exact.lo - min).div_euclid(WORDS) * WORDS;
    let moved = IntRange { lo: exact.lo - shift, hi: exact.hi - shift, ..exact };
    if moved.hi <= max { (moved, false) } else { (IntRange::within(min, max), false) }
}

/// The range of `op x`, an integer, with x of type `ty`.
pub(super) fn unary(op: UnaryOp, ty: Type, x: IntRange) -> Ranged {
    if let Some(value) = x.as_single() {
        return (single(semantics::unary::<f32>(op, word(ty, value))), value != limits(ty).0);
    }
    let IntRange { lo, hi, attained, dense } = x;
    match op {
        UnaryOp::Neg => wrap(ty, IntRange { lo: -hi, hi: -lo, attained, dense }),
        UnaryOp::Not if ty == Type::U32 => {
            let max = limits(ty).1;
            (IntRange { lo: max - hi, hi: max - lo, attained, dense }, true)
        }
        UnaryOp::Not => (IntRange { lo: -1 - hi, hi: -1 - lo, attained, dense }, true),
        UnaryOp::Abs if lo >= 0 => (x, true),
        UnaryOp::Abs if hi <= 0 => wrap(ty, IntRange { lo: -hi, hi: -lo, attained, dense }),
        UnaryOp::Abs => {
            let top = hi.max(-lo);
            wrap(ty, IntRange { lo: 0, hi: top, attained: dense, dense })
        }
        UnaryOp::Signum => (IntRange { lo: lo.signum(), hi: hi.signum(), attained, dense }, true),
        UnaryOp::CountOnes | UnaryOp::LeadingZeros | UnaryOp::TrailingZeros => (bit_count(op, x), true),
        _ => (IntRange::any(ty), true),
    }
}

fn bit_count(op: UnaryOp, x: IntRange) -> IntRange {
    let zeros = |v: i64| i64::from((v as u32).leading_zeros());
    match op {
        UnaryOp::LeadingZeros if x.lo >= 0 => IntRange::within(zeros(x.hi), zeros(x.lo)),
        UnaryOp::CountOnes if x.lo >= 0 => IntRange::within(i64::from(x.lo > 0), 32 - zeros(x.hi)),
        _ => IntRange::within(0, 32),
    }
}

/// The range of `a op b`, an integer, with a (and b, but for shifts) of type `ty`, and whether it divides by zero
/// somewhere. `independent`: any value of a occurs together with any value of b.
pub(super) fn binary(
    op: BinaryOp,
    ty: Type,
    a: IntRange,
    b: IntRange,
    amount_ty: Type,
    independent: bool,
) -> (Ranged, bool) {
    use BinaryOp::*;
    if let (Some(x), Some(y)) = (a.as_single(), b.as_single())
        && !matches!(op, Add | Sub | Mul | Shl)
    {
        return match semantics::binary::<f32>(op, word(ty, x), word(amount_ty, y)) {
            Ok(value) => ((single(value), true), false),
            Err(_) => ((IntRange::any(ty), true), true),
        };
    }
    let attained = independent && a.attained && b.attained;
    let dense = independent && a.dense && b.dense;
    let ranged = match op {
        Add => wrap(ty, IntRange { lo: a.lo + b.lo, hi: a.hi + b.hi, attained, dense }),
        Sub => wrap(ty, IntRange { lo: a.lo - b.hi, hi: a.hi - b.lo, attained, dense }),
        Mul => product(a, b, attained).map_or((IntRange::any(ty), false), |exact| wrap(ty, exact)),
        Min => (IntRange { lo: a.lo.min(b.lo), hi: a.hi.min(b.hi), attained, dense }, true),
        Max => (IntRange { lo: a.lo.max(b.lo), hi: a.hi.max(b.hi), attained, dense }, true),
        Div => quotient(ty, a, b),
        DivEuclid => euclidean_quotient(ty, a, b),
        Rem | RemEuclid => (remainder(op == RemEuclid, ty, a, b), true),
        And => (and(ty, a, b), true),
        Or | Xor => (join_bits(op, ty, a, b), true),
        Shl | Shr => shift(op, ty, a, b),
        _ => (IntRange::any(ty), true),
    };
    (ranged, op.is_division() && b.contains(0))
}

/// Bounds of the exact product; `None` where it is beyond i64, as only that of two u32 can be.
fn product(a: IntRange, b: IntRange, attained: bool) -> Option<IntRange> {
    let corners = [(a.lo, b.lo), (a.lo, b.hi), (a.hi, b.lo), (a.hi, b.hi)];
    let mut bounds: Option<(i64, i64)> = None;
    for (x, y) in corners {
        let corner = x.checked_mul(y)?;
        bounds = Some(bounds.map_or((corner, corner), |(lo, hi)| (lo.min(corner), hi.max(corner))));
    }
    let (lo, hi) = bounds?;
    // Unless one factor is ±1, the product leaves values out.
    let unit = |r: IntRange| r.as_single().is_some_and(|v| v.abs() == 1);
    let dense = unit(a) && b.dense || unit(b) && a.dense;
    Some(IntRange { lo, hi, attained: attained || dense, dense })
}

fn quotient(ty: Type, a: IntRange, b: IntRange) -> Ranged {
    match b.as_single() {
        Some(0) => (IntRange::any(ty), true),
        Some(divisor) => {
            let (x, y) = (a.lo / divisor, a.hi / divisor);
            wrap(ty, IntRange { lo: x.min(y), hi: x.max(y), attained: a.attained, dense: a.dense })
        }
        None if !b.contains(0) => {
            let corners = [a.lo / b.lo, a.lo / b.hi, a.hi / b.lo, a.hi / b.hi];
            let (lo, hi) = extremes(corners);
            wrap(ty, IntRange::within(lo, hi))
        }
        None => {
            let top = a.hi.abs().max(a.lo.abs());
            // The quotient is no larger than the dividend; a negative divisor may change its sign.
            let lo = if b.lo >= 0 { a.lo.min(0) } else { -top };
            let hi = if b.lo >= 0 { a.hi.max(0) } else { top };
            wrap(ty, IntRange::within(lo, hi))
        }
    }
}

fn euclidean_quotient(ty: Type, a: IntRange, b: IntRange) -> Ranged {
    match b.as_single() {
        Some(0) => (IntRange::any(ty), true),
        Some(divisor) => {
            let (x, y) = (a.lo.div_euclid(divisor), a.hi.div_euclid(divisor));
            wrap(ty, IntRange { lo: x.min(y), hi: x.max(y), attained: a.attained, dense: a.dense })
        }
        None if a.lo >= 0 && b.lo >= 0 => quotient(ty, a, b),
        None => {
            let top = a.hi.abs().max(a.lo.abs());
            wrap(ty, IntRange::within(-top, top))
        }
    }
}

fn remainder(euclidean: bool, ty: Type, a: IntRange, b: IntRange) -> IntRange {
    if let Some(divisor) = b.as_single().filter(|&d| d != 0) {
        let modulus = divisor.abs();
        if a.lo >= 0 || euclidean {
            return residue(a, modulus);
        }
        if a.hi <= 0 {
            let r = residue(IntRange { lo: -a.hi, hi: -a.lo, ..a }, modulus);
            return IntRange { lo: -r.hi, hi: -r.lo, ..r };
        }
        return IntRange::within(a.lo.max(1 - modulus), a.hi.min(modulus - 1));
    }
    let top = b.hi.abs().max(b.lo.abs()) - 1;
    if top < 0 {
        return IntRange::any(ty);
    }
    let hi = if a.lo >= 0 || !euclidean { a.hi.clamp(0, top) } else { top };
    let lo = if euclidean { 0 } else { a.lo.clamp(-top, 0) };
    IntRange::within(lo, hi)
}

/// The non-negative remainder of division by a positive constant.
fn residue(a: IntRange, modulus: i64) -> IntRange {
    let (lo, hi) = (a.lo.rem_euclid(modulus), a.hi.rem_euclid(modulus));
    if a.lo.div_euclid(modulus) == a.hi.div_euclid(modulus) {
        return IntRange { lo, hi, ..a };
    }
    // A dense range that passes a multiple has the values just before and at it.
    IntRange {
        lo: 0,
        hi: modulus - 1,
        attained: a.dense,
        dense: a.dense && (a.hi - a.lo >= modulus - 1 || lo <= hi + 1),
    }
}

fn and(ty: Type, a: IntRange, b: IntRange) -> IntRange {
    for (x, mask) in [(a, b), (b, a)] {
        if let Some(mask) = mask.as_single()
            && mask >= 0
            && (mask + 1) & mask == 0
        {
            return residue(x, mask + 1);
        }
    }
    let bits = known_bits(BinaryOp::And, ty, a, b);
    let top = match (a.lo >= 0, b.lo >= 0) {
        (true, true) => a.hi.min(b.hi),
        (true, false) => a.hi,
        (false, true) => b.hi,
        (false, false) => return bits,
    };
    IntRange::within(bits.lo.max(0), bits.hi.min(top))
}

fn join_bits(op: BinaryOp, ty: Type, a: IntRange, b: IntRange) -> IntRange {
    let bits = known_bits(op, ty, a, b);
    match op == BinaryOp::Or && a.lo >= 0 && b.lo >= 0 {
        true => IntRange::within(bits.lo.max(a.lo).max(b.lo), bits.hi),
        false => bits,
    }
}

/// Bounds from the leading bits that all values of a range share.
fn known_bits(op: BinaryOp, ty: Type, a: IntRange, b: IntRange) -> IntRange {
    /// The bits that are known to be 1, and those that are not known.
    fn split(x: IntRange) -> (u32, u32) {
        // A range that holds −1 and 0 shares no leading bit.
        let (lo, hi) = (x.lo as u32, x.hi as u32);
        if x.lo < 0 && x.hi >= 0 {
            return (0, u32::MAX);
        }
        let unknown = u32::MAX.checked_shr((lo ^ hi).leading_zeros()).unwrap_or(0);
        (lo & !unknown, unknown)
    }
    let ((x, x_unknown), (y, y_unknown)) = (split(a), split(b));
    let (ones, unknown) = match op {
        BinaryOp::And => {
            let may_be_one = (x | x_unknown) & (y | y_unknown);
            (x & y, may_be_one & !(x & y))
        }
        BinaryOp::Or => (x | y, (x_unknown | y_unknown) & !(x | y)),
        _ => ((x ^ y) & !(x_unknown | y_unknown), x_unknown | y_unknown),
    };
    match ty {
        Type::U32 => IntRange::within(ones.into(), (ones | unknown).into()),
        _ if unknown >> 31 != 0 => IntRange::any(ty),
        _ => IntRange::within((ones as i32).into(), ((ones | unknown) as i32).into()),
    }
}

fn shift(op: BinaryOp, ty: Type, a: IntRange, b: IntRange) -> Ranged {
    let Some(amount) = b.as_single().map(|b| b.rem_euclid(32)) else {
        return match op == BinaryOp::Shr && a.lo >= 0 {
            true => (IntRange::within(0, a.hi), true),
            false => (IntRange::any(ty), false),
        };
    };
    match op {
        BinaryOp::Shl => {
            let range = IntRange { lo: a.lo << amount, hi: a.hi << amount, ..a };
            // Shifted-out bits are lost as in a wrapped product with 2^amount.
            wrap(ty, IntRange { dense: a.dense && amount == 0, ..range })
        }
        _ => (IntRange { lo: a.lo >> amount, hi: a.hi >> amount, ..a }, true),
    }
}

/// What is known of a comparison, from the range of the difference a − b. `equal_somewhere` says that a point with
/// a = b is proved by other means.
pub(super) fn compare(op: BinaryOp, difference: IntRange, equal_somewhere: bool) -> Truth {
    use BinaryOp::*;
    let IntRange { lo, hi, attained, dense } = difference;
    match op {
        Ge => Truth::new([lo < 0, hi >= 0], [attained, attained || equal_somewhere]),
        Gt => Truth::new([lo <= 0, hi > 0], [attained || equal_somewhere, attained]),
        Lt => compare(Ge, difference, equal_somewhere).not(),
        Le => compare(Gt, difference, equal_somewhere).not(),
        Ne => compare(Eq, difference, equal_somewhere).not(),
        _ => {
            let zero_at_end = attained && (lo == 0 || hi == 0);
            let equal = equal_somewhere || (dense || zero_at_end) && lo <= 0 && 0 <= hi;
            Truth::new([lo != 0 || hi != 0, lo <= 0 && 0 <= hi], [attained, equal])
        }
    }
}

/// Whether two independent values are proved to be equal at some point.
pub(super) fn meet(a: IntRange, b: IntRange) -> bool {
    let hits = |dense: IntRange, other: IntRange| {
        dense.dense && other.attained && (dense.contains(other.lo) || dense.contains(other.hi))
    };
    let shared_end = a.lo == b.lo || a.lo == b.hi || a.hi == b.lo || a.hi == b.hi;
    hits(a, b) || hits(b, a) || a.attained && b.attained && shared_end
}

fn extremes(values: [i64; 4]) -> (i64, i64) {
    values.iter().fold((i64::MAX, i64::MIN), |(lo, hi), &v| (lo.min(v), hi.max(v)))
}

fn word(ty: Type, value: i64) -> Value<f32> {
    match ty {
        Type::U32 => Value::U32(value as u32),
        _ => Value::I32(value as i32),
    }
}

fn single(value: Value<f32>) -> IntRange {
    IntRange::single(value.integer())
}

#[cfg(test)]
mod tests;
