//! The tiles of the portable kernel.

use flex_core::attention::DType;

use super::ModLoad::{self, Faulting, Heavy, Light};
use crate::{CodegenError, KernelSpec, Matmul, Schedule, Template};

/// The largest head dim that the portable kernel takes.
pub(crate) const MAX_HEAD_DIM: u32 = 256;

/// One line of the table: for head dims, queries and mods up to these, these tiles.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// For f16 and bf16, or for f32.
    pub half: bool,
    /// The largest head dim.
    pub head_dim: u32,
    /// The most queries.
    pub q_len: u32,
    /// The heaviest mods that leave nothing to spill.
    pub mods: ModLoad,
    /// Only for sm_90a and exactly this head dim: elsewhere ptxas finds too few registers.
    pub hopper_only: bool,
    /// The tiles.
    pub schedule: Schedule,
    /// Why.
    pub reason: &'static str,
}

const fn tiles(tile_q: u32, tile_kv: u32, warps: u32, blocks_per_sm: u32) -> Schedule {
    Schedule { template: Template::ForwardPortable, tile_q, tile_kv, warps, blocks_per_sm }
}

const ANY: u32 = u32::MAX;

/// The portable kernel's tiles: the first line that fits dtype, head dims, queries, mods and the device's shared memory is
/// taken.
#[rustfmt::skip]
pub const PORTABLE: &[Line] = &[
    Line { half: true, head_dim: 128, q_len: 64, mods: Faulting, hopper_only: false, schedule: tiles(64, 64, 4, 2), reason: "few queries: a smaller tile wastes fewer rows" },
    Line { half: true, head_dim: 64, q_len: ANY, mods: Faulting, hopper_only: false, schedule: tiles(128, 64, 4, 2), reason: "32 rows a warp halve the traffic of shared memory" },
    Line { half: true, head_dim: 128, q_len: ANY, mods: Light, hopper_only: true, schedule: tiles(128, 64, 4, 2), reason: "32 rows a warp halve the traffic of shared memory; output and scores fill 255 registers" },
    Line { half: true, head_dim: 128, q_len: ANY, mods: Heavy, hopper_only: false, schedule: tiles(128, 32, 4, 2), reason: "32 rows a warp; 64 keys would leave too few registers" },
    Line { half: true, head_dim: 128, q_len: ANY, mods: Faulting, hopper_only: false, schedule: tiles(64, 64, 4, 2), reason: "16 rows a warp leave registers for faults" },
    Line { half: true, head_dim: 256, q_len: ANY, mods: Light, hopper_only: false, schedule: tiles(128, 64, 8, 1), reason: "16 rows a warp: the output fills half the registers" },
    Line { half: true, head_dim: 256, q_len: ANY, mods: Faulting, hopper_only: false, schedule: tiles(128, 32, 8, 1), reason: "too little shared memory for 64 keys, or registers for score mods" },
    Line { half: true, head_dim: 256, q_len: ANY, mods: Faulting, hopper_only: false, schedule: tiles(64, 32, 4, 1), reason: "the device has too little shared memory for 128 queries" },
    Line { half: true, head_dim: 256, q_len: ANY, mods: Faulting, hopper_only: false, schedule: tiles(64, 16, 4, 1), reason: "the device has too little shared memory for 32 keys" },
    Line { half: false, head_dim: 128, q_len: ANY, mods: Faulting, hopper_only: false, schedule: tiles(64, 32, 4, 2), reason: "f32 operands take twice the shared memory" },
    Line { half: false, head_dim: 128, q_len: ANY, mods: Faulting, hopper_only: false, schedule: tiles(64, 32, 4, 1), reason: "f32 operands take twice the shared memory" },
    Line { half: false, head_dim: 256, q_len: ANY, mods: Faulting, hopper_only: false, schedule: tiles(64, 32, 4, 1), reason: "f32 operands take twice the shared memory" },
    Line { half: false, head_dim: 256, q_len: ANY, mods: Faulting, hopper_only: false, schedule: tiles(32, 16, 2, 1), reason: "the device has too little shared memory for 64 queries" },
];

/// The bytes of a row of `head_dim` elements in shared memory: padded to whole steps of the products, and by 16 bytes
/// that put the rows of a matrix into different banks. As `row_bytes` in `tile_io.cuh`.
const fn row_bytes(dtype: DType, head_dim: u32) -> u32 {
    let step = match dtype {
        DType::F32 => 8,
        DType::F16 | DType::BF16 => 16,
    };
    head_dim.next_multiple_of(step) * dtype.size() as u32 + 16
}

/// What the threads of a block share beside the tiles, what each keeps there, and what is kept of each query. As
/// `kSharedBytes` in `forward_portable.cuh`.
const SHARED_BYTES: u32 = 64;
const THREAD_BYTES: u32 = 16;
const QUERY_BYTES: u32 = 4;

/// The dynamic shared memory of a block: one query tile (later the output tile), two tiles each of keys and values.
pub(crate) const fn smem_bytes(dtype: DType, head_dim: u32, value_dim: u32, schedule: &Schedule) -> u32 {
    let &Schedule { tile_q, tile_kv, warps, .. } = schedule;
    let (key_row, value_row) = (row_bytes(dtype, head_dim), row_bytes(dtype, value_dim));
    let query_row = if key_row > value_row { key_row } else { value_row };
    SHARED_BYTES
        + warps * 32 * THREAD_BYTES
        + tile_q * (QUERY_BYTES + query_row)
        + 2 * tile_kv * (key_row + value_row)
}

/// Checks what the template's static assertions would find, with better words.
pub(crate) fn check(spec: &KernelSpec) -> Result<(), CodegenError> {
    let error = |what, got: String, expected| Err(CodegenError::Spec { what, got, expected });
    for (what, dim) in [("head_dim", spec.head_dim), ("value_dim", spec.value_dim)] {
        if !(1..=MAX_HEAD_DIM).contains(&dim) {
            return error(what, dim.to_string(), "1 to 256: use the CPU backend for more");
        }
        if spec.vector_access && !(dim as usize * spec.dtype.size()).is_multiple_of(16) {
            return error(what, dim.to_string(), "a multiple of 16 bytes for vector access");
        }
    }
    if spec.stages_terms {
        return error("stages_terms", "true".into(), "false: only the Hopper kernel stages terms");
    }
    if spec.matmul == Matmul::Tf32 && spec.dtype != DType::F32 {
        return error("matmul", "tf32".into(), "accurate: tf32 is for f32 tensors");
    }
    let Schedule { tile_q, tile_kv, warps, blocks_per_sm, .. } = spec.schedule;
    if !(1..=16).contains(&warps) || !tile_q.is_multiple_of(16 * warps) || tile_q == 0 || tile_q / warps > 32
    {
        return error(
            "tile_q",
            format!("{tile_q} with {warps} warps"),
            "16 or 32 queries a warp, 1 to 16 warps",
        );
    }
    if tile_kv == 0 || !tile_kv.is_multiple_of(16) || tile_kv > 256 {
        return error("tile_kv", tile_kv.to_string(), "a multiple of 16 up to 256");
    }
    if blocks_per_sm == 0 {
        return error("blocks_per_sm", "0".into(), "at least 1");
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn any_schedule() -> Schedule {
        tiles(64, 32, 4, 1)
    }
}
