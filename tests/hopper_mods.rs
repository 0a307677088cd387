//! The code that the Hopper kernel gets for every mod of the library, as people review it: what is hoisted, which masks
//! are intervals, which scores are lines, what is left an element.
#![cfg(feature = "cuda")]

use flex_attention::cuda::{Arch, Template};
use flex_attention::library::{self, MASKS};
use flex_attention::prelude::*;
use flex_codegen::{KernelSpec, Snippet};

const HEADS: usize = 4;
const LEN: usize = 1024;

/// The score mods of the library, bound as for heads and sequences of these lengths.
fn scores() -> Vec<ScoreMod> {
    let zeros = |len: usize| vec![0.0f32; len];
    let pairs = |shape: [usize; 2]| View::with_strides(&[0.0f32], shape, [0; 2]).unwrap();
    let per_head = View::with_strides(&[0.0f32], [HEADS, LEN, LEN], [0; 3]).unwrap();
    let per_batch = View::with_strides(&[0.0f32], [1, HEADS, LEN, LEN], [0; 4]).unwrap();
    vec![
        library::alibi::bind(library::alibi_slopes(HEADS)).unwrap(),
        library::softcap::bind(20.0).unwrap(),
        library::t5_bias::bind(pairs([32, HEADS]), 128).unwrap(),
        library::relative_bias::bind(zeros(2 * LEN - 1), LEN as i32 - 1).unwrap(),
        library::key_bias::bind(zeros(LEN)).unwrap(),
        library::bias_qk::bind(pairs([LEN, LEN])).unwrap(),
        library::bias_hqk::bind(per_head).unwrap(),
        library::bias_bhqk::bind(per_batch).unwrap(),
        library::head_gate::bind(zeros(HEADS)).unwrap(),
        library::temperature::bind(0.5).unwrap(),
    ]
}

/// What is written into the kernel; the texts lie in files of the mods' names.
fn assert_code(name: &str, spec: &KernelSpec) {
    assert_eq!(spec.schedule.template, Template::ForwardSm90, "{name}");
    insta::assert_snapshot!(name, Snippet::of(spec).unwrap().text);
}

#[test]
fn every_mod_of_the_library() {
    let arch: Arch = "sm_90a".parse().unwrap();
    let x = Tensor::zeros(DType::BF16, [1, HEADS, LEN, 128]).unwrap();
    for mask in MASKS {
        let bound = mask.bind(LEN).unwrap();
        let spec = flex_attention(&x, &x, &x).mask_mod(&bound).kernel_spec(arch).unwrap();
        assert_code(&format!("mask_{}", mask.name), &spec);
    }
    for score in scores() {
        let spec = flex_attention(&x, &x, &x).score_mod(&score).kernel_spec(arch).unwrap();
        assert_code(&format!("score_{}", score.name()), &spec);
    }
}
