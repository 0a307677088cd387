//! What operations do to sixteen ranges: loops without branches, compiled for the instruction set of the caller. Macros
//! and not closures, which the compiler may leave to be called and then compiles for the least of all CPUs.
//!
//! The scalar rules that these must agree with are in [`integer`](super::super::integer),
//! [`Truth`](super::super::Truth) and [`evaluate`](super::super::evaluate).

use super::super::{IntRange, ValueRange};
use super::program::OPERANDS;
use super::{ATTAINED, CORNERS, DENSE, FALSE, FAN, HIGH, LOW, Lanes, ONE_VALUE, TRUE, Verdicts, parts};

/// Writes integers, given as lowest, highest and bits.
macro_rules! integers {
    ($result:ident, $i:ident => $value:expr) => {
        for $i in 0..FAN {
            ($result.lo[$i], $result.hi[$i], $result.bits[$i]) = $value;
        }
    };
}

/// Writes bools, given as the bits of their truths.
macro_rules! truths {
    ($result:ident, $i:ident => $value:expr) => {
        for $i in 0..FAN {
            $result.bits[$i] = $value;
        }
    };
}

/// The bits that are left of two ranges: of those whose values do not all occur together there is no witness.
#[inline(always)]
fn all(independent: bool) -> u32 {
    if independent { u32::MAX } else { ONE_VALUE }
}

/// The bits of an integer with its bounds exchanged.
#[inline(always)]
fn turned(bits: u32) -> u32 {
    bits & (ATTAINED | DENSE)
        | (bits & CORNERS << LOW) << (HIGH - LOW)
        | (bits & CORNERS << HIGH) >> (HIGH - LOW)
}

/// The corners of a range that may have but one value.
#[inline(always)]
fn single(lo: i32, hi: i32) -> u32 {
    if lo == hi { ONE_VALUE } else { 0 }
}

#[inline(always)]
pub(super) fn add(to: &mut Lanes, a: &Lanes, b: &Lanes, independent: bool) {
    let kept = all(independent);
    integers!(to, i => (
        a.lo[i].wrapping_add(b.lo[i]), a.hi[i].wrapping_add(b.hi[i]), a.bits[i] & b.bits[i] & kept
    ));
}

#[inline(always)]
pub(super) fn sub(to: &mut Lanes, a: &Lanes, b: &Lanes, independent: bool) {
    let kept = all(independent);
    integers!(to, i => (
        a.lo[i].wrapping_sub(b.hi[i]), a.hi[i].wrapping_sub(b.lo[i]), a.bits[i] & turned(b.bits[i]) & kept
    ));
}

#[inline(always)]
pub(super) fn min(to: &mut Lanes, a: &Lanes, b: &Lanes, independent: bool) {
    let kept = all(independent);
    integers!(to, i => (a.lo[i].min(b.lo[i]), a.hi[i].min(b.hi[i]), a.bits[i] & b.bits[i] & kept));
}

#[inline(always)]
pub(super) fn max(to: &mut Lanes, a: &Lanes, b: &Lanes, independent: bool) {
    let kept = all(independent);
    integers!(to, i => (a.lo[i].max(b.lo[i]), a.hi[i].max(b.hi[i]), a.bits[i] & b.bits[i] & kept));
}

#[inline(always)]
pub(super) fn negate(to: &mut Lanes, a: &Lanes) {
    integers!(to, i => (a.hi[i].wrapping_neg(), a.lo[i].wrapping_neg(), turned(a.bits[i])));
}

#[inline(always)]
pub(super) fn abs(to: &mut Lanes, a: &Lanes) {
    integers!(to, i => {
        let (lo, hi, bits) = (a.lo[i], a.hi[i], a.bits[i]);
        // Where the values have both signs, 0 and the larger end are reached if everything between is.
        let dense = bits & DENSE;
        let bits = if hi <= 0 { turned(bits) } else { bits };
        let bits = if (lo < 0) & (hi > 0) { dense | dense >> 1 } else { bits };
        (lo.max(hi.wrapping_neg()).max(0), hi.max(lo.wrapping_neg()), bits)
    });
}

/// Division by a positive number, rounded toward zero.
#[inline(always)]
pub(super) fn div(to: &mut Lanes, a: &Lanes, divisor: i32) {
    let divisor = f64::from(divisor.max(1));
    integers!(to, i => {
        let (lo, hi) = (quotient(a.lo[i], divisor), quotient(a.hi[i], divisor));
        (lo, hi, a.bits[i] | single(lo, hi))
    });
}

/// The quotient by a number that is at least 1, rounded toward zero. Exact: a quotient of i32 is an integer or at least
/// 2⁻³¹ away from one, and f64 tells these apart.
#[inline(always)]
fn quotient(x: i32, divisor: f64) -> i32 {
    // SAFETY: the quotient is a number and no larger than x, which is an i32.
    unsafe { (f64::from(x) / divisor).to_int_unchecked() }
}

/// The remainder of division by a positive number, of what is not negative.
#[inline(always)]
pub(super) fn rem(to: &mut Lanes, a: &Lanes, divisor: i32) {
    let real = f64::from(divisor.max(1));
    integers!(to, i => {
        let (lo, hi) = (a.lo[i], a.hi[i]);
        let (lo_turn, hi_turn) = (quotient(lo, real), quotient(hi, real));
        let lo_rest = lo.wrapping_sub(lo_turn.wrapping_mul(divisor));
        let hi_rest = hi.wrapping_sub(hi_turn.wrapping_mul(divisor));
        // A dense range that passes a multiple has the values just before and at it.
        let dense = a.bits[i] & DENSE;
        let complete = (hi.wrapping_sub(lo) >= divisor - 1) | (lo_rest <= hi_rest.wrapping_add(1));
        let passing = dense >> 1 | if complete { dense } else { 0 };
        let one_turn = lo_turn == hi_turn;
        (
            if one_turn { lo_rest } else { 0 },
            if one_turn { hi_rest } else { divisor - 1 },
            if one_turn { a.bits[i] } else { passing },
        )
    });
}

/// `constant + Σ factor · term`; terms with the factor 0 are not there. The terms are `independent` of each other.
#[inline(always)]
pub(super) fn linear(
    to: &mut Lanes,
    constant: i32,
    factors: &[i32; OPERANDS],
    terms: [&Lanes; OPERANDS],
    independent: bool,
) {
    *to = Lanes { lo: [constant; FAN], hi: [constant; FAN], bits: [ATTAINED | DENSE | ONE_VALUE; FAN] };
    for (&factor, term) in factors.iter().zip(terms) {
        if factor == 0 {
            continue;
        }
        // A factor other than ±1 leaves values out, unless there is but one.
        let unit = if factor.abs() == 1 { u32::MAX } else { ATTAINED };
        integers!(to, i => {
            let (x, y) = (term.lo[i].wrapping_mul(factor), term.hi[i].wrapping_mul(factor));
            let one = if x == y { DENSE } else { 0 };
            let bits = if factor < 0 { turned(term.bits[i]) } else { term.bits[i] };
            let kept = bits & (unit | ONE_VALUE) | one & bits << 1;
            (to.lo[i].wrapping_add(x.min(y)), to.hi[i].wrapping_add(x.max(y)), to.bits[i] & kept)
        });
    }
    let kept = all(independent);
    truths!(to, i => to.bits[i] & kept);
}

#[inline(always)]
pub(super) fn from_bool(to: &mut Lanes, a: &Lanes) {
    integers!(to, i => {
        let bits = a.bits[i];
        let (may, may_not, mixed) = (bits & 1, bits >> 1 & 1, bits >> 2 & bits >> 3 & 1);
        let known = mixed | (1 ^ (may & may_not));
        // What is true is the upper bound.
        let corners = (bits >> TRUE & CORNERS) << HIGH | (bits >> FALSE & CORNERS) << LOW;
        let (lo, hi) = ((may_not ^ 1) as i32, may as i32);
        (lo, hi, (known * (ATTAINED | DENSE)) | corners | single(lo, hi))
    });
}

#[inline(always)]
pub(super) fn select_int(to: &mut Lanes, c: &Lanes, a: &Lanes, r: &Lanes) {
    integers!(to, i => {
        let may = c.bits[i] & 3;
        let (yes, no) = (may == 1, may == 2);
        let (lo, hi) = (a.lo[i].min(r.lo[i]), a.hi[i].max(r.hi[i]));
        (
            if yes { a.lo[i] } else if no { r.lo[i] } else { lo },
            if yes { a.hi[i] } else if no { r.hi[i] } else { hi },
            if yes { a.bits[i] } else if no { r.bits[i] } else { 0 },
        )
    });
}

/// The bits of a truth from what may be, what is proved to be, and the corners.
#[inline(always)]
fn normal(
    may_be_true: u32,
    may_be_false: u32,
    true_somewhere: u32,
    false_somewhere: u32,
    corners: u32,
) -> u32 {
    // A value that is the only possible one occurs, at the corners too.
    let (always_true, always_false) = (may_be_false ^ 1, may_be_true ^ 1);
    let true_somewhere = true_somewhere & may_be_true | always_true;
    let false_somewhere = false_somewhere & may_be_false | always_false;
    let everywhere = (always_true * (CORNERS << TRUE)) | (always_false * (CORNERS << FALSE));
    may_be_true | may_be_false << 1 | true_somewhere << 2 | false_somewhere << 3 | corners | everywhere
}

/// The corners at which a comparison holds and at which it does not, from its values on the bounds of both sides: `low_high`
/// is that of the lower bound of `a` and the upper one of `b`.
#[inline(always)]
fn compared(a: u32, b: u32, low_low: bool, low_high: bool, high_low: bool, high_high: bool) -> u32 {
    let (a_low, a_high) = (a >> LOW & CORNERS, a >> HIGH & CORNERS);
    let (b_low, b_high) = (b >> LOW & CORNERS, b >> HIGH & CORNERS);
    corners(low_low, a_low & b_low)
        | corners(low_high, a_low & b_high)
        | corners(high_low, a_high & b_low)
        | corners(high_high, a_high & b_high)
}

#[inline(always)]
fn corners(value: bool, at: u32) -> u32 {
    if value { at << TRUE } else { at << FALSE }
}

/// `a >= b`.
#[inline(always)]
pub(super) fn at_least(to: &mut Lanes, a: &Lanes, b: &Lanes, independent: bool) {
    let kept = all(independent) & ATTAINED;
    truths!(to, i => {
        let (a_lo, a_hi, b_lo, b_hi) = (a.lo[i], a.hi[i], b.lo[i], b.hi[i]);
        let (low_high, high_low) = (a_lo >= b_hi, a_hi >= b_lo);
        let corners = compared(a.bits[i], b.bits[i], a_lo >= b_lo, low_high, high_low, a_hi >= b_hi);
        // The ends of the difference decide, and they are reached.
        let attained = a.bits[i] & b.bits[i] & kept;
        normal(high_low.into(), (!low_high).into(), attained, attained, corners)
    });
}

/// `a > b`.
#[inline(always)]
pub(super) fn above(to: &mut Lanes, a: &Lanes, b: &Lanes, independent: bool) {
    let kept = all(independent) & ATTAINED;
    truths!(to, i => {
        let (a_lo, a_hi, b_lo, b_hi) = (a.lo[i], a.hi[i], b.lo[i], b.hi[i]);
        let (low_high, high_low) = (a_lo > b_hi, a_hi > b_lo);
        let corners = compared(a.bits[i], b.bits[i], a_lo > b_lo, low_high, high_low, a_hi > b_hi);
        let attained = a.bits[i] & b.bits[i] & kept;
        normal(high_low.into(), (!low_high).into(), attained, attained, corners)
    });
}

#[inline(always)]
pub(super) fn equal(to: &mut Lanes, a: &Lanes, b: &Lanes, independent: bool) {
    let kept = all(independent) & ATTAINED;
    truths!(to, i => {
        let (a_lo, a_hi, b_lo, b_hi) = (a.lo[i], a.hi[i], b.lo[i], b.hi[i]);
        let may_be_true = (a_lo <= b_hi) & (b_lo <= a_hi);
        let may_be_false = (a_lo != b_hi) | (a_hi != b_lo);
        let attained = a.bits[i] & b.bits[i] & kept;
        let b_in_a = (a_lo <= b_lo) & (b_lo <= a_hi) | (a_lo <= b_hi) & (b_hi <= a_hi);
        let a_in_b = (b_lo <= a_lo) & (a_lo <= b_hi) | (b_lo <= a_hi) & (a_hi <= b_hi);
        let (low_low, low_high) = (a_lo == b_lo, a_lo == b_hi);
        let (high_low, high_high) = (a_hi == b_lo, a_hi == b_hi);
        let ends = low_low | low_high | high_low | high_high;
        let meet = a.bits[i] >> 1 & u32::from(b_in_a) | b.bits[i] >> 1 & u32::from(a_in_b) | u32::from(ends);
        let corners = compared(a.bits[i], b.bits[i], low_low, low_high, high_low, high_high);
        normal(may_be_true.into(), may_be_false.into(), attained & meet, attained, corners)
    });
}

#[inline(always)]
pub(super) fn not(to: &mut Lanes, a: &Lanes) {
    truths!(to, i => inverse(a.bits[i]));
}

#[inline(always)]
pub(super) fn and(to: &mut Lanes, a: &Lanes, b: &Lanes, independent: bool) {
    let independent = u32::from(independent);
    truths!(to, i => conjunction(a.bits[i], b.bits[i], independent));
}

#[inline(always)]
pub(super) fn or(to: &mut Lanes, a: &Lanes, b: &Lanes, independent: bool) {
    let independent = u32::from(independent);
    truths!(to, i => inverse(conjunction(inverse(a.bits[i]), inverse(b.bits[i]), independent)));
}

#[inline(always)]
fn inverse(a: u32) -> u32 {
    (a & 5) << 1
        | (a & 10) >> 1
        | (a & CORNERS << TRUE) << (FALSE - TRUE)
        | (a & CORNERS << FALSE) >> (FALSE - TRUE)
}

#[inline(always)]
fn conjunction(a: u32, b: u32, independent: u32) -> u32 {
    let (a_always, b_always) = (!a >> 1 & 1, !b >> 1 & 1);
    let (a_somewhere, b_somewhere) = (a >> 2 & 1, b >> 2 & 1);
    let true_somewhere =
        a_always & b_somewhere | a_somewhere & b_always | a_somewhere & b_somewhere & independent;
    let corners = a & b & CORNERS << TRUE | (a | b) & CORNERS << FALSE;
    normal(a & b & 1, (a | b) >> 1 & 1, true_somewhere, (a | b) >> 3 & 1, corners)
}

/// `if c { a } else { r }`; which branches are `independent` of the condition.
#[inline(always)]
pub(super) fn select(to: &mut Lanes, c: &Lanes, a: &Lanes, r: &Lanes, independent: [bool; 2]) {
    let independent = (u32::from(independent[0]), u32::from(independent[1]));
    truths!(to, i => {
        let (c, a, r) = (c.bits[i], a.bits[i], r.bits[i]);
        let either = a | r;
        let true_somewhere = occurs(c, a, r, independent);
        let false_somewhere = occurs(c, inverse(a), inverse(r), independent);
        let (accepts, rejects) = (c >> TRUE & CORNERS, c >> FALSE & CORNERS);
        let taken = accepts << TRUE | accepts << FALSE;
        let corners = a & taken | r & (rejects << TRUE | rejects << FALSE);
        let open = normal(either & 1, either >> 1 & 1, true_somewhere, false_somewhere, corners);
        if c & 3 == 1 { a } else if c & 3 == 2 { r } else { open }
    });
}

/// Whether `if c { a } else { r }` is proved to be true somewhere.
#[inline(always)]
fn occurs(c: u32, a: u32, r: u32, (a_independent, r_independent): (u32, u32)) -> u32 {
    let (a_always, r_always) = (!a >> 1 & 1, !r >> 1 & 1);
    let (a_somewhere, r_somewhere) = (a >> 2 & 1, r >> 2 & 1);
    let accepted = c >> 2 & 1 & (a_always | a_somewhere & a_independent);
    let rejected = c >> 3 & 1 & (r_always | r_somewhere & r_independent);
    // Where one branch always has the value, a point at which the other has it needs no condition.
    accepted | rejected | r_always & a_somewhere | a_always & r_somewhere
}

/// What a scalar rule says of one lane, with its values in the whole region, which lie `within` bounds.
#[inline(always)]
pub(super) fn set_lane(to: &mut Lanes, lane: usize, range: IntRange, within: IntRange) {
    let (lo, hi) = (range.lo.max(within.lo), range.hi.min(within.hi));
    let unchanged = (lo, hi) == (range.lo, range.hi);
    set_value(to, lane, ValueRange::Int(if unchanged { range } else { IntRange::within(lo, hi) }));
}

#[inline(always)]
pub(super) fn set_value(to: &mut Lanes, lane: usize, value: ValueRange) {
    (to.lo[lane], to.hi[lane], to.bits[lane]) = parts(value);
}

/// What the truths of a mask say of the boxes.
#[inline(always)]
pub(super) fn verdicts(root: &Lanes) -> Verdicts {
    let (mut full, mut empty, mut mixed) = (0, 0, 0);
    for (i, bits) in root.bits.iter().enumerate() {
        full |= (!bits >> 1 & 1) << i;
        empty |= (!bits & 1) << i;
        let kept = u32::from(bits & (CORNERS << TRUE | 4) != 0);
        let skipped = u32::from(bits & (CORNERS << FALSE | 8) != 0);
        mixed |= (kept & skipped) << i;
    }
    Verdicts { full: full as u16, empty: empty as u16, mixed: mixed as u16 }
}
