//! Soundness on random expressions, and sharpness on the forms that masks are made of.

use proptest::prelude::*;

use super::*;
use crate::analysis::interpret::{Interpreter, Point};
use crate::capture::{Capture, CaptureValue, IntoArray};
use crate::ir::semantics::Value;
use crate::ir::{BinaryOp, Builder, Expr, Input, NodeId, Scalar, Type, UnaryOp};
use crate::mods::BoundExpr;
use crate::testing::{self, ExprConfig};

fn spans() -> impl Strategy<Value = Span> {
    let edge = prop_oneof![
        8 => -4..12i32,
        2 => 0..200i32,
        1 => prop::sample::select(vec![i32::MIN, i32::MIN + 3, i32::MAX - 3, i32::MAX, 1 << 30]),
    ];
    (edge, 0..6i32).prop_map(|(first, len)| Span::new(first, first.saturating_add(len)))
}

fn boxes() -> impl Strategy<Value = IndexBox> {
    (spans(), spans(), spans(), spans()).prop_map(|(b, h, q, kv)| IndexBox { b, h, q, kv })
}

/// Some points of a box: its corners and a few inside.
fn points_of(index_box: &IndexBox) -> Vec<Point> {
    let pick = |span: Span| [span.first, span.last, span.first + (span.last - span.first) / 2];
    let mut points = Vec::new();
    for b in pick(index_box.b) {
        for h in pick(index_box.h) {
            for q in pick(index_box.q) {
                points.extend(pick(index_box.kv).map(|kv| Point { b, h, q, kv }));
            }
        }
    }
    points.sort_unstable();
    points.dedup();
    points
}

/// Checks the root and, through expressions rooted there, nodes inside.
fn check(bound: &BoundExpr, index_box: &IndexBox, scores: (f32, f32)) -> Result<(), TestCaseError> {
    let range = match scores.0.is_nan() || scores.1.is_nan() {
        true => FloatRange::ANY,
        false => FloatRange::within(scores.0.min(scores.1), scores.0.max(scores.1)),
    };
    let program = IntervalProgram::new(bound);
    let mut analysis = IntervalAnalysis::new(&program);
    analysis.evaluate(index_box, range);
    let mut interpreter = Interpreter::<f32>::new(bound);
    for point in points_of(index_box) {
        for score in [scores.0, scores.1] {
            match interpreter.evaluate(point, score) {
                Err(_) => prop_assert!(analysis.root_may_fault(), "fault at {point:?} in {index_box:?}"),
                Ok(value) => prop_assert!(
                    analysis.root().contains(value.into()),
                    "{value:?} at {point:?} is outside {:?} of {index_box:?}",
                    analysis.root()
                ),
            }
        }
    }
    Ok(())
}

/// The expression with another root, so that its inner nodes are checked too.
fn rerooted(bound: &BoundExpr, root: NodeId) -> BoundExpr {
    let expr = Expr { root, ..(**bound.expr()).clone() };
    BoundExpr::new("part", expr, bound.captures().to_vec()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testing::cases(30_000)))]

    #[test]
    fn masks_stay_in_their_ranges(bound in testing::expressions(ExprConfig::mask()), index_box in boxes()) {
        check(&bound, &index_box, (0.0, 0.0))?;
    }

    #[test]
    fn scores_stay_in_their_ranges(
        bound in testing::expressions(ExprConfig::score()),
        index_box in boxes(),
        scores in (testing::scores(), testing::scores()),
    ) {
        check(&bound, &index_box, scores)?;
    }

    #[test]
    fn inner_nodes_stay_in_their_ranges(
        bound in testing::expressions(ExprConfig::mask()),
        index_box in boxes(),
        pick in any::<prop::sample::Index>(),
    ) {
        let root = NodeId(pick.index(bound.expr().nodes().len()) as u32);
        check(&rerooted(&bound, root), &index_box, (0.0, 0.0))?;
    }

    /// What is proved to occur does occur, on boxes small enough to look at every point.
    #[test]
    fn witnesses_exist(
        bound in testing::expressions(ExprConfig::mask()),
        pick in any::<prop::sample::Index>(),
        (q, kv) in (0..20i32, 0..20i32),
        (q_len, kv_len) in (1..5i32, 1..5i32),
        (b, h) in (0..3i32, 0..3i32),
    ) {
        let bound = rerooted(&bound, NodeId(pick.index(bound.expr().nodes().len()) as u32));
        let index_box = IndexBox {
            b: Span::single(b),
            h: Span::single(h),
            q: Span::new(q, q + q_len - 1),
            kv: Span::new(kv, kv + kv_len - 1),
        };
        let program = IntervalProgram::new(&bound);
        let mut analysis = IntervalAnalysis::new(&program);
        analysis.evaluate(&index_box, FloatRange::ANY);
        if analysis.root_may_fault() {
            return Ok(());
        }
        let mut interpreter = Interpreter::<f32>::new(&bound);
        let values: Vec<Scalar> = (q..q + q_len)
            .flat_map(|q| (kv..kv + kv_len).map(move |kv| Point { b, h, q, kv }))
            .map(|point| interpreter.evaluate(point, 0.0).map(Value::into))
            .collect::<Result<_, _>>()
            .map_err(|fault| TestCaseError::fail(format!("unexpected {fault:?}")))?;
        let has = |value: i64| values.iter().any(|v| match v {
            Scalar::I32(v) => i64::from(*v) == value,
            Scalar::U32(v) => i64::from(*v) == value,
            _ => false,
        });
        match analysis.root() {
            ValueRange::Bool(truth) => for value in [false, true] {
                let occurs = values.contains(&Scalar::Bool(value));
                prop_assert!(occurs || !truth.is_somewhere(value), "{truth:?} but {values:?}");
                prop_assert!(truth.may_be(value) || !occurs);
            },
            ValueRange::Int(range) => {
                prop_assert!(!range.attained || has(range.lo) && has(range.hi), "{range:?} of {values:?}");
                prop_assert!(!range.dense || (range.lo..=range.hi).all(has), "{range:?} of {values:?}");
                prop_assert!(range.attained || !range.dense);
            }
            ValueRange::Float(_) => {}
        }
    }
}

/// A mask over q and kv, built by hand.
pub(super) fn mask(build: impl FnOnce(&mut Builder, NodeId, NodeId) -> NodeId) -> BoundExpr {
    with_captures(&[], build)
}

pub(super) fn with_captures(
    arrays: &[(&str, &Vec<i32>)],
    build: impl FnOnce(&mut Builder, NodeId, NodeId) -> NodeId,
) -> BoundExpr {
    let mut b = Builder::new();
    let mut captures = Vec::new();
    for (name, data) in arrays {
        b.declare(*name, Type::I32, 1);
        captures.push(Capture { name: (*name).into(), value: CaptureValue::Array((*data).into_array()) });
    }
    let (q, kv) = (b.input(Input::Query), b.input(Input::Key));
    let root = build(&mut b, q, kv);
    BoundExpr::new("mask", b.finish(root).unwrap(), captures).unwrap()
}

/// What is known of a mask on the tile of queries `q` and keys `kv` (ends included), and whether it may fault there.
pub(super) fn on_tile(bound: &BoundExpr, q: (i32, i32), kv: (i32, i32)) -> (Truth, bool) {
    let program = IntervalProgram::new(bound);
    let mut analysis = IntervalAnalysis::new(&program);
    let zero = Span::single(0);
    let index_box = IndexBox { b: zero, h: zero, q: Span::new(q.0, q.1), kv: Span::new(kv.0, kv.1) };
    analysis.evaluate(&index_box, FloatRange::ANY);
    (analysis.root().truth(), analysis.root_may_fault())
}

pub(super) fn truth_on(bound: &BoundExpr, q: (i32, i32), kv: (i32, i32)) -> Truth {
    on_tile(bound, q, kv).0
}

#[test]
fn affine_comparisons_are_decided_by_the_difference() {
    // q·3 + kv − q·2 ≥ kv + q is always true, though each side alone varies.
    let bound = mask(|b, q, kv| {
        let (three, two) = (b.constant(3), b.constant(2));
        let (triple, double) = (b.binary(BinaryOp::Mul, q, three), b.binary(BinaryOp::Mul, q, two));
        let sum = b.binary(BinaryOp::Add, triple, kv);
        let left = b.binary(BinaryOp::Sub, sum, double);
        let right = b.binary(BinaryOp::Add, kv, q);
        b.binary(BinaryOp::Ge, left, right)
    });
    assert_eq!(truth_on(&bound, (0, 127), (0, 1000)), Truth::always(true));
}

#[test]
fn causal_tiles_are_full_empty_or_mixed() {
    let causal = mask(|b, q, kv| b.binary(BinaryOp::Ge, q, kv));
    assert_eq!(truth_on(&causal, (128, 255), (0, 127)), Truth::always(true));
    assert_eq!(truth_on(&causal, (0, 127), (128, 255)), Truth::always(false));
    assert!(truth_on(&causal, (128, 255), (128, 255)).is_mixed());
}

#[test]
fn wrapping_differences_are_not_trusted() {
    let bound = mask(|b, q, kv| {
        let (difference, zero) = (b.binary(BinaryOp::Sub, q, kv), b.constant(0));
        b.binary(BinaryOp::Ge, difference, zero)
    });
    // q − kv wraps to a negative number at q = MAX, kv = −1.
    let truth = truth_on(&bound, (i32::MAX - 1, i32::MAX), (-1, 0));
    assert!(truth.may_be(false) && truth.may_be(true));
}

#[test]
fn sorted_ids_are_equal_where_their_ranges_overlap() {
    let ids: Vec<i32> = (0..1000).map(|i| i / 300).collect();
    let document = with_captures(&[("doc", &ids)], |b, q, kv| {
        let (left, right) = (b.load(crate::ir::CaptureId(0), &[q]), b.load(crate::ir::CaptureId(0), &[kv]));
        b.binary(BinaryOp::Eq, left, right)
    });
    assert_eq!(truth_on(&document, (0, 127), (128, 255)), Truth::always(true));
    assert_eq!(truth_on(&document, (0, 127), (384, 511)), Truth::always(false));
    assert!(truth_on(&document, (256, 383), (0, 127)).is_mixed());
    assert!(on_tile(&document, (900, 1000), (0, 127)).1);
}

#[test]
fn guards_prevent_faults() {
    let ids: Vec<i32> = vec![0; 100];
    let capture = crate::ir::CaptureId(0);
    let guarded = with_captures(&[("doc", &ids)], |b, q, kv| {
        let len = b.extent(capture, 0);
        let inside = b.binary(BinaryOp::Lt, kv, len);
        let difference = b.binary(BinaryOp::Sub, q, kv);
        let (zero, lag) = (b.constant(0), b.constant(50));
        let near = b.binary(BinaryOp::Lt, difference, lag);
        let after = b.binary(BinaryOp::Ge, difference, zero);
        let (by_key, by_lag) = (b.load(capture, &[kv]), b.load(capture, &[difference]));
        let same = b.binary(BinaryOp::Eq, by_key, by_lag);
        let same = b.and_then(near, same);
        let same = b.and_then(after, same);
        b.and_then(inside, same)
    });
    assert!(!on_tile(&guarded, (64, 191), (64, 191)).1, "both loads are guarded");
    let divided = |guarded: bool| {
        mask(|b, q, kv| {
            let zero = b.constant(0);
            let rest = b.binary(BinaryOp::Rem, q, kv);
            let divides = b.binary(BinaryOp::Eq, rest, zero);
            let nonzero = b.binary(BinaryOp::Ne, kv, zero);
            if guarded { b.and_then(nonzero, divides) } else { divides }
        })
    };
    assert!(on_tile(&divided(false), (0, 127), (0, 127)).1);
    assert!(!on_tile(&divided(true), (0, 127), (0, 127)).1);
}

#[test]
fn neighbourhoods_on_a_grid_are_decided() {
    // |q/16 − kv/16| ≤ 2 and |q%16 − kv%16| ≤ 2 on a grid 16 wide.
    let natten = mask(|b, q, kv| {
        let (side, two) = (b.constant(16), b.constant(2));
        let mut near = |op| {
            let (x, y) = (b.binary(op, q, side), b.binary(op, kv, side));
            let difference = b.binary(BinaryOp::Sub, x, y);
            let distance = b.unary(UnaryOp::Abs, difference);
            b.binary(BinaryOp::Le, distance, two)
        };
        let (rows, columns) = (near(BinaryOp::Div), near(BinaryOp::Rem));
        b.and_then(rows, columns)
    });
    assert_eq!(truth_on(&natten, (0, 15), (64, 79)), Truth::always(false));
    assert_eq!(truth_on(&natten, (32, 34), (16, 18)), Truth::always(true));
    assert!(truth_on(&natten, (32, 47), (32, 47)).is_mixed());
}

#[test]
fn padding_in_both_directions_is_mixed_without_a_look() {
    let padding = mask(|b, q, kv| {
        let len = b.constant(100);
        let (row, column) = (b.binary(BinaryOp::Lt, q, len), b.binary(BinaryOp::Lt, kv, len));
        b.and_then(row, column)
    });
    assert!(truth_on(&padding, (0, 127), (0, 127)).is_mixed());
    assert_eq!(truth_on(&padding, (0, 99), (0, 99)), Truth::always(true));
    assert_eq!(truth_on(&padding, (0, 99), (100, 199)), Truth::always(false));
}
