//! Query, key, value and what is to be done with them.

use super::{AttentionError, TensorRef};
use crate::mask::{BlockMask, Extent};
use crate::mods::ScoreMod;

/// The largest head dim of query, key and value.
pub const MAX_HEAD_DIM: usize = 512;

/// The dimensions of an attention problem, checked against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Sequences; the batch of query and of the output.
    pub batch: usize,
    /// The batch of key and value: `batch`, or 1 where all sequences share them.
    pub kv_batch: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Queries a sequence.
    pub q_len: usize,
    /// Keys a sequence.
    pub kv_len: usize,
    /// The head dim of query and key.
    pub head_dim: usize,
    /// The head dim of value and output.
    pub value_dim: usize,
}

impl Shape {
    /// Checks `[batch, heads, len, head_dim]` shapes against each other.
    ///
    /// # Errors
    /// The first dimension that does not fit.
    pub fn new(query: [usize; 4], key: [usize; 4], value: [usize; 4]) -> Result<Self, AttentionError> {
        let [batch, heads, q_len, head_dim] = query;
        let [kv_batch, kv_heads, kv_len, key_dim] = key;
        let [value_batch, value_heads, value_len, value_dim] = value;
        for (tensor, shape) in [("query", query), ("key", key), ("value", value)] {
            if shape.contains(&0) {
                return Err(AttentionError::EmptyTensor { tensor, shape });
            }
        }
        let same = |tensor, dimension, expected: usize, got: usize, reason| match expected == got {
            true => Ok(()),
            false => Err(AttentionError::ShapeMismatch { tensor, dimension, expected, got, reason }),
        };
        same("key", "head_dim", head_dim, key_dim, "the head_dim of query")?;
        if kv_batch != 1 {
            same("key", "batch", batch, kv_batch, "the batch of query, or 1")?;
        }
        same("value", "batch", kv_batch, value_batch, "the batch of key")?;
        same("value", "heads", kv_heads, value_heads, "the heads of key")?;
        same("value", "length", kv_len, value_len, "the length of key")?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(AttentionError::HeadRatio { heads, kv_heads });
        }
        for (tensor, got) in [("query", head_dim), ("value", value_dim)] {
            if got > MAX_HEAD_DIM {
                return Err(AttentionError::HeadDim { tensor, got, max: MAX_HEAD_DIM });
            }
        }
        let shape = Self { batch, kv_batch, heads, kv_heads, q_len, kv_len, head_dim, value_dim };
        shape.extent().validate()?;
        shape.check_out()?;
        Ok(shape)
    }

    /// The size of the attention matrix.
    pub fn extent(&self) -> Extent {
        Extent { batch: self.batch, heads: self.heads, q_len: self.q_len, kv_len: self.kv_len }
    }

    /// The factor of q·k unless another is given: 1/√head_dim.
    pub fn default_scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// How many query heads share a key/value head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// The shape of the output, `[batch, heads, q_len, value_dim]`.
    pub fn out(&self) -> [usize; 4] {
        [self.batch, self.heads, self.q_len, self.value_dim]
    }

    /// Tensors that repeat themselves may ask for an output that no memory can hold.
    fn check_out(&self) -> Result<(), AttentionError> {
        let bytes = self.out().iter().try_fold(size_of::<f32>(), |bytes, &len| bytes.checked_mul(len));
        match bytes.is_some_and(|bytes| bytes <= isize::MAX as usize) {
            true => Ok(()),
            false => Err(AttentionError::TooLarge { tensor: "out", shape: self.out(), strides: [0; 4] }),
        }
    }

    /// The number of query rows: the elements of lse and max score, `[batch, heads, q_len]`.
    pub fn rows(&self) -> usize {
        self.batch * self.heads * self.q_len
    }

    /// Checks that a block mask was built for this problem. A mask built for batch 1 or 1 head that does not depend on
    /// them serves any number.
    ///
    /// # Errors
    /// [`AttentionError::MaskExtent`].
    pub fn check_mask(&self, mask: &BlockMask) -> Result<(), AttentionError> {
        let (have, need) = (mask.extent(), self.extent());
        let (batch_rows, head_rows) = mask.row_strides();
        let fits = have.q_len == need.q_len
            && have.kv_len == need.kv_len
            && (have.batch == need.batch || batch_rows == 0 && have.batch == 1)
            && (have.heads == need.heads || head_rows == 0 && have.heads == 1);
        if fits { Ok(()) } else { Err(AttentionError::MaskExtent { mask: have, problem: need }) }
    }
}

/// An attention problem on host memory: out = softmax(where(mask, score_mod(query·keyᵀ·scale), −∞))·value.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// `[batch, heads, q_len, head_dim]`.
    pub query: TensorRef<'a>,
    /// `[batch or 1, kv_heads, kv_len, head_dim]`.
    pub key: TensorRef<'a>,
    /// `[batch or 1, kv_heads, kv_len, value_dim]`.
    pub value: TensorRef<'a>,
    /// The factor of q·k; `None` for 1/√head_dim.
    pub scale: Option<f32>,
    /// What becomes of a score.
    pub score_mod: Option<&'a ScoreMod>,
    /// Which keys a query sees; `None` for all.
    pub block_mask: Option<&'a BlockMask>,
}

impl Problem<'_> {
    /// Checks everything that can be checked before computing, and returns the dimensions.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn validate(&self) -> Result<Shape, AttentionError> {
        let expected = self.query.dtype();
        for (tensor, got) in [("key", self.key.dtype()), ("value", self.value.dtype())] {
            if got != expected {
                return Err(AttentionError::DTypeMismatch { tensor, expected, got });
            }
        }
        let shape = Shape::new(self.query.shape(), self.key.shape(), self.value.shape())?;
        if let Some(got) = self.scale.filter(|s| !s.is_finite()) {
            return Err(AttentionError::Scale { got });
        }
        if let Some(mask) = self.block_mask {
            shape.check_mask(mask)?;
        }
        Ok(shape)
    }

    /// The factor of q·k that applies.
    pub fn effective_scale(&self) -> f32 {
        self.scale.unwrap_or_else(|| 1.0 / (self.query.shape()[3] as f32).sqrt())
    }
}
