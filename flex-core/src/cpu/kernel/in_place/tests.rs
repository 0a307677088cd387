//! The kernels of every instruction set and dtype against plain loops.

use super::*;

fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut x = seed;
    let next = |_| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(next).collect()
}

fn all() -> impl Iterator<Item = (InstructionSet, DType)> {
    let available = InstructionSet::ALL.into_iter().filter(|isa| isa.is_available());
    available.flat_map(|isa| [DType::F32, DType::F16, DType::BF16].map(|dtype| (isa, dtype)))
}

/// `keys` rows of `columns` numbers in a dtype, `stride` apart, ending with the last column of the last row.
struct Rows {
    f32: Vec<f32>,
    f16: Vec<f16>,
    bf16: Vec<bf16>,
    keys: usize,
    columns: usize,
    stride: usize,
}

impl Rows {
    fn new(keys: usize, columns: usize, stride: usize, seed: u32) -> Self {
        let f32 = numbers((keys - 1) * stride + columns, seed);
        let f16 = f32.iter().map(|x| f16::from_f32(*x)).collect();
        let bf16 = f32.iter().map(|x| bf16::from_f32(*x)).collect();
        Self { f32, f16, bf16, keys, columns, stride }
    }

    fn view(&self, dtype: DType) -> TensorRef<'_> {
        let elements = match dtype {
            DType::F32 => Elements::F32(&self.f32),
            DType::F16 => Elements::F16(&self.f16),
            DType::BF16 => Elements::BF16(&self.bf16),
        };
        let (shape, strides) = ([1, 1, self.keys, self.columns], [0, 0, self.stride, 1]);
        TensorRef::new("rows", elements, shape, strides).unwrap()
    }
}

/// Weights as the softmax of the kernels leaves them: bf16 in the first half of a row for tile registers.
fn packed(kernels: &InPlace, weights: &[f32]) -> Vec<f32> {
    let mut packed = weights.to_vec();
    if kernels.order == Order::Tiles {
        for (to, from) in packed.chunks_mut(TILE_KEYS).zip(weights.chunks(TILE_KEYS)) {
            for (unit, [low, high]) in to.iter_mut().zip(from.as_chunks::<2>().0) {
                *unit = pack::pair(*low, *high);
            }
        }
    }
    packed
}

#[test]
fn products_are_those_of_plain_loops() {
    for (isa, dtype) in all() {
        for (columns, stride) in [(1, 1), (7, 9), (32, 32), (40, 40), (64, 100), (80, 80), (129, 130)] {
            let kernels = InPlace::new(Available::new(isa), dtype, columns, columns);
            for rows in [1, 2, 3, 5, 8, 13, 16, 19] {
                // The last lanes are those of the last keys there are: nothing behind them may be read.
                for (first_key, lanes) in [(0, 0..128), (3, 0..1), (100, 5..30), (101, 120..128), (7, 3..60)]
                {
                    let tensor = Rows::new(first_key + lanes.end, columns, stride, 2);
                    let tensor = tensor.view(dtype);
                    let head = HeadRows::new(&tensor, 0, 0).unwrap();
                    let at = |lane: usize, c: usize| f64::from(tensor.get([0, 0, first_key + lane, c]));
                    let what = || format!("{columns} columns, {rows} rows, {lanes:?}, {dtype} ({isa})");
                    let close = |got: f32, exact: f64| (f64::from(got) - exact).abs() < 2e-5;

                    let plain: Vec<f32> =
                        numbers(rows * columns, 1).iter().map(|x| bf16::from_f32(*x).to_f32()).collect();
                    let mut query = vec![f32::NAN; kernels.query_len(rows, columns)];
                    for (row, values) in plain.chunks(columns).enumerate() {
                        kernels.arrange(row, rows, values, -1.0, &mut query);
                    }
                    let mut scores = vec![9.0; rows * TILE_KEYS];
                    kernels.scores(&query, &head, first_key, lanes.clone(), &mut scores, &head);
                    for (r, scores) in scores.chunks(TILE_KEYS).enumerate() {
                        for (lane, &score) in scores.iter().enumerate() {
                            if !lanes.contains(&lane) {
                                assert_eq!(score, 9.0, "outside the lanes: {}", what());
                                continue;
                            }
                            let query = &plain[r * columns..][..columns];
                            let products = query.iter().enumerate().map(|(c, q)| f64::from(*q) * at(lane, c));
                            let exact = -products.sum::<f64>();
                            assert!(close(score, exact), "{score}, {exact}: {}", what());
                        }
                    }

                    let mut weights = numbers(rows * TILE_KEYS, 3);
                    for (i, weight) in weights.iter_mut().enumerate() {
                        let kept = lanes.contains(&(i % TILE_KEYS));
                        *weight = if kept { bf16::from_f32(*weight).to_f32() } else { 0.0 };
                    }
                    let (rescale, len) = (numbers(rows, 4), kernels.out_len(columns));
                    let before = numbers(rows * len, 5);
                    let mut out = before.clone();
                    let mut scratch = vec![f32::NAN; kernels.scratch_len()];
                    let packed = packed(kernels, &weights);
                    kernels.values(
                        &packed,
                        &head,
                        first_key,
                        lanes.clone(),
                        &rescale,
                        &mut out,
                        &mut scratch,
                        &head,
                    );
                    for r in 0..rows {
                        let (mut got, mut kept) = (vec![0.0; columns], vec![0.0; columns]);
                        kernels.restore(&out, r, rows, &mut got);
                        kernels.restore(&before, r, rows, &mut kept);
                        for c in 0..columns {
                            let weights = &weights[r * TILE_KEYS..][..TILE_KEYS];
                            let sum: f64 = lanes.clone().map(|l| f64::from(weights[l]) * at(l, c)).sum();
                            let exact = f64::from(rescale[r]) * f64::from(kept[c]) + sum;
                            assert!(close(got[c], exact), "{} {exact}: {}", got[c], what());
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_f16_and_bf16_is_read_as_it_is() {
    for (isa, dtype) in all().filter(|(_, dtype)| *dtype != DType::F32) {
        // One column more than whole tile registers, which flush the smallest numbers to 0.
        let columns = (1 << 9) - 1;
        let kernels = InPlace::new(Available::new(isa), dtype, columns, columns);
        let bits = 0..=u16::MAX;
        let (f16, bf16): (Vec<f16>, Vec<bf16>) =
            bits.map(|bits| (f16::from_bits(bits), bf16::from_bits(bits))).unzip();
        let elements = if dtype == DType::F16 { Elements::F16(&f16) } else { Elements::BF16(&bf16) };
        // Every element is a value column of one key, taken with the weight 1.
        for start in (0..1usize << 16).step_by(columns) {
            let end = (start + columns).min(1 << 16);
            let part = match elements {
                Elements::F16(x) => Elements::F16(&x[start..end]),
                Elements::BF16(x) => Elements::BF16(&x[start..end]),
                Elements::F32(x) => Elements::F32(x),
            };
            let tensor = TensorRef::contiguous("part", part, [1, 1, 1, end - start]).unwrap();
            let head = HeadRows::new(&tensor, 0, 0).unwrap();
            let mut weights = [0.0; TILE_KEYS];
            weights[0] = 1.0;
            let (mut out, mut got) = (vec![0.0; kernels.out_len(end - start)], vec![0.0; end - start]);
            kernels.values(&weights, &head, 0, 0..1, &[0.0], &mut out, &mut [], &head);
            kernels.restore(&out, 0, 1, &mut got);
            for (i, &got) in got.iter().enumerate() {
                let expected = part.get(i);
                assert!(got == expected || got.is_nan() && expected.is_nan(), "{got} {expected} ({isa})");
            }
        }
    }
}
