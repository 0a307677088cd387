//! The tiles of the Hopper kernel.

use flex_core::attention::DType;

use super::ModLoad::{self, Faulting, Heavy};
use crate::{CodegenError, KernelSpec, Schedule, StagedTerms, Template};

/// One line of the table: for head dims and mods up to these, these tiles.
#[derive(Clone, Copy, Debug)]
pub struct HopperLine {
    /// The largest head dim of query and key.
    pub head_dim: u32,
    /// The largest head dim of value.
    pub value_dim: u32,
    /// The heaviest mods that leave nothing to spill.
    pub mods: ModLoad,
    /// The tiles.
    pub schedule: Schedule,
    /// Why.
    pub reason: &'static str,
}

/// The query rows of a warpgroup.
const WARPGROUP_ROWS: u32 = 64;

const fn tiles(tile_q: u32, tile_kv: u32) -> Schedule {
    let warps = tile_q / WARPGROUP_ROWS * 4;
    Schedule { template: Template::ForwardSm90, tile_q, tile_kv, warps, blocks_per_sm: 1 }
}

/// The Hopper kernel's tiles: the first line that fits head dims and mods is taken. Figures behind it: docs/performance.md.
#[rustfmt::skip]
pub const HOPPER: &[HopperLine] = &[
    HopperLine { head_dim: 64, value_dim: 64, mods: Faulting, schedule: tiles(192, 96), reason: "three warpgroups share each key tile" },
    HopperLine { head_dim: 128, value_dim: 128, mods: Faulting, schedule: tiles(128, 128), reason: "scores, probabilities and output fill the registers of two warpgroups" },
    HopperLine { head_dim: 192, value_dim: 128, mods: Faulting, schedule: tiles(128, 128), reason: "the output of a value dim of 128 leaves registers for 128 keys" },
    HopperLine { head_dim: 192, value_dim: 192, mods: Heavy, schedule: tiles(128, 112), reason: "two stages of 112 keys fill the shared memory" },
    HopperLine { head_dim: 192, value_dim: 192, mods: Faulting, schedule: tiles(128, 96), reason: "112 keys would leave the mods too few registers" },
    HopperLine { head_dim: 256, value_dim: 256, mods: Heavy, schedule: tiles(128, 80), reason: "two stages of 80 keys fill the shared memory" },
    HopperLine { head_dim: 256, value_dim: 256, mods: Faulting, schedule: tiles(128, 64), reason: "80 keys would leave the mods too few registers" },
];

/// The fewest queries that fill its tiles well enough; fewer go to the smaller tiles of the portable kernel.
pub(crate) const MIN_QUERIES: usize = 65;

/// The tiles of keys and values that are on their way at a time.
pub(crate) const fn stages(head_dim: u32, value_dim: u32) -> u32 {
    if head_dim <= 64 && value_dim <= 64 { 4 } else { 2 }
}

/// Whether the kernel has an instance for these head dims: whole steps of wgmma for the scores, one of the wrapped
/// shapes (`hopper/wgmma.cuh`) for the output.
pub(crate) const fn takes_head_dims(head_dim: usize, value_dim: usize) -> bool {
    head_dim.is_multiple_of(16) && head_dim <= 256 && matches!(value_dim, 64 | 96 | 128 | 160 | 192 | 256)
}

/// The dynamic shared memory of a block, as `ForwardConfig::kSharedBytes` in `hopper/forward/config.cuh`.
pub(crate) const fn smem_bytes(head_dim: u32, value_dim: u32, tile_q: u32, tile_kv: u32) -> u32 {
    let (key_row, value_row) = (head_dim.next_multiple_of(64) * 2, value_dim.next_multiple_of(64) * 2);
    tile_q * key_row + stages(head_dim, value_dim) * tile_kv * (key_row + value_row) + 1024
}

/// Whether terms are staged also where there are only distances whose loads share addresses: not with the softmax in place,
/// where that is 1 % slower (docs/performance-hopper-kernel.md).
pub(crate) const fn stages_simple_distances(spec: &KernelSpec) -> bool {
    !softmax_is_in_place(spec)
}

/// Whether the kernel turns scores into probabilities in place. Then it has time for a multiplication of scores that mods
/// have changed, but no registers for what large ones take otherwise.
pub(crate) const fn softmax_is_in_place(spec: &KernelSpec) -> bool {
    matches!(spec.schedule.template, Template::ForwardSm90) && spec.head_dim > 128
}

/// Whether the kernel has room for staged terms beside its tiles. Consumers hold those of four columns at a time, and three
/// warpgroups share the registers that two have elsewhere.
pub(crate) fn terms_fit(spec: &KernelSpec, terms: StagedTerms) -> bool {
    let Schedule { tile_q, tile_kv, .. } = spec.schedule;
    let fit_registers = match (terms.of_keys, terms.of_distances) {
        (keys, distances) if tile_q > 128 => keys + distances <= 2 && distances <= 1,
        (keys, distances) => keys <= 4 && distances <= 2,
    };
    let bytes = smem_bytes(spec.head_dim, spec.value_dim, tile_q, tile_kv)
        + term_bytes(spec.head_dim, spec.value_dim, tile_q, tile_kv, terms);
    fit_registers && bytes <= spec.arch.smem_limit()
}

/// What staged terms take beside: a slot more than there are stages, a word a key and a distance. As
/// `ForwardConfig::kTermBytes`, in whole KiB.
pub(crate) const fn term_bytes(
    head_dim: u32,
    value_dim: u32,
    tile_q: u32,
    tile_kv: u32,
    terms: StagedTerms,
) -> u32 {
    let slots = stages(head_dim, value_dim) + 1;
    let words = terms.of_keys * tile_kv + terms.of_distances * (tile_q + tile_kv);
    (slots * words * 4).next_multiple_of(1024)
}

/// Checks what the template's static assertions would find, with better words.
pub(crate) fn check(spec: &KernelSpec) -> Result<(), CodegenError> {
    let error = |what, got: String, expected| Err(CodegenError::Spec { what, got, expected });
    if !spec.arch.is_hopper() {
        return error("arch", spec.arch.to_string(), "sm_90a: other devices take the portable kernel");
    }
    if spec.dtype == DType::F32 {
        return error("dtype", "f32".into(), "f16 or bf16: f32 takes the portable kernel");
    }
    if !spec.vector_access {
        return error(
            "vector_access",
            "false".into(),
            "true: what TMA cannot address takes the portable kernel",
        );
    }
    if !takes_head_dims(spec.head_dim as usize, spec.value_dim as usize) {
        let got = format!("{}/{}", spec.head_dim, spec.value_dim);
        return error(
            "head dims",
            got,
            "a multiple of 16 up to 256, and 64, 96, 128, 160, 192 or 256: others take the portable kernel",
        );
    }
    let Schedule { tile_q, tile_kv, warps, .. } = spec.schedule;
    if !matches!(tile_q, 64 | 128 | 192) || warps * 16 != tile_q {
        return error("tile_q", format!("{tile_q} with {warps} warps"), "64, 128 or 192, 16 rows a warp");
    }
    if tile_kv == 0 || !tile_kv.is_multiple_of(16) || tile_kv > 256 {
        return error("tile_kv", tile_kv.to_string(), "a multiple of 16 up to 256");
    }
    Ok(())
}
