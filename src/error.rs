//! The error of the whole library.

use flex_core::attention::AttentionError;
use flex_core::capture::ViewError;
use flex_core::mask::{ExtentError, MaskError};
use flex_core::mods::{BindError, ModFault};

use crate::Device;
use crate::tensor::TensorError;

/// Anything that can go wrong, by concern.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Tensors, masks and options that do not fit each other, or a fault while computing.
    #[error(transparent)]
    Attention(#[from] AttentionError),
    /// A block mask could not be built or changed.
    #[error(transparent)]
    Mask(#[from] MaskError),
    /// A mod could not be made.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A captured array could not be viewed.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A tensor could not be made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A size is zero or too large.
    #[error(transparent)]
    Extent(#[from] ExtentError),
    /// Tensors of one call are on different devices, or not where the call needs them.
    #[error("{tensor} is on {got}, expected {expected}: bring it there with `.to(&device)`")]
    DeviceMismatch {
        /// Which tensor.
        tensor: &'static str,
        /// Where it should be.
        expected: Device,
        /// Where it is.
        got: Device,
    },
    /// A tensor is in host memory where device memory is needed.
    #[cfg(feature = "cuda")]
    #[error("{tensor} is in host memory, expected device memory: bring it to a GPU with `.to(&device)`")]
    NotOnGpu {
        /// Which tensor.
        tensor: &'static str,
    },
    /// The GPU could not be used.
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Cuda(#[from] crate::cuda::CudaError),
    /// A mod faulted.
    #[error(transparent)]
    Fault(#[from] ModFault),
}
