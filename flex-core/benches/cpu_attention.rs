//! The CPU backend on the peer's cases and sizes. Criterion's throughput is floating-point operations over unmasked
//! pairs; the micro-kernel's peak of the same run is printed first.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flex_core::attention::{DType, Elements, ElementsMut, Problem, TensorRef};
use flex_core::capture::{Capture, CaptureValue, IntoArray};
use flex_core::cpu::{CpuOptions, attention, peak_gflops};
use flex_core::ir::{BinaryOp, Builder, Input, NodeId, Type, UnaryOp};
use flex_core::mask::{BlockMask, Extent, create_block_mask};
use flex_core::mods::{MaskMod, ScoreMod};
use flex_core::rows::{RowEvaluator, RowProgram};
use half::{bf16, f16};

const HEADS: usize = 8;
const CASES: [&str; 6] =
    ["dense", "causal", "sliding1024", "doc_causal12", "alibi_causal", "softcap20_causal"];

fn mask(case: &str, len: usize) -> Option<MaskMod> {
    let mut b = Builder::new();
    let mut captures = Vec::new();
    let (q, kv) = (b.input(Input::Query), b.input(Input::Key));
    let past = b.binary(BinaryOp::Ge, q, kv);
    let root = match case {
        "dense" => return None,
        "sliding1024" => {
            let (distance, window) = (b.binary(BinaryOp::Sub, q, kv), b.constant(1024));
            let near = b.binary(BinaryOp::Le, distance, window);
            b.and_then(past, near)
        }
        "doc_causal12" => {
            let documents: Vec<i32> = (0..len).map(|i| (i * 12 / len) as i32).collect();
            let value = CaptureValue::Array((&documents).into_array());
            captures.push(Capture { name: "doc".into(), value });
            let doc = b.declare("doc", Type::I32, 1);
            let (of_q, of_kv) = (b.load(doc, &[q]), b.load(doc, &[kv]));
            let same = b.binary(BinaryOp::Eq, of_q, of_kv);
            b.and_then(same, past)
        }
        _ => past,
    };
    Some(MaskMod::new(case, b.finish(root).expect("a mask"), captures).expect("a mask"))
}

fn score_mod(case: &str) -> Option<ScoreMod> {
    let mut b = Builder::new();
    let score = b.input(Input::Score);
    let mut captures = Vec::new();
    let root: NodeId = match case {
        "alibi_causal" => {
            let slopes: Vec<f32> = (1..=HEADS as i32).map(|h| 0.5f32.powi(h)).collect();
            captures
                .push(Capture { name: "slope".into(), value: CaptureValue::Array((&slopes).into_array()) });
            let slope = b.declare("slope", Type::F32, 1);
            let (h, q, kv) = (b.input(Input::Head), b.input(Input::Query), b.input(Input::Key));
            let slope = b.load(slope, &[h]);
            let distance = b.binary(BinaryOp::Sub, kv, q);
            let distance = b.cast(Type::F32, distance);
            let bias = b.binary(BinaryOp::Mul, slope, distance);
            b.binary(BinaryOp::Add, score, bias)
        }
        "softcap20_causal" => {
            let cap = b.constant(20.0f32);
            let x = b.binary(BinaryOp::Div, score, cap);
            let x = b.unary(UnaryOp::Tanh, x);
            b.binary(BinaryOp::Mul, x, cap)
        }
        _ => return None,
    };
    Some(ScoreMod::new(case, b.finish(root).expect("a score mod"), captures).expect("a score mod"))
}

/// The pairs that a mask keeps, a head.
fn pairs(mask: Option<&BlockMask>, q_len: usize, kv_len: usize) -> usize {
    let Some(mask) = mask else { return q_len * kv_len };
    let program = RowProgram::proved(mask.mask_mod().bound());
    let mut rows = RowEvaluator::new(&program, kv_len);
    let mut keep = vec![false; kv_len];
    rows.tile(0, 0, 0, kv_len);
    let mut count = 0;
    for q in 0..q_len {
        rows.mask_row(q, 0..kv_len, &mut keep).expect("the mask does not fault");
        count += keep.iter().filter(|keep| **keep).count();
    }
    count
}

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    use rand::{Rng, SeedableRng};
    let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-1.7..1.7)).collect()
}

/// The values in three dtypes.
struct Tensor {
    f32: Vec<f32>,
    f16: Vec<f16>,
    bf16: Vec<bf16>,
    shape: [usize; 4],
}

impl Tensor {
    fn new(shape: [usize; 4], seed: u64) -> Self {
        let f32 = numbers(shape.iter().product(), seed);
        let f16 = f32.iter().map(|x| f16::from_f32(*x)).collect();
        let bf16 = f32.iter().map(|x| bf16::from_f32(*x)).collect();
        Self { f32, f16, bf16, shape }
    }

    fn view(&self, dtype: DType) -> TensorRef<'_> {
        let elements = match dtype {
            DType::F32 => Elements::F32(&self.f32),
            DType::F16 => Elements::F16(&self.f16),
            DType::BF16 => Elements::BF16(&self.bf16),
        };
        TensorRef::contiguous("tensor", elements, self.shape).expect("a tensor")
    }

    fn elements_mut(&mut self, dtype: DType) -> ElementsMut<'_> {
        match dtype {
            DType::F32 => ElementsMut::F32(&mut self.f32),
            DType::F16 => ElementsMut::F16(&mut self.f16),
            DType::BF16 => ElementsMut::BF16(&mut self.bf16),
        }
    }
}

fn cases(c: &mut Criterion) {
    let options = CpuOptions::default();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        println!("micro-kernel peak, {dtype}: {:.0} GFLOP/s", peak_gflops(&options, dtype));
    }
    for (len, head_dim) in [(2048, 64), (2048, 128), (128, 64), (16384, 64)] {
        let shape = [1, HEADS, len, head_dim];
        let (query, key, value) = (Tensor::new(shape, 1), Tensor::new(shape, 2), Tensor::new(shape, 3));
        let mut out = Tensor::new(shape, 4);
        let mut group = c.benchmark_group(format!("attention/S{len}/D{head_dim}"));
        group.sample_size(10);
        for case in CASES {
            let extent = Extent { batch: 1, heads: HEADS, q_len: len, kv_len: len };
            let block_mask =
                mask(case, len).map(|mask| create_block_mask(&mask, extent).expect("a block mask"));
            let score_mod = score_mod(case);
            let flops = 4 * HEADS * head_dim * pairs(block_mask.as_ref(), len, len);
            group.throughput(Throughput::Elements(flops as u64));
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                let problem = Problem {
                    query: query.view(dtype),
                    key: key.view(dtype),
                    value: value.view(dtype),
                    scale: None,
                    score_mod: score_mod.as_ref(),
                    block_mask: block_mask.as_ref(),
                };
                group.bench_function(BenchmarkId::new(case, dtype), |bench| {
                    bench.iter(|| {
                        attention(black_box(&problem), &options, out.elements_mut(dtype), None, None)
                    });
                });
            }
        }
    }
}

/// One query over 32768 keys, 32 query heads on 8 key/value heads. Throughput is bytes of key and value.
fn decode(c: &mut Criterion) {
    let (kv_len, head_dim) = (32768, 128);
    let query = Tensor::new([1, 32, 1, head_dim], 1);
    let (key, value) = (Tensor::new([1, 8, kv_len, head_dim], 2), Tensor::new([1, 8, kv_len, head_dim], 3));
    let mut out = Tensor::new([1, 32, 1, head_dim], 4);
    let mut group = c.benchmark_group("decode/S32768/D128");
    group.sample_size(10);
    for dtype in [DType::F32, DType::BF16] {
        group.throughput(Throughput::Bytes((2 * 8 * kv_len * head_dim * dtype.size()) as u64));
        let (query, key, value) = (query.view(dtype), key.view(dtype), value.view(dtype));
        let problem = Problem { query, key, value, scale: None, score_mod: None, block_mask: None };
        group.bench_function(BenchmarkId::from_parameter(dtype), |bench| {
            bench.iter(|| {
                attention(black_box(&problem), &CpuOptions::default(), out.elements_mut(dtype), None, None)
            });
        });
    }
}

criterion_group!(benches, cases, decode);
criterion_main!(benches);
