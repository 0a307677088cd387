//! Attention on NVIDIA GPUs, sm_80 and newer: the launch side. Kernels come from `flex-codegen`.
//!
//! ```text
//! attention   checks, streams, launch, faults         tensor, layout   borrowed and own device memory
//! calls       what stays the same between launches    captures, masks  uploaded once, shared by calls
//! counters    work counters of launches              tiling           block masks in a kernel's tiles
//! modules     loaded kernels                          faults           what mods did wrong
//! device, stream, memory                              on the driver, which is looked for at run time
//! ```
//!
//! **What a call costs.** The first call with some mods, dtype and head dims compiles a kernel, or loads it from the
//! disk cache; the first with some mod, mask and lengths uploads captures and the block mask. All further ones check
//! shapes, look up the prepared call and launch; [`run_into`](crate::FlexAttention::run_into) does not allocate either.
//! Captures and masks leave the device when their mods are gone and another call is prepared, or with
//! [`CudaDevice::trim`].
//!
//! **When a call returns.** Calls return when the work is queued, in the order of their stream. Only where a mod may
//! fault (load out of bounds, divide by zero) and the analysis could not exclude it, a call waits for the kernel and
//! returns the fault.
//!
//! **Graphs.** A call with borrowed tensors and results of the stream that is captured adds one kernel to the graph. The
//! captures and the block mask stay on the device while their mods and [`BlockMask`](flex_core::mask::BlockMask) live:
//! keep these, and do not [`trim`](CudaDevice::trim), as long as the graph is launched.

mod ahead;
mod array;
mod attention;
mod calls;
mod captures;
mod compiler;
mod counters;
mod device;
mod driver;
mod error;
mod faults;
mod kept_keys;
mod layout;
mod mask_building;
mod masks;
mod memory;
mod modules;
mod stream;
mod tensor;
mod tiling;
pub mod timing;
mod tma;
mod work_order;

pub use array::CudaArray;
pub use attention::CudaOptions;
pub use compiler::{compiler, set_compiler};
pub use device::CudaDevice;
pub use error::CudaError;
pub use stream::CudaStream;
pub use tensor::{CudaTensorMut, CudaTensorRef};

pub use flex_codegen::bundle::{Bundle, BundleError};
pub use flex_codegen::plan::{Force, PlanError};
pub use flex_codegen::{
    Arch, CodegenError, Compiler, KernelSpec, Matmul, Precision, Schedule, Stats, Template,
};

pub(crate) use ahead::AheadCall;
pub(crate) use attention::Call;
pub(crate) use calls::MaskSource;
pub(crate) use memory::DeviceBuffer;
pub(crate) use tensor::{download, upload};
