//! A kernel ready to be loaded.

use serde::{Deserialize, Serialize};

use crate::{CaptureLayout, FaultSites, Template};

/// What a kernel takes of the machine, as ptxas reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Registers a thread.
    pub registers: u32,
    /// Bytes a thread stores to and loads from local memory because registers ran out, summed.
    pub spill_bytes: u32,
    /// Bytes of stack a thread.
    pub stack_bytes: u32,
    /// Bytes of statically allocated shared memory.
    pub static_smem_bytes: u32,
    /// What the compiler warned of, and ptxas diagnostics that cost speed (serialised wgmma, ignored setmaxnreg, …).
    pub warnings: Vec<String>,
    /// How long the compilation took; as recorded when a cache was filled.
    pub compile_ms: u64,
}

/// A compiled kernel and everything a launch needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompiledKernel {
    /// The binary, for `cuModuleLoadData`.
    #[serde(skip)]
    pub cubin: Vec<u8>,
    /// The name of the kernel inside.
    pub entry: String,
    /// The template it comes from, which says what its parameters are.
    pub template: Template,
    /// Threads a block.
    pub threads: u32,
    /// Dynamic shared memory a block, in bytes; over 48 KiB needs the attribute to be set first.
    pub smem_bytes: u32,
    /// Queries a tile: the side that the block mask must be tiled to.
    pub tile_q: u32,
    /// Keys a tile: the side that the block mask must be tiled to.
    pub tile_kv: u32,
    /// How the block of captures is laid out.
    pub captures: CaptureLayout,
    /// What a [fault record](crate::abi::Fault)'s site means.
    pub fault_sites: FaultSites,
    /// Registers, spills, warnings.
    pub resources: Resources,
    /// The hash of source, headers, options, compiler and architecture: the kernel's name in caches and bundles.
    pub key: String,
}

impl CompiledKernel {
    /// Whether a launch may write the fault record.
    pub fn can_fault(&self) -> bool {
        !self.fault_sites.is_empty()
    }

    /// The tiles along the queries.
    pub fn q_tiles(&self, q_len: usize) -> usize {
        q_len.div_ceil(self.tile_q as usize)
    }

    /// The blocks of a launch (in x; y and z are 1): one a (batch, head, q tile). `None` over 2³¹ − 1.
    pub fn grid(&self, batch: usize, heads: usize, q_len: usize) -> Option<u32> {
        let items = batch.checked_mul(heads)?.checked_mul(self.q_tiles(q_len))?;
        u32::try_from(items).ok().filter(|&items| items <= i32::MAX as u32)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> CompiledKernel {
        CompiledKernel {
            cubin: (0..=255).collect(),
            entry: "forward_portable".into(),
            template: Template::ForwardPortable,
            threads: 128,
            smem_bytes: 1000,
            tile_q: 128,
            tile_kv: 64,
            captures: CaptureLayout::default(),
            fault_sites: FaultSites::default(),
            resources: Resources::default(),
            key: "0123".into(),
        }
    }

    #[test]
    fn the_grid_has_a_block_a_tile() {
        let kernel = sample();
        assert_eq!(kernel.grid(2, 3, 129), Some(12));
        assert_eq!(kernel.grid(1 << 16, 1 << 15, 1), None);
        assert_eq!(kernel.grid(usize::MAX, 2, 1), None);
    }
}
