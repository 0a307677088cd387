//! Kernels that are loaded on a device.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};

use flex_codegen::CompiledKernel;

use super::driver::{Handle, constants};
use super::{CudaDevice, CudaError};

/// A kernel that is ready to be launched.
#[derive(Debug)]
pub(super) struct LoadedKernel {
    pub(super) compiled: Arc<CompiledKernel>,
    pub(super) function: Handle,
}

/// The loaded kernels of a device, by key. They stay loaded: a kernel is some 100 KiB, and all lengths, scalars and
/// captures share one.
#[derive(Debug, Default)]
pub(super) struct ModuleCache {
    loaded: Mutex<HashMap<String, Arc<LoadedKernel>>>,
}

impl ModuleCache {
    /// The kernel, loaded now or before.
    pub(super) fn load(
        &self,
        device: CudaDevice,
        compiled: Arc<CompiledKernel>,
    ) -> Result<Arc<LoadedKernel>, CudaError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = loaded.get(&compiled.key) {
            return Ok(kernel.clone());
        }
        let kernel = Arc::new(load(device, compiled)?);
        loaded.insert(kernel.compiled.key.clone(), kernel.clone());
        Ok(kernel)
    }
}

fn load(device: CudaDevice, compiled: Arc<CompiledKernel>) -> Result<LoadedKernel, CudaError> {
    let driver = device.driver();
    let _context = device.enter()?;
    let cannot_load = |error| match error {
        CudaError::Driver {
            code:
                constants::ERROR_INVALID_IMAGE
                | constants::ERROR_NO_BINARY_FOR_GPU
                | constants::ERROR_UNSUPPORTED_PTX_VERSION,
            text,
            ..
        } => CudaError::CannotLoad { kernel: compiled.key.clone(), driver: driver.version(), text },
        other => other,
    };
    let entry = CString::new(compiled.entry.as_str()).map_err(|_| CudaError::CannotLoad {
        kernel: compiled.key.clone(),
        driver: driver.version(),
        text: format!("the entry `{}` is no name", compiled.entry.escape_debug()),
    })?;
    let (mut module, mut function) = (Handle::NULL, Handle::NULL);
    // SAFETY: the image is a whole cubin, checked against its hash where it came from a disk; the driver copies it.
    unsafe {
        driver.module_load(&mut module, compiled.cubin.as_ptr().cast()).map_err(cannot_load)?;
        driver.module_function(&mut function, module, entry.as_ptr()).map_err(cannot_load)?;
        let smem_bytes = compiled.smem_bytes as i32;
        driver.function_set_attribute(function, constants::FUNCTION_MAX_DYNAMIC_SMEM, smem_bytes)?;
    }
    tracing::debug!(key = compiled.key, entry = compiled.entry, %device, "kernel loaded");
    Ok(LoadedKernel { compiled, function })
}
