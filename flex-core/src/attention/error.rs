//! What can be wrong with an attention problem.

use super::DType;
use crate::mask::{Extent, ExtentError};
use crate::mods::ModFault;

/// Why attention was not computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AttentionError {
    /// A dimension of a tensor is zero.
    #[error("{tensor} has shape {shape:?}, expected every dimension to be at least 1")]
    EmptyTensor {
        /// Which tensor.
        tensor: &'static str,
        /// Its shape.
        shape: [usize; 4],
    },
    /// The strides of a tensor reach outside its data.
    #[error(
        "{tensor} with shape {shape:?} and strides {strides:?} needs {needed} elements, got {got}: pass the whole buffer, or the \
         shape and strides of the part that is there"
    )]
    OutOfData {
        /// Which tensor.
        tensor: &'static str,
        /// Its shape.
        shape: [usize; 4],
        /// Its strides, in elements.
        strides: [usize; 4],
        /// The elements that are addressed.
        needed: usize,
        /// The elements that are there.
        got: usize,
    },
    /// A dimension is over `i32::MAX`, or an offset or the number of elements overflows.
    #[error(
        "{tensor} with shape {shape:?} and strides {strides:?} is too large: dimensions are at most {max}, and the elements \
         have an address each",
        max = i32::MAX
    )]
    TooLarge {
        /// Which tensor.
        tensor: &'static str,
        /// Its shape.
        shape: [usize; 4],
        /// Its strides, in elements.
        strides: [usize; 4],
    },
    /// The dtypes of query, key, value (or out) differ.
    #[error("{tensor} has dtype {got}, expected {expected}, the dtype of query: convert one of them")]
    DTypeMismatch {
        /// Which tensor.
        tensor: &'static str,
        /// The dtype of query.
        expected: DType,
        /// Its dtype.
        got: DType,
    },
    /// A dimension that must agree with another tensor's does not.
    #[error("{tensor} has {dimension} {got}, expected {expected} ({reason})")]
    ShapeMismatch {
        /// Which tensor.
        tensor: &'static str,
        /// Which dimension.
        dimension: &'static str,
        /// What it should be.
        expected: usize,
        /// What it is.
        got: usize,
        /// What it must agree with.
        reason: &'static str,
    },
    /// The query heads cannot be shared out among the key/value heads.
    #[error("query has {heads} heads, expected a multiple of the {kv_heads} heads of key and value")]
    HeadRatio {
        /// Query heads.
        heads: usize,
        /// Key and value heads.
        kv_heads: usize,
    },
    /// The head dim is larger than supported.
    #[error("{tensor} has head_dim {got}, expected 1 to {max}")]
    HeadDim {
        /// Which tensor.
        tensor: &'static str,
        /// Its head dim.
        got: usize,
        /// The largest supported.
        max: usize,
    },
    /// The block mask was built for another size.
    #[error(
        "the block mask was built for {mask:?}, expected {problem:?} (mask batch or heads of 1 also fit): build it for these \
         lengths, or crop it"
    )]
    MaskExtent {
        /// What the mask was built for.
        mask: Extent,
        /// What the tensors are.
        problem: Extent,
    },
    /// The scale is not a number that softmax can use.
    #[error("scale is {got}, expected a finite number")]
    Scale {
        /// The scale.
        got: f32,
    },
    /// An output buffer has the wrong number of elements.
    #[error("the buffer for {output} has {got} elements, expected {expected}")]
    OutputLength {
        /// Which output.
        output: &'static str,
        /// The elements needed.
        expected: usize,
        /// The elements there.
        got: usize,
    },
    /// A size is zero or overflows.
    #[error(transparent)]
    Extent(#[from] ExtentError),
    /// A mod faulted.
    #[error(transparent)]
    Fault(#[from] ModFault),
}
