//! Random expressions: rows against the interpreter, values and faults.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{RowEvaluator, RowProgram, ScoreRows, SoftCap};
use crate::analysis::interpret::{Interpreter, Point};
use crate::capture::{Capture, CaptureValue, IntoArray, View};
use crate::ir::semantics::Value;
use crate::ir::{BinaryOp, Builder, CaptureId, Input, NodeId, Scalar, Type, UnaryOp};
use crate::isa::InstructionSet;
use crate::mods::{BoundExpr, ModFault};

const UNARY: [UnaryOp; 13] = {
    use UnaryOp::*;
    [Neg, Not, Abs, Signum, Sqrt, Floor, Ceil, Round, Trunc, IsNan, CountOnes, LeadingZeros, TrailingZeros]
};
const BINARY: [BinaryOp; 20] = {
    use BinaryOp::*;
    [Add, Sub, Mul, Div, Rem, DivEuclid, RemEuclid, Min, Max, And, Or, Xor, Shl, Shr, Eq, Ne, Lt, Le, Gt, Ge]
};

/// A random expression of the given type over small captures, with loads that may well be out of bounds.
fn random(rng: &mut StdRng, result: Type, nodes: usize) -> BoundExpr {
    let mut b = Builder::new();
    let doc: Vec<i32> = (0..40).map(|_| rng.random_range(-3..6)).collect();
    let bias: Vec<f32> = (0..24).map(|_| rng.random_range(-2.0..2.0)).collect();
    let on: Vec<bool> = (0..33).map(|_| rng.random()).collect();
    let captures = vec![
        Capture { name: "doc".into(), value: CaptureValue::Array((&doc).into_array()) },
        Capture {
            name: "bias".into(),
            value: CaptureValue::Array(View::new(&bias, [4, 6]).unwrap().into_array()),
        },
        Capture { name: "on".into(), value: CaptureValue::Array((&on).into_array()) },
        Capture { name: "w".into(), value: CaptureValue::Scalar(Scalar::I32(rng.random_range(-4..20))) },
    ];
    let ids: Vec<CaptureId> = captures
        .iter()
        .map(|c| {
            let decl = c.decl();
            b.declare(decl.name, decl.ty, decl.rank)
        })
        .collect();
    let inputs = if result == Type::Bool { &Input::ALL[..4] } else { &Input::ALL[..] };
    let mut pool: Vec<NodeId> = inputs.iter().map(|&i| b.input(i)).collect();
    for value in [0, 1, 3, -7] {
        pool.push(b.constant(value));
    }
    pool.push(b.constant(2u32));
    pool.push(b.constant(1.5f32));
    pool.push(b.constant(true));
    pool.push(b.capture(ids[3]));
    pool.push(b.extent(ids[0], 0));
    let pick = |rng: &mut StdRng, b: &Builder, pool: &[NodeId], ok: &dyn Fn(Type) -> bool| {
        let fitting: Vec<NodeId> = pool.iter().copied().filter(|&id| ok(b.ty(id))).collect();
        fitting[rng.random_range(0..fitting.len())]
    };
    for _ in 0..nodes {
        let any = |_| true;
        let before = b.clone();
        let node = match rng.random_range(0..10) {
            0 | 1 => b.unary(UNARY[rng.random_range(0..UNARY.len())], pick(rng, &before, &pool, &any)),
            2..=4 => {
                let x = pick(rng, &before, &pool, &any);
                let ty = b.ty(x);
                let y = pick(rng, &before, &pool, &|t| t == ty);
                b.binary(BINARY[rng.random_range(0..BINARY.len())], x, y)
            }
            5 | 6 => {
                let c = pick(rng, &before, &pool, &|t| t == Type::Bool);
                let x = pick(rng, &before, &pool, &any);
                let ty = b.ty(x);
                let y = pick(rng, &before, &pool, &|t| t == ty);
                b.select(c, x, y)
            }
            7 => {
                let ty = [Type::I32, Type::U32, Type::F32][rng.random_range(0..3)];
                b.cast(ty, pick(rng, &before, &pool, &any))
            }
            8 => {
                let mut index = || pick(rng, &before, &pool, &Type::is_integer);
                let (x, y, array) = (index(), index(), index().0 % 3);
                if array == 1 { b.load(ids[1], &[x, y]) } else { b.load(ids[array as usize], &[x]) }
            }
            _ => b.after(pick(rng, &before, &pool, &any), pick(rng, &before, &pool, &any)),
        };
        // An operation that is not defined on what was picked is left out.
        match b.clone().finish(node) {
            Ok(_) => pool.push(node),
            Err(_) => b = before,
        }
    }
    let root = (0..pool.len()).rev().map(|i| pool[i]).find(|&id| b.ty(id) == result).unwrap();
    BoundExpr::new("random", b.finish(root).unwrap(), captures).unwrap()
}

fn interpreted(bound: &BoundExpr, at: Point, score: f32) -> Result<Scalar, ModFault> {
    let value: Result<Value<f32>, _> = Interpreter::new(bound).evaluate(at, score);
    value.map(Scalar::from).map_err(|fault| ModFault::new(bound, at, fault))
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan() || a == 0.0 && b == 0.0
}

fn compare(rng: &mut StdRng, bound: &BoundExpr, isa: InstructionSet) {
    let program = RowProgram::new(bound);
    let mut rows = RowEvaluator::with(&program, 40, isa, Default::default());
    let (b, h) = (rng.random_range(0..2), rng.random_range(0..3));
    let (kv_start, len) = (rng.random_range(0..30), rng.random_range(1..=40));
    rows.tile(b, h, kv_start, len);
    for _ in 0..3 {
        let q = rng.random_range(0..40);
        let lanes = rng.random_range(0..len)..len;
        let scores: Vec<f32> = lanes.clone().map(|_| rng.random_range(-3.0..3.0)).collect();
        let keep: Vec<bool> = lanes.clone().map(|_| rng.random_bool(0.7)).collect();
        let at = |lane: usize| Point { b: b as i32, h: h as i32, q: q as i32, kv: (kv_start + lane) as i32 };
        let expected: Vec<_> =
            lanes.clone().zip(&scores).map(|(lane, &s)| interpreted(bound, at(lane), s * 0.5)).collect();
        if bound.expr().result_type() == Type::Bool {
            let mut got = vec![false; lanes.len()];
            let result = rows.mask_row(q, lanes, &mut got);
            let expected: Result<Vec<bool>, ModFault> =
                expected.into_iter().map(|v| v.map(|v| v.as_bool().unwrap())).collect();
            assert_eq!(result.map(|()| got), expected, "{:?}", bound.expr());
        } else {
            let (mut inputs, mut outputs) = ([0.0; 48], [f32::NAN; 48]);
            inputs[lanes.clone()].copy_from_slice(&scores);
            let score_rows = ScoreRows { inputs: &mut inputs, outputs: &mut outputs, stride: 48 };
            let result = rows.score_rows(q..q + 1, lanes.clone(), 0.5, score_rows, |_, lane| keep[lane]);
            let got = &outputs[lanes];
            let fault = expected.iter().zip(&keep).find_map(|(e, keep)| e.clone().err().filter(|_| *keep));
            assert_eq!(result.err(), fault, "{:?}", bound.expr());
            if fault.is_none() {
                for ((got, expected), _) in got.iter().zip(&expected).zip(&keep).filter(|(_, keep)| **keep) {
                    let expected = expected.clone().unwrap().as_f32().unwrap();
                    assert!(same(*got, expected), "{got} for {expected} of {:?}", bound.expr());
                }
            }
        }
    }
}

#[test]
fn rows_have_the_values_and_faults_of_the_interpreter() {
    let mut rng = StdRng::seed_from_u64(7);
    for case in 0..6000 {
        let result = if case % 2 == 0 { Type::Bool } else { Type::F32 };
        let nodes = rng.random_range(1..40);
        let bound = random(&mut rng, result, nodes);
        let isa = InstructionSet::ALL[case % 5];
        compare(&mut rng, &bound, isa);
    }
}

/// Masks made of comparisons of kv alone, also where an i32 wraps around.
#[test]
fn limits_agree_with_the_interpreter() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut limited = 0;
    for _ in 0..3000 {
        let mut b = Builder::new();
        let (q, kv) = (b.input(Input::Query), b.input(Input::Key));
        let mut root = b.constant(true);
        for _ in 0..rng.random_range(1..4) {
            let far = [rng.random_range(-50..50), i32::MAX - 20, i32::MIN + 20]
                [rng.random_range(0..20usize).saturating_sub(17)];
            let c = b.constant(far);
            let base = if rng.random() { q } else { c };
            let sides = [
                b.binary(BinaryOp::Sub, kv, base),
                b.binary(BinaryOp::Sub, base, kv),
                b.binary(BinaryOp::Add, base, kv),
                kv,
            ];
            let x = sides[rng.random_range(0..4)];
            let y = if rng.random() { c } else { q };
            let op = BINARY[14 + rng.random_range(0..6)];
            let comparison = if rng.random() { b.binary(op, x, y) } else { b.binary(op, y, x) };
            root = b.and_then(root, comparison);
        }
        let bound = BoundExpr::new("limits", b.finish(root).unwrap(), vec![]).unwrap();
        let program = RowProgram::new(&bound);
        let mut rows = RowEvaluator::new(&program, 40);
        rows.tile(0, 0, 5, 40);
        limited += usize::from(rows.mask_limits(3).is_some());
        compare(&mut rng, &bound, InstructionSet::current());
    }
    assert!(limited > 1000, "only {limited} masks were limits");
}

#[test]
fn vector_functions_of_score_mods_are_close() {
    for op in
        [UnaryOp::Exp, UnaryOp::Exp2, UnaryOp::Ln, UnaryOp::Log2, UnaryOp::Sin, UnaryOp::Cos, UnaryOp::Tanh]
    {
        let mut b = Builder::new();
        let score = b.input(Input::Score);
        let root = b.unary(op, score);
        let bound = BoundExpr::new("function", b.finish(root).unwrap(), vec![]).unwrap();
        let program = RowProgram::new(&bound);
        for isa in InstructionSet::ALL {
            let mut rows = RowEvaluator::with(&program, 64, isa, Default::default());
            let inputs: Vec<f32> =
                (0..64).map(|i| (i as f32 - 20.0) * 1.37).chain([1e30, f32::NAN]).collect();
            let (mut plain, mut scores) = (inputs[2..].to_vec(), [0.0; 64]);
            rows.tile(0, 0, 0, 64);
            let score_rows = ScoreRows { inputs: &mut plain, outputs: &mut scores, stride: 64 };
            rows.score_rows(0..1, 0..64, 1.0, score_rows, |_, _| true).unwrap();
            for (&x, &y) in inputs[2..].iter().zip(&scores) {
                let at = Point { b: 0, h: 0, q: 0, kv: 0 };
                let exact = Interpreter::<f64>::new(&bound).evaluate(at, x.into()).unwrap().real();
                let close = (f64::from(y) - exact).abs() <= 2.5e-7 * exact.abs().max(0.5);
                let both_overflow =
                    exact.abs() > f32::MAX.into() && f64::from(y) == exact.signum() * f64::INFINITY;
                assert!(
                    close || both_overflow || exact.is_nan() && y.is_nan(),
                    "{op:?}({x}) is {exact}, got {y} ({isa})"
                );
            }
        }
    }
}

#[test]
fn exponents_of_soft_caps_are_odd_polynomials_of_small_scores() {
    for (divisor, cap, scale) in
        [(20.0f32, 20.0f32, 1.0f32), (50.0, 30.0, 0.125), (0.3, 0.2, 7.0), (-3.0, -3.0, 1.0)]
    {
        let soft_cap = SoftCap::new(divisor, cap);
        let most_exponent = 31.0;
        let (most, coefficients) = soft_cap.exponents(scale, most_exponent).unwrap();
        assert!(most <= divisor.abs() && f64::from(most) * f64::from(cap / divisor) <= 31.0);
        for i in -1000..=1000 {
            let score = most / scale * i as f32 / 1000.0;
            let square = score * score;
            let got = coefficients.iter().rev().fold(0.0, |p: f32, c| p.mul_add(square, *c)) * score;
            let [scaled, divisor, cap] = [score * scale, divisor, cap].map(f64::from);
            let exact = (scaled / divisor).tanh() * cap * std::f64::consts::LOG2_E;
            assert!((f64::from(got) - exact).abs() <= 2.5e-7 * exact.abs(), "{got} for {exact}");
            assert!(got.abs() <= most_exponent);
        }
    }
    // It falls, has coefficients out of range, or is none.
    for (divisor, cap) in
        [(-3.0, 7.0), (3.0, -7.0), (1e4, 1e4), (1e-5, 1e-5), (0.0, 1.0), (1.0, 0.0), (f32::NAN, 1.0)]
    {
        assert_eq!(SoftCap::new(divisor, cap).exponents(1.0, 31.0), None);
    }
}

/// `tanh(score / cap) * cap` is one instruction. Another use of the quotient keeps the parts apart: the same values.
#[test]
fn soft_caps_are_what_their_parts_are() {
    for (divisor, cap) in
        [(20.0f32, 20.0f32), (50.0, 50.0), (0.3, -0.3), (-3.0, 7.0), (0.0, 1.0), (1e30, 1e30)]
    {
        let mods = [false, true].map(|apart| {
            let mut b = Builder::new();
            let (score, divisor, cap) = (b.input(Input::Score), b.constant(divisor), b.constant(cap));
            let quotient = b.binary(BinaryOp::Div, score, divisor);
            let tanh = b.unary(UnaryOp::Tanh, quotient);
            let mut root = if cap.0 % 2 == 0 {
                b.binary(BinaryOp::Mul, tanh, cap)
            } else {
                b.binary(BinaryOp::Mul, cap, tanh)
            };
            if apart {
                let is_nan = b.unary(UnaryOp::IsNan, quotient);
                root = b.select(is_nan, quotient, root);
            }
            BoundExpr::new("soft cap", b.finish(root).unwrap(), vec![]).unwrap()
        });
        for isa in InstructionSet::ALL {
            for step in [0.003f32, 0.2, 3.0, 1e7, 1e-30] {
                let mut results = Vec::new();
                for bound in &mods {
                    let program = RowProgram::new(bound);
                    let mut rows = RowEvaluator::with(&program, 64, isa, Default::default());
                    let mut inputs: Vec<f32> = (0..64).map(|i| (i as f32 - 30.5) * step).collect();
                    let mut outputs = [0.0; 64];
                    rows.tile(0, 0, 0, 64);
                    let score_rows = ScoreRows { inputs: &mut inputs, outputs: &mut outputs, stride: 64 };
                    rows.score_rows(0..1, 0..64, 1.0, score_rows, |_, _| true).unwrap();
                    for (&x, &y) in inputs.iter().zip(&outputs) {
                        let exact = f64::from(cap) * (f64::from(x) / f64::from(divisor)).tanh();
                        let tiny = 2.0 * f64::from(f32::MIN_POSITIVE * cap.abs());
                        let close = (f64::from(y) - exact).abs() <= 4e-7 * exact.abs() + tiny;
                        assert!(
                            close || divisor == 0.0,
                            "{cap} * tanh({x} / {divisor}) is {exact}, got {y} ({isa})"
                        );
                    }
                    results.push(outputs);
                }
                for (fused, apart) in results[0].iter().zip(&results[1]) {
                    assert!(same(*fused, *apart), "{fused} and {apart}: {divisor} {cap} {step} {isa}");
                }
            }
        }
    }
}
