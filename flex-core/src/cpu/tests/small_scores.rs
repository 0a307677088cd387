//! Scores that are known to be small, beside others that are not.

use super::*;

/// Whether a query keeps a key: those from forty times its position on.
fn is_late(b: &mut Builder, q: NodeId, kv: NodeId) -> NodeId {
    let forty = b.constant(40);
    let first = b.binary(BinaryOp::Mul, q, forty);
    b.binary(BinaryOp::Ge, kv, first)
}

fn later_keys() -> MaskMod {
    mask_of(|b, [_, _, q, kv]| is_late(b, q, kv), vec![])
}

/// Rows whose first keys have small scores and whose later ones have not, and the other way round, and rows that keep only
/// keys of very small scores, after chunks of which they keep none.
#[test]
fn small_scores_and_large_ones_take_their_turns() {
    let mut rng = StdRng::seed_from_u64(13);
    let (q_len, kv_len, d) = (70, 3000, 32);
    let later_keys = later_keys();
    let unproved = mask_of(
        |b, [_, _, q, kv]| {
            let late = is_late(b, q, kv);
            with_holes(b, late, kv)
        },
        vec![],
    );
    for dtype in [DType::F32, DType::BF16] {
        for large in [0..0, 1100..kv_len, 0..1500, 2100..2200] {
            let (q, k) = ([1, 1, q_len, d], [1, 1, kv_len, d]);
            let mut case = Case::contiguous(&mut rng, dtype, q, k, k);
            let signed = |x: f32, row: usize| if large.contains(&row) { -4.0 * x.abs() } else { x };
            for (tensor, is_key) in [(&mut case.query, false), (&mut case.key, true)] {
                let values = (0..tensor.shape[2] * d).map(|i| {
                    let x = tensor.data.elements().get(i);
                    if is_key { signed(x, i / d) } else { x.abs() }
                });
                tensor.data = Data::new(dtype, values.collect());
            }
            let masks = [&later_keys, &unproved].map(|mask| block_mask(mask, case.extent(), 128));
            for block_mask in [None, Some(&masks[0]), Some(&masks[1])] {
                for isa in InstructionSet::ALL.into_iter().filter(|isa| isa.is_available()) {
                    let options = CpuOptions { instruction_set: Some(isa), threads: Some(1) };
                    case.check(&Problem { block_mask, scale: Some(0.7), ..case.problem() }, &options);
                }
            }
        }
    }
}

/// Rows that keep none of the keys with small scores that other rows of their block keep, and then keys whose weights would all
/// be 0 beside a score of 0.
#[test]
fn rows_without_small_scores_find_their_maximum() {
    let mut rng = StdRng::seed_from_u64(19);
    let (q_len, kv_len, d) = (70, 3000, 32);
    let later_keys = later_keys();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let (q, k) = ([1, 1, q_len, d], [1, 1, kv_len, d]);
        let mut case = Case::contiguous(&mut rng, dtype, q, k, k);
        case.query.data = Data::new(dtype, vec![1.0; q_len * d]);
        let keys = (0..kv_len * d).map(|i| if i / d < 1024 { 0.0 } else { -6.25 });
        case.key.data = Data::new(dtype, keys.collect());
        let mask = block_mask(&later_keys, case.extent(), 128);
        for isa in InstructionSet::ALL.into_iter().filter(|isa| isa.is_available()) {
            let options = CpuOptions { instruction_set: Some(isa), threads: Some(1) };
            let problem = Problem { block_mask: Some(&mask), scale: Some(1.0), ..case.problem() };
            case.check(&problem, &options);
        }
    }
}

/// Scores that are nearly too large to do without their maximum, beside values that they would make infinite.
#[test]
fn large_values_do_not_overflow_beside_small_scores() {
    let mut rng = StdRng::seed_from_u64(17);
    for dtype in [DType::F32, DType::BF16] {
        let mut case = Case::contiguous(&mut rng, dtype, [1, 1, 40, 64], [1, 1, 300, 64], [1, 1, 300, 64]);
        for (tensor, value) in [(&mut case.query, 1.5f32), (&mut case.key, 1.7)] {
            tensor.data = Data::new(dtype, vec![value; tensor.data.elements().len()]);
        }
        case.value.data = Data::new(dtype, vec![2f32.powi(110); case.value.data.elements().len()]);
        for isa in InstructionSet::ALL.into_iter().filter(|isa| isa.is_available()) {
            let options = CpuOptions { instruction_set: Some(isa), threads: Some(1) };
            for statistics in Statistics::EACH {
                let how = How { statistics, preparation: Preparation::Always };
                let results = case.run_with(&case.problem(), &options, how).unwrap();
                for i in 0..results.out.elements().len() {
                    let part = results.out.elements().get(i) / 2f32.powi(110);
                    assert!((part - 1.0).abs() < 1e-5, "{part} ({dtype:?}, {isa}, {how:?})");
                }
            }
        }
    }
}

/// Scores that are nearly too small to do without their maximum, and values so small that their products with weights of such
/// scores would be subnormal, or those of their last plane, in one column of many.
#[test]
fn small_values_keep_their_digits_beside_small_scores() {
    let mut rng = StdRng::seed_from_u64(23);
    let (q_len, kv_len, d) = (40, 300, 64);
    let mut case =
        Case::contiguous(&mut rng, DType::F32, [1, 1, q_len, d], [1, 1, kv_len, d], [1, 1, kv_len, d]);
    for (tensor, value) in [(&mut case.query, 1.5f32), (&mut case.key, -1.7)] {
        tensor.data = Data::new(DType::F32, vec![value; tensor.data.elements().len()]);
    }
    for small in [2f32.powi(-118), 2f32.powi(-98), 2f32.powi(-85)] {
        let values = (0..kv_len * d).map(|i| {
            let x = 1.0 + (i / d) as f32 / 511.0;
            if i % d == 7 { x * small } else { x }
        });
        case.value.data = Data::new(DType::F32, values.collect());
        let expected = reference::attention(&case.problem()).unwrap();
        for isa in InstructionSet::ALL.into_iter().filter(|isa| isa.is_available()) {
            let options = CpuOptions { instruction_set: Some(isa), threads: Some(1) };
            for statistics in Statistics::EACH {
                let how = How { statistics, preparation: Preparation::Always };
                let results = case.run_with(&case.problem(), &options, how).unwrap();
                for (i, expected) in expected.out.iter().enumerate() {
                    let error = f64::from(results.out.elements().get(i)) / expected - 1.0;
                    assert!(error.abs() < 1e-5, "{error:e} at {i} of {small:e} ({isa}, {how:?})");
                }
            }
        }
    }
}
