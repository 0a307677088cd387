//! Mods that do on a GPU what would panic in Rust: the call names the fault, and the GPU goes on.
#![cfg(feature = "cuda")]

mod support;

use flex_attention::library::causal;
use flex_attention::prelude::*;
use flex_attention::{Error, score_mod};
use flex_core::attention::AttentionError;
use flex_core::mask::MaskError;
use flex_core::mods::{FaultReason, ModFault};
use rand::SeedableRng;
use rand::rngs::StdRng;
use support::gpu::{Case, gpu};

#[mask_mod]
fn document(b: i32, h: i32, q: i32, kv: i32, doc: View<i32, 1>) -> bool {
    doc[q] == doc[kv]
}

#[score_mod]
fn biased(score: f32, b: i32, h: i32, q: i32, kv: i32, bias: View<f32, 1>) -> f32 {
    score + bias[q - kv]
}

#[score_mod]
fn per_step(score: f32, b: i32, h: i32, q: i32, kv: i32, step: i32) -> f32 {
    score + (q / step) as f32
}

fn case() -> Case {
    let mut rng = StdRng::seed_from_u64(7);
    Case::random(&mut rng, DType::BF16, [2, 2, 100, 64], [2, 2, 100, 64], 64)
}

fn fault(error: Error) -> ModFault {
    match error {
        Error::Fault(fault)
        | Error::Mask(MaskError::Fault(fault))
        | Error::Attention(AttentionError::Fault(fault)) => fault,
        other => panic!("expected a fault, got {other:?}"),
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_load_out_of_bounds_is_named_and_the_context_survives() {
    let gpu = gpu();
    let case = case();
    for round in 0..3 {
        // Without a mask, keys after the query give negative indices.
        let negative = case.clone().scored(biased::bind(vec![0.5f32; 100]).unwrap());
        let found = fault(negative.on_gpu(&gpu).unwrap_err());
        assert_eq!(found.name, "biased", "round {round}");
        let FaultReason::OutOfBounds { capture, axis, index, len } = &found.what else { panic!("{found}") };
        assert_eq!((capture.as_str(), *axis, *len), ("bias", 0, 100));
        assert_eq!(*index, i64::from(found.at.q - found.at.kv), "the index is that of the point it names");
        assert!(*index < 0, "{found}");

        // With one, only a capture that is too short faults, and only at kept elements.
        let short =
            case.clone().masked(causal::bind().unwrap()).scored(biased::bind(vec![0.5f32; 99]).unwrap());
        let found = fault(short.on_gpu(&gpu).unwrap_err());
        assert_eq!((found.at.q, found.at.kv), (99, 0));
        assert!(matches!(found.what, FaultReason::OutOfBounds { index: 99, len: 99, .. }), "{found}");

        let fits =
            case.clone().masked(causal::bind().unwrap()).scored(biased::bind(vec![0.5f32; 100]).unwrap());
        fits.check(&gpu, "the next call");
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn an_empty_capture_faults() {
    let empty = case().scored(biased::bind(Vec::<f32>::new()).unwrap());
    let found = fault(empty.on_gpu(&gpu()).unwrap_err());
    assert!(matches!(found.what, FaultReason::OutOfBounds { len: 0, .. }), "{found}");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_division_by_zero_is_named() {
    let gpu = gpu();
    let found = fault(case().scored(per_step::bind(0).unwrap()).on_gpu(&gpu).unwrap_err());
    assert_eq!(found.what, FaultReason::DivisionByZero);
    case().scored(per_step::bind(3).unwrap()).check(&gpu, "another divisor");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn loads_that_rust_would_not_execute_do_not_fault() {
    let bias = vec![1.5f32; 10];
    let guarded = score_mod!(|score, b, h, q, kv| if kv < 10 { score + bias[kv] } else { score });
    let short_circuit =
        score_mod!(|score, b, h, q, kv| if q - kv >= 0 && q - kv < 10 && bias[q - kv] > 1.0 {
            score * 0.5
        } else {
            score
        });
    for score in [guarded, short_circuit] {
        case().scored(score).check(&gpu(), "a guarded load");
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_fault_of_a_mask_is_found_before_the_launch() {
    let gpu = gpu();
    let case = case();
    let mask = document::bind(vec![0; 99]).unwrap();
    let [q, k, v] = [&case.query, &case.key, &case.value].map(|tensor| tensor.to(&gpu).unwrap());
    let found = fault(flex_attention(&q, &k, &v).mask_mod(&mask).run().unwrap_err());
    assert!(matches!(found.what, FaultReason::OutOfBounds { index: 99, len: 99, .. }), "{found}");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_mask_mod_alone_is_as_good_as_a_block_mask() {
    let gpu = gpu();
    let doc: Vec<i32> = (0..100).map(|i| i / 13).collect();
    let mask = document::bind(&doc).unwrap() & causal::bind().unwrap();
    let case = case().masked(mask.clone());
    let [q, k, v] = [&case.query, &case.key, &case.value].map(|tensor| tensor.to(&gpu).unwrap());
    let alone = flex_attention(&q, &k, &v).mask_mod(&mask).run().unwrap();
    assert_eq!(alone.to_f32_vec().unwrap(), case.on_gpu(&gpu).unwrap().out);
}
