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

#[test]
fn products_are_those_of_plain_loops() {
    for (isa, dtype) in all() {
        let kernels = InPlace::new(Available::new(isa), dtype);
        for (columns, stride) in [(1, 1), (7, 9), (32, 32), (40, 40), (64, 100), (80, 80), (129, 130)] {
            for rows in [1, 2, 3, 5, 8, 13, 16] {
                // The last lanes are those of the last keys there are: nothing behind them may be read.
                for (first_key, lanes) in [(0, 0..128), (3, 0..1), (100, 5..30), (101, 120..128)] {
                    let tensor = Rows::new(first_key + lanes.end, columns, stride, 2);
                    let tensor = tensor.view(dtype);
                    let head = HeadRows::new(&tensor, 0, 0).unwrap();
                    let at = |lane: usize, c: usize| f64::from(tensor.get([0, 0, first_key + lane, c]));
                    let what = || format!("{columns} columns, {rows} rows, {lanes:?}, {dtype} ({isa})");

                    let (plain, len) = (numbers(rows * columns, 1), kernels.row_len(columns));
                    let mut query = vec![f32::NAN; rows * len];
                    for (row, to) in plain.chunks(columns).zip(query.chunks_mut(len)) {
                        kernels.arrange(row, 2.0, to);
                    }
                    let mut scores = vec![9.0; rows * TILE_KEYS];
                    kernels.scores(&query, &head, first_key, lanes.clone(), &mut scores);
                    for (r, scores) in scores.chunks(TILE_KEYS).enumerate() {
                        for (lane, &score) in scores.iter().enumerate() {
                            if !lanes.contains(&lane) {
                                assert_eq!(score, 9.0, "outside the lanes: {}", what());
                                continue;
                            }
                            let query = &plain[r * columns..][..columns];
                            let products = query.iter().enumerate().map(|(c, q)| f64::from(*q) * at(lane, c));
                            let exact = 2.0 * products.sum::<f64>();
                            assert!((f64::from(score) - exact).abs() < 2e-5, "{score}, {exact}: {}", what());
                        }
                    }

                    let weights = numbers(rows * TILE_KEYS, 3);
                    let (rescale, before) = (numbers(rows, 4), numbers(rows * len, 5));
                    let mut out = before.clone();
                    kernels.values(&weights, &head, first_key, lanes.clone(), &rescale, &mut out);
                    for r in 0..rows {
                        let (mut got, mut kept) = (vec![0.0; columns], vec![0.0; columns]);
                        kernels.restore(&out[r * len..][..len], &mut got);
                        kernels.restore(&before[r * len..][..len], &mut kept);
                        for c in 0..columns {
                            let weights = &weights[r * TILE_KEYS..][..TILE_KEYS];
                            let sum: f64 = lanes.clone().map(|l| f64::from(weights[l]) * at(l, c)).sum();
                            let exact = f64::from(rescale[r]) * f64::from(kept[c]) + sum;
                            assert!(
                                (f64::from(got[c]) - exact).abs() < 2e-5,
                                "{} {exact}: {}",
                                got[c],
                                what()
                            );
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
        let kernels = InPlace::new(Available::new(isa), dtype);
        let bits = 0..=u16::MAX;
        let (f16, bf16): (Vec<f16>, Vec<bf16>) =
            bits.map(|bits| (f16::from_bits(bits), bf16::from_bits(bits))).unzip();
        let elements = if dtype == DType::F16 { Elements::F16(&f16) } else { Elements::BF16(&bf16) };
        // Every element is a value column of one key, taken with the weight 1.
        for start in (0..1usize << 16).step_by(1 << 9) {
            let part = match elements {
                Elements::F16(x) => Elements::F16(&x[start..start + (1 << 9)]),
                Elements::BF16(x) => Elements::BF16(&x[start..start + (1 << 9)]),
                Elements::F32(x) => Elements::F32(x),
            };
            let tensor = TensorRef::contiguous("all", part, [1, 1, 1, 1 << 9]).unwrap();
            let head = HeadRows::new(&tensor, 0, 0).unwrap();
            let mut weights = [0.0; TILE_KEYS];
            weights[0] = 1.0;
            let (mut out, mut columns) = (vec![0.0; kernels.row_len(1 << 9)], vec![0.0; 1 << 9]);
            kernels.values(&weights, &head, 0, 0..1, &[0.0], &mut out);
            kernels.restore(&out, &mut columns);
            for (i, &got) in columns.iter().enumerate() {
                let expected = part.get(i);
                assert!(got == expected || got.is_nan() && expected.is_nan(), "{got} {expected} ({isa})");
            }
        }
    }
}
