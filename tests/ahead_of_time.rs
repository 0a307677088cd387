//! `flex kernel` compiles what calls ask for: otherwise bundles would hold kernels that nobody looks for.
#![cfg(all(feature = "cli", feature = "cuda"))]

use std::collections::HashMap;
use std::process::Command;

use flex_attention::cuda::{Arch, CodegenError, KernelSpec};
use flex_attention::library::{self, MASKS};
use flex_attention::prelude::*;
use flex_codegen::KernelSource;

const HEADS: usize = 4;
const LEN: usize = 512;
const HEAD_DIM: usize = 64;

/// The score mods of the library as a program binds them.
fn scores() -> Vec<(&'static str, ScoreMod)> {
    let floats = |len: usize| (0..len).map(|i| (i % 7) as f32 * 0.25).collect::<Vec<_>>();
    let table = floats(32 * HEADS);
    let pairs = floats(LEN * LEN);
    vec![
        ("alibi", library::alibi::bind(library::alibi_slopes(HEADS)).unwrap()),
        ("softcap", library::softcap::bind(30.0).unwrap()),
        ("t5_bias", library::t5_bias::bind(View::new(&table, [32, HEADS]).unwrap(), 100).unwrap()),
        ("relative_bias", library::relative_bias::bind(floats(2 * LEN - 1), LEN as i32 - 1).unwrap()),
        ("key_bias", library::key_bias::bind(floats(LEN)).unwrap()),
        ("bias_qk", library::bias_qk::bind(View::new(&pairs, [LEN, LEN]).unwrap()).unwrap()),
        ("head_gate", library::head_gate::bind(floats(HEADS)).unwrap()),
        ("temperature", library::temperature::bind(0.5).unwrap()),
    ]
}

/// The keys of the kernels that `flex kernel` makes, by name.
fn keys_of_the_program(names: &[&str], arch: Arch, dtype: &str) -> HashMap<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_flex"))
        .arg("kernel")
        .args(names)
        .args(["--arch", &arch.to_string(), "--dtype", dtype, "--seq-len", &LEN.to_string()])
        .args(["--heads", &HEADS.to_string(), "--head-dim", &HEAD_DIM.to_string()])
        .args(["--emit", "plan", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let kernels = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let field = |kernel: &serde_json::Value, name: &str| kernel[name].as_str().unwrap().to_owned();
    kernels.map(|kernel| (field(&kernel, "name"), field(&kernel, "key"))).collect()
}

fn key(spec: &KernelSpec) -> String {
    KernelSource::new(spec).unwrap().key()
}

#[test]
fn kernels_take_so_many_captures() {
    let x = Tensor::zeros(DType::F16, [1, HEADS, LEN, HEAD_DIM]).unwrap();
    let with_captures = |count: i32| {
        let seen = |n: i32| flex_attention::mask_mod!(|b, h, q, kv| (q ^ kv) & n != 1);
        let mask = (1..count).fold(seen(0), |mask, n| mask & seen(n));
        let spec = flex_attention(&x, &x, &x).mask_mod(&mask).kernel_spec(Arch::OLDEST).unwrap();
        KernelSource::new(&spec)
    };
    assert!(with_captures(440).is_ok());
    let error = with_captures(441).unwrap_err();
    assert!(matches!(error, CodegenError::TooManyCaptures { got: 441, max: 440 }), "{error}");
}

#[test]
fn bundles_hold_the_kernels_that_calls_ask_for() {
    let scores = scores();
    let mut names: Vec<&str> = MASKS.iter().map(|mask| mask.name).collect();
    names.extend(scores.iter().map(|(name, _)| *name));
    let extent = Extent { batch: 1, heads: HEADS, q_len: LEN, kv_len: LEN };
    let hopper: Arch = "sm_90a".parse().unwrap();
    for (arch, dtype) in [(hopper, DType::BF16), (Arch::OLDEST, DType::F32)] {
        let keys = keys_of_the_program(&names, arch, dtype.name());
        let x = Tensor::zeros(dtype, [1, HEADS, LEN, HEAD_DIM]).unwrap();
        for entry in MASKS {
            let mask = entry.bind(LEN).unwrap();
            let block_mask = create_block_mask(&mask, extent).unwrap();
            let by_tiles = flex_attention(&x, &x, &x).block_mask(&block_mask).kernel_spec(arch).unwrap();
            let by_mod = flex_attention(&x, &x, &x).mask_mod(&mask).kernel_spec(arch).unwrap();
            assert_eq!(key(&by_tiles), keys[entry.name], "{} with tiles, {arch}", entry.name);
            assert_eq!(key(&by_mod), keys[entry.name], "{} without tiles, {arch}", entry.name);
        }
        for (name, score) in &scores {
            let spec = flex_attention(&x, &x, &x).score_mod(score).kernel_spec(arch).unwrap();
            assert_eq!(key(&spec), keys[*name], "{name}, {arch}");
        }
    }
}

#[test]
fn sorted_documents_share_the_kernel_that_reads_intervals() {
    let arch = "sm_90a".parse().unwrap();
    let x = Tensor::zeros(DType::BF16, [1, HEADS, LEN, HEAD_DIM]).unwrap();
    let spec = |doc: Vec<i32>| {
        let mask = library::document_causal::bind(doc).unwrap();
        flex_attention(&x, &x, &x).mask_mod(&mask).kernel_spec(arch).unwrap()
    };
    let sorted = spec((0..LEN as i32).map(|i| i / 100).collect());
    assert!(sorted.kept_keys_from_table && sorted.mask.is_none());
    let mixed = spec((0..LEN as i32).map(|i| i % 3).collect());
    assert!(!mixed.kept_keys_from_table && mixed.mask.is_some());
}
