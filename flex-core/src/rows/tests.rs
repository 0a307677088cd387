//! Rows against the interpreter.

use proptest::prelude::*;

use super::*;
use crate::analysis::interpret::{Interpreter, Point};
use crate::ir::Scalar;
use crate::testing::{self, ExprConfig};

fn starts() -> impl Strategy<Value = i32> {
    prop_oneof![8 => 0..40i32, 1 => -10..10i32, 1 => Just(i32::MAX - 5), 1 => any::<i32>()]
}

fn same(bits: u32, expected: Scalar) -> bool {
    match expected {
        Scalar::Bool(v) => bits == lanes::word(v),
        Scalar::F32(v) if v.is_nan() => f32::from_bits(bits).is_nan(),
        other => bits == other.bits(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testing::cases(20_000)))]

    #[test]
    fn masks_are_the_interpreters(
        bound in testing::expressions(ExprConfig::mask()),
        (b, h, q, kv) in (0..3i32, 0..3i32, starts(), starts()),
        len in 1..70usize,
    ) {
        let program = RowProgram::new(&bound, FaultChecks::Kept);
        let unchecked = RowProgram::new(&bound, FaultChecks::Dropped);
        let mut interpreter = Interpreter::<f32>::new(&bound);
        let (mut rows, mut unchecked) = (RowEvaluator::new(&program), RowEvaluator::new(&unchecked));
        for rows in [&mut rows, &mut unchecked] {
            rows.start(b, h);
            rows.columns(kv, len);
        }
        for q in [q, q.wrapping_add(1), q.wrapping_add(7)] {
            let expected: Vec<_> = (0..len as i32)
                .map(|i| interpreter.evaluate(Point { b, h, q, kv: kv.wrapping_add(i) }, 0.0))
                .collect();
            let summary = rows.mask_row(q);
            prop_assert_eq!(rows.first_fault(), expected.iter().position(Result::is_err));
            if expected.iter().any(Result::is_err) {
                continue;
            }
            let values: Vec<bool> = expected.into_iter().map(|v| v.is_ok_and(|v| v.truth())).collect();
            let found: Vec<bool> = rows.words().iter().map(|&w| w == u32::MAX).collect();
            prop_assert_eq!(&found, &values);
            prop_assert_eq!(summary.some_true, values.contains(&true));
            prop_assert_eq!(summary.some_false, values.contains(&false));
            prop_assert_eq!(unchecked.mask_row(q), summary);
            prop_assert_eq!(unchecked.words(), rows.words());
        }
    }

    #[test]
    fn scores_are_the_interpreters(
        bound in testing::expressions(ExprConfig::score()),
        (b, h, q, kv) in (0..3i32, 0..3i32, starts(), starts()),
        scores in prop::collection::vec(testing::scores(), 1..40),
    ) {
        let program = RowProgram::new(&bound, FaultChecks::Kept);
        let mut interpreter = Interpreter::<f32>::new(&bound);
        let mut rows = RowEvaluator::new(&program);
        rows.start(b, h);
        rows.columns(kv, scores.len());
        let mut found = scores.clone();
        rows.score_row(q, &mut found);
        for (i, (found, &score)) in found.iter().zip(&scores).enumerate() {
            let at = Point { b, h, q, kv: kv.wrapping_add(i as i32) };
            match interpreter.evaluate(at, score) {
                Err(_) => {
                    prop_assert!(rows.first_fault().is_some_and(|first| first <= i));
                    break;
                }
                Ok(value) => prop_assert!(same(found.to_bits(), value.into()), "{found} for {value:?}"),
            }
        }
    }

    /// Quotients by way of f64 are exact.
    #[test]
    fn division_by_one_divisor_is_exact(
        dividends in prop::collection::vec(
            prop_oneof![any::<i32>(), -100..100i32, Just(i32::MIN), Just(i32::MAX)], 1..64),
        divisor in prop_oneof![any::<i32>(), -20..20i32, Just(i32::MIN), Just(i32::MAX), Just(-1)],
        op in prop::sample::select(vec![
            crate::ir::BinaryOp::Div,
            crate::ir::BinaryOp::Rem,
            crate::ir::BinaryOp::DivEuclid,
            crate::ir::BinaryOp::RemEuclid,
        ]),
        unsigned in any::<bool>(),
    ) {
        use crate::capture::{Capture, CaptureValue, IntoArray};
        use crate::ir::{Builder, Input, Type};
        prop_assume!(divisor != 0);
        let mut b = Builder::new();
        let list = b.declare("list", Type::I32, 1);
        let kv = b.input(Input::Key);
        let a = b.load(list, &[kv]);
        let by = b.constant(divisor);
        let ty = if unsigned { Type::U32 } else { Type::I32 };
        let (a, by) = (b.cast(ty, a), b.cast(ty, by));
        let root = b.binary(op, a, by);
        let capture = Capture { name: "list".into(), value: CaptureValue::Array((&dividends).into_array()) };
        let bound = crate::mods::BoundExpr::new("division", b.finish(root).unwrap(), vec![capture]).unwrap();
        let program = RowProgram::new(&bound, FaultChecks::Dropped);
        let mut rows = RowEvaluator::new(&program);
        rows.start(0, 0);
        rows.columns(0, dividends.len());
        rows.mask_row(0);
        let mut interpreter = Interpreter::<f32>::new(&bound);
        for (i, &bits) in rows.words().iter().enumerate() {
            let value = interpreter.evaluate(Point { b: 0, h: 0, q: 0, kv: i as i32 }, 0.0).unwrap();
            prop_assert!(same(bits, value.into()), "{} {op:?} {divisor}: {bits} for {value:?}", dividends[i]);
        }
    }
}
