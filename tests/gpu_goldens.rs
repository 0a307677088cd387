//! All goldens on a GPU, in every dtype, by the portable kernel.
#![cfg(feature = "cuda")]

mod support;

use flex_attention::prelude::*;
use half::{bf16, f16};
use safetensors::SafeTensors;
use support::golden::Golden;
use support::golden_mods;
use support::gpu::{Case, gpu};
use support::relative_error;

struct GoldenCase {
    name: String,
    case: Case,
    out: Vec<f32>,
    lse: Vec<f32>,
}

fn goldens() -> Vec<GoldenCase> {
    let names = Golden::names();
    assert!(names.len() >= 50, "only {} goldens were found", names.len());
    let load = |name: String| {
        let golden = Golden::load(&name);
        let bytes = Golden::read(&name);
        let captures = golden_mods::captures(&SafeTensors::deserialize(&bytes).unwrap());
        let (mask, score) = golden_mods::mods(&name, &captures);
        let (query, key, value) = (golden.query, golden.key, golden.value);
        let case = Case { query, key, value, scale: Some(golden.scale), mask, score };
        GoldenCase { name, case, out: golden.out, lse: golden.lse }
    };
    names.into_iter().map(load).collect()
}

/// Runs all goldens in one dtype; `judge` returns the error and what is allowed. All failures are reported.
fn check_all(dtype: DType, tf32: bool, judge: impl Fn(&GoldenCase, &Case, &[f32]) -> (f64, f64)) {
    let gpu = gpu();
    let (mut failures, mut worst) = (Vec::new(), 0.0f64);
    for golden in goldens() {
        let case = golden.case.to_dtype(dtype);
        let computed = if tf32 { case.on_gpu_in_tf32(&gpu) } else { case.on_gpu(&gpu) };
        let computed = match computed {
            Ok(computed) => computed,
            Err(error) => {
                failures.push(format!("{}: {error}", golden.name));
                continue;
            }
        };
        let (error, allowed) = judge(&golden, &case, &computed.out);
        worst = worst.max(error / allowed);
        if error.is_nan() || error > allowed {
            failures.push(format!("{}: out has error {error:.2e}, allowed is {allowed:.2e}", golden.name));
        }
        let lse_tolerance = if tf32 { 4e-3 } else { 1e-4 };
        for (i, (&got, &expected)) in computed.lse.iter().zip(&golden.lse).enumerate() {
            let near = (got - expected).abs() <= lse_tolerance * expected.abs().max(1.0);
            if !(near || got == expected) {
                failures.push(format!("{}: lse {i} is {got}, expected {expected}", golden.name));
                break;
            }
        }
    }
    let mode = if tf32 { "tf32" } else { dtype.name() };
    assert!(failures.is_empty(), "{mode}: {} goldens fail\n{}", failures.len(), failures.join("\n"));
    println!("{mode}: all goldens pass, the worst at {:.0} % of what is allowed", worst * 100.0);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn f32_goldens() {
    check_all(DType::F32, false, |golden, _, out| (relative_error(out, &golden.out), 2e-6));
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn tf32_goldens() {
    check_all(DType::F32, true, |golden, _, out| (relative_error(out, &golden.out), 2e-3));
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn bf16_goldens() {
    check_all(DType::BF16, false, |golden, case, out| {
        against_eager(golden, case, out, |x| bf16::from_f64(x).to_f64())
    });
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn f16_goldens() {
    check_all(DType::F16, false, |golden, case, out| {
        against_eager(golden, case, out, |x| f16::from_f64(x).to_f64())
    });
}

/// mean|gold − ours|, and 1.1 times the same of attention that is computed eagerly in the dtype: scores, probabilities
/// and the output are each rounded to it, as by separate kernels.
fn against_eager(golden: &GoldenCase, case: &Case, out: &[f32], round: impl Fn(f64) -> f64) -> (f64, f64) {
    let mean_error = |got: &mut dyn Iterator<Item = f64>| {
        let sum: f64 = got.zip(&golden.out).map(|(got, &gold)| (got - f64::from(gold)).abs()).sum();
        sum / golden.out.len() as f64
    };
    let ours = mean_error(&mut out.iter().map(|&x| x.into()));
    let eager = mean_error(&mut support::eager::attention(case, round).into_iter());
    // Where every row is masked, or averages exact values, the eager error is 0 and so must ours be.
    (ours, (1.1 * eager).max(1e-9))
}
