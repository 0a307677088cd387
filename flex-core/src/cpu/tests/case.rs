//! Problems to test, random or made up, and whether what comes out is right.

use half::{bf16, f16};
use rand::Rng;
use rand::rngs::StdRng;

use super::super::{CpuOptions, Preparation, attention_with};
use crate::attention::{AttentionError, DType, Elements, ElementsMut, Problem, TensorRef};
use crate::capture::{Capture, CaptureValue, IntoArray};
use crate::ir::{BinaryOp, Builder, CaptureId, Input, NodeId, Type, UnaryOp};
use crate::mask::{BlockMask, BlockSize, Extent};
use crate::mods::{MaskMod, ScoreMod};
use crate::reference::{self, ReferenceOutput};

/// Elements of one dtype, owned.
#[derive(Clone, Debug)]
pub(super) enum Data {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

impl Data {
    pub(super) fn new(dtype: DType, values: Vec<f32>) -> Self {
        match dtype {
            DType::F32 => Self::F32(values),
            DType::F16 => Self::F16(values.into_iter().map(f16::from_f32).collect()),
            DType::BF16 => Self::BF16(values.into_iter().map(bf16::from_f32).collect()),
        }
    }

    pub(super) fn elements(&self) -> Elements<'_> {
        match self {
            Self::F32(x) => Elements::F32(x),
            Self::F16(x) => Elements::F16(x),
            Self::BF16(x) => Elements::BF16(x),
        }
    }

    pub(super) fn elements_mut(&mut self) -> ElementsMut<'_> {
        match self {
            Self::F32(x) => ElementsMut::F32(x),
            Self::F16(x) => ElementsMut::F16(x),
            Self::BF16(x) => ElementsMut::BF16(x),
        }
    }
}

/// A tensor with random strides: a permutation of the dimensions, possibly padded.
pub(super) struct Tensor {
    pub(super) data: Data,
    pub(super) shape: [usize; 4],
    pub(super) strides: [usize; 4],
}

impl Tensor {
    pub(super) fn random(rng: &mut StdRng, dtype: DType, shape: [usize; 4], strided: bool) -> Self {
        let mut order = [0, 1, 2, 3];
        let mut padding = 0;
        if strided {
            for i in (1..4).rev() {
                order.swap(i, rng.random_range(0..=i));
            }
            padding = rng.random_range(0..3);
        }
        let mut strides = [0; 4];
        let mut stride = 1;
        for &axis in order.iter().rev() {
            strides[axis] = stride;
            stride *= shape[axis] + padding;
        }
        let data = (0..stride).map(|_| rng.random_range(-1.5f32..1.5)).collect();
        Self { data: Data::new(dtype, data), shape, strides }
    }

    pub(super) fn view(&self) -> TensorRef<'_> {
        TensorRef::new("tensor", self.data.elements(), self.shape, self.strides).unwrap()
    }
}

pub(super) fn block_mask(mask: &MaskMod, extent: Extent, block: impl Into<BlockSize>) -> BlockMask {
    BlockMask::builder(mask).block_size(block).build(extent).unwrap()
}

pub(super) fn mask_of(
    build: impl FnOnce(&mut Builder, [NodeId; 4]) -> NodeId,
    captures: Vec<Capture>,
) -> MaskMod {
    let mut b = Builder::new();
    for c in &captures {
        let decl = c.decl();
        b.declare(decl.name, decl.ty, decl.rank);
    }
    let inputs = [Input::Batch, Input::Head, Input::Query, Input::Key].map(|i| b.input(i));
    let root = build(&mut b, inputs);
    MaskMod::new("mask", b.finish(root).unwrap(), captures).unwrap()
}

/// What is kept, but for every fourth key: not intervals of keys any more.
pub(super) fn with_holes(b: &mut Builder, kept: NodeId, kv: NodeId) -> NodeId {
    let (three, two) = (b.constant(3), b.constant(2));
    let rest = b.binary(BinaryOp::And, kv, three);
    let is_no_hole = b.binary(BinaryOp::Ne, rest, two);
    b.and_then(kept, is_no_hole)
}

pub(super) fn causal() -> MaskMod {
    mask_of(|b, [_, _, q, kv]| b.binary(BinaryOp::Ge, q, kv), vec![])
}

pub(super) fn masks(rng: &mut StdRng, extent: Extent) -> Vec<MaskMod> {
    let window = rng.random_range(1..60);
    let sliding = mask_of(
        |b, [_, _, q, kv]| {
            let w = b.constant(window);
            let distance = b.binary(BinaryOp::Sub, q, kv);
            let near = b.binary(BinaryOp::Le, distance, w);
            let past = b.binary(BinaryOp::Ge, q, kv);
            b.and_then(past, near)
        },
        vec![],
    );
    let len = extent.q_len.max(extent.kv_len);
    let documents: Vec<i32> = (0..len as i32).map(|i| i / 37).collect();
    let array = |data: &Vec<i32>| CaptureValue::Array(data.into_array());
    let document = mask_of(
        |b, [_, _, q, kv]| {
            let doc = crate::ir::CaptureId(0);
            let (of_q, of_kv) = (b.load(doc, &[q]), b.load(doc, &[kv]));
            b.binary(BinaryOp::Eq, of_q, of_kv)
        },
        vec![Capture { name: "doc".into(), value: array(&documents) }],
    );
    // Odd keys, and only for some heads: rows without keys, tiles without runs.
    let odd = mask_of(
        |b, [batch, h, q, kv]| {
            let (one, two, three) = (b.constant(1), b.constant(2), b.constant(3));
            let odd = b.binary(BinaryOp::Rem, kv, two);
            let odd = b.binary(BinaryOp::Eq, odd, one);
            let sum = b.binary(BinaryOp::Add, batch, h);
            let sum = b.binary(BinaryOp::Add, sum, q);
            let row = b.binary(BinaryOp::Rem, sum, three);
            let row = b.binary(BinaryOp::Ne, row, one);
            b.and_then(row, odd)
        },
        vec![],
    );
    vec![causal(), sliding, document.clone(), &document & &causal(), odd, !causal(), MaskMod::all()]
}

pub(super) fn score_mods(rng: &mut StdRng) -> Vec<ScoreMod> {
    let slopes: Vec<f32> = (0..16).map(|_| rng.random_range(0.01f32..0.2)).collect();
    let mut b = Builder::new();
    let slope = b.declare("slope", Type::F32, 1);
    let (h, q, kv) = (b.input(Input::Head), b.input(Input::Query), b.input(Input::Key));
    let slope = b.load(slope, &[h]);
    let distance = b.binary(BinaryOp::Sub, kv, q);
    let distance = b.cast(Type::F32, distance);
    let bias = b.binary(BinaryOp::Mul, slope, distance);
    let score = b.input(Input::Score);
    let root = b.binary(BinaryOp::Add, score, bias);
    let captures = vec![Capture { name: "slope".into(), value: CaptureValue::Array((&slopes).into_array()) }];
    let alibi = ScoreMod::new("alibi", b.finish(root).unwrap(), captures).unwrap();

    let mut b = Builder::new();
    let (score, cap) = (b.input(Input::Score), b.constant(2.0f32));
    let x = b.binary(BinaryOp::Div, score, cap);
    let x = b.unary(UnaryOp::Tanh, x);
    let root = b.binary(BinaryOp::Mul, x, cap);
    let softcap = ScoreMod::new("softcap", b.finish(root).unwrap(), vec![]).unwrap();
    let both = alibi.then(&softcap);
    // Of the distance, whichever sign it has, and of the key; the second one is subtracted.
    let relative = table_mod(&mut *rng, 20_000, |b, table, [q, kv]| {
        let (far, distance) = (b.constant(10_000), b.binary(BinaryOp::Sub, q, kv));
        let index = b.binary(BinaryOp::Add, distance, far);
        (BinaryOp::Add, b.load(table, &[index]))
    });
    let of_key = table_mod(rng, 10_000, |b, table, [_, kv]| (BinaryOp::Sub, b.load(table, &[kv])));
    vec![alibi, softcap, both, relative, of_key]
}

/// A score mod that adds or subtracts what is looked up in a random table of some length.
pub(super) fn table_mod(
    rng: &mut StdRng,
    len: usize,
    bias: impl FnOnce(&mut Builder, CaptureId, [NodeId; 2]) -> (BinaryOp, NodeId),
) -> ScoreMod {
    let table: Vec<f32> = (0..len).map(|_| rng.random_range(-2.0f32..2.0)).collect();
    let mut b = Builder::new();
    let id = b.declare("table", Type::F32, 1);
    let places = [Input::Query, Input::Key].map(|i| b.input(i));
    let (op, bias) = bias(&mut b, id, places);
    let score = b.input(Input::Score);
    let root = b.binary(op, score, bias);
    let captures = vec![Capture { name: "table".into(), value: CaptureValue::Array((&table).into_array()) }];
    ScoreMod::new("table", b.finish(root).unwrap(), captures).unwrap()
}

pub(super) struct Case {
    pub(super) query: Tensor,
    pub(super) key: Tensor,
    pub(super) value: Tensor,
    pub(super) dtype: DType,
}

pub(super) struct Results {
    pub(super) out: Data,
    pub(super) lse: Vec<f32>,
    pub(super) max_scores: Vec<f32>,
}

/// How a problem is computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    pub(super) preparation: Preparation,
    pub(super) statistics: Statistics,
}

/// Which results are wanted beside the output. Scores that are known to be small take other ways where some are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statistics {
    All,
    Lse,
    None,
}

impl Statistics {
    pub(super) const EACH: [Self; 3] = [Self::All, Self::Lse, Self::None];
}

pub(super) const WITH_ALL: How =
    How { preparation: Preparation::WhereWorthwhile, statistics: Statistics::All };

impl Case {
    pub(super) fn random(rng: &mut StdRng, dtype: DType) -> Self {
        let pick = |rng: &mut StdRng, from: &[usize]| from[rng.random_range(0..from.len())];
        let (batch, kv_heads) = (rng.random_range(1..3), rng.random_range(1..3));
        let group = pick(rng, &[1, 1, 2, 3]);
        let lens = [1, 2, 7, 8, 9, 31, 33, 63, 64, 65, 127, 128, 129, 200, 257];
        let (q_len, kv_len) = (pick(rng, &lens), pick(rng, &lens));
        let dims = [1, 3, 8, 16, 32, 33, 64, 80, 128];
        let (head_dim, value_dim) = (pick(rng, &dims), pick(rng, &dims));
        let kv_batch = if rng.random_bool(0.3) { 1 } else { batch };
        let strided = rng.random_bool(0.5);
        let mut tensor = |shape| Tensor::random(rng, dtype, shape, strided);
        Self {
            query: tensor([batch, kv_heads * group, q_len, head_dim]),
            key: tensor([kv_batch, kv_heads, kv_len, head_dim]),
            value: tensor([kv_batch, kv_heads, kv_len, value_dim]),
            dtype,
        }
    }

    pub(super) fn contiguous(
        rng: &mut StdRng,
        dtype: DType,
        q: [usize; 4],
        k: [usize; 4],
        v: [usize; 4],
    ) -> Self {
        let mut tensor = |shape| Tensor::random(rng, dtype, shape, false);
        Self { query: tensor(q), key: tensor(k), value: tensor(v), dtype }
    }

    pub(super) fn extent(&self) -> Extent {
        let [batch, heads, q_len, _] = self.query.shape;
        Extent { batch, heads, q_len, kv_len: self.key.shape[2] }
    }

    pub(super) fn problem(&self) -> Problem<'_> {
        let (query, key, value) = (self.query.view(), self.key.view(), self.value.view());
        Problem { query, key, value, scale: None, score_mod: None, block_mask: None }
    }

    pub(super) fn run(&self, problem: &Problem, options: &CpuOptions) -> Result<Results, AttentionError> {
        self.run_with(problem, options, WITH_ALL)
    }

    pub(super) fn run_with(
        &self,
        problem: &Problem,
        options: &CpuOptions,
        how: How,
    ) -> Result<Results, AttentionError> {
        let shape = problem.validate()?;
        let rows = shape.rows();
        let mut out = Data::new(self.dtype, vec![7.0; rows * shape.value_dim]);
        let (mut lse, mut max_scores) = (vec![7.0; rows], vec![7.0; rows]);
        let lse_out = (how.statistics != Statistics::None).then_some(&mut lse[..]);
        let max_out = (how.statistics == Statistics::All).then_some(&mut max_scores[..]);
        attention_with(problem, options, how.preparation, out.elements_mut(), lse_out, max_out)?;
        Ok(Results { out, lse, max_scores })
    }

    pub(super) fn check(&self, problem: &Problem, options: &CpuOptions) {
        let expected = reference::attention(problem).unwrap();
        for statistics in Statistics::EACH {
            for preparation in [Preparation::WhereWorthwhile, Preparation::Always] {
                self.check_with(problem, &expected, options, How { statistics, preparation });
            }
        }
    }

    pub(super) fn check_with(
        &self,
        problem: &Problem,
        expected: &ReferenceOutput,
        options: &CpuOptions,
        how: How,
    ) {
        let got = self.run_with(problem, options, how).unwrap();
        // Outputs are averages of values below 1.5; the error of a weight, and of a maximum, is in proportion to the scores
        // before a bias makes them small.
        let size = f64::from(problem.effective_scale().abs()) * (self.query.shape[3] as f64).sqrt();
        let (tolerance, of_scores) = match self.dtype {
            DType::F32 => (2e-6 * (1.0 + size), 2e-6 * (1.0 + size)),
            DType::F16 => (1.2e-3, 2e-6 * (1.0 + size)),
            DType::BF16 => (1.2e-2, 4e-2),
        };
        let close = |got: f32, expected: f64, tolerance: f64| {
            let got = f64::from(got);
            got == expected || got.is_nan() && expected.is_nan() || (got - expected).abs() <= tolerance
        };
        let what = || {
            let shapes = (self.query.shape, self.key.shape, self.value.shape);
            let block = problem.block_mask.map(BlockMask::block_size);
            let names =
                (problem.block_mask.map(|m| m.mask_mod().name()), problem.score_mod.map(|m| m.name()));
            format!("{shapes:?} {block:?} {names:?} {options:?} {:?} {how:?}", self.dtype)
        };
        for (i, &expected) in expected.out.iter().enumerate() {
            let got = got.out.elements().get(i);
            assert!(close(got, expected, tolerance), "out[{i}] is {got}, expected {expected}: {}", what());
        }
        for (name, got, expected) in
            [("lse", &got.lse, &expected.lse), ("max", &got.max_scores, &expected.max_scores)]
        {
            match (name, how.statistics) {
                (_, Statistics::None) | ("max", Statistics::Lse) => continue,
                _ => (),
            }
            for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
                let tolerance = of_scores * expected.abs().max(1.0);
                assert!(
                    close(got, expected, tolerance),
                    "{name}[{i}] is {got}, expected {expected}: {}",
                    what()
                );
            }
        }
    }
}
