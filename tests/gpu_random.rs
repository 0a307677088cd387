//! Random mods on a GPU: the kernels that are generated from them mean what the interpreter says.
#![cfg(feature = "cuda")]

mod support;

use flex_attention::Device;
use flex_attention::cuda::{CudaOptions, Force, Precision, Template};
use flex_attention::prelude::*;
use flex_core::analysis::interpret::{Interpreter, Point};
use flex_core::ir::semantics::Value;
use flex_core::testing::{self, ExprConfig};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::gpu::{Case, gpu};

const BATCH: usize = 2;
const HEADS: usize = 2;
const Q_LEN: usize = 21;
const KV_LEN: usize = 75;
/// One that the Hopper kernel takes too.
const HEAD_DIM: usize = 64;
/// The components of a query that are not 0: as many as keep scores small.
const ACTIVE: usize = 16;

/// Small integers and a scale that is a power of two: scores are exact, so that a mod sees the same ones everywhere, and
/// may do with them what it wants.
fn exact_inputs() -> Case {
    let integer = |factor: usize| {
        move |[b, h, s, d]: [usize; 4]| ((b * 5 + h * 3 + s * factor + d * d * 7 + s * d) % 9) as f32 - 4.0
    };
    let query = move |at: [usize; 4]| if at[3] < ACTIVE { integer(2)(at) } else { 0.0 };
    Case {
        query: Tensor::from_fn([BATCH, HEADS, Q_LEN, HEAD_DIM], query).unwrap(),
        key: Tensor::from_fn([BATCH, HEADS, KV_LEN, HEAD_DIM], integer(11)).unwrap(),
        value: Tensor::from_fn([BATCH, HEADS, KV_LEN, HEAD_DIM], integer(4)).unwrap(),
        scale: Some(1.0 / 32.0),
        mask: None,
        score: None,
    }
}

/// A row as the interpreter makes it.
enum Row {
    /// The output, and how large an error its scores excuse.
    Numbers(Vec<f64>, f64),
    /// Some kept score is NaN or +∞.
    NotANumber,
    /// Scores so large that rounding them to f32 decides between keys.
    Unstable,
}

fn expected_rows(case: &Case) -> Vec<Row> {
    let (query, key, value) = [&case.query, &case.key, &case.value].map(support::gpu::host).into();
    let scale = case.scale.unwrap();
    let mut mask = case.mask.as_ref().map(|mask| Interpreter::<f32>::new(mask.bound()));
    let mut score_mod = case.score.as_ref().map(|score| Interpreter::<f32>::new(score.bound()));
    let mut rows = Vec::new();
    for row in 0..BATCH * HEADS * Q_LEN {
        let (b, h, q) = (row / Q_LEN / HEADS, row / Q_LEN % HEADS, row % Q_LEN);
        let mut kept = Vec::new();
        for kv in 0..KV_LEN {
            let at = Point { b: b as i32, h: h as i32, q: q as i32, kv: kv as i32 };
            if !mask.as_mut().is_none_or(|mask| mask.evaluate(at, 0.0).map(Value::truth).unwrap()) {
                continue;
            }
            let product: f32 = (0..HEAD_DIM).map(|d| query.get([b, h, q, d]) * key.get([b, h, kv, d])).sum();
            let score = product * scale;
            let score = match &mut score_mod {
                Some(score_mod) => score_mod.evaluate(at, score).map(Value::real).unwrap(),
                None => score,
            };
            kept.push((kv, f64::from(score)));
        }
        let max = kept.iter().fold(f64::NEG_INFINITY, |max, (_, score)| max.max(*score));
        let largest = kept.iter().filter(|(_, s)| s.is_finite()).fold(0f64, |most, (_, s)| most.max(s.abs()));
        rows.push(if kept.iter().any(|(_, score)| score.is_nan() || *score == f64::INFINITY) {
            Row::NotANumber
        } else if largest > 1e3 {
            Row::Unstable
        } else if max == f64::NEG_INFINITY {
            Row::Numbers(vec![0.0; HEAD_DIM], 0.0)
        } else {
            let sum: f64 = kept.iter().map(|(_, score)| (score - max).exp()).sum();
            let at = |d| {
                let terms = kept.iter().map(|(kv, s)| (s - max).exp() * f64::from(value.get([b, h, *kv, d])));
                terms.sum::<f64>() / sum
            };
            Row::Numbers((0..HEAD_DIM).map(at).collect(), 2e-5 + 2e-6 * largest)
        });
    }
    rows
}

/// Compares row by row; returns how many rows were numbers, and how many there were.
fn check(case: &Case, gpu: &Device) -> Result<(usize, usize), TestCaseError> {
    let rows = expected_rows(case);
    let numbers = check_kernel(case, gpu, Template::ForwardPortable, 0.0, &rows)?;
    if matches!(gpu, Device::Cuda(device) if device.arch().is_hopper()) {
        // Probabilities and the output are rounded to bf16.
        check_kernel(&case.to_dtype(DType::BF16), gpu, Template::ForwardSm90, 8e-3, &rows)?;
    }
    Ok((numbers, rows.len()))
}

/// Compares what one kernel computes, with an extra error allowed; returns how many rows were numbers.
fn check_kernel(
    case: &Case,
    gpu: &Device,
    template: Template,
    rounding: f64,
    rows: &[Row],
) -> Result<usize, TestCaseError> {
    let force = Force { template: Some(template), ..Force::default() };
    let options = CudaOptions { precision: Some(Precision::Accurate), force, ..CudaOptions::default() };
    let computed = match case.on_gpu_with(gpu, options) {
        Ok(computed) => computed,
        Err(error) => return Err(TestCaseError::fail(format!("{template:?}: {error}"))),
    };
    let mut numbers = 0;
    for (i, row) in rows.iter().enumerate() {
        let got = &computed.out[i * HEAD_DIM..][..HEAD_DIM];
        match row {
            Row::Unstable => {}
            Row::NotANumber => {
                prop_assert!(got.iter().all(|x| x.is_nan()), "{template:?}: row {i} is {got:?}, expected NaN")
            }
            Row::Numbers(expected, tolerance) => {
                numbers += 1;
                for (got, expected) in got.iter().zip(expected) {
                    let error = (f64::from(*got) - expected).abs();
                    // Values are at most 4, so are their means.
                    let allowed = 4.0 * (tolerance + rounding);
                    prop_assert!(error <= allowed, "{template:?}: row {i}: {got} instead of {expected}");
                }
            }
        }
    }
    Ok(numbers)
}

/// Whether so many random cases were asked for that some of every kind must be among them.
fn enough_cases() -> bool {
    testing::cases(100) >= 100
}

fn run(cases: u32, what: &str, random: impl Strategy<Value = Case>) {
    let gpu = gpu();
    let config = Config { cases: testing::cases(cases), failure_persistence: None, ..Config::default() };
    let (numbers, rows) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    TestRunner::new(config)
        .run(&random, |case| {
            let (compared, all) = check(&case, &gpu)?;
            numbers.set(numbers.get() + compared);
            rows.set(rows.get() + all);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{what}: {failure}"));
    println!("{what}: {} of {} rows are numbers", numbers.get(), rows.get());
    assert!(
        !enough_cases() || numbers.get() * 3 > rows.get(),
        "too few rows are numbers for the test to mean much"
    );
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn random_masks() {
    let masks = testing::masks(ExprConfig::mask().exact().without_faults());
    run(24, "masks", masks.prop_map(|mask| exact_inputs().masked(mask)));
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn random_score_mods() {
    let scores = testing::score_mods(ExprConfig::score().exact().without_faults());
    run(16, "score mods", scores.prop_map(|score| exact_inputs().scored(score)));
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn random_pairs() {
    let masks = testing::masks(ExprConfig::mask().exact().without_faults().steps(1..=12));
    let scores = testing::score_mods(ExprConfig::score().exact().without_faults().steps(1..=12));
    run(12, "pairs", (masks, scores).prop_map(|(mask, score)| exact_inputs().masked(mask).scored(score)));
}

/// Mods that may fault: the GPU reports a fault exactly where some kept element has one.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn random_faults() {
    let gpu = gpu();
    let config = Config { cases: testing::cases(30), failure_persistence: None, ..Config::default() };
    let (faults, passes) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    TestRunner::new(config)
        .run(&testing::score_mods(ExprConfig::score().exact()), |score| {
            let case = exact_inputs().scored(score);
            let mut interpreter = Interpreter::<f32>::new(case.score.as_ref().unwrap().bound());
            let (query, key) = (support::gpu::host(&case.query), support::gpu::host(&case.key));
            let mut score_at = |at: Point| {
                let [b, h, q, kv] = [at.b, at.h, at.q, at.kv].map(|i| i as usize);
                let product: f32 =
                    (0..HEAD_DIM).map(|d| query.get([b, h, q, d]) * key.get([b, h, kv, d])).sum();
                interpreter.evaluate(at, product * case.scale.unwrap())
            };
            let points = (0..BATCH * HEADS * Q_LEN * KV_LEN).map(|i| Point {
                b: (i / KV_LEN / Q_LEN / HEADS) as i32,
                h: (i / KV_LEN / Q_LEN % HEADS) as i32,
                q: (i / KV_LEN % Q_LEN) as i32,
                kv: (i % KV_LEN) as i32,
            });
            let faulty = points.filter(|&at| score_at(at).is_err()).count();
            match case.on_gpu(&gpu) {
                Ok(_) => prop_assert_eq!(faulty, 0, "the GPU missed the faults"),
                Err(flex_attention::Error::Fault(fault)) => {
                    prop_assert!(faulty > 0, "the GPU invented {}", fault);
                    prop_assert!(score_at(fault.at).is_err(), "there is no fault at {:?}", fault.at);
                    faults.set(faults.get() + 1);
                }
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
            passes.set(passes.get() + u32::from(faulty == 0));
            Ok(())
        })
        .unwrap();
    println!("{} mods fault, {} do not", faults.get(), passes.get());
    assert!(!enough_cases() || faults.get() > 0 && passes.get() > 0, "both kinds must be met");
}
