//! Everything that is fixed when a kernel is compiled.

use std::sync::Arc;

use flex_core::attention::DType;
use flex_core::ir::Expr;
use serde::{Deserialize, Serialize};

use crate::{Arch, Guards};

/// How exactly the mods compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As Rust does: IEEE arithmetic in the written order, transcendental functions within 2 ulp or so.
    Accurate,
    /// Hardware approximations of transcendental functions and divisions, constants folded into neighbouring factors.
    #[default]
    Fast,
}

/// How f32 tensors are multiplied; without meaning for the 16-bit types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Matmul {
    /// In f32, and in f32 tensor-core accumulation for the 16-bit types.
    #[default]
    Accurate,
    /// On the tensor cores, operands rounded to 11 bits of mantissa.
    Tf32,
}

/// A kernel template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// cp.async and mma.sync, sm_80 and up.
    ForwardPortable,
    /// TMA, mbarriers, wgmma and warp roles, sm_90a.
    ForwardSm90,
    /// Judges tiles of a mask, sm_80 and up; never chosen for attention.
    MaskTiles,
}

impl Template {
    /// The name in listings and of the template's file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ForwardPortable => "forward_portable",
            Self::ForwardSm90 => "forward_sm90",
            Self::MaskTiles => "mask_tiles",
        }
    }
}

/// A template with the sizes it is instantiated with. Made by [`plan`](crate::plan).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Schedule {
    /// Which kernel.
    pub template: Template,
    /// Queries a block of threads works on.
    pub tile_q: u32,
    /// Keys a step.
    pub tile_kv: u32,
    /// Warps that compute.
    pub warps: u32,
    /// Blocks of threads meant to be resident on a multiprocessor: bounds the registers a thread may use.
    pub blocks_per_sm: u32,
}

/// Everything that is fixed when a kernel is compiled; equal specifications are one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KernelSpec {
    /// The architecture.
    pub arch: Arch,
    /// The kernel and its tiles.
    pub schedule: Schedule,
    /// The dtype of query, key, value and out.
    pub dtype: DType,
    /// How f32 is multiplied.
    pub matmul: Matmul,
    /// The head dim of query and key.
    pub head_dim: u32,
    /// The head dim of value and out.
    pub value_dim: u32,
    /// All of query, key, value and out start at 16-byte boundaries, and so do their rows: head dims and strides are
    /// multiples of 16 bytes.
    pub vector_access: bool,
    /// How exactly the mods compute.
    pub precision: Precision,
    /// What has been proved of the mods.
    pub guards: Guards,
    /// The mask of partial tiles.
    pub mask: Option<Arc<Expr>>,
    /// The launch brings the interval of keys that each query keeps ([`abi::BlockMask::kept_keys`](crate::abi::BlockMask)),
    /// so that one kernel serves all such masks; then there is no `mask`.
    pub kept_keys_from_table: bool,
    /// The score mod.
    pub score: Option<Arc<Expr>>,
    /// The kernel computes what depends on the key alone, or on the distance `q − kv` alone, once a tile and keeps it in
    /// shared memory, where that saves loads. Only the Hopper kernel can.
    #[serde(default)]
    pub stages_terms: bool,
}

impl KernelSpec {
    /// A specification without mods, with vector access and the default precision of the dtype: accurate for f32, fast
    /// for the 16-bit types.
    pub fn new(arch: Arch, schedule: Schedule, dtype: DType, head_dim: u32, value_dim: u32) -> Self {
        let precision = if dtype == DType::F32 { Precision::Accurate } else { Precision::Fast };
        Self {
            arch,
            schedule,
            dtype,
            matmul: Matmul::Accurate,
            head_dim,
            value_dim,
            vector_access: true,
            precision,
            guards: Guards::Guarded,
            mask: None,
            kept_keys_from_table: false,
            score: None,
            stages_terms: false,
        }
    }
}
