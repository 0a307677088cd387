//! Where tensors live and attention is computed.

use std::fmt;

#[cfg(feature = "cuda")]
use crate::cuda::{CudaDevice, CudaError};

/// Where a tensor lives; attention is computed where its tensors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// Host memory, and the CPU.
    Cpu,
    /// A GPU.
    #[cfg(feature = "cuda")]
    Cuda(CudaDevice),
}

impl Device {
    /// The first usable GPU, else the CPU. What keeps a GPU from being used is logged (`FLEX_LOG=info`);
    /// [`Device::cuda`] returns it.
    pub fn best() -> Self {
        #[cfg(feature = "cuda")]
        match Self::first_gpu() {
            Ok(gpu) => return Self::Cuda(gpu),
            Err(error) => tracing::info!(%error, "no usable GPU, using the CPU"),
        }
        Self::Cpu
    }

    /// The GPU of that number, from 0.
    ///
    /// # Errors
    /// If there is no driver, no such GPU, or either is too old: the error says what to install.
    #[cfg(feature = "cuda")]
    pub fn cuda(ordinal: usize) -> Result<Self, CudaError> {
        CudaDevice::new(ordinal).map(Self::Cuda)
    }

    #[cfg(feature = "cuda")]
    fn first_gpu() -> Result<CudaDevice, CudaError> {
        let mut first_error = CudaError::NoDevice;
        for ordinal in 0..CudaDevice::count()? {
            match CudaDevice::new(ordinal).and_then(|gpu| gpu.check_compiler().map(|()| gpu)) {
                Ok(gpu) => return Ok(gpu),
                Err(error) if ordinal == 0 => first_error = error,
                Err(_) => {}
            }
        }
        Err(first_error)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            #[cfg(feature = "cuda")]
            Self::Cuda(gpu) => gpu.fmt(f),
        }
    }
}
