//! `flex_attention`: the call, its options and its outputs.

use std::ops::BitOr;

#[cfg(feature = "cuda")]
use flex_core::attention::{AttentionError, Shape};
use flex_core::attention::{DType, Problem, TensorRef};
use flex_core::cpu::{self, CpuOptions};
use flex_core::mask::BlockMask;
use flex_core::mods::{MaskMod, ScoreMod};

use crate::Error;
#[cfg(feature = "cuda")]
use crate::cuda::{self, CudaOptions, CudaStream};
use crate::tensor::{self, Tensor, TensorArg, TensorArgMut};

/// What [`FlexAttention::run_with`] returns beside the output. Combine with `|`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aux(u8);

impl Aux {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// The natural log of the sum of exponentials of every row.
    pub const LSE: Self = Self(1);
    /// The largest score of every row, after the score mod.
    pub const MAX_SCORES: Self = Self(2);

    /// Whether everything in `other` is asked for.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Aux {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What attention computed.
#[derive(Clone, Debug)]
pub struct Output {
    /// `[batch, heads, q_len, value_dim]`, in the dtype of query, contiguous. Rows that the mask leaves nothing are 0.
    pub out: Tensor,
    /// `[batch, heads, q_len, 1]`, f32: the natural log of the sum of exponentials; −∞ on rows without keys.
    pub lse: Option<Tensor>,
    /// `[batch, heads, q_len, 1]`, f32: the largest score after the score mod; −∞ on rows without keys.
    pub max_scores: Option<Tensor>,
}

/// Attention of `query` `[batch, heads, q_len, head_dim]` over `key` `[batch, kv_heads, kv_len, head_dim]` and `value`
/// `[batch, kv_heads, kv_len, value_dim]`:
/// out = softmax(where(mask, score_mod(query·keyᵀ·scale), −∞))·value, in f32 whatever the dtype.
///
/// The heads of query are a multiple of those of key and value (grouped queries); a batch of 1 in key and value serves
/// every sequence. Nothing is computed before [`run`](FlexAttention::run).
///
/// ```
/// use flex_attention::prelude::*;
///
/// #[mask_mod]
/// fn causal(b: i32, h: i32, q: i32, kv: i32) -> bool {
///     q >= kv
/// }
///
/// # fn main() -> Result<(), flex_attention::Error> {
/// let shape = [1, 2, 8, 4]; // [batch, heads, len, head_dim]
/// let x = Tensor::from_fn(shape, |[_, h, s, d]| ((h + s * d) % 7) as f32 - 3.0)?;
/// let extent = Extent { batch: 1, heads: 2, q_len: 8, kv_len: 8 };
/// let block_mask = create_block_mask(&causal::bind()?, extent)?;
/// let out = flex_attention(&x, &x, &x).block_mask(&block_mask).run()?;
/// // The first query sees only the first key, so it gets the first value.
/// assert_eq!(out.to_f32_vec()?[..4], x.to_f32_vec()?[..4]);
/// # Ok(())
/// # }
/// ```
pub fn flex_attention<'a>(
    query: impl Into<TensorArg<'a>>,
    key: impl Into<TensorArg<'a>>,
    value: impl Into<TensorArg<'a>>,
) -> FlexAttention<'a> {
    FlexAttention {
        query: query.into(),
        key: key.into(),
        value: value.into(),
        scale: None,
        score_mod: None,
        block_mask: None,
        mask_mod: None,
        cpu: CpuOptions::default(),
        #[cfg(feature = "cuda")]
        cuda: CudaOptions::default(),
    }
}

/// A call of [`flex_attention()`] with its options.
#[derive(Clone, Debug)]
#[must_use = "nothing is computed before `run`"]
pub struct FlexAttention<'a> {
    query: TensorArg<'a>,
    key: TensorArg<'a>,
    value: TensorArg<'a>,
    scale: Option<f32>,
    score_mod: Option<&'a ScoreMod>,
    block_mask: Option<&'a BlockMask>,
    mask_mod: Option<&'a MaskMod>,
    cpu: CpuOptions,
    #[cfg(feature = "cuda")]
    cuda: CudaOptions<'a>,
}

impl<'a> FlexAttention<'a> {
    /// The factor of q·k; 1/√head_dim unless set.
    pub fn scale(mut self, scale: f32) -> Self {
        self.scale = Some(scale);
        self
    }

    /// What becomes of a score before the softmax.
    pub fn score_mod(mut self, score_mod: &'a ScoreMod) -> Self {
        self.score_mod = Some(score_mod);
        self
    }

    /// Which keys a query sees; skipped tiles cost nothing.
    pub fn block_mask(mut self, block_mask: &'a BlockMask) -> Self {
        self.block_mask = Some(block_mask);
        self
    }

    /// Which keys a query sees, where there is no block mask; ignored where there is one.
    ///
    /// The CPU looks at every tile of it in every call. On a GPU the first call with a mask and lengths builds
    /// a block mask, which further calls with clones of the mask use again.
    pub fn mask_mod(mut self, mask_mod: &'a MaskMod) -> Self {
        self.mask_mod = Some(mask_mod);
        self
    }

    /// The stream to run on where the tensors are on a GPU; that of query unless set. Tensors of other streams are waited
    /// for.
    #[cfg(feature = "cuda")]
    pub fn stream(mut self, stream: &'a CudaStream) -> Self {
        self.cuda.stream = Some(stream);
        self
    }

    /// How to compute where the tensors are on a GPU.
    #[cfg(feature = "cuda")]
    pub fn cuda(mut self, options: CudaOptions<'a>) -> Self {
        self.cuda = options;
        self
    }

    /// How many threads to use on the CPU, 0 for one a core; the current rayon pool unless set. Threads are started when a
    /// number is first asked for, and kept.
    pub fn threads(mut self, threads: usize) -> Self {
        self.cpu.threads = Some(threads);
        self
    }

    /// Computes the output, `[batch, heads, q_len, value_dim]`.
    ///
    /// # Errors
    /// If shapes, dtypes, devices or the mask do not fit each other, or a mod faults.
    pub fn run(self) -> Result<Tensor, Error> {
        Ok(self.run_with(Aux::NONE)?.out)
    }

    /// Computes the output and what else is asked for.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_with(self, aux: Aux) -> Result<Output, Error> {
        match self.query {
            TensorArg::Host(query) => {
                let (key, value) = (self.key.on_host("key")?, self.value.on_host("value")?);
                self.run_on_host(query, key, value, aux)
            }
            #[cfg(feature = "cuda")]
            TensorArg::Cuda(query) => self.on_gpu(query)?.run(aux),
        }
    }

    /// Computes the output into memory that is there: on a GPU the call allocates nothing.
    ///
    /// `out` is `[batch, heads, q_len, value_dim]` in the dtype of query, where query is; on a GPU any strides do that
    /// give every element its own place and have 1 in the last dimension, on the CPU it is contiguous.
    ///
    /// # Errors
    /// As [`run`](Self::run), and if `out` does not fit or shares its elements with another tensor. What `out` holds
    /// after an error is undefined.
    pub fn run_into<'o>(self, out: impl Into<TensorArgMut<'o>>) -> Result<(), Error> {
        self.run_into_with(out, None::<&mut Tensor>, None::<&mut Tensor>)
    }

    /// As [`run_into`](Self::run_into), with the log-sum-exp and the largest scores where there is a place for them:
    /// contiguous f32 tensors `[batch, heads, q_len, 1]`.
    ///
    /// # Errors
    /// As [`run_into`](Self::run_into).
    pub fn run_into_with<'o>(
        self,
        out: impl Into<TensorArgMut<'o>>,
        lse: Option<impl Into<TensorArgMut<'o>>>,
        max_scores: Option<impl Into<TensorArgMut<'o>>>,
    ) -> Result<(), Error> {
        let (mut out, mut lse, mut max_scores) =
            (out.into(), lse.map(Into::into), max_scores.map(Into::into));
        match self.query {
            TensorArg::Host(query) => {
                out.check_on_host("out")?;
                for (name, rows) in [("lse", &mut lse), ("max_scores", &mut max_scores)] {
                    rows.as_mut().map_or(Ok(()), |rows| rows.check_on_host(name))?;
                }
                let (key, value) = (self.key.on_host("key")?, self.value.on_host("value")?);
                let mut aux = Aux::NONE;
                for (asked, rows) in [(Aux::LSE, &lse), (Aux::MAX_SCORES, &max_scores)] {
                    aux = if rows.is_some() { aux | asked } else { aux };
                }
                let computed = self.run_on_host(query, key, value, aux)?;
                out.assign("out", computed.out)?;
                for (name, to, from) in
                    [("lse", lse, computed.lse), ("max_scores", max_scores, computed.max_scores)]
                {
                    to.zip(from).map_or(Ok(()), |(to, from)| to.assign(name, from))?;
                }
                Ok(())
            }
            #[cfg(feature = "cuda")]
            TensorArg::Cuda(query) => {
                let gpu = query.device();
                let out = out.on_gpu("out", gpu)?;
                let lse = lse.map(|rows| rows.on_gpu("lse", gpu)).transpose()?;
                let max_scores = max_scores.map(|rows| rows.on_gpu("max_scores", gpu)).transpose()?;
                self.on_gpu(query)?.run_into(&out, lse.as_ref(), max_scores.as_ref())
            }
        }
    }

    /// The kernel that this call takes on a GPU of the given architecture, if its tensors lie there contiguously; needs no
    /// GPU. Compiled by a [`Compiler`](cuda::Compiler) and written into a [`Bundle`](cuda::Bundle), it runs without NVRTC.
    ///
    /// Lengths and the values of captures may choose another variant of a kernel: ask for calls like those to come.
    ///
    /// # Errors
    /// If shapes, dtypes or the mask do not fit each other, a mask mod faults, or there is no such kernel.
    #[cfg(feature = "cuda")]
    pub fn kernel_spec(&self, arch: cuda::Arch) -> Result<cuda::KernelSpec, Error> {
        let dtype = self.query.dtype();
        for (tensor, got) in [("key", self.key.dtype()), ("value", self.value.dtype())] {
            if got != dtype {
                return Err(AttentionError::DTypeMismatch { tensor, expected: dtype, got }.into());
            }
        }
        let shape = Shape::new(self.query.shape(), self.key.shape(), self.value.shape())?;
        self.block_mask.map_or(Ok(()), |mask| shape.check_mask(mask))?;
        let mask = cuda::MaskSource::of(self.block_mask, self.mask_mod);
        let (scale, score_mod, options) = (self.scale, self.score_mod, self.cuda);
        cuda::AheadCall { shape, dtype, scale, score_mod, mask, options }.kernel(arch)
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(&self, query: cuda::CudaTensorRef<'a>) -> Result<cuda::Call<'a>, Error> {
        let gpu = query.device();
        Ok(cuda::Call {
            query,
            key: self.key.on_gpu("key", gpu)?,
            value: self.value.on_gpu("value", gpu)?,
            scale: self.scale,
            score_mod: self.score_mod,
            block_mask: self.block_mask,
            mask_mod: self.mask_mod,
            options: self.cuda,
        })
    }

    fn run_on_host(
        &self,
        query: TensorRef<'a>,
        key: TensorRef<'a>,
        value: TensorRef<'a>,
        aux: Aux,
    ) -> Result<Output, Error> {
        let (scale, score_mod) = (self.scale, self.score_mod);
        let mut problem = Problem { query, key, value, scale, score_mod, block_mask: self.block_mask };
        let shape = problem.validate()?;
        let unskipped = match (self.block_mask, self.mask_mod) {
            (None, Some(mask)) => Some(BlockMask::unskipped(mask, shape.extent())?),
            _ => None,
        };
        problem.block_mask = self.block_mask.or(unskipped.as_ref());

        let mut out = tensor::HostBuffer::zeros(query.dtype(), shape.out().iter().product())?;
        let rows = |asked| aux.contains(asked).then(|| tensor::zeroed(0f32, shape.rows())).transpose();
        let (mut lse, mut max_scores) = (rows(Aux::LSE)?, rows(Aux::MAX_SCORES)?);
        cpu::attention(
            &problem,
            &self.cpu,
            out.elements_mut(),
            lse.as_deref_mut(),
            max_scores.as_deref_mut(),
        )?;

        let per_row = [shape.batch, shape.heads, shape.q_len, 1];
        let rows = |x: Vec<f32>| Tensor::from_buffer(tensor::HostBuffer::from_f32(DType::F32, x), per_row);
        Ok(Output {
            out: Tensor::from_buffer(out, shape.out()),
            lse: lse.map(rows),
            max_scores: max_scores.map(rows),
        })
    }
}
