use std::cell::Cell;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::analysis::interpret::{Interpreter, Point};
use crate::capture::{Array, ArrayData, Capture, CaptureValue};
use crate::ir::Scalar;
use crate::mods::BoundExpr;
use crate::testing::{self, ExprConfig, Outcome};

fn derivative_at(text: &str, score: f32) -> f32 {
    let bound = BoundExpr::new("derivative", by_score(&text.parse().unwrap()), Vec::new()).unwrap();
    crate::analysis::interpret::score(&bound, Point { b: 0, h: 0, q: 0, kv: 0 }, score).unwrap()
}

#[test]
fn kinks_follow_the_conventions() {
    let unary = |op: &str, x| derivative_at(&format!("v0 = score\nv1 = {op} v0\nreturn v1"), x);
    assert_eq!([-2.0, 0.0, 3.0].map(|x| unary("abs", x)), [-1.0, 0.0, 1.0]);
    for op in ["floor", "ceil", "round", "trunc", "signum"] {
        assert_eq!(unary(op, 0.5), 0.0, "{op}");
    }
    let with_two =
        |op: &str, x| derivative_at(&format!("v0 = score\nv1 = 2.0f32\nv2 = {op} v0, v1\nreturn v2"), x);
    assert_eq!([1.0, 2.0, 3.0, f32::NAN].map(|x| with_two("min", x)), [1.0, 0.5, 0.0, 0.0]);
    assert_eq!([1.0, 2.0, 3.0, f32::NAN].map(|x| with_two("max", x)), [0.0, 0.5, 1.0, 0.0]);
    assert_eq!(with_two("rem", 5.5), 1.0);
    assert_eq!(with_two("pow", 3.0), 6.0);
    let two_to = "v0 = score\nv1 = 0.0f32\nv2 = pow v1, v0\nreturn v2";
    assert_eq!(derivative_at(two_to, 0.0), 0.0);
    let to_the_zero = "v0 = score\nv1 = 0.0f32\nv2 = pow v0, v1\nreturn v2";
    assert_eq!(derivative_at(to_the_zero, 0.0), 0.0);
}

#[test]
fn a_branch_not_taken_leaves_no_nan() {
    // if score > 0 { sqrt(score) } else { 0 }: the classic 0·∞ at 0.
    let text = "v0 = score\nv1 = 0.0f32\nv2 = gt v0, v1\nv3 = sqrt v0\nv4 = select v2, v3, v1\nreturn v4";
    assert_eq!([-1.0, 0.0, 4.0].map(|x| derivative_at(text, x)), [0.0, 0.0, 0.25]);
}

#[test]
fn what_is_no_float_has_derivative_zero() {
    let expr: Expr = "v0 = score\nv1 = is_nan v0\nreturn v1".parse().unwrap();
    assert_eq!(by_score(&expr).to_string(), "v0 = 0.0f32\nreturn v0\n");
}

fn in_f64(expr: &Expr, captures: &[Capture], at: Point, score: f64) -> Option<f64> {
    let bound = BoundExpr::new("f64", expr.clone(), captures.to_vec()).unwrap();
    Interpreter::<f64>::new(&bound).evaluate(at, score).ok().map(|value| value.real())
}

/// The slope of `f` at `x`, if `f` is smooth there: differences of several widths, to both sides, agree. `step` moves
/// x by about a width and returns the exact new x.
fn slope(
    f: impl Fn(f64) -> Option<f64>,
    x: f64,
    step: impl Fn(f64, f64) -> f64,
    widths: &[f64],
) -> Option<f64> {
    let here = f(x)?;
    let mut slopes = Vec::new();
    for &width in widths {
        let (low, high) = (step(x, -width), step(x, width));
        let (below, above) = (f(low)?, f(high)?);
        slopes.extend([
            (above - here) / (high - x),
            (here - below) / (x - low),
            (above - below) / (high - low),
        ]);
    }
    let slope = *slopes.last()?;
    let smooth = slopes.iter().all(|s| (s - slope).abs() <= 1e-3 * (1.0 + slope.abs()));
    (smooth && here.abs() < 1e4 && slope.abs() < 1e6).then_some(slope)
}

/// Whether differences between two nearby places (captures and score) tell nothing: some step function inside the
/// expression jumps there, and steps finer than the width look like a slope (`x % 1e-40`); or a part is so large that it
/// swallows the width (`sin(x + 1e38)`).
fn inconclusive(expr: &Expr, at: Point, low: (&[Capture], f64), high: (&[Capture], f64)) -> bool {
    use crate::ir::{BinaryOp::*, UnaryOp::*};
    let differs = |step: &dyn Fn(&[Capture], f64) -> Option<f64>| {
        let (below, above) = (step(low.0, low.1), step(high.0, high.1));
        below.map(f64::to_bits) != above.map(f64::to_bits)
    };
    let value = |id, captures: &[Capture], score| in_f64(&expr.rooted_at(id), captures, at, score);
    let is_large = |id| value(id, low.0, low.1).is_some_and(|v| v.is_nan() || v.abs() > 1e6);
    let large = expr.ids().any(|id| expr.ty(id) == Type::F32 && is_large(id));
    large
        || expr.nodes().iter().any(|node| match *node {
            Node::Unary(Floor | Ceil | Round | Trunc, x) | Node::Cast(Type::I32 | Type::U32, x)
                if expr.ty(x) == Type::F32 =>
            {
                // Constants are folded in f32, which may be on the other side of a jump.
                let halves = |captures: &[Capture], score| value(x, captures, score).map(|x| 2.0 * x);
                let is_at_jump = |twice: f64| (twice - twice.round()).abs() <= 1e-5 * (1.0 + twice.abs());
                halves(low.0, low.1).is_some_and(is_at_jump)
                    || differs(&|captures, score| halves(captures, score).map(f64::floor))
            }
            // At a tie of equal functions, `min(x, max(x, y))`, the convention need not be the slope.
            Node::Binary(Min | Max, a, b) if expr.ty(a) == Type::F32 => {
                let side = |captures: &[Capture], score| {
                    let (a, b) = (value(a, captures, score)?, value(b, captures, score)?);
                    if a == b { None } else { Some(f64::from(u8::from(a < b))) }
                };
                side(low.0, low.1).is_none() || differs(&side)
            }
            Node::Binary(Rem, a, b) if expr.ty(a) == Type::F32 => {
                let ratio = |captures: &[Capture], score| {
                    Some(value(a, captures, score)? / value(b, captures, score)?)
                };
                ratio(low.0, low.1).is_some_and(|ratio| ratio.abs() > 1e6)
                    || differs(&|captures, score| ratio(captures, score).map(f64::trunc))
            }
            _ => false,
        })
}

/// A runner that writes no failures to files.
fn runner(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() })
}

fn close(ours: f64, slope: f64) -> bool {
    (ours - slope).abs() <= 5e-3 * (1.0 + slope.abs())
}

#[test]
fn by_score_is_the_limit_of_differences() {
    let cases = testing::cases(20_000);
    let mut runner = runner(cases);
    let (checked, sloped, undefined) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let strategy = (testing::expressions(ExprConfig::score()), testing::points(), -4.0..4.0f64);
    runner
        .run(&strategy, |(bound, at, x)| {
            let f = |x| in_f64(bound.expr(), bound.captures(), at, x);
            if let Some(slope) = slope(f, x, |x, width| x + width, &[1e-4, 1e-6, 3e-8]) {
                let ours = in_f64(&by_score(bound.expr()), bound.captures(), at, x).unwrap();
                let (low, high) = (x - 3e-8, x + 3e-8);
                let captures = bound.captures();
                // tanh(x / 0.0) is smooth, but the chain rule says 0·∞, here as in PyTorch.
                if !ours.is_finite()
                    || !close(ours, slope)
                        && inconclusive(bound.expr(), at, (captures, low), (captures, high))
                {
                    undefined.set(undefined.get() + 1);
                    return Ok(());
                }
                prop_assert!(close(ours, slope), "{}ours {ours}, differences {slope}", bound.expr());
                checked.set(checked.get() + 1);
                sloped.set(sloped.get() + u32::from(slope != 0.0));
            }
            Ok(())
        })
        .unwrap();
    assert!(checked.get() > cases / 4, "{} were smooth", checked.get());
    assert!(sloped.get() > cases / 50, "{} had a slope", sloped.get());
    assert!(undefined.get() < 1 + cases / 100, "{} were undefined", undefined.get());
}

/// The captures with one element of one f32 capture replaced.
fn replaced(captures: &[Capture], which: CaptureId, offset: usize, by: f32) -> Vec<Capture> {
    let mut captures = captures.to_vec();
    let value = &mut captures[which.index()].value;
    *value = match value {
        CaptureValue::Scalar(_) => CaptureValue::Scalar(Scalar::F32(by)),
        CaptureValue::Array(array) => {
            let ArrayData::F32(data) = array.data() else { panic!("gradients are of f32 captures") };
            let mut data = data.clone();
            data[offset] = by;
            CaptureValue::Array(Arc::new(Array::new(array.shape().to_vec(), ArrayData::F32(data))))
        }
    };
    captures
}

/// For every capture, the offset of each element (0 for a scalar) and its derivative at a point.
fn scattered(
    bound: &BoundExpr,
    gradients: &Gradients,
    at: Point,
    score: f64,
) -> Vec<(CaptureId, usize, f64)> {
    let arena = gradients.arena();
    let part = |id| {
        let part = BoundExpr::new("part", arena.rooted_at(id), bound.captures().to_vec()).unwrap();
        Interpreter::<f64>::new(&part).evaluate(at, score).expect("the value has no fault here")
    };
    let mut sums: Vec<(CaptureId, usize, f64)> = Vec::new();
    for scalar in gradients.scalars() {
        sums.push((scalar.capture, 0, part(scalar.derivative).real()));
    }
    for load in gradients.loads() {
        if let Guard::When(condition) = load.guard
            && !part(condition).truth()
        {
            continue;
        }
        let shape = bound.captures()[load.capture.index()].array().unwrap().shape();
        let offset = load.indices.iter().zip(shape).fold(0, |offset, (&index, &len)| {
            let index = part(index).integer() as usize;
            assert!(index < len);
            offset * len + index
        });
        let derivative = part(load.derivative).real();
        match sums.iter_mut().find(|(capture, at, _)| (*capture, *at) == (load.capture, offset)) {
            Some((.., sum)) => *sum += derivative,
            None => sums.push((load.capture, offset, derivative)),
        }
    }
    sums
}

#[test]
fn gradients_of_captures_are_the_limits_of_differences() {
    let cases = testing::cases(20_000);
    let mut runner = runner(cases);
    let (checked, undefined) = (Cell::new(0), Cell::new(0));
    let config = ExprConfig { captures: 8, max_rank: 2, ..ExprConfig::score().without_faults() };
    let strategy = (testing::expressions(config), testing::points(), -4.0..4.0f64);
    runner
        .run(&strategy, |(bound, at, score)| {
            let gradients = Gradients::of(bound.expr());
            for (capture, offset, ours) in scattered(&bound, &gradients, at, score) {
                let x = match &bound.captures()[capture.index()].value {
                    CaptureValue::Scalar(value) => value.as_f32(),
                    CaptureValue::Array(array) => array.get(offset).and_then(Scalar::as_f32),
                };
                let x = f64::from(x.unwrap());
                if !(1e-2..1e2).contains(&x.abs()) {
                    continue;
                }
                let f = |x| {
                    let captures = replaced(bound.captures(), capture, offset, x as f32);
                    in_f64(bound.expr(), &captures, at, score)
                };
                let step = |x: f64, width| f64::from((x * (1.0 + width)) as f32);
                if let Some(slope) = slope(f, x, step, &[1e-4, 1e-6]) {
                    let with = |x| replaced(bound.captures(), capture, offset, x as f32);
                    let (low, high) = (with(step(x, -1e-6)), with(step(x, 1e-6)));
                    if !ours.is_finite()
                        || !close(ours, slope)
                            && inconclusive(bound.expr(), at, (&low, score), (&high, score))
                    {
                        undefined.set(undefined.get() + 1);
                        continue;
                    }
                    prop_assert!(close(ours, slope), "{}{capture}: {ours}, {slope}", bound.expr());
                    checked.set(checked.get() + 1);
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(checked.get() > cases / 20, "{} were smooth", checked.get());
    assert!(undefined.get() < 1 + cases / 100, "{} were undefined", undefined.get());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testing::cases(10_000)))]

    #[test]
    fn a_derivative_has_the_faults_of_its_value(
        bound in testing::expressions(ExprConfig::score()),
        at in testing::points(),
        score in testing::scores(),
    ) {
        let outcome = |expr| {
            testing::outcome(&BoundExpr::new("d", expr, bound.captures().to_vec()).unwrap(), at, score)
        };
        let value = testing::outcome(&bound, at, score);
        let derivative = outcome(by_score(bound.expr()));
        let gradients = Gradients::of(bound.expr());
        prop_assert_eq!(outcome(gradients.arena().rooted_at(gradients.arena().root())), value);
        match value {
            Outcome::Fault(_) => prop_assert_eq!(derivative, value),
            Outcome::Value(_) => {
                prop_assert!(matches!(derivative, Outcome::Value(_)));
                if let Some(score) = gradients.score() {
                    prop_assert_eq!(outcome(gradients.arena().rooted_at(score)), derivative);
                }
            }
        }
    }
}
