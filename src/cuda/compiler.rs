//! The compiler of this process.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use flex_codegen::nvrtc::Nvrtc;
use flex_codegen::{Arch, CodegenError, Compiler};

use super::CudaError;

/// The compiler that was set; the first use sets the default one.
static COMPILER: RwLock<Option<Arc<Compiler>>> = RwLock::new(None);

/// Whether a program brought its own compiler, and with it perhaps kernels that need no NVRTC.
static BROUGHT: OnceLock<()> = OnceLock::new();

/// The compiler that makes the kernels of this process; its [`stats`](Compiler::stats) say how many were compiled.
pub fn compiler() -> Arc<Compiler> {
    if let Some(compiler) = &*COMPILER.read().unwrap_or_else(PoisonError::into_inner) {
        return compiler.clone();
    }
    let mut compiler = COMPILER.write().unwrap_or_else(PoisonError::into_inner);
    compiler.get_or_insert_with(|| Arc::new(Compiler::new())).clone()
}

/// Makes kernels with `compiler` from now on: one with a [bundle](flex_codegen::bundle::Bundle) of kernels compiled
/// ahead of time runs without NVRTC. Kernels that are loaded stay in use.
pub fn set_compiler(compiler: Compiler) {
    let _ = BROUGHT.set(());
    *COMPILER.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(compiler));
}

/// Whether kernels can be had for `arch`, as far as can be said without compiling one.
pub(super) fn check(arch: Arch) -> Result<(), CudaError> {
    if BROUGHT.get().is_some() {
        return Ok(());
    }
    Nvrtc::get().and_then(|nvrtc| nvrtc.check_arch(arch)).map_err(|error| CodegenError::from(error).into())
}
