//! Every kernel of every instruction set against plain loops.

use super::*;
use crate::rows::SoftCap;

fn all() -> impl Iterator<Item = (InstructionSet, &'static Kernels)> {
    let available = InstructionSet::ALL.into_iter().filter(|isa| isa.is_available());
    available.map(|isa| (isa, Kernels::new(Available::new(isa), DType::F32)))
}

/// Those that multiply f32 as they are.
fn all_of_f32() -> impl Iterator<Item = (InstructionSet, &'static Kernels)> {
    all().filter(|(_, kernels)| kernels.packing == Packing::F32)
}

fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut x = seed;
    let next = |_| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(next).collect()
}

/// The kernels whose weights become bf16.
fn all_of_bf16() -> impl Iterator<Item = (InstructionSet, &'static Kernels)> {
    let available = InstructionSet::ALL.into_iter().filter(|isa| isa.is_available());
    let kernels = available.map(|isa| (isa, Kernels::new(Available::new(isa), DType::BF16)));
    kernels.filter(|(_, kernels)| kernels.packing != Packing::F32)
}

/// The largest error of 2ˣ, by what is to be measured: the result, the exact value and its nearest float.
fn worst_exp2(
    (isa, kernels): (InstructionSet, &Kernels),
    precision: Precision,
    error: impl Fn(f64, f64, f32) -> f64,
) -> f64 {
    let mut worst = 0.0f64;
    // Every 97th float from −∞ to 127.5.
    let inputs = (0..=u32::MAX).step_by(97).map(f32::from_bits).filter(|x| *x <= 127.5);
    let mut inputs = inputs.chain([0.0, -0.0, -126.0, f32::NEG_INFINITY]).peekable();
    while inputs.peek().is_some() {
        let x: Vec<f32> = inputs.by_ref().take(4096).collect();
        let mut y = x.clone();
        y.resize(x.len().next_multiple_of(kernels.lanes), 0.0);
        kernels.exp2(precision, &mut y);
        for (&x, &y) in x.iter().zip(&y) {
            if x < -126.0 {
                assert_eq!(y, 0.0, "2^{x:e} ({isa})");
                continue;
            }
            let exact = f64::from(x).exp2();
            worst = worst.max(error(f64::from(y), exact, exact as f32));
        }
    }
    let mut special = vec![f32::NAN; kernels.lanes];
    kernels.exp2(precision, &mut special);
    assert!(special.iter().all(|x| x.is_nan()), "{isa}");
    worst
}

#[test]
fn exp2_is_within_two_ulp_and_underflows_to_zero() {
    for (isa, kernels) in all() {
        let worst = worst_exp2((isa, kernels), Precision::Sums, |got, exact, nearest| {
            let ulp = f64::from(f32::from_bits(nearest.to_bits() + 1)) - f64::from(nearest);
            (got - exact).abs() / ulp
        });
        assert!(worst <= 2.0, "off by {worst} ulp ({isa})");
    }
}

#[test]
fn exp2_of_weights_that_become_bf16_is_close_enough_for_sums_too() {
    for (isa, kernels) in all_of_bf16() {
        let of_exact = |got: f64, exact: f64, _| (got - exact).abs() / exact;
        let worst = worst_exp2((isa, kernels), Precision::Sums, of_exact);
        assert!(worst <= 2f64.powi(-22), "off by 2^{} ({isa})", worst.log2());
    }
}

#[test]
fn coarse_powers_of_two_are_far_better_than_bf16_rounds() {
    for (isa, kernels) in all_of_bf16() {
        let of_exact = |got: f64, exact: f64, _| (got - exact).abs() / exact;
        let worst = worst_exp2((isa, kernels), Precision::Weights, of_exact);
        assert!(worst <= 1e-5, "off by {worst:e} ({isa})");
        let mut of_zero = vec![0.0; kernels.lanes];
        kernels.exp2(Precision::Weights, &mut of_zero);
        assert!(of_zero.iter().all(|x| *x == 1.0), "the largest weight is exact ({isa})");
    }
}

#[test]
fn columns_become_rows() {
    fn check<const ROWS: usize>(isa: InstructionSet, kernels: &Kernels) {
        for columns in 0..37 {
            let from = numbers(ROWS * columns, 1);
            let rows = std::array::from_fn(|i| &from[i * columns..][..columns]);
            let stride = ROWS + columns % 3;
            let mut to = vec![9.0; (columns + 1) * stride];
            kernels.transpose::<ROWS>(rows, &mut to, stride);
            for (at, to) in to.iter().enumerate() {
                let (column, i) = (at / stride, at % stride);
                let is_written = column < columns && i < ROWS;
                assert_eq!(*to, if is_written { rows[i][column] } else { 9.0 }, "{ROWS} rows, {isa}");
            }
        }
    }
    for (isa, kernels) in all() {
        check::<4>(isa, kernels);
        check::<8>(isa, kernels);
        check::<16>(isa, kernels);
    }
}

#[test]
fn products_are_those_of_plain_loops() {
    for (isa, kernels) in all_of_f32() {
        for head_dim in [1, 2, 5, 64] {
            let (strips, panels) = (3, TILE_KEYS / kernels.panel);
            let rows = strips * kernels.strip;
            let query = numbers(rows * head_dim, 1);
            let key = numbers(panels * head_dim * kernels.panel, 2);
            let mut scores = vec![9.0; rows * TILE_KEYS];
            let first = kernels.lanes;
            let last = panels * kernels.panel - first;
            let lanes = [(); 3].map(|_| first..last - first);
            let multiplier = Multiplier::new(kernels, Precision::Sums);
            multiplier.scores(QueryRows::Packed(&query), &key, head_dim, first, &lanes, &mut scores);
            for r in 0..rows {
                for c in 0..TILE_KEYS {
                    if !(2 * first..last).contains(&c) {
                        let untouched = c < first || scores[r * TILE_KEYS + c - first] == 9.0;
                        assert!(untouched, "outside the keys ({isa})");
                        continue;
                    }
                    let got = scores[r * TILE_KEYS + c - first];
                    let of_query =
                        |d| query[(r / kernels.strip * head_dim + d) * kernels.strip + r % kernels.strip];
                    let of_key =
                        |d| key[(c / kernels.panel * head_dim + d) * kernels.panel + c % kernels.panel];
                    let exact: f64 =
                        (0..head_dim).map(|d| f64::from(of_query(d)) * f64::from(of_key(d))).sum();
                    assert!((f64::from(got) - exact).abs() < 1e-5, "{got} for {exact} ({isa})");
                }
            }

            let columns = 2 * kernels.panel;
            let (units, first) = (2 * TILE_KEYS, 3 * kernels.lanes);
            let value = numbers(2 * units * kernels.panel, 3);
            let weights = numbers(rows * TILE_KEYS, 4);
            let rescale = numbers(rows, 5);
            for keys in [0..TILE_KEYS, 3..7, 5..5, 100..128] {
                let before = numbers(rows * columns, 6);
                let packed = ValueRows::Packed { panels: &value, units, first };
                let of_packed = |k: usize, c: usize| {
                    let row = c / kernels.panel * units + first + k;
                    value[row * kernels.panel + c % kernels.panel]
                };
                let stride = columns + 3;
                let in_place =
                    ValueRows::InPlace { rows: &value[..(TILE_KEYS - 1) * stride + columns], stride };
                let of_place = |k: usize, c: usize| value[k * stride + c];
                let layouts: [(_, &dyn Fn(usize, usize) -> f32); 2] =
                    [(packed, &of_packed), (in_place, &of_place)];
                for (layout, of_value) in layouts {
                    let mut out = before.clone();
                    let lanes = [keys.clone(), keys.clone(), keys.clone()];
                    multiplier.values(&weights, layout, &lanes, &rescale, &mut out, columns);
                    for r in 0..rows {
                        for c in 0..columns {
                            let sum: f64 = keys
                                .clone()
                                .map(|k| f64::from(weights[r * TILE_KEYS + k]) * f64::from(of_value(k, c)))
                                .sum();
                            let rescale = if keys.is_empty() { 1.0 } else { rescale[r] };
                            let exact = f64::from(rescale) * f64::from(before[r * columns + c]) + sum;
                            let got = out[r * columns + c];
                            assert!((f64::from(got) - exact).abs() < 1e-5, "{got} for {exact} ({isa})");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn softmax_keeps_maximum_and_sums_across_tiles() {
    for (isa, kernels) in all() {
        let rows = 2 * kernels.strip;
        let (mut max, mut sums, mut rescale) =
            (vec![f32::NEG_INFINITY; rows], vec![0.0; rows * SUM_LANES], vec![0.0; rows]);
        let factor = 1.7f32;
        let first = numbers(rows * TILE_KEYS, 1);
        let second: Vec<f32> = numbers(rows * TILE_KEYS, 2).iter().map(|x| x * 5.0).collect();
        let keys = [0..TILE_KEYS, kernels.lanes..2 * kernels.lanes];
        let mut weights = [first.clone(), second.clone()];
        for (weights, keys) in weights.iter_mut().zip(&keys) {
            let state = SoftmaxRows { max: &mut max, sums: &mut sums, rescale: &mut rescale };
            kernels.softmax(weights, keys.clone(), factor, state);
        }
        for r in 0..rows {
            let parts = [(&first, &keys[0]), (&second, &keys[1])];
            let scaled = |x: f32| f64::from(x) * f64::from(factor);
            let all = || parts.iter().flat_map(|(x, keys)| &x[r * TILE_KEYS..][(*keys).clone()]);
            let exact_max = all().fold(f64::NEG_INFINITY, |m, &x| m.max(scaled(x)));
            let exact_sum: f64 = all().map(|&x| (scaled(x) - exact_max).exp2()).sum();
            assert!((f64::from(max[r]) - exact_max).abs() < 1e-5, "{isa}");
            let sum: f32 = sums[r * SUM_LANES..][..SUM_LANES].iter().sum();
            assert!((f64::from(sum) / exact_sum - 1.0).abs() < 1e-5, "{sum} for {exact_sum} ({isa})");
            let first_max = first[r * TILE_KEYS..][..TILE_KEYS].iter().fold(f32::MIN, |m, x| m.max(*x));
            let exact = (scaled(first_max) - exact_max).exp2();
            assert!((f64::from(rescale[r]) - exact).abs() < 1e-5, "{} for {exact} ({isa})", rescale[r]);
            let key = keys[1].start + 3;
            let weight = (scaled(second[r * TILE_KEYS + key]) - exact_max).exp2();
            assert!((f64::from(weights[1][r * TILE_KEYS + key]) - weight).abs() < 1e-5, "{isa}");
            assert_eq!(weights[1][r * TILE_KEYS], second[r * TILE_KEYS], "outside the keys ({isa})");
        }
    }
}

#[test]
fn sums_of_many_tiles_lose_no_digits() {
    for (isa, kernels) in all() {
        let (rows, tiles) = (64 / kernels.strip * kernels.strip, 512);
        let (mut max, mut sums, mut rescale) =
            (vec![f32::NEG_INFINITY; rows], vec![0.0; rows * SUM_LANES], vec![0.0; rows]);
        let mut exact = vec![0.0f64; rows];
        for tile in 0..tiles {
            let mut weights = numbers(rows * TILE_KEYS, tile);
            // Nothing is larger than the first score, so all weights have the same unit.
            weights.iter_mut().step_by(TILE_KEYS).for_each(|score| *score = 1.0);
            let state = SoftmaxRows { max: &mut max, sums: &mut sums, rescale: &mut rescale };
            kernels.softmax(&mut weights, 0..TILE_KEYS, 1.0, state);
            for (exact, weights) in exact.iter_mut().zip(weights.chunks_exact(TILE_KEYS)) {
                *exact += weights.iter().copied().map(f64::from).sum::<f64>();
            }
        }
        let error = |(sums, exact): (&[f32], &f64)| {
            (sums.iter().copied().map(f64::from).sum::<f64>() / exact - 1.0).powi(2)
        };
        let errors: f64 = sums.chunks_exact(SUM_LANES).zip(&exact).map(error).sum();
        let error = (errors / rows as f64).sqrt();
        assert!(error < 2e-7, "off by {error:e} ({isa})");
    }
}

#[test]
fn a_softmax_changes_scores_and_knows_what_rows_keep() {
    for ((isa, kernels), strips) in all_of_f32().flat_map(|kernels| [(kernels, 1), (kernels, 2)]) {
        let rows = strips * kernels.strip;
        let (mut scores, table) = (numbers(rows * TILE_KEYS, 1), numbers(rows + 2 * TILE_KEYS, 2));
        // Parts of vectors, inside one and at both ends, and whole ones.
        let kept = |r: u32| [r..100 + r, 35..37, 0..TILE_KEYS as u32, 16..32, 1..17][r as usize % 5].clone();
        let kept: Vec<_> = (0..rows as u32).map(kept).collect();
        // What is not kept may be anything.
        for (scores, kept) in scores.chunks_exact_mut(TILE_KEYS).zip(&kept) {
            scores[..kept.start as usize].fill(f32::NAN);
            scores[kept.end as usize..].fill(f32::NAN);
        }
        let scale = 3.0;
        let biases = [(17, 0), (rows + 5, 1)].map(|(first, step)| AddedBias { table: &table, first, step });
        // Far below the cap, as large as it, and beyond it.
        let caps = [30.0, 1.0, 0.1].map(|cap| SoftCap::new(cap, cap));
        let changes = biases.map(|bias| ScoreChange::Bias(scale, bias));
        let polynomial = [1.5, -0.7, 0.3, 0.0, 0.2, -0.1, 0.05];
        let bounded = [ScoreChange::Bounded(None), ScoreChange::Bounded(Some(polynomial))];
        let changes = changes.into_iter().chain(caps.map(|cap| ScoreChange::SoftCap(scale, cap)));
        for change in changes.chain(bounded).chain([ScoreChange::Nothing]) {
            let is_bounded = matches!(change, ScoreChange::Bounded(_));
            let mut weights = scores.clone();
            let no_max = if is_bounded { 0.0 } else { f32::NEG_INFINITY };
            let (mut max, mut sums, mut rescale) =
                (vec![no_max; rows], vec![0.0; rows * SUM_LANES], vec![0.0; rows]);
            let state = SoftmaxRows { max: &mut max, sums: &mut sums, rescale: &mut rescale };
            let multiplier = Multiplier::new(kernels, Precision::Sums);
            let rows = WeightedRows {
                scores: &mut weights,
                weights: &mut [],
                keys: 0..TILE_KEYS,
                kept: Some(&kept),
                change,
                factor: 1.0,
            };
            multiplier.softmax(rows, state);
            for (r, kept) in kept.iter().enumerate() {
                let changed = |lane: usize| {
                    let plain = f64::from(scores[r * TILE_KEYS + lane]);
                    let score = plain * f64::from(scale);
                    match change {
                        ScoreChange::Nothing | ScoreChange::Bounded(None) => plain,
                        ScoreChange::Bounded(Some(polynomial)) => {
                            let powers = polynomial.iter().enumerate();
                            powers.map(|(i, c)| f64::from(*c) * plain.powi(2 * i as i32 + 1)).sum()
                        }
                        ScoreChange::Bias(_, AddedBias { table, first, step }) => {
                            score + f64::from(table[first - r * step + lane])
                        }
                        ScoreChange::SoftCap(_, cap) => {
                            let [divisor, cap] = cap.parts().map(f64::from);
                            (score / divisor).tanh() * cap
                        }
                    }
                };
                let lanes = || kept.clone().map(|lane| lane as usize);
                let exact_max = match is_bounded {
                    true => 0.0,
                    false => lanes().map(changed).fold(f64::NEG_INFINITY, f64::max),
                };
                assert!((f64::from(max[r]) - exact_max).abs() < 1e-5, "{isa}");
                let mut sum = 0.0;
                for lane in 0..TILE_KEYS {
                    let is_kept = kept.contains(&(lane as u32));
                    let exact = if is_kept { (changed(lane) - exact_max).exp2() } else { 0.0 };
                    let got = f64::from(weights[r * TILE_KEYS + lane]);
                    assert!((got - exact).abs() < 1e-5, "{got} for {exact} ({isa})");
                    sum += exact;
                }
                let got: f32 = sums[r * SUM_LANES..][..SUM_LANES].iter().sum();
                assert!((f64::from(got) / sum - 1.0).abs() < 1e-5, "{got} for {sum} ({isa})");
                assert!(!is_bounded || rescale[r] == 1.0, "{isa}");
            }
        }
    }
}
