//! From bound mods to cubins: CUDA source, kernel plans, NVRTC and caches. Needs no GPU and no driver.
//!
//! A [`KernelSpec`] says everything that is fixed when a kernel is compiled: architecture, dtype, head dims, tiles,
//! precision and the expressions of the mods. Lengths, strides, the scale and the values of captures are parameters of
//! the launch (see [`abi`]), so changing them compiles nothing.

pub mod abi;
mod arch;
pub mod bundle;
mod cache;
mod call;
mod compiler;
mod emit;
pub mod env;
mod error;
mod fault;
mod guards;
mod kernel;
mod mask_tiles;
pub mod nvrtc;
pub mod plan;
mod source;
mod spec;

pub use arch::{Arch, ParseArchError};
pub use call::{CallPlan, CallRequest};
pub use compiler::{Compiler, Stats};
pub use emit::{
    CaptureLayout, CaptureSlot, FaultSite, ModKind, SlotContent, SlotError, StagedTerms, keeps_an_interval,
};
pub use error::CodegenError;
pub use fault::{FaultPlace, FaultSites};
pub use guards::Guards;
pub use kernel::{CompiledKernel, Resources};
pub use mask_tiles::MaskTilesSpec;
pub use source::{KernelSource, Snippet};
pub use spec::{KernelSpec, Matmul, Precision, Schedule, Template};
