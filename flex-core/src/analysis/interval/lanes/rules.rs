//! What operations do to sixteen ranges: loops without branches, to be compiled for the instruction set of the caller.
//!
//! The scalar rules that these must agree with are in [`integer`](super::super::integer),
//! [`Truth`](super::super::Truth) and [`evaluate`](super::super::evaluate).

use super::super::{IntRange, ValueRange};
use super::compile::OPERANDS;
use super::{ATTAINED, DENSE, FAN, Lanes, Verdicts, parts};

/// All bits where a flag is set. Of two ranges whose values do not all occur together no witness is left.
#[inline(always)]
fn all(independent: bool) -> u32 {
    if independent { u32::MAX } else { 0 }
}

#[inline(always)]
fn integers(f: impl Fn(usize) -> (i32, i32, u32)) -> Lanes {
    let mut result = Lanes::ZERO;
    for i in 0..FAN {
        (result.lo[i], result.hi[i], result.bits[i]) = f(i);
    }
    result
}

#[inline(always)]
fn truth(f: impl Fn(usize) -> u32) -> Lanes {
    let mut result = Lanes::ZERO;
    for i in 0..FAN {
        result.bits[i] = f(i);
    }
    result
}

#[inline(always)]
pub(super) fn add(a: &Lanes, b: &Lanes, independent: bool) -> Lanes {
    let both = all(independent);
    integers(|i| (a.lo[i].wrapping_add(b.lo[i]), a.hi[i].wrapping_add(b.hi[i]), a.bits[i] & b.bits[i] & both))
}

#[inline(always)]
pub(super) fn sub(a: &Lanes, b: &Lanes, independent: bool) -> Lanes {
    let both = all(independent);
    integers(|i| (a.lo[i].wrapping_sub(b.hi[i]), a.hi[i].wrapping_sub(b.lo[i]), a.bits[i] & b.bits[i] & both))
}

#[inline(always)]
pub(super) fn min(a: &Lanes, b: &Lanes, independent: bool) -> Lanes {
    let both = all(independent);
    integers(|i| (a.lo[i].min(b.lo[i]), a.hi[i].min(b.hi[i]), a.bits[i] & b.bits[i] & both))
}

#[inline(always)]
pub(super) fn max(a: &Lanes, b: &Lanes, independent: bool) -> Lanes {
    let both = all(independent);
    integers(|i| (a.lo[i].max(b.lo[i]), a.hi[i].max(b.hi[i]), a.bits[i] & b.bits[i] & both))
}

#[inline(always)]
pub(super) fn negate(a: &Lanes) -> Lanes {
    integers(|i| (a.hi[i].wrapping_neg(), a.lo[i].wrapping_neg(), a.bits[i]))
}

#[inline(always)]
pub(super) fn abs(a: &Lanes) -> Lanes {
    integers(|i| {
        let (lo, hi, bits) = (a.lo[i], a.hi[i], a.bits[i]);
        // Where the values have both signs, 0 and the larger end are reached if everything between is.
        let dense = bits & DENSE;
        let crossing = dense | dense >> 1;
        let bits = if (lo < 0) & (hi > 0) { crossing } else { bits };
        (lo.max(hi.wrapping_neg()).max(0), hi.max(lo.wrapping_neg()), bits)
    })
}

#[inline(always)]
pub(super) fn from_bool(a: &Lanes) -> Lanes {
    integers(|i| {
        let bits = a.bits[i];
        let (may, may_not, mixed) = (bits & 1, bits >> 1 & 1, bits >> 2 & bits >> 3 & 1);
        let known = mixed | (1 ^ (may & may_not));
        ((may_not ^ 1) as i32, may as i32, known * (ATTAINED | DENSE))
    })
}

#[inline(always)]
pub(super) fn select_int(c: &Lanes, a: &Lanes, r: &Lanes) -> Lanes {
    integers(|i| {
        let may = c.bits[i] & 3;
        let (yes, no) = (may == 1, may == 2);
        let hull = (a.lo[i].min(r.lo[i]), a.hi[i].max(r.hi[i]), 0);
        let rejected = (r.lo[i], r.hi[i], r.bits[i]);
        let pick = |x: i32, y: i32, both: i32| if yes { x } else if no { y } else { both };
        (
            pick(a.lo[i], rejected.0, hull.0),
            pick(a.hi[i], rejected.1, hull.1),
            if yes { a.bits[i] } else if no { rejected.2 } else { hull.2 },
        )
    })
}

/// The bits of a truth from those of what may be and what is proved to be.
#[inline(always)]
fn normal(may_be_true: u32, may_be_false: u32, true_somewhere: u32, false_somewhere: u32) -> u32 {
    // A value that is the only possible one occurs.
    let true_somewhere = true_somewhere & may_be_true | (may_be_false ^ 1);
    let false_somewhere = false_somewhere & may_be_false | (may_be_true ^ 1);
    may_be_true | may_be_false << 1 | true_somewhere << 2 | false_somewhere << 3
}

/// `a >= b`.
#[inline(always)]
pub(super) fn at_least(a: &Lanes, b: &Lanes, independent: bool) -> Lanes {
    order(a, b, independent, |x, y| x >= y)
}

/// `a > b`.
#[inline(always)]
pub(super) fn above(a: &Lanes, b: &Lanes, independent: bool) -> Lanes {
    order(a, b, independent, |x, y| x > y)
}

#[inline(always)]
fn order(a: &Lanes, b: &Lanes, independent: bool, holds: impl Fn(i32, i32) -> bool) -> Lanes {
    truth(|i| {
        let may_be_true = holds(a.hi[i], b.lo[i]);
        let may_be_false = !holds(a.lo[i], b.hi[i]);
        // The ends of the difference decide, and they are reached.
        let attained = a.bits[i] & b.bits[i] & all(independent) & ATTAINED;
        normal(may_be_true.into(), may_be_false.into(), attained, attained)
    })
}

#[inline(always)]
pub(super) fn equal(a: &Lanes, b: &Lanes, independent: bool) -> Lanes {
    truth(|i| {
        let (a_lo, a_hi, b_lo, b_hi) = (a.lo[i], a.hi[i], b.lo[i], b.hi[i]);
        let may_be_true = u32::from((a_lo <= b_hi) & (b_lo <= a_hi));
        let may_be_false = u32::from((a_lo != b_hi) | (a_hi != b_lo));
        let attained = a.bits[i] & b.bits[i] & all(independent) & ATTAINED;
        let inside = |lo: i32, hi: i32, x: i32, y: i32| {
            u32::from((lo <= x) & (x <= hi) | (lo <= y) & (y <= hi))
        };
        let a_meets = a.bits[i] >> 1 & inside(a_lo, a_hi, b_lo, b_hi);
        let b_meets = b.bits[i] >> 1 & inside(b_lo, b_hi, a_lo, a_hi);
        let ends = u32::from((a_lo == b_lo) | (a_lo == b_hi) | (a_hi == b_lo) | (a_hi == b_hi));
        normal(may_be_true, may_be_false, attained & (a_meets | b_meets | ends), attained)
    })
}

#[inline(always)]
pub(super) fn not(a: &Lanes) -> Lanes {
    truth(|i| inverse(a.bits[i]))
}

#[inline(always)]
pub(super) fn and(a: &Lanes, b: &Lanes, independent: bool) -> Lanes {
    truth(|i| conjunction(a.bits[i], b.bits[i], all(independent)))
}

#[inline(always)]
pub(super) fn or(a: &Lanes, b: &Lanes, independent: bool) -> Lanes {
    truth(|i| inverse(conjunction(inverse(a.bits[i]), inverse(b.bits[i]), all(independent))))
}

#[inline(always)]
fn inverse(a: u32) -> u32 {
    (a & 5) << 1 | (a & 10) >> 1
}

#[inline(always)]
fn conjunction(a: u32, b: u32, independent: u32) -> u32 {
    let (a_always, b_always) = (!a >> 1 & 1, !b >> 1 & 1);
    let (a_somewhere, b_somewhere) = (a >> 2 & 1, b >> 2 & 1);
    let true_somewhere =
        a_always & b_somewhere | a_somewhere & b_always | a_somewhere & b_somewhere & independent;
    normal(a & b & 1, (a | b) >> 1 & 1, true_somewhere, (a | b) >> 3 & 1)
}

/// `if c { a } else { r }`; `independent` of the condition are the branches.
#[inline(always)]
pub(super) fn select(c: &Lanes, a: &Lanes, r: &Lanes, independent: [bool; 2]) -> Lanes {
    let [a_independent, r_independent] = independent.map(all);
    truth(|i| {
        let (c, a, r) = (c.bits[i], a.bits[i], r.bits[i]);
        // Whether `true` is proved to occur; of the inverse branches, `false`.
        let occurs = |a: u32, r: u32| {
            let (a_always, r_always) = (!a >> 1 & 1, !r >> 1 & 1);
            let (a_somewhere, r_somewhere) = (a >> 2 & 1, r >> 2 & 1);
            let accepted = c >> 2 & 1 & (a_always | a_somewhere & a_independent);
            let rejected = c >> 3 & 1 & (r_always | r_somewhere & r_independent);
            // Where one branch always has the value, a point at which the other has it needs no condition.
            accepted | rejected | r_always & a_somewhere | a_always & r_somewhere
        };
        let either = a | r;
        let open = normal(either & 1, either >> 1 & 1, occurs(a, r), occurs(inverse(a), inverse(r)));
        match c & 3 {
            1 => a,
            2 => r,
            _ => open,
        }
    })
}

/// Division by a positive number, rounded toward zero.
#[inline(always)]
pub(super) fn div(a: &Lanes, divisor: i32) -> Lanes {
    let divisor = f64::from(divisor);
    integers(|i| (quotient(a.lo[i], divisor), quotient(a.hi[i], divisor), a.bits[i]))
}

/// The quotient of i32, rounded toward zero. Exact: it lies at least 1/divisor below the next integer, or is one, and an
/// f64 tells these apart.
#[inline(always)]
fn quotient(x: i32, divisor: f64) -> i32 {
    (f64::from(x) / divisor) as i32
}

/// The remainder of division by a positive number, of what is not negative.
#[inline(always)]
pub(super) fn rem(a: &Lanes, divisor: i32) -> Lanes {
    let real = f64::from(divisor);
    integers(|i| {
        let (lo, hi) = (a.lo[i], a.hi[i]);
        let (lo_turn, hi_turn) = (quotient(lo, real), quotient(hi, real));
        let (lo_rest, hi_rest) =
            (lo.wrapping_sub(lo_turn.wrapping_mul(divisor)), hi.wrapping_sub(hi_turn.wrapping_mul(divisor)));
        let one_turn = lo_turn == hi_turn;
        // A dense range that passes a multiple has the values just before and at it.
        let dense = a.bits[i] & DENSE;
        let complete = (hi.wrapping_sub(lo) >= divisor - 1) | (lo_rest <= hi_rest + 1);
        let passing = dense >> 1 | if complete { dense } else { 0 };
        match one_turn {
            true => (lo_rest, hi_rest, a.bits[i]),
            false => (0, divisor - 1, passing),
        }
    })
}

/// `constant + Σ factor · term`; terms without a factor are not there. The terms are `independent` of each other.
#[inline(always)]
pub(super) fn linear(
    constant: i32,
    factors: &[i32; OPERANDS],
    terms: [&Lanes; OPERANDS],
    independent: bool,
) -> Lanes {
    let mut sum = Lanes { lo: [constant; FAN], hi: [constant; FAN], bits: [ATTAINED | DENSE; FAN] };
    for (&factor, term) in factors.iter().zip(terms).filter(|(factor, _)| **factor != 0) {
        // A factor other than ±1 leaves values out, unless there is but one.
        let unit = if factor.abs() == 1 { u32::MAX } else { ATTAINED };
        for i in 0..FAN {
            let (x, y) = (term.lo[i].wrapping_mul(factor), term.hi[i].wrapping_mul(factor));
            let dense = if x == y { DENSE } else { 0 };
            sum.lo[i] = sum.lo[i].wrapping_add(x.min(y));
            sum.hi[i] = sum.hi[i].wrapping_add(x.max(y));
            sum.bits[i] &= term.bits[i] & unit | dense & term.bits[i] << 1;
        }
    }
    let all = all(independent);
    for i in 0..FAN {
        sum.bits[i] &= all;
    }
    sum
}

/// A scalar rule for every lane. `within` bounds the values in the whole region.
#[inline(always)]
pub(super) fn by_lane(within: IntRange, rule: impl Fn(usize) -> IntRange) -> Lanes {
    let mut result = Lanes::ZERO;
    for i in 0..FAN {
        let range = rule(i);
        let (lo, hi) = (range.lo.max(within.lo), range.hi.min(within.hi));
        let unchanged = (lo, hi) == (range.lo, range.hi);
        let range = if unchanged { range } else { IntRange::within(lo, hi) };
        (result.lo[i], result.hi[i], result.bits[i]) = parts(ValueRange::Int(range));
    }
    result
}

/// What the truths of a mask say of the boxes.
#[inline(always)]
pub(super) fn verdicts(root: &Lanes) -> Verdicts {
    let select = |wanted: fn(u32) -> bool| {
        let mut found = 0u32;
        for (i, &bits) in root.bits.iter().enumerate() {
            found |= u32::from(wanted(bits)) << i;
        }
        found as u16
    };
    Verdicts {
        full: select(|bits| bits & 2 == 0),
        empty: select(|bits| bits & 1 == 0),
        mixed: select(|bits| bits & 12 == 12),
    }
}
