//! What can go wrong in the program.

use std::path::PathBuf;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error(transparent)]
    Library(#[from] flex_attention::Error),
    #[error(transparent)]
    Catalog(#[from] flex_attention::library::CatalogError),
    #[error(
        "{variable} says what to log, such as `debug` or `flex_codegen=trace`, and cannot be read: {reason}"
    )]
    LogFilter { variable: &'static str, reason: String },
    #[error("could not write the result: {0}")]
    Write(std::io::Error),
    #[error("could not write {path}: {source}")]
    WriteFile { path: PathBuf, source: std::io::Error },
    #[error("no usable GPU: {reason} (`--backend cpu` needs none; `flex doctor` says more)")]
    NoGpu { reason: String },
    #[error("--kernel {kernel} chooses among the kernels of a GPU: add `--backend cuda`")]
    KernelWithoutGpu { kernel: String },
    #[error("the case {case} needs {needed}, got --{option} {got}")]
    Case { case: &'static str, needed: &'static str, option: &'static str, got: usize },
    #[cfg(feature = "cuda")]
    #[error("there is no mod `{got}`; there are dense, {known}, and several joined by `+`")]
    UnknownMod { got: String, known: String },
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Plan(#[from] flex_codegen::plan::PlanError),
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Codegen(#[from] flex_codegen::CodegenError),
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Bundle(#[from] flex_codegen::bundle::BundleError),
    #[cfg(feature = "cuda")]
    #[error(
        "the machine code could not be read: {reason}; `pip install nvidia-cuda-nvdisasm` or a CUDA toolkit has nvdisasm"
    )]
    Disassembler { reason: String },
    #[error("the packed activations are not usable: {0}")]
    Packed(String),
}

macro_rules! from_library_concern {
    ($($concern:ty),* $(,)?) => {$(
        impl From<$concern> for ProgramError {
            fn from(error: $concern) -> Self {
                Self::Library(error.into())
            }
        }
    )*};
}
from_library_concern!(
    flex_attention::tensor::TensorError,
    flex_core::attention::AttentionError,
    flex_core::mods::BindError,
    flex_core::mask::MaskError,
    flex_core::mods::ModFault,
    flex_core::capture::ViewError,
);
