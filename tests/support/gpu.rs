//! Attention on a GPU beside the definition in f64.

use flex_attention::cuda::{CudaOptions, Matmul};
use flex_attention::prelude::*;
use flex_attention::tensor::TensorArg;
use flex_core::attention::{Problem, TensorRef};
use flex_core::reference::{self, ReferenceOutput};
use half::{bf16, f16};
use rand::Rng;
use rand::rngs::StdRng;

/// The first GPU. Tests that use it are ignored where there is none, so not having one is a failure.
pub fn gpu() -> Device {
    Device::cuda(0).unwrap_or_else(|error| panic!("{error}"))
}

/// A call of attention, its tensors in host memory.
#[derive(Clone)]
pub struct Case {
    pub query: Tensor,
    pub key: Tensor,
    pub value: Tensor,
    pub scale: Option<f32>,
    pub mask: Option<MaskMod>,
    pub score: Option<ScoreMod>,
}

/// What a GPU computed, in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Computed {
    pub out: Vec<f32>,
    pub lse: Vec<f32>,
    pub max_scores: Vec<f32>,
}

/// The mods: the tensors would fill pages.
impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (query, key) = (self.query.shape(), self.key.shape());
        write!(f, "query {query:?}, key {key:?}, scale {:?}", self.scale)?;
        let mask = self.mask.as_ref().map(|mask| ("mask", mask.bound()));
        for (kind, bound) in mask.into_iter().chain(self.score.as_ref().map(|s| ("score", s.bound()))) {
            write!(f, "\n{kind}: {} with {:?}", bound.expr(), bound.captures())?;
        }
        Ok(())
    }
}

impl Case {
    /// Fresh normal inputs without mods; `kv` and `q` are `[batch, heads, len, head_dim]`.
    pub fn random(rng: &mut StdRng, dtype: DType, q: [usize; 4], kv: [usize; 4], value_dim: usize) -> Self {
        let [batch, heads, len, _] = kv;
        Self {
            query: normal(rng, dtype, q),
            key: normal(rng, dtype, kv),
            value: normal(rng, dtype, [batch, heads, len, value_dim]),
            scale: None,
            mask: None,
            score: None,
        }
    }

    pub fn masked(self, mask: MaskMod) -> Self {
        Self { mask: Some(mask), ..self }
    }

    pub fn scored(self, score: ScoreMod) -> Self {
        Self { score: Some(score), ..self }
    }

    pub fn extent(&self) -> Extent {
        let [batch, heads, q_len, _] = self.query.shape();
        Extent { batch, heads, q_len, kv_len: self.key.shape()[2] }
    }

    pub fn out_shape(&self) -> [usize; 4] {
        let [batch, heads, q_len, _] = self.query.shape();
        [batch, heads, q_len, self.value.shape()[3]]
    }

    /// The same problem with tensors of another dtype.
    pub fn to_dtype(&self, dtype: DType) -> Self {
        let convert = |tensor: &Tensor| tensor.to_dtype(dtype).unwrap();
        let (query, key, value) = (convert(&self.query), convert(&self.key), convert(&self.value));
        Self { query, key, value, ..self.clone() }
    }

    /// Computes on `gpu`, into memory that was NaN before.
    pub fn on_gpu(&self, gpu: &Device) -> Result<Computed, flex_attention::Error> {
        self.on_gpu_with(gpu, CudaOptions::default())
    }

    /// As [`on_gpu`](Self::on_gpu), with f32 on the tensor cores.
    pub fn on_gpu_in_tf32(&self, gpu: &Device) -> Result<Computed, flex_attention::Error> {
        self.on_gpu_with(gpu, CudaOptions { matmul: Matmul::Tf32, ..CudaOptions::default() })
    }

    pub fn on_gpu_with(
        &self,
        gpu: &Device,
        options: CudaOptions<'_>,
    ) -> Result<Computed, flex_attention::Error> {
        let tensors = [&self.query, &self.key, &self.value].map(|tensor| tensor.to(gpu));
        let [query, key, value] = tensors;
        self.computed_from(&query?, &key?, &value?, options)
    }

    /// Computes from tensors that are on a GPU, with the mods and the scale of this case.
    pub fn computed_from(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        options: CudaOptions<'_>,
    ) -> Result<Computed, flex_attention::Error> {
        let block_mask = self.mask.as_ref().map(|mask| create_block_mask(mask, self.extent())).transpose()?;
        let [batch, heads, q_len, _] = query.shape();
        let per_row = [batch, heads, q_len, 1];
        let mut out = poisoned(query.dtype(), self.out_shape()).to(&query.device())?;
        let mut lse = poisoned(DType::F32, per_row).to(&query.device())?;
        let mut max_scores = poisoned(DType::F32, per_row).to(&query.device())?;
        let mut call = flex_attention(query, key, value).cuda(options);
        if let Some(scale) = self.scale {
            call = call.scale(scale);
        }
        if let Some(score) = &self.score {
            call = call.score_mod(score);
        }
        if let Some(mask) = &block_mask {
            call = call.block_mask(mask);
        }
        call.run_into_with(&mut out, Some(&mut lse), Some(&mut max_scores))?;
        Ok(Computed { out: out.to_f32_vec()?, lse: lse.to_f32_vec()?, max_scores: max_scores.to_f32_vec()? })
    }

    /// The definition in f64, of the values that the tensors hold.
    pub fn reference(&self) -> ReferenceOutput {
        let block_mask = self.mask.as_ref().map(|mask| create_block_mask(mask, self.extent()).unwrap());
        let problem = Problem {
            query: host(&self.query),
            key: host(&self.key),
            value: host(&self.value),
            scale: self.scale,
            score_mod: self.score.as_ref(),
            block_mask: block_mask.as_ref(),
        };
        reference::attention(&problem).unwrap()
    }

    /// Asserts that the GPU agrees with the definition: ‖out − reference‖ / ‖reference‖ within what the dtype allows, and
    /// lse and the largest scores by element.
    #[track_caller]
    pub fn check(&self, gpu: &Device, what: &str) {
        let computed = self.on_gpu(gpu).unwrap_or_else(|error| panic!("{what}: {error}"));
        computed.check_against(&self.reference(), self.query.dtype(), what);
    }
}

impl Computed {
    #[track_caller]
    pub fn check_against(&self, reference: &ReferenceOutput, dtype: DType, what: &str) {
        // Probabilities and the output are rounded to the dtype, each with half a unit in the last place.
        let tolerance = match dtype {
            DType::F32 => 2e-6,
            DType::F16 => 1e-3,
            DType::BF16 => 8e-3,
        };
        let error = relative_error(&self.out, &reference.out);
        assert!(
            error <= tolerance,
            "{what}: relative error of out {error:.2e}, expected at most {tolerance:.0e}"
        );
        // Scores are sums in f32 whatever the dtype; the hardware's exp2 and log2 are good to 2 units.
        close(&self.lse, &reference.lse, 2e-5, &format!("{what}: lse"));
        close(&self.max_scores, &reference.max_scores, 2e-5, &format!("{what}: max score"));
    }
}

/// Every pair equal, both infinite alike, or within `tolerance` relative to max(1, |expected|).
#[track_caller]
pub fn close(got: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let got = f64::from(got);
        let near = (got - expected).abs() <= tolerance * expected.abs().max(1.0);
        assert!(near || got == expected, "{what}: element {i} is {got}, expected {expected}");
    }
}

/// ‖got − expected‖ / ‖expected‖; the norm of `got` where `expected` is 0. NaN where `got` has one.
pub fn relative_error(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let (mut error, mut norm) = (0f64, 0f64);
    for (&got, &expected) in got.iter().zip(expected) {
        error += (f64::from(got) - expected).powi(2);
        norm += expected.powi(2);
    }
    if norm == 0.0 { error.sqrt() } else { (error / norm).sqrt() }
}

/// A host tensor as backends take it.
pub fn host(tensor: &Tensor) -> TensorRef<'_> {
    match TensorArg::from(tensor) {
        TensorArg::Host(host) => host,
        other => panic!("a tensor on {}", other.device()),
    }
}

/// Normal numbers, rounded to the dtype.
pub fn normal(rng: &mut StdRng, dtype: DType, shape: [usize; 4]) -> Tensor {
    let mut number = || {
        // The sum of 12 uniform numbers has variance 1.
        (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0
    };
    Tensor::from_fn(shape, |_| number()).unwrap().to_dtype(dtype).unwrap()
}

/// A tensor of NaN, all of whose bits are set.
pub fn poisoned(dtype: DType, shape: [usize; 4]) -> Tensor {
    let tensor = match dtype {
        DType::F32 => Tensor::from_fn(shape, |_| f32::from_bits(u32::MAX)),
        DType::F16 => Tensor::from_fn(shape, |_| f16::from_bits(u16::MAX)),
        DType::BF16 => Tensor::from_fn(shape, |_| bf16::from_bits(u16::MAX)),
    };
    tensor.unwrap()
}
