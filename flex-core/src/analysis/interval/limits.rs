//! Where the analysis is wider than the values are, it is so on purpose: here is what it still decides on one side of every
//! limit, and what it leaves open, soundly, on the other.

use proptest::prelude::*;

use super::tests::{mask, on_tile, truth_on, with_captures};
use super::*;
use crate::analysis::interpret::{self, Interpreter, Point};
use crate::capture::{IntoArray, View};
use crate::ir::semantics::Value;
use crate::ir::{BinaryOp, CaptureId, UnaryOp};
use crate::mask::{Extent, TileKind, create_block_mask, create_mask};
use crate::mods::{BoundExpr, MaskMod};
use crate::testing;

/// `x0 + x1 + … + q >= x0 + x1 + … + kv` with so many loads in front of both sides.
fn with_equal_loads(count: usize) -> BoundExpr {
    let data: Vec<i32> = (0..256).map(|i| i * 7919 % 1000).collect();
    let names: Vec<String> = (0..count).map(|i| format!("x{i}")).collect();
    let arrays: Vec<(&str, &Vec<i32>)> = names.iter().map(|name| (name.as_str(), &data)).collect();
    with_captures(&arrays, |b, q, kv| {
        let (mut left, mut right) = (q, kv);
        for i in 0..count as u32 {
            let x = b.load(CaptureId(i), &[q]);
            left = b.binary(BinaryOp::Add, left, x);
            right = b.binary(BinaryOp::Add, right, x);
        }
        b.binary(BinaryOp::Ge, left, right)
    })
}

#[test]
fn linear_forms_are_followed_up_to_six_terms() {
    for count in 0..=5 {
        assert_eq!(truth_on(&with_equal_loads(count), (128, 255), (0, 127)), Truth::always(true), "{count}");
    }
    let open = truth_on(&with_equal_loads(6), (128, 255), (0, 127));
    assert!(open.may_be(true) && open.may_be(false) && !open.is_somewhere(false));
}

/// Loads at `q + kv − 10`, `2q + kv − 10`, … that are in bounds where two conditions each hold, which all stand before them:
/// `q + kv >= 10 && q + kv < 90 && 2*q + kv >= 10 && … && x0[q + kv − 10] + … == 0`.
fn guarded(loads: usize) -> BoundExpr {
    let data = vec![0; 80];
    let arrays = vec![("x", &data); loads];
    with_captures(&arrays, |b, q, kv| {
        let (ten, end, zero) = (b.constant(10), b.constant(90), b.constant(0));
        let (mut place, mut sum, mut conditions) = (kv, zero, Vec::new());
        for i in 0..loads as u32 {
            place = b.binary(BinaryOp::Add, place, q);
            conditions.extend([b.binary(BinaryOp::Ge, place, ten), b.binary(BinaryOp::Lt, place, end)]);
            let index = b.binary(BinaryOp::Sub, place, ten);
            let load = b.load(CaptureId(i), &[index]);
            sum = b.binary(BinaryOp::Add, sum, load);
        }
        let all = b.binary(BinaryOp::Eq, sum, zero);
        conditions.into_iter().rev().fold(all, |all, condition| b.and_then(condition, all))
    })
}

#[test]
fn guards_are_looked_through_four_deep() {
    let extent = Extent { batch: 1, heads: 1, q_len: 128, kv_len: 128 };
    for loads in [1, 2, 3] {
        let guarded = guarded(loads);
        let may_fault = on_tile(&guarded, (0, 127), (0, 127)).1;
        assert_eq!(may_fault, loads > 2, "{loads} loads");
        // What may fault as far as is known is evaluated; the tile is the same.
        let mask = MaskMod::new("guarded", (**guarded.expr()).clone(), guarded.captures().to_vec()).unwrap();
        let built = create_block_mask(&mask, extent).unwrap();
        assert_eq!(built.to_dense(), [Some(TileKind::Partial)]);
        assert_eq!(built.elements_evaluated() == 128 * 128, may_fault, "{loads}");
        assert!(create_mask(&mask, extent).is_ok());
    }
}

#[test]
fn views_are_exact_in_boxes_of_up_to_sixteen_rows() {
    // Row i holds i·1000 to i·1000 + 99.
    let data: Vec<i32> = (0..40 * 100).map(|i| i / 100 * 1000 + i % 100).collect();
    let array = View::new(&data, [40, 100]).unwrap().into_array();
    let load = |rows: (i64, i64), columns: (i64, i64)| {
        let indices = [IntRange::every(rows.0, rows.1), IntRange::every(columns.0, columns.1)];
        loads::load(&array, &indices, true).0.int()
    };
    let few = load((3, 18), (10, 20));
    assert_eq!((few.lo, few.hi, few.attained), (3010, 18020, true));
    // All between the first and the last element, which here are the extremes; known as bounds alone.
    let many = load((3, 19), (10, 20));
    assert!(many.lo <= 3010 && many.hi >= 19020 && !many.dense);
}

#[test]
fn of_two_branches_the_hull_is_known() {
    let bound = mask(|b, q, kv| {
        let (five, hundred) = (b.constant(5), b.constant(100));
        let first = b.binary(BinaryOp::Lt, q, five);
        let far = b.binary(BinaryOp::Add, kv, hundred);
        let either = b.select(first, q, far);
        let limit = b.constant(50);
        b.binary(BinaryOp::Lt, either, limit)
    });
    // On 0..=9 the values are 0 to 4 and 100 to 109: 50 is between them, so that nothing is decided or witnessed.
    assert!(!truth_on(&bound, (0, 9), (0, 9)).is_mixed());
    assert_eq!(truth_on(&bound, (0, 4), (0, 9)), Truth::always(true));
    assert_eq!(truth_on(&bound, (5, 9), (0, 9)), Truth::always(false));
}

/// Correctly rounded functions are exact at a point; the others leave room for implementations that differ.
#[test]
fn transcendental_functions_are_widened() {
    let at = |op, x: f32| float::unary(op, FloatRange::single(x));
    for op in [UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Sqrt, UnaryOp::Floor, UnaryOp::Ceil, UnaryOp::Round] {
        let range = at(op, 2.3);
        assert_eq!(range.lo, range.hi, "{op:?}");
    }
    type Function = fn(f64) -> f64;
    let functions: [(UnaryOp, Function); 5] = [
        (UnaryOp::Exp, f64::exp),
        (UnaryOp::Exp2, f64::exp2),
        (UnaryOp::Ln, f64::ln),
        (UnaryOp::Log2, f64::log2),
        (UnaryOp::Tanh, f64::tanh),
    ];
    for (op, function) in functions {
        for x in [0.3f32, 1.0, 1.0001, 2.3, 7.0] {
            let (range, value) = (at(op, x), function(x.into()));
            let (lo, hi) = (f64::from(range.lo), f64::from(range.hi));
            let slack = value.abs().max(1e-3) * 1e-6;
            assert!(lo <= value - slack && (value + slack <= hi || hi == 1.0), "{op:?} of {x}: {range:?}");
            assert!(hi - lo < 1e-4 * value.abs().max(1.0), "{op:?} of {x} is too wide: {range:?}");
        }
    }
    for op in [UnaryOp::Sin, UnaryOp::Cos] {
        assert_eq!(at(op, 0.5), FloatRange::within(-1.0, 1.0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testing::cases(3_000)))]

    /// `inner[outer[kv / page] * page + kv % page] >= inner[q]`, as page tables and permutations have it: a load faults
    /// somewhere if and only if the analysis allows it, and what is decided is so.
    #[test]
    fn gathers_of_gathers_are_sound(
        page in 1..7i32,
        outer in prop::collection::vec(0..8i32, 1..8),
        sorted in any::<bool>(),
        inner in prop::collection::vec(-9..9i32, 20..40),
        (q, q_len, kv, kv_len) in (0..20i32, 1..8i32, 0..40i32, 1..9i32),
    ) {
        let mut inner = inner;
        if sorted {
            inner.sort_unstable();
        }
        let bound = with_captures(&[("outer", &outer), ("inner", &inner)], |b, q, kv| {
            let page = b.constant(page);
            let (number, rest) = (b.binary(BinaryOp::Div, kv, page), b.binary(BinaryOp::Rem, kv, page));
            let start = b.load(CaptureId(0), &[number]);
            let start = b.binary(BinaryOp::Mul, start, page);
            let place = b.binary(BinaryOp::Add, start, rest);
            let (key, query) = (b.load(CaptureId(1), &[place]), b.load(CaptureId(1), &[q]));
            b.binary(BinaryOp::Ge, key, query)
        });
        let (queries, keys) = ((q, q + q_len - 1), (kv, kv + kv_len - 1));
        let (truth, may_fault) = on_tile(&bound, queries, keys);
        let mut interpreter = Interpreter::<f32>::new(&bound);
        let mut found = [false; 2];
        for q in queries.0..=queries.1 {
            for kv in keys.0..=keys.1 {
                match interpreter.evaluate(Point { b: 0, h: 0, q, kv }, 0.0) {
                    Ok(Value::Bool(value)) => found[usize::from(value)] = true,
                    other => prop_assert!(may_fault, "{other:?} at {q}, {kv}"),
                }
            }
        }
        for value in [false, true] {
            prop_assert!(truth.may_be(value) || !found[usize::from(value)]);
            prop_assert!(may_fault || !truth.is_somewhere(value) || found[usize::from(value)]);
        }
    }
}

/// A permutation of whole tiles, gathered twice, is decided tile by tile.
#[test]
fn permutations_of_tiles_are_decided() {
    let order = vec![3, 0, 2, 1];
    let back = vec![1, 3, 2, 0];
    let bound = with_captures(&[("order", &order), ("back", &back)], |b, q, kv| {
        let tile = b.constant(16);
        let (x, y) = (b.binary(BinaryOp::Div, q, tile), b.binary(BinaryOp::Div, kv, tile));
        let (x, y) = (b.load(CaptureId(0), &[x]), b.load(CaptureId(0), &[y]));
        let (x, y) = (b.load(CaptureId(1), &[x]), b.load(CaptureId(1), &[y]));
        b.binary(BinaryOp::Ge, x, y)
    });
    for q in 0..4 {
        for kv in 0..4 {
            let expected = interpret::mask(&bound, Point { b: 0, h: 0, q: q * 16, kv: kv * 16 }).unwrap();
            let (truth, may_fault) = on_tile(&bound, (q * 16, q * 16 + 15), (kv * 16, kv * 16 + 15));
            assert!(truth == Truth::always(expected) && !may_fault, "{q} {kv}: {truth:?}");
        }
    }
}
