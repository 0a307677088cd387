//! What can go wrong with the GPU.

use flex_codegen::plan::PlanError;
use flex_codegen::{CodegenError, SlotError};
use flex_core::mask::BlockSize;

/// Why the GPU could not be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The driver is not installed.
    #[error(
        "the NVIDIA driver could not be loaded ({reason}): install it, or in a container pass the GPU through (docker run --gpus all); \
         Device::best() falls back to the CPU"
    )]
    NoDriver {
        /// What the loader said.
        reason: String,
    },
    /// The driver knows no device.
    #[error("the NVIDIA driver found no GPU: check `nvidia-smi` and CUDA_VISIBLE_DEVICES")]
    NoDevice,
    /// The driver is older than what is used of it.
    #[error(
        "the NVIDIA driver is too old ({found}), expected one for CUDA 12.0 or newer: update it to version 525 or newer"
    )]
    DriverTooOld {
        /// What it is.
        found: String,
    },
    /// There is no device of that number.
    #[error("there is no GPU {ordinal}, expected 0 to {last}: CUDA_VISIBLE_DEVICES hides devices and renumbers the rest",
        last = count.saturating_sub(1))]
    NoSuchDevice {
        /// The number asked for.
        ordinal: usize,
        /// How many devices there are.
        count: usize,
    },
    /// The device is too old for the kernels.
    #[error(
        "GPU {ordinal} ({name}) has compute capability {major}.{minor}, expected 8.0 or newer: use the CPU backend"
    )]
    UnsupportedDevice {
        /// Its number.
        ordinal: usize,
        /// Its name.
        name: String,
        /// The major part of its compute capability.
        major: u32,
        /// The minor part.
        minor: u32,
    },
    /// Device memory ran out.
    #[error(
        "GPU {ordinal} has no {requested} bytes left ({free} of {total} free): use smaller tensors or free some"
    )]
    OutOfMemory {
        /// The device.
        ordinal: usize,
        /// Bytes asked for.
        requested: usize,
        /// Bytes free at that time.
        free: usize,
        /// Bytes there are.
        total: usize,
    },
    /// The driver does not know the binary, as a rule because it is older than the compiler.
    #[error(
        "the driver (CUDA {}.{}) cannot load kernel {kernel} ({text}): update the driver, install the NVRTC of its CUDA version, or \
         build the bundle for this GPU", driver / 1000, driver % 1000 / 10
    )]
    CannotLoad {
        /// The kernel.
        kernel: String,
        /// The CUDA version of the driver, `1000 · major + 10 · minor`.
        driver: i32,
        /// What the driver said.
        text: String,
    },
    /// The layout of a tensor is not one that kernels read or write.
    #[error("{tensor} has strides {strides:?} for shape {shape:?}, expected {expected}")]
    Layout {
        /// Which tensor.
        tensor: &'static str,
        /// Its shape.
        shape: [usize; 4],
        /// Its strides, in elements.
        strides: [usize; 4],
        /// What it should be, or what to do.
        expected: &'static str,
    },
    /// The address of borrowed memory is not aligned to its elements.
    #[error(
        "{tensor} starts at address {address:#x}, expected a multiple of the {align} bytes of an element"
    )]
    Misaligned {
        /// Which tensor.
        tensor: &'static str,
        /// Its address.
        address: u64,
        /// The size of an element.
        align: usize,
    },
    /// A stream belongs to another device.
    #[error(
        "the stream belongs to another context than the primary one of GPU {ordinal}: use a stream of that device"
    )]
    ForeignStream {
        /// The device.
        ordinal: usize,
    },
    /// The problem has more work items than a launch takes.
    #[error("the problem has {items} tiles of queries, expected at most {max}: split it along the batch", max = i32::MAX)]
    TooManyTiles {
        /// The number of tiles.
        items: usize,
    },
    /// Tiles that a user gave cannot be cut into those of the kernel.
    #[error(
        "the block mask was made of given tiles of {}×{}, which are not whole numbers of the kernel's {}×{}: give tiles of 128×128, \
         or build the mask from its mod", block.q, block.kv, tiles.q, tiles.kv
    )]
    GivenTiles {
        /// The user's tiles.
        block: BlockSize,
        /// The kernel's.
        tiles: BlockSize,
    },
    /// A call whose mods may fault cannot be checked inside a captured graph.
    #[error(
        "a mod of this call may fault, which is looked up after the call and so cannot be captured into a graph: bound the \
         indices with clamp or a condition, so that every load is proved to be inside its capture"
    )]
    FaultInCapture,
    /// A record of a fault that does not name one of the kernel's operations.
    #[error(
        "kernel {kernel} left the fault record {record}, which names none of its operations: this is a bug, please report it"
    )]
    BrokenFaultRecord {
        /// The kernel.
        kernel: String,
        /// The record.
        record: String,
    },
    /// A call of the driver failed.
    #[error("{call} failed: {text}")]
    Driver {
        /// The function.
        call: &'static str,
        /// The driver's number of the error.
        code: u32,
        /// The driver's words.
        text: String,
    },
    /// No kernel fits the problem and the device.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// No kernel could be made.
    #[error(transparent)]
    Codegen(#[from] CodegenError),
}

impl From<SlotError> for CudaError {
    fn from(error: SlotError) -> Self {
        CodegenError::from(error).into()
    }
}
