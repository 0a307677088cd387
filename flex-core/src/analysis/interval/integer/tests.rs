//! The rules of integers against every value of every small range: sound, exact where they can be, and wider only where
//! that is meant.

use std::collections::BTreeSet;

use super::*;

const OPS: [BinaryOp; 14] = [
    BinaryOp::Add,
    BinaryOp::Sub,
    BinaryOp::Mul,
    BinaryOp::Div,
    BinaryOp::Rem,
    BinaryOp::DivEuclid,
    BinaryOp::RemEuclid,
    BinaryOp::Min,
    BinaryOp::Max,
    BinaryOp::And,
    BinaryOp::Or,
    BinaryOp::Xor,
    BinaryOp::Shl,
    BinaryOp::Shr,
];

const UNARY_OPS: [UnaryOp; 7] = [
    UnaryOp::Neg,
    UnaryOp::Not,
    UnaryOp::Abs,
    UnaryOp::Signum,
    UnaryOp::CountOnes,
    UnaryOp::LeadingZeros,
    UnaryOp::TrailingZeros,
];

/// Every range near zero.
fn small(ty: Type) -> Vec<IntRange> {
    let least = if ty == Type::I32 { -6 } else { 0 };
    (least..=7).flat_map(|lo| (lo..=7).map(move |hi| IntRange::every(lo, hi))).collect()
}

/// Ranges at the ends of the type, and across its middle.
fn extreme(ty: Type) -> Vec<IntRange> {
    let (min, max) = limits(ty);
    [
        (min, min),
        (min, min + 2),
        (min + 1, min + 3),
        (max - 2, max),
        (max, max),
        (0, 2),
        ((1 << 31) - 2, (1 << 31) - 1),
    ]
    .into_iter()
    .map(|(lo, hi)| IntRange::every(lo, hi))
    .collect()
}

/// Checks a range against the values that there are, `None` for a fault. Returns whether it is exact: no wider than they
/// are, and if they are all there is between them, it knows.
fn check(range: IntRange, values: &BTreeSet<i64>, what: &dyn std::fmt::Debug) -> bool {
    let (Some(&least), Some(&most)) = (values.first(), values.last()) else { return true };
    assert!(range.lo <= least && most <= range.hi, "{range:?} of {what:?} has not all of {values:?}");
    let has = |value: i64| values.contains(&value);
    assert!(
        !range.attained || has(range.lo) && has(range.hi),
        "{range:?} of {what:?} is not attained: {values:?}"
    );
    assert!(!range.dense || (range.lo..=range.hi).all(has), "{range:?} of {what:?} has gaps: {values:?}");
    (range.lo, range.hi) == (least, most)
}

/// Whether the result is exact, and whether nothing wraps.
fn check_binary(op: BinaryOp, ty: Type, a: IntRange, b: IntRange) -> (bool, bool) {
    let mut values = BTreeSet::new();
    let (mut faults, mut wraps) = (false, false);
    for x in a.lo..=a.hi {
        for y in b.lo..=b.hi {
            match semantics::binary::<f32>(op, word(ty, x), word(ty, y)) {
                Ok(value) => {
                    values.insert(value.integer());
                    wraps |= match op {
                        BinaryOp::Add => value.integer() != x + y,
                        BinaryOp::Sub => value.integer() != x - y,
                        BinaryOp::Mul => x.checked_mul(y) != Some(value.integer()),
                        _ => false,
                    };
                }
                Err(_) => faults = true,
            }
        }
    }
    let ((range, no_wrap), may_fault) = binary(op, ty, a, b, ty, true);
    assert_eq!(may_fault, faults, "{op:?} of {a:?} and {b:?}");
    assert!(!(no_wrap && wraps), "{op:?} of {a:?} and {b:?} wraps");
    (check(range, &values, &(op, ty, a, b)), no_wrap)
}

/// Operations that give wider ranges than their values have, and why. All else is exact where nothing wraps.
const WIDENED: [(&str, &str); 11] = [
    // Quotients and remainders by several divisors: from the ends of both sides alone.
    ("div", "varying"),
    ("div_euclid", "varying"),
    ("rem", "varying"),
    ("rem_euclid", "varying"),
    // Bits: the leading ones that all values share, and of the last ones what a remainder tells.
    ("and", "constant"),
    ("and", "varying"),
    ("or", "constant"),
    ("or", "varying"),
    ("xor", "constant"),
    ("xor", "varying"),
    // Between none and all of the bits are shifted out.
    ("shr", "varying"),
];

#[test]
fn only_these_operations_widen() {
    let mut widened = BTreeSet::new();
    for ty in [Type::I32, Type::U32] {
        for op in OPS {
            for a in small(ty) {
                for b in small(ty) {
                    let by = if b.as_single().is_some() { "constant" } else { "varying" };
                    let (exact, no_wrap) = check_binary(op, ty, a, b);
                    if !exact && no_wrap {
                        widened.insert((op.name(), by));
                    }
                }
            }
        }
    }
    assert_eq!(widened, BTreeSet::from(WIDENED));
}

/// Bits that masks are made of are exact all the same.
#[test]
fn last_bits_and_aligned_blocks_are_exact() {
    for lo in 0..20 {
        for hi in lo..24 {
            for ones in [0, 1, 3, 7, 15] {
                let values = (lo..=hi).map(|v| v & ones).collect();
                let ((range, _), _) = binary(
                    BinaryOp::And,
                    Type::I32,
                    IntRange::every(lo, hi),
                    IntRange::single(ones),
                    Type::I32,
                    true,
                );
                assert!(check(range, &values, &(lo, hi, ones)));
            }
        }
    }
    // Whole blocks of a power of two, xored with the number of another block.
    for (block, other) in [(0, 5), (2, 3), (7, 1)] {
        let a = IntRange::every(block * 8, block * 8 + 7);
        let values = (a.lo..=a.hi).map(|v| v ^ (other * 8)).collect();
        let ((range, _), _) =
            binary(BinaryOp::Xor, Type::I32, a, IntRange::single(other * 8), Type::I32, true);
        assert!(check(range, &values, &(block, other)), "{range:?}");
    }
}

#[test]
fn the_ends_of_the_types_are_sound() {
    for ty in [Type::I32, Type::U32] {
        let ranges: Vec<IntRange> = extreme(ty).into_iter().chain(small(ty).into_iter().step_by(5)).collect();
        for op in OPS {
            for &a in &ranges {
                for &b in &ranges {
                    check_binary(op, ty, a, b);
                }
            }
        }
    }
}

#[test]
fn unary_operations_are_exact_but_for_counts_of_bits() {
    for ty in [Type::I32, Type::U32] {
        for op in UNARY_OPS {
            if ty == Type::U32 && matches!(op, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Signum) {
                continue;
            }
            for x in small(ty).into_iter().chain(extreme(ty)) {
                let values =
                    (x.lo..=x.hi).map(|v| semantics::unary::<f32>(op, word(ty, v)).integer()).collect();
                let (range, no_wrap) = unary(op, ty, x);
                let counts =
                    matches!(op, UnaryOp::CountOnes | UnaryOp::LeadingZeros | UnaryOp::TrailingZeros);
                let wraps = !no_wrap;
                assert!(
                    check(range, &values, &(op, ty, x)) || counts || wraps,
                    "{op:?} of {x:?} is {range:?}"
                );
            }
        }
    }
}

/// Comparisons of separate values are exact: what may be, occurs and is known to.
#[test]
fn comparisons_are_exact() {
    let ops = [BinaryOp::Eq, BinaryOp::Ne, BinaryOp::Lt, BinaryOp::Le, BinaryOp::Gt, BinaryOp::Ge];
    for (a, b) in small(Type::I32).iter().flat_map(|&a| small(Type::I32).into_iter().map(move |b| (a, b))) {
        let difference = IntRange {
            lo: a.lo - b.hi,
            hi: a.hi - b.lo,
            attained: a.attained && b.attained,
            dense: a.dense && b.dense,
        };
        for op in ops {
            let truth = compare(op, difference, meet(a, b));
            for value in [false, true] {
                let occurs = (a.lo..=a.hi).any(|x| {
                    (b.lo..=b.hi).any(|y| {
                        semantics::binary::<f32>(op, word(Type::I32, x), word(Type::I32, y))
                            .is_ok_and(|v| v.truth() == value)
                    })
                });
                assert_eq!(truth.may_be(value), occurs, "{a:?} {op:?} {b:?}");
                assert_eq!(truth.is_somewhere(value), occurs, "{a:?} {op:?} {b:?}");
            }
        }
    }
}

/// Of values that do not vary apart nothing is claimed to occur, but what is the only possibility.
#[test]
fn what_is_not_independent_is_not_witnessed() {
    let x = IntRange::every(0, 9);
    for op in [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Min, BinaryOp::Max] {
        let ((range, _), _) = binary(op, Type::I32, x, x, Type::I32, false);
        assert!(!range.attained && !range.dense, "{op:?}: {range:?}");
    }
}
