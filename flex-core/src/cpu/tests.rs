//! The backend against the float64 reference.

use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{CpuOptions, Preparation, attention};
use crate::attention::{AttentionError, DType, ElementsMut, Problem};
use crate::capture::{Capture, CaptureValue, IntoArray};
use crate::ir::{BinaryOp, Builder, Input, NodeId, Type};
use crate::isa::InstructionSet;
use crate::mask::BlockSize;
use crate::mods::{MaskMod, ScoreMod};
use crate::{reference, testing};

mod case;
mod small_scores;

use case::{
    Case, Data, How, Statistics, Tensor, block_mask, causal, mask_of, masks, score_mods, table_mod,
    with_holes,
};

#[test]
fn random_problems_agree_with_the_reference() {
    let mut rng = StdRng::seed_from_u64(11);
    let blocks: [BlockSize; 6] =
        [128.into(), 64.into(), (16, 48).into(), (5, 7).into(), (256, 32).into(), (1, 200).into()];
    for i in 0..testing::cases(200) as usize {
        let dtype = [DType::F32, DType::F32, DType::F16, DType::BF16][rng.random_range(0..4)];
        let case = Case::random(&mut rng, dtype);
        let mut problem = case.problem();
        let options = CpuOptions {
            threads: [None, Some(1), Some(3)][rng.random_range(0..3)],
            instruction_set: Some(InstructionSet::ALL[i % 5]),
        };
        let mods = score_mods(&mut rng);
        if rng.random_bool(0.4) {
            problem.score_mod = Some(&mods[rng.random_range(0..mods.len())]);
        }
        if rng.random_bool(0.3) {
            problem.scale = Some([0.0, -0.7, 1.0, 0.03][rng.random_range(0..4)]);
        }
        let masks = masks(&mut rng, case.extent());
        let mask = &masks[rng.random_range(0..masks.len())];
        let built = block_mask(mask, case.extent(), blocks[rng.random_range(0..blocks.len())]);
        if rng.random_bool(0.8) {
            problem.block_mask = Some(&built);
        }
        case.check(&problem, &options);
    }
}

#[test]
fn only_faults_of_kept_biases_count() {
    let mut rng = StdRng::seed_from_u64(6);
    for (dtype, len) in [(DType::F32, 300), (DType::BF16, 300), (DType::F16, 77)] {
        // The table ends where causal keys do.
        let score = table_mod(&mut rng, len, |b, table, [q, kv]| {
            let distance = b.binary(BinaryOp::Sub, q, kv);
            (BinaryOp::Add, b.load(table, &[distance]))
        });
        let shape = [1, 2, len, 32];
        let case = Case::contiguous(&mut rng, dtype, shape, shape, shape);
        let mask = block_mask(&causal(), case.extent(), 64);
        let problem = Problem { score_mod: Some(&score), block_mask: Some(&mask), ..case.problem() };
        case.check(&problem, &CpuOptions::default());
        let unmasked = Problem { block_mask: None, ..problem };
        let result = case.run(&unmasked, &CpuOptions::default());
        assert!(matches!(result, Err(AttentionError::Fault(_))), "keys of the future have no bias");
    }
}

#[test]
fn large_head_dims_agree_with_the_reference() {
    let mut rng = StdRng::seed_from_u64(5);
    for (d, dv) in [(512, 512), (192, 128), (1, 300), (511, 1)] {
        let case = Case::contiguous(&mut rng, DType::F32, [1, 2, 40, d], [1, 1, 150, d], [1, 1, 150, dv]);
        case.check(&case.problem(), &CpuOptions::default());
    }
}

#[test]
fn bf16_products_agree_in_every_instruction_set() {
    let mut rng = StdRng::seed_from_u64(12);
    let causal = causal();
    for isa in InstructionSet::ALL.into_iter().filter(|isa| isa.is_available()) {
        // Odd and even numbers of strips, pairs and tile registers.
        for (q_len, kv_len, d, dv) in
            [(257, 300, 64, 64), (48, 127, 33, 80), (16, 129, 1, 31), (5, 64, 128, 96)]
        {
            let key = [1, 1, kv_len, d];
            let case = Case::contiguous(&mut rng, DType::BF16, [1, 2, q_len, d], key, [1, 1, kv_len, dv]);
            let options = CpuOptions { instruction_set: Some(isa), ..Default::default() };
            let mask = block_mask(&causal, case.extent(), 64);
            for block_mask in [None, Some(&mask)] {
                let problem = Problem { block_mask, ..case.problem() };
                case.check(&problem, &options);
                // The scores are sums of exact products, so lse is as in f32.
                let expected = reference::attention(&problem).unwrap().lse;
                for (got, expected) in case.run(&problem, &options).unwrap().lse.iter().zip(expected) {
                    assert!(
                        (f64::from(*got) - expected).abs() <= 1e-5 * expected.abs().max(1.0),
                        "{got} {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn few_queries_split_their_keys() {
    let mut rng = StdRng::seed_from_u64(8);
    for (dtype, q_len) in [(DType::F32, 1), (DType::BF16, 1), (DType::F32, 5), (DType::F16, 2)] {
        let kv = [2, 2, 5000, 32];
        let case = Case::contiguous(&mut rng, dtype, [2, 6, q_len, 32], kv, kv);
        let options = CpuOptions { threads: Some(3), ..Default::default() };
        case.check(&case.problem(), &options);
        let none = mask_of(
            |b, [_, h, q, kv]| {
                // Head 1 sees nothing, the others the last keys only: whole splits are empty.
                let (one, start) = (b.constant(1), b.constant(4990));
                let start = b.binary(BinaryOp::Add, start, q);
                let late = b.binary(BinaryOp::Ge, kv, start);
                let other = b.binary(BinaryOp::Ne, h, one);
                b.and_then(other, late)
            },
            vec![],
        );
        let mask = block_mask(&none, case.extent(), 128);
        let mods = score_mods(&mut rng);
        let problem = Problem { block_mask: Some(&mask), score_mod: Some(&mods[1]), ..case.problem() };
        case.check(&problem, &options);
    }
}

#[test]
fn heads_have_their_turns_where_partial_results_would_be_large() {
    let mut rng = StdRng::seed_from_u64(12);
    let (query, key, value) = ([6, 48, 1, 16], [6, 3, 1100, 16], [6, 3, 1100, 512]);
    let case = Case::contiguous(&mut rng, DType::F32, query, key, value);
    let shape = case.problem().validate().unwrap();
    let parts = shape.kv_len.div_ceil(super::decode::part_keys(&shape));
    let heads = shape.batch * shape.kv_heads;
    let at_a_time = super::split::heads_at_a_time(&shape, parts);
    assert!(parts > 1 && at_a_time < heads, "{at_a_time} of {heads} heads with {parts} parts have a turn");
    case.check(&case.problem(), &CpuOptions { threads: Some(2), ..Default::default() });
}

#[test]
fn decoding_in_place_agrees_with_the_reference() {
    let mut rng = StdRng::seed_from_u64(11);
    let lens = [1, 15, 16, 31, 33, 127, 129, 511, 513, 640, 1100];
    for isa in InstructionSet::ALL.into_iter().filter(|isa| isa.is_available()) {
        for (i, kv_len) in lens.into_iter().enumerate() {
            let dtype = [DType::F32, DType::F16, DType::BF16][i % 3];
            for dtype in [dtype, DType::BF16] {
                let (batch, kv_heads, group) = (2, 2, [1, 2, 4, 5][i % 4]);
                let q_len = [1, 3, 2][i % 3];
                let dim = if dtype == DType::BF16 && i > 8 { 128 } else { [64, 32, 40, 96][i % 4] };
                // Heads of one position side by side.
                let interleaved = |rng: &mut StdRng, heads: usize, len: usize| Tensor {
                    strides: [len * heads * dim, dim, heads * dim, 1],
                    ..Tensor::random(rng, dtype, [batch, heads, len, dim], false)
                };
                let case = Case {
                    query: interleaved(&mut rng, kv_heads * group, q_len),
                    key: interleaved(&mut rng, kv_heads, kv_len),
                    value: interleaved(&mut rng, kv_heads, kv_len),
                    dtype,
                };
                let options = CpuOptions { instruction_set: Some(isa), threads: Some(2) };
                case.check(&case.problem(), &options);
                let masks = masks(&mut rng, case.extent());
                let mods = score_mods(&mut rng);
                // Keys seen from the end of the sequence, not from its start.
                let late = mask_of(
                    |b, [_, h, q, kv]| {
                        let start = b.constant(kv_len as i32 * 2 / 3);
                        let start = b.binary(BinaryOp::Add, start, q);
                        let start = b.binary(BinaryOp::Add, start, h);
                        b.binary(BinaryOp::Ge, kv, start)
                    },
                    vec![],
                );
                for mask in [&late, &masks[i % masks.len()], &masks[4]] {
                    let mask = block_mask(mask, case.extent(), [32, 128][i % 2]);
                    let problem = Problem { block_mask: Some(&mask), ..case.problem() };
                    case.check(&problem, &options);
                    case.check(&Problem { score_mod: Some(&mods[i % mods.len()]), ..problem }, &options);
                }
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_threads() {
    let mut rng = StdRng::seed_from_u64(9);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(5).build().unwrap();
    // Prefill, and decoding whose keys are split into parts, of packed keys and in place.
    let shapes = [(300, 300, 2), (1, 3000, 4), (2, 5000, 12)];
    for ((q_len, kv_len, group), dtype) in shapes.into_iter().zip([DType::F32, DType::BF16, DType::F16]) {
        let (query, kv) = ([2, 2 * group, q_len, 64], [2, 2, kv_len, 64]);
        let case = Case::contiguous(&mut rng, dtype, query, kv, kv);
        let mask = block_mask(&causal(), case.extent(), 128);
        let block_mask = (q_len == kv_len).then_some(&mask);
        let problem = Problem { block_mask, ..case.problem() };
        let run = |threads| case.run(&problem, &CpuOptions { threads, ..Default::default() }).unwrap();
        let one = run(Some(1));
        for other in [run(None), run(Some(2)), run(Some(7)), pool.install(|| run(None))] {
            assert_eq!(format!("{:?}", one.out), format!("{:?}", other.out));
            assert_eq!(one.lse, other.lse);
            assert_eq!(one.max_scores, other.max_scores);
        }
    }
}

/// Items as large as planes want them, of one head and of several, whose rows keep so few keys that others take them over in
/// parts; intervals of keys, and keys that are asked for.
#[test]
fn items_that_are_not_worth_preparing_are_computed_in_parts() {
    let mut rng = StdRng::seed_from_u64(29);
    let window = |b: &mut Builder, q, kv| {
        let (distance, most) = (b.binary(BinaryOp::Sub, q, kv), b.constant(9));
        let (past, near) = (b.binary(BinaryOp::Ge, q, kv), b.binary(BinaryOp::Le, distance, most));
        b.and_then(past, near)
    };
    let windows = [
        mask_of(|b, [_, _, q, kv]| window(b, q, kv), vec![]),
        mask_of(
            |b, [_, _, q, kv]| {
                let near = window(b, q, kv);
                with_holes(b, near, kv)
            },
            vec![],
        ),
    ];
    for (q, kv) in [([1, 8, 1100, 32], [1, 8, 1100, 32]), ([2, 64, 70, 32], [2, 8, 70, 32])] {
        for dtype in [DType::F32, DType::F16] {
            let case = Case::contiguous(&mut rng, dtype, q, kv, kv);
            for mask in &windows {
                let mask = block_mask(mask, case.extent(), 16);
                let problem = Problem { block_mask: Some(&mask), ..case.problem() };
                case.check(&problem, &CpuOptions::default());
            }
        }
    }
}

/// Planes are as good as the numbers that they are made of; numbers that have none are computed otherwise.
#[test]
fn planes_agree_for_large_and_small_numbers() {
    let mut rng = StdRng::seed_from_u64(21);
    let causal = causal();
    for (factor, value_factor) in [
        (1.0, 1.0),
        (3e-4, 1e-20),
        (1e-20, 1e-29),
        (1.0, 1e-31),
        (1.0, 1e-38),
        (20.0, 5e16),
        (1.0, 1e30),
        (1e-33, 1.0),
    ] {
        for (q_len, kv_len, d, dv) in
            [(257, 300, 64, 64), (48, 127, 33, 80), (70, 200, 128, 1), (5, 64, 100, 96)]
        {
            let (q, k, v) = ([1, 2, q_len, d], [1, 1, kv_len, d], [1, 1, kv_len, dv]);
            let mut case = Case::contiguous(&mut rng, DType::F32, q, k, v);
            for (tensor, factor) in [(&mut case.key, factor), (&mut case.value, value_factor)] {
                let Data::F32(data) = &mut tensor.data else { unreachable!() };
                data.iter_mut().for_each(|x| *x *= factor);
            }
            let mask = block_mask(&causal, case.extent(), 64);
            for block_mask in [None, Some(&mask)] {
                let problem = Problem { block_mask, ..case.problem() };
                let expected = reference::attention(&problem).unwrap();
                for statistics in Statistics::EACH {
                    let how = How { preparation: Preparation::Always, statistics };
                    let got = case.run_with(&problem, &CpuOptions::default(), how).unwrap();
                    let (mut error, mut norm) = (0.0, 0.0);
                    for (i, expected) in expected.out.iter().enumerate() {
                        error += (f64::from(got.out.elements().get(i)) - expected).powi(2);
                        norm += expected.powi(2);
                    }
                    // Scores of up to twenty times 64 products' roots take their part.
                    let tolerance =
                        4e-7 * (1.0 + f64::from(factor)) * if value_factor < 1e-37 { 4.0 } else { 1.0 };
                    assert!(
                        error <= norm * tolerance.powi(2),
                        "{} at {factor:e}, {value_factor:e}, {how:?}",
                        (error / norm).sqrt()
                    );
                }
            }
        }
    }
}

#[test]
fn infinite_values_leave_other_columns_alone() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut case = Case::contiguous(&mut rng, DType::BF16, [1, 2, 1, 64], [1, 1, 300, 64], [1, 1, 300, 64]);
    let Data::BF16(values) = &mut case.value.data else { unreachable!() };
    values[70 * 64 + 10] = bf16::INFINITY;
    for isa in InstructionSet::ALL.into_iter().filter(|isa| isa.is_available()) {
        let options = CpuOptions { instruction_set: Some(isa), threads: Some(1) };
        let result = case.run(&case.problem(), &options).unwrap();
        let Data::BF16(out) = &result.out else { unreachable!() };
        for (i, x) in out.iter().enumerate() {
            assert_eq!(x.to_f32().is_infinite(), i % 64 == 10, "column {i} is {x} ({isa})");
        }
    }
}

#[test]
fn nan_and_infinite_inputs_follow_the_definition() {
    let mut rng = StdRng::seed_from_u64(1);
    let causal = causal();
    for isa in InstructionSet::ALL {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut case =
                Case::contiguous(&mut rng, DType::F32, [1, 1, 70, 8], [1, 1, 70, 8], [1, 1, 70, 8]);
            for (tensor, at) in [(&mut case.query, 5 * 8 + 3), (&mut case.key, 40 * 8)] {
                let Data::F32(data) = &mut tensor.data else { unreachable!() };
                data[at] = bad;
            }
            let mask = block_mask(&causal, case.extent(), 32);
            let options = CpuOptions { instruction_set: Some(isa), threads: Some(1) };
            case.check(&Problem { block_mask: Some(&mask), ..case.problem() }, &options);
            case.check(&case.problem(), &options);
        }
    }
}

#[test]
fn scores_of_minus_infinity_are_like_masked_keys() {
    let mut rng = StdRng::seed_from_u64(2);
    let case = Case::contiguous(&mut rng, DType::F32, [1, 1, 20, 8], [1, 1, 150, 8], [1, 1, 150, 8]);
    let mut b = Builder::new();
    let (score, q, kv) = (b.input(Input::Score), b.input(Input::Query), b.input(Input::Key));
    let (ten, low) = (b.constant(10), b.constant(f32::NEG_INFINITY));
    let first_rows = b.binary(BinaryOp::Lt, q, ten);
    let past = b.binary(BinaryOp::Ge, q, kv);
    let kept = b.and_then(first_rows, past);
    let root = b.select(kept, score, low);
    let score_mod = ScoreMod::new("hide", b.finish(root).unwrap(), vec![]).unwrap();
    let problem = Problem { score_mod: Some(&score_mod), ..case.problem() };
    case.check(&problem, &CpuOptions::default());
    let results = case.run(&problem, &CpuOptions::default()).unwrap();
    assert_eq!(results.lse[15], f32::NEG_INFINITY);
    assert_eq!(results.out.elements().get(15 * 8), 0.0);
}

/// Rows in which every second key has the same large score, as biases that stand for masks make them.
#[test]
fn large_scores_are_weighed_against_each_other() {
    let mut rng = StdRng::seed_from_u64(7);
    for (q_len, size) in [(1, 1e6f32), (40, 1e8), (1, 3e9), (40, 1e10), (1, 1e12), (40, 1.7e20), (1, 2e38)] {
        for (dtype, size) in
            [(DType::F32, size), (DType::F32, -size), (DType::BF16, size), (DType::BF16, -size)]
        {
            let case = Case::contiguous(&mut rng, dtype, [1, 1, q_len, 64], [1, 1, 300, 64], [1, 1, 300, 64]);
            let mut b = Builder::new();
            let (kv, one, high, low) =
                (b.input(Input::Key), b.constant(1), b.constant(size), b.constant(f32::MIN));
            let last_bit = b.binary(BinaryOp::And, kv, one);
            let is_odd = b.binary(BinaryOp::Eq, last_bit, one);
            let root = b.select(is_odd, high, low);
            let score_mod = ScoreMod::new("biased", b.finish(root).unwrap(), vec![]).unwrap();
            for isa in InstructionSet::ALL.into_iter().filter(|isa| isa.is_available()) {
                let options = CpuOptions { instruction_set: Some(isa), threads: Some(1) };
                case.check(&Problem { score_mod: Some(&score_mod), ..case.problem() }, &options);
            }
        }
    }
}

#[test]
fn faults_are_errors_that_do_not_depend_on_the_threads() {
    let mut rng = StdRng::seed_from_u64(4);
    let case = Case::contiguous(&mut rng, DType::F32, [1, 2, 300, 16], [1, 2, 300, 16], [1, 2, 300, 16]);
    let short: Vec<f32> = vec![0.5; 200];
    let mut b = Builder::new();
    let bias = b.declare("bias", Type::F32, 1);
    let (score, kv) = (b.input(Input::Score), b.input(Input::Key));
    let load = b.load(bias, &[kv]);
    let root = b.binary(BinaryOp::Add, score, load);
    let captures = vec![Capture { name: "bias".into(), value: CaptureValue::Array((&short).into_array()) }];
    let score_mod = ScoreMod::new("biased", b.finish(root).unwrap(), captures).unwrap();
    let problem = Problem { score_mod: Some(&score_mod), ..case.problem() };
    let fault = |problem: &Problem, threads| {
        case.run(problem, &CpuOptions { threads: Some(threads), ..Default::default() }).err().unwrap()
    };
    let one = fault(&problem, 1);
    assert!(matches!(&one, AttentionError::Fault(f) if f.name == "biased" && f.at.kv == 200), "{one}");
    assert_eq!(one, fault(&problem, 4));
    // Where the mask keeps only keys that are there, nothing faults.
    let mask = mask_of(
        |b, [_, _, _, kv]| {
            let end = b.constant(200);
            b.binary(BinaryOp::Lt, kv, end)
        },
        vec![],
    );
    let mask = block_mask(&mask, case.extent(), 128);
    case.check(&Problem { block_mask: Some(&mask), ..problem }, &CpuOptions::default());
}

#[test]
fn buffers_of_the_wrong_length_are_errors() {
    let mut rng = StdRng::seed_from_u64(6);
    let case = Case::contiguous(&mut rng, DType::F32, [1, 1, 4, 8], [1, 1, 4, 8], [1, 1, 4, 8]);
    let (mut short, mut right, mut one) = (vec![0.0; 31], vec![0.0; 32], vec![0.0; 1]);
    let problem = case.problem();
    let options = CpuOptions::default();
    let wrong = attention(&problem, &options, ElementsMut::F32(&mut short), None, None);
    assert_eq!(wrong, Err(AttentionError::OutputLength { output: "out", expected: 32, got: 31 }));
    let wrong = attention(&problem, &options, ElementsMut::F32(&mut right), Some(&mut one), None);
    assert_eq!(wrong, Err(AttentionError::OutputLength { output: "lse", expected: 4, got: 1 }));
    let mut half = vec![f16::ZERO; 32];
    let wrong = attention(&problem, &options, ElementsMut::F16(&mut half), None, None);
    assert!(matches!(wrong, Err(AttentionError::DTypeMismatch { tensor: "out", .. })));
}

#[test]
fn negative_scales_and_zero_keep_what_a_mask_drops() {
    let mut rng = StdRng::seed_from_u64(8);
    let parity = mask_of(
        |b, [_, _, q, kv]| {
            let (one, zero) = (b.constant(1), b.constant(0));
            let sum = b.binary(BinaryOp::Add, q, kv);
            let bit = b.binary(BinaryOp::And, sum, one);
            b.binary(BinaryOp::Eq, bit, zero)
        },
        vec![],
    );
    let score = table_mod(&mut rng, 200, |b, table, [_, kv]| (BinaryOp::Add, b.load(table, &[kv])));
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let case = Case::contiguous(&mut rng, dtype, [1, 1, 90, 32], [1, 1, 200, 32], [1, 1, 200, 32]);
        let mask = block_mask(&parity, case.extent(), 64);
        for scale in [0.0, -0.7, -0.5, 0.3] {
            let problem = Problem { score_mod: Some(&score), block_mask: Some(&mask), ..case.problem() };
            case.check(&Problem { scale: Some(scale), ..problem }, &CpuOptions::default());
        }
    }
}
