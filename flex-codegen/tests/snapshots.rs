//! The generated text, as people review it.

mod common;

use flex_codegen::{Arch, Guards, KernelSource, KernelSpec, Precision, Schedule, Snippet, Template};
use flex_core::attention::DType;

fn base() -> KernelSpec {
    let schedule = Schedule {
        template: Template::ForwardPortable,
        tile_q: 128,
        tile_kv: 32,
        warps: 4,
        blocks_per_sm: 2,
    };
    KernelSpec::new(Arch::of_device(9, 0), schedule, DType::BF16, 128, 128)
}

#[test]
fn masks() {
    for (name, _) in common::MASKS {
        let spec = KernelSpec { mask: Some(common::expr(name)), ..base() };
        insta::assert_snapshot!(format!("mask_{name}"), Snippet::of(&spec).unwrap().text);
    }
}

#[test]
fn score_mods_proved_and_fast() {
    for (name, _) in common::SCORES {
        let spec = KernelSpec { score: Some(common::expr(name)), guards: Guards::Proved, ..base() };
        insta::assert_snapshot!(format!("score_{name}"), Snippet::of(&spec).unwrap().text);
    }
}

#[test]
fn score_mods_guarded_and_accurate() {
    for name in ["alibi", "relative_bias"] {
        let spec = KernelSpec { score: Some(common::expr(name)), precision: Precision::Accurate, ..base() };
        insta::assert_snapshot!(format!("score_{name}_guarded"), Snippet::of(&spec).unwrap().text);
    }
}

#[test]
fn a_whole_kernel() {
    let spec =
        KernelSpec { mask: Some(common::expr("causal")), score: Some(common::expr("alibi")), ..base() };
    insta::assert_snapshot!("kernel", KernelSource::new(&spec).unwrap().text);
}
