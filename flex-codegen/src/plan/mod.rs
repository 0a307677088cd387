//! Which kernel, with which tiles: a table with reasons.

pub(crate) mod portable;

use flex_core::attention::{DType, Shape};
use serde::{Deserialize, Serialize};

use crate::{Arch, KernelSpec, Matmul, Schedule, Template};

/// What the choice of a kernel depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// The architecture.
    pub arch: Arch,
    /// The dynamic shared memory that a block may ask for, in bytes (`MAX_SHARED_MEMORY_PER_BLOCK_OPTIN`).
    pub smem_limit: u32,
    /// The dtype of the tensors.
    pub dtype: DType,
    /// How f32 is to be multiplied.
    pub matmul: Matmul,
    /// The dimensions.
    pub shape: Shape,
    /// Base addresses, strides and rows are multiples of 16 bytes.
    pub vector_access: bool,
    /// What the user insists on.
    pub force: Force,
}

/// What the user insists on; for tests and measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Force {
    /// Only this template.
    pub template: Option<Template>,
    /// Only this schedule, if it fits the device.
    pub schedule: Option<Schedule>,
}

/// A kernel, chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Template and tiles.
    pub schedule: Schedule,
    /// Shared memory of a block, in bytes.
    pub smem_bytes: u32,
    /// Why, for logs and `flex kernel`.
    pub reason: String,
}

/// Why no kernel fits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The device is too old.
    #[error("no kernel for {0}, expected sm_80 or newer: use the CPU backend")]
    UnsupportedArch(Arch),
    /// The head dims are too large for every kernel.
    #[error(
        "no GPU kernel for head dims {head_dim} and {value_dim}, expected at most {max}: use the CPU backend"
    )]
    HeadDim {
        /// Of query and key.
        head_dim: usize,
        /// Of value.
        value_dim: usize,
        /// The largest there is.
        max: u32,
    },
    /// Nothing fits the device's shared memory, or what is forced does not.
    #[error("no kernel fits {limit} bytes of shared memory: the smallest that would do needs {needed}")]
    SharedMemory {
        /// What a block may ask for.
        limit: u32,
        /// What it would need.
        needed: u32,
    },
}

/// Chooses a kernel.
///
/// # Errors
/// If the device is too old, the head dims are too large, or what is forced does not fit.
pub fn plan(request: &Request) -> Result<Plan, PlanError> {
    if !request.arch.is_supported() {
        return Err(PlanError::UnsupportedArch(request.arch));
    }
    let Shape { head_dim, value_dim, q_len, .. } = request.shape;
    let largest = head_dim.max(value_dim);
    if largest > portable::MAX_HEAD_DIM as usize {
        return Err(PlanError::HeadDim { head_dim, value_dim, max: portable::MAX_HEAD_DIM });
    }
    let smem = |schedule: Schedule| {
        portable::smem_bytes(
            request.dtype,
            head_dim as u32,
            value_dim as u32,
            schedule.tile_q,
            schedule.tile_kv,
        )
    };
    let half = request.dtype != DType::F32;
    let fitting = portable::TABLE.iter().filter(|line| {
        line.half == half && largest <= line.head_dim as usize && q_len <= line.q_len as usize
    });
    let candidates: Vec<(Schedule, &str)> = match request.force.schedule {
        Some(schedule) => vec![(schedule, "forced")],
        None => fitting.map(|line| (line.schedule, line.reason)).collect(),
    };
    let mut needed = u32::MAX;
    for (schedule, reason) in candidates {
        let smem_bytes = smem(schedule);
        if smem_bytes <= request.smem_limit {
            return Ok(Plan { schedule, smem_bytes, reason: reason.into() });
        }
        needed = needed.min(smem_bytes);
    }
    Err(PlanError::SharedMemory { limit: request.smem_limit, needed })
}

impl Request {
    /// The specification of a planned kernel, as yet without mods.
    pub fn spec(&self, plan: &Plan) -> KernelSpec {
        let (head_dim, value_dim) = (self.shape.head_dim as u32, self.shape.value_dim as u32);
        KernelSpec {
            matmul: self.matmul,
            vector_access: self.vector_access,
            ..KernelSpec::new(self.arch, plan.schedule, self.dtype, head_dim, value_dim)
        }
    }
}
