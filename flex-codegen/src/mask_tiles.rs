//! The kernel that judges tiles of a mask: for block masks whose last tiles are evaluated on the GPU.

use std::sync::Arc;

use flex_core::analysis::interval::IndexBox;
use flex_core::analysis::unsigned::unsigned_divisions;
use flex_core::ir::Expr;
use flex_core::mask::Extent;
use flex_core::mods::BoundExpr;
use serde::{Deserialize, Serialize};

use crate::source::{KernelSource, Snippet, templates};
use crate::{Arch, CodegenError, Guards, Schedule, Template};

const MASK_TILES: &[(&str, &str)] = templates![
    "mask_tiles.cuh",
    "flex/default_mods.cuh",
    "flex/fault.cuh",
    "flex/ops.cuh",
    "flex/problem.cuh"
];

/// Warps of a block, `kMaskTilesWarps` of the template.
const WARPS: u32 = 4;
/// So many blocks a multiprocessor hide what loads take, and leave each thread registers for what it keeps of the mask.
const BLOCKS_PER_SM: u32 = 6;

/// Everything that is fixed when the kernel is compiled. Lengths and the size of tiles are parameters of the launch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MaskTilesSpec {
    /// The architecture.
    pub arch: Arch,
    /// What has been proved of the mask; without a proof faults are found.
    pub guards: Guards,
    /// The mask.
    pub mask: Arc<Expr>,
}

impl MaskTilesSpec {
    /// The kernel for a mask over an extent.
    pub fn new(arch: Arch, mask: &BoundExpr, extent: &Extent) -> Self {
        Self {
            arch,
            guards: Guards::prove(Some(mask), None, extent, true),
            mask: Arc::new(unsigned_divisions(mask, &IndexBox::of(extent))),
        }
    }

    /// The source of the kernel.
    ///
    /// # Errors
    /// If the architecture is too old, or the mask has too many captures.
    pub fn source(&self) -> Result<KernelSource, CodegenError> {
        let Self { arch, guards, .. } = *self;
        if !arch.is_supported() {
            return Err(CodegenError::UnsupportedArch { arch });
        }
        let snippet = Snippet::of_mask(&self.mask, guards)?;
        let proved = if guards == Guards::Proved { ", loads proved in bounds" } else { "" };
        let describe = format!("mask_tiles for {arch}{proved}");
        let entry = "flex_mask_tiles";
        let threads = WARPS * 32;
        let text = format!(
            r#"// {describe}
#include "flex/ops.cuh"
#include "flex/fault.cuh"
{mods}
#include "mask_tiles.cuh"

extern "C" __global__ void __launch_bounds__({threads}, {BLOCKS_PER_SM})
{entry}(const __grid_constant__ flex::MaskTiles job, const __grid_constant__ flex::Captures captures) {{
    flex::judge_tiles<flex::Mods>(job, captures);
}}
"#,
            mods = snippet.text,
        );
        Ok(KernelSource {
            describe,
            text,
            headers: MASK_TILES.to_vec(),
            options: KernelSource::options(arch, true),
            entry,
            schedule: Schedule {
                template: Template::MaskTiles,
                tile_q: 0,
                tile_kv: 0,
                warps: WARPS,
                blocks_per_sm: BLOCKS_PER_SM,
            },
            threads,
            smem_bytes: 0,
            stages_terms: false,
            captures: snippet.captures,
            fault_sites: snippet.fault_sites,
        })
    }
}
