//! All goldens on a GPU, in every dtype, by every kernel.
#![cfg(feature = "cuda")]

mod support;

use std::fs::OpenOptions;
use std::io::Write;

use flex_attention::Error;
use flex_attention::cuda::{CudaError, CudaOptions, Force, Matmul, Template};
use flex_attention::prelude::*;
use flex_core::testing;
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
    // With FLEX_TEST_SCALE below 1 some of them, evenly spaced.
    let wanted = (testing::cases(names.len() as u32) as usize).min(names.len());
    (0..wanted).map(|i| load(names[i * names.len() / wanted].clone())).collect()
}

/// A mode of computing, and the kernels that have it.
struct Mode {
    name: &'static str,
    dtype: DType,
    matmul: Matmul,
    kernels: &'static [Template],
}

const F32: Mode =
    Mode { name: "f32", dtype: DType::F32, matmul: Matmul::Accurate, kernels: &[Template::ForwardPortable] };
const TF32: Mode = Mode { name: "tf32", matmul: Matmul::Tf32, ..F32 };
const BOTH: &[Template] = &[Template::ForwardPortable, Template::ForwardSm90];
const F16: Mode = Mode { name: "f16", dtype: DType::F16, matmul: Matmul::Accurate, kernels: BOTH };
const BF16: Mode = Mode { name: "bf16", dtype: DType::BF16, ..F16 };

/// Runs all goldens in one mode, by every kernel that serves them; `judge` returns the error and what is allowed. All
/// failures are reported.
fn check_all(mode: &Mode, judge: impl Fn(&GoldenCase, &Case, &[f32]) -> (f64, f64)) {
    let gpu = gpu();
    let goldens = goldens();
    let is_hopper = matches!(gpu, Device::Cuda(device) if device.arch().is_hopper());
    for &template in mode.kernels.iter().filter(|&&template| template != Template::ForwardSm90 || is_hopper) {
        let what = format!("{} by {}", mode.name, template.name());
        let (mut failures, mut worst, mut served) = (Vec::new(), 0.0f64, 0);
        for golden in &goldens {
            let case = golden.case.to_dtype(mode.dtype);
            let force = Force { template: Some(template), ..Force::default() };
            let options = CudaOptions { matmul: mode.matmul, force, ..CudaOptions::default() };
            let computed = match case.on_gpu_with(&gpu, options) {
                Ok(computed) => computed,
                // Head dims that the Hopper kernel has no instance for.
                Err(Error::Cuda(CudaError::Plan(_))) if template == Template::ForwardSm90 => continue,
                Err(error) => {
                    failures.push(format!("{}: {error}", golden.name));
                    continue;
                }
            };
            served += 1;
            let (error, allowed) = judge(golden, &case, &computed.out);
            record(golden, mode, template, mean_error(golden, computed.out.iter().map(|&x| x.into())));
            worst = worst.max(error / allowed);
            if error.is_nan() || error > allowed {
                failures
                    .push(format!("{}: out has error {error:.2e}, allowed is {allowed:.2e}", golden.name));
            }
            let lse_tolerance = if mode.matmul == Matmul::Tf32 { 4e-3 } else { 1e-4 };
            for (i, (&got, &expected)) in computed.lse.iter().zip(&golden.lse).enumerate() {
                let near = (got - expected).abs() <= lse_tolerance * expected.abs().max(1.0);
                if !(near || got == expected) {
                    failures.push(format!("{}: lse {i} is {got}, expected {expected}", golden.name));
                    break;
                }
            }
        }
        assert!(failures.is_empty(), "{what}: {} goldens fail\n{}", failures.len(), failures.join("\n"));
        // The Hopper kernel has no value dims under 64, which most goldens have.
        let fewest = if template == Template::ForwardSm90 { goldens.len() * 7 / 54 } else { goldens.len() };
        assert!(served >= fewest, "{what}: only {served} goldens");
        println!(
            "{what}: all goldens pass, {served}, the worst at {:.0} % of what is allowed",
            worst * 100.0
        );
    }
}

fn mean_error(golden: &GoldenCase, got: impl Iterator<Item = f64>) -> f64 {
    let sum: f64 = got.zip(&golden.out).map(|(got, &gold)| (got - f64::from(gold)).abs()).sum();
    sum / golden.out.len() as f64
}

/// Notes an error where FLEX_GOLDEN_ERRORS says, a line of JSON each: benches/golden_errors.py puts them beside PyTorch's.
fn record(golden: &GoldenCase, mode: &Mode, template: Template, mean_error: f64) {
    let Some(path) = std::env::var_os("FLEX_GOLDEN_ERRORS") else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    let (case, mode, kernel) = (&golden.name, mode.name, template.name());
    let line = serde_json::json!({ "case": case, "dtype": mode, "kernel": kernel, "mean_error": mean_error });
    // One write a line, so that tests beside each other do not mix theirs.
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn f32_goldens() {
    check_all(&F32, |golden, _, out| (relative_error(out, &golden.out), 2e-6));
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn tf32_goldens() {
    check_all(&TF32, |golden, _, out| (relative_error(out, &golden.out), 2e-3));
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn bf16_goldens() {
    check_all(&BF16, |golden, case, out| against_eager(golden, case, out, |x| bf16::from_f64(x).to_f64()));
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn f16_goldens() {
    check_all(&F16, |golden, case, out| against_eager(golden, case, out, |x| f16::from_f64(x).to_f64()));
}

/// mean|gold − ours|, and 1.1 times the same of attention that is computed eagerly in the dtype: scores, probabilities
/// and the output are each rounded to it, as by separate kernels.
fn against_eager(golden: &GoldenCase, case: &Case, out: &[f32], round: impl Fn(f64) -> f64) -> (f64, f64) {
    let ours = mean_error(golden, out.iter().map(|&x| x.into()));
    let eager = mean_error(golden, support::eager::attention(case, round).into_iter());
    // Where every row is masked, or averages exact values, the eager error is 0 and so must ours be.
    (ours, (1.1 * eager).max(1e-9))
}
