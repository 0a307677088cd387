//! Terms that the Hopper kernel computes once a tile: they are those of the right key and distance, at lengths around the
//! edges of tiles, for every head and batch.
#![cfg(feature = "cuda")]

mod support;

use flex_attention::cuda::{Arch, CudaDevice, CudaOptions, Force, Template};
use flex_attention::library::{causal, document, natten, relative_bias};
use flex_attention::prelude::*;
use flex_attention::{mask_mod, score_mod};
use flex_core::testing;
use rand::SeedableRng;
use rand::rngs::StdRng;
use support::gpu::{Case, gpu};

const HEADS: usize = 4;
const BATCH: usize = 2;
const CASES: usize = 13;

/// Tiles are 192 × 96 at a head dim of 64, and 128 × 128 at 128.
const LENGTHS: [(usize, usize); 12] = [
    (1, 1),
    (2, 3),
    (4, 2),
    (3, 131),
    (66, 4),
    (127, 129),
    (128, 128),
    (130, 126),
    (191, 97),
    (193, 95),
    (196, 190),
    (259, 387),
];

fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 37 % 101) as f32 * 0.03 - 1.5).collect()
}

/// Mods with terms of keys, of distances and of both, in masks and score mods, with tables for each head and batch.
fn cases(base: &Case, q_len: usize, kv_len: usize) -> [(&'static str, Case); CASES] {
    let last_key = kv_len as i32 - 1;
    let distances = q_len + kv_len - 1;
    let by_distance = numbers(distances);
    let by_key = numbers(kv_len);
    let heads = numbers(HEADS * distances);
    let heads = View::new(&heads, [HEADS, distances]).unwrap();
    let batches = numbers(BATCH * kv_len);
    let batches = View::new(&batches, [BATCH, kv_len]).unwrap();
    let (starts, shifted) = (vec![0i32, 5], numbers(distances + 5));
    let reach = 9i32;
    let clamped = numbers(2 * reach as usize + 1);
    let ids: Vec<i32> = (0..q_len.max(kv_len) as i32).map(|i| i * 7 % 3).collect();
    let allowed = View::new(&[true, false, true, true, true, false, false, true, true], [3, 3]).unwrap();
    let keep: Vec<bool> = (0..kv_len).map(|i| i % 3 != 1).collect();
    let bands: Vec<bool> = (0..distances).map(|i| i % 5 != 2).collect();
    let period = 6i32;
    let scored = |mod_: ScoreMod| base.clone().scored(mod_);
    [
        ("relative bias", scored(relative_bias::bind(by_distance.clone(), last_key).unwrap())),
        (
            "relative bias, causal",
            scored(relative_bias::bind(by_distance.clone(), last_key).unwrap())
                .masked(causal::bind().unwrap()),
        ),
        (
            "a table a head",
            scored(score_mod!(|score, b, h, q, kv| score * 0.5 + heads[[h, last_key - kv + q]])),
        ),
        ("a table a batch", scored(score_mod!(|score, b, h, q, kv| score + batches[[b, kv]] * 0.5))),
        (
            "a base a batch",
            scored(score_mod!(|score, b, h, q, kv| score - shifted[q - kv + last_key + starts[b]])),
        ),
        (
            "clamped",
            scored(score_mod!(|score, b, h, q, kv| score + clamped[(kv - q).clamp(-reach, reach) + reach])),
        ),
        (
            "of keys and of distances",
            scored(score_mod!(|score, b, h, q, kv| score * by_key[kv] + by_distance[q - kv + last_key])),
        ),
        ("shuffled documents", base.clone().masked(document::bind(ids.clone()).unwrap())),
        // What is not staged may be indexed by what is.
        ("a table of documents", base.clone().masked(mask_mod!(|b, h, q, kv| allowed[[ids[q], ids[kv]]]))),
        ("kept keys", base.clone().masked(mask_mod!(|b, h, q, kv| keep[kv] || q == kv))),
        ("bands", base.clone().masked(mask_mod!(|b, h, q, kv| bands[q - kv + last_key]))),
        ("divisions of keys", base.clone().masked(natten::bind(17, 23, 5).unwrap())),
        (
            "both mods",
            scored(score_mod!(|score, b, h, q, kv| score + by_distance[q - kv + last_key]))
                .masked(mask_mod!(|b, h, q, kv| ids[q] == ids[kv] || (kv - q) % period == 0)),
        ),
    ]
}

fn shape(len: usize, heads: usize, head_dim: usize) -> [usize; 4] {
    [BATCH, heads, len, head_dim]
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn staged_terms_at_head_dim_64() {
    check_all(64, DType::F16);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn staged_terms_at_head_dim_128() {
    check_all(128, DType::BF16);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn staged_terms_at_head_dim_192() {
    check_all(192, DType::F16);
}

/// Terms are those of the right key and distance.
fn check_all(head_dim: usize, dtype: DType) {
    let gpu = gpu();
    if !CudaDevice::new(0).unwrap().arch().is_hopper() {
        println!("SKIPPED: the GPU is no Hopper");
        return;
    }
    let force = Force { template: Some(Template::ForwardSm90), ..Force::default() };
    let options = CudaOptions { force, ..CudaOptions::default() };
    let check = |case: usize| {
        let mut rng = StdRng::seed_from_u64(head_dim as u64);
        // The longest ones if there is time for some only.
        for &(q_len, kv_len) in LENGTHS.iter().rev().take(testing::cases(LENGTHS.len() as u32) as usize) {
            let (query, key) = (shape(q_len, HEADS, head_dim), shape(kv_len, HEADS / 2, head_dim));
            let base = Case::random(&mut rng, dtype, query, key, head_dim);
            let (name, case) = cases(&base, q_len, kv_len).into_iter().nth(case).expect("one of the cases");
            let what = format!("{name}, head dim {head_dim}, {q_len} queries, {kv_len} keys");
            let computed = case.on_gpu_with(&gpu, options).unwrap_or_else(|e| panic!("{what}: {e}"));
            computed.check_against(&case.reference(), dtype, &what);
        }
    };
    // Side by side, because most of the time goes to compiling; one after the other where tests run so.
    let alone = std::env::args().any(|argument| argument == "--test-threads=1");
    std::thread::scope(|scope| {
        for case in 0..CASES {
            let check = &check;
            let thread = scope.spawn(move || check(case));
            if alone && let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

#[test]
fn the_cases_of_this_file_are_staged() {
    let arch: Arch = "sm_90a".parse().unwrap();
    let (q_len, kv_len) = (259, 387);
    for head_dim in [64, 128, 192, 256] {
        let zeros = |len, heads| Tensor::zeros(DType::BF16, shape(len, heads, head_dim)).unwrap();
        let (query, key) = (zeros(q_len, HEADS), zeros(kv_len, HEADS));
        let base = Case { query, value: key.clone(), key, scale: None, mask: None, score: None };
        for (name, case) in cases(&base, q_len, kv_len) {
            let block_mask = case.mask.as_ref().map(|mask| create_block_mask(mask, case.extent()).unwrap());
            let mut call = flex_attention(&case.query, &case.key, &case.value);
            if let Some(mask) = &block_mask {
                call = call.block_mask(mask);
            }
            if let Some(score) = &case.score {
                call = call.score_mod(score);
            }
            let spec = call.kernel_spec(arch).unwrap();
            assert_eq!(spec.schedule.template, Template::ForwardSm90, "{name}, head dim {head_dim}");
            let expected = match head_dim {
                // Loads by a distance share addresses, which is as good.
                192 => !["relative bias", "relative bias, causal", "a table a head", "bands"].contains(&name),
                // There is room for terms of keys only. Of both mods the division of distances would stay, which is long.
                256 => [
                    "a table a batch",
                    "of keys and of distances",
                    "shuffled documents",
                    "a table of documents",
                    "kept keys",
                    "divisions of keys",
                ]
                .contains(&name),
                _ => true,
            };
            assert_eq!(spec.stages_terms, expected, "{name}, head dim {head_dim}");
        }
    }
}
