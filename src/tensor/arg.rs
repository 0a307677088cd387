//! What `flex_attention` takes: our own tensors or borrowed memory.

use std::sync::Arc;

use flex_core::attention::{AttentionError, DType, TensorRef};

use super::{Storage, Tensor, TensorError};
#[cfg(feature = "cuda")]
use crate::cuda::{CudaDevice, CudaTensorMut, CudaTensorRef};
use crate::{Device, Error};

/// A tensor argument: a [`Tensor`] or borrowed memory with a shape and strides.
#[derive(Clone, Copy, Debug)]
pub enum TensorArg<'a> {
    /// Host memory.
    Host(TensorRef<'a>),
    /// Memory of a GPU.
    #[cfg(feature = "cuda")]
    Cuda(CudaTensorRef<'a>),
}

impl<'a> TensorArg<'a> {
    /// `[batch, heads, len, head_dim]`.
    pub fn shape(&self) -> [usize; 4] {
        match self {
            Self::Host(tensor) => tensor.shape(),
            #[cfg(feature = "cuda")]
            Self::Cuda(tensor) => tensor.shape(),
        }
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        match self {
            Self::Host(tensor) => tensor.dtype(),
            #[cfg(feature = "cuda")]
            Self::Cuda(tensor) => tensor.dtype(),
        }
    }

    /// Where the elements are.
    pub fn device(&self) -> Device {
        match self {
            Self::Host(_) => Device::Cpu,
            #[cfg(feature = "cuda")]
            Self::Cuda(tensor) => Device::Cuda(tensor.device()),
        }
    }

    /// The host memory that it is; `name` is for the error.
    pub(crate) fn on_host(self, name: &'static str) -> Result<TensorRef<'a>, Error> {
        match self {
            Self::Host(tensor) => Ok(tensor),
            #[cfg_attr(
                not(feature = "cuda"),
                expect(unreachable_patterns, reason = "there is only the host")
            )]
            _ => Err(mismatch(name, Device::Cpu, self.device())),
        }
    }

    /// The memory of `gpu` that it is; `name` is for the error.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_gpu(self, name: &'static str, gpu: CudaDevice) -> Result<CudaTensorRef<'a>, Error> {
        match self {
            Self::Cuda(tensor) if tensor.device() == gpu => Ok(tensor),
            _ => Err(mismatch(name, Device::Cuda(gpu), self.device())),
        }
    }
}

fn mismatch(tensor: &'static str, expected: Device, got: Device) -> Error {
    Error::DeviceMismatch { tensor, expected, got }
}

impl<'a> From<&'a Tensor> for TensorArg<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        tensor.as_arg()
    }
}

impl<'a> From<TensorRef<'a>> for TensorArg<'a> {
    fn from(tensor: TensorRef<'a>) -> Self {
        Self::Host(tensor)
    }
}

#[cfg(feature = "cuda")]
impl<'a> From<CudaTensorRef<'a>> for TensorArg<'a> {
    fn from(tensor: CudaTensorRef<'a>) -> Self {
        Self::Cuda(tensor)
    }
}

/// A tensor to be written: a [`Tensor`] that nothing else shares its elements with, or borrowed memory of a GPU.
#[derive(Debug)]
pub enum TensorArgMut<'a> {
    /// One of ours.
    Tensor(&'a mut Tensor),
    /// Memory of a GPU.
    #[cfg(feature = "cuda")]
    Cuda(CudaTensorMut<'a>),
}

impl<'a> TensorArgMut<'a> {
    /// Where the elements are.
    pub fn device(&self) -> Device {
        match self {
            Self::Tensor(tensor) => tensor.device(),
            #[cfg(feature = "cuda")]
            Self::Cuda(tensor) => Device::Cuda(tensor.as_ref().device()),
        }
    }

    /// Checks that it is in host memory, and that no other tensor would miss what is written to it: the elements are
    /// replaced by others.
    pub(crate) fn check_on_host(&mut self, name: &'static str) -> Result<(), Error> {
        match self {
            Self::Tensor(Tensor { storage: Storage::Host(buffer), .. }) => match Arc::get_mut(buffer) {
                Some(_) => Ok(()),
                None => Err(TensorError::Shared { tensor: name }.into()),
            },
            #[cfg_attr(
                not(feature = "cuda"),
                expect(unreachable_patterns, reason = "there is only the host")
            )]
            _ => Err(mismatch(name, Device::Cpu, self.device())),
        }
    }

    /// Replaces the elements in host memory.
    pub(crate) fn assign(self, name: &'static str, from: Tensor) -> Result<(), Error> {
        match self {
            Self::Tensor(tensor) if tensor.device() == Device::Cpu => {
                check_result(name, (tensor.dtype(), tensor.shape()), (from.dtype(), from.shape()))?;
                *tensor = from;
                Ok(())
            }
            _ => Err(mismatch(name, Device::Cpu, self.device())),
        }
    }

    /// The memory of `gpu` that it is.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_gpu(self, name: &'static str, gpu: CudaDevice) -> Result<CudaTensorMut<'a>, Error> {
        let got = self.device();
        if got != Device::Cuda(gpu) {
            return Err(mismatch(name, Device::Cuda(gpu), got));
        }
        match self {
            Self::Cuda(tensor) => Ok(tensor),
            Self::Tensor(tensor) => CudaTensorMut::of(name, tensor),
        }
    }
}

/// Checks dtype and shape of a tensor to be written.
pub(crate) fn check_result(
    tensor: &'static str,
    (got_dtype, got_shape): (DType, [usize; 4]),
    (dtype, shape): (DType, [usize; 4]),
) -> Result<(), AttentionError> {
    if got_dtype != dtype {
        return Err(AttentionError::DTypeMismatch { tensor, expected: dtype, got: got_dtype });
    }
    let dimensions = ["batch", "heads", "length", "head_dim"];
    for (dimension, (got, expected)) in dimensions.into_iter().zip(got_shape.into_iter().zip(shape)) {
        if got != expected {
            let reason = "the shape of the result";
            return Err(AttentionError::ShapeMismatch { tensor, dimension, expected, got, reason });
        }
    }
    Ok(())
}

impl<'a> From<&'a mut Tensor> for TensorArgMut<'a> {
    fn from(tensor: &'a mut Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

#[cfg(feature = "cuda")]
impl<'a> From<CudaTensorMut<'a>> for TensorArgMut<'a> {
    fn from(tensor: CudaTensorMut<'a>) -> Self {
        Self::Cuda(tensor)
    }
}
