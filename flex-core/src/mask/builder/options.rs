//! What a user chooses when building a block mask.

use super::{Judgement, MaskSurvey, Plan};
use crate::mask::{BlockMask, BlockSize, Extent, MaskError};
use crate::mods::MaskMod;

/// How a block mask is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockMaskOptions {
    /// The size of a tile; 128×128 unless chosen.
    pub block_size: BlockSize,
    /// How many threads build it; 0 for one a core, rayon's current pool unless chosen. The result does not
    /// depend on it.
    pub threads: Option<usize>,
}

/// Builds the block mask of a mask. Made by [`BlockMask::builder`].
#[derive(Clone, Copy, Debug)]
pub struct BlockMaskBuilder<'m> {
    mask: &'m MaskMod,
    options: BlockMaskOptions,
}

impl<'m> BlockMaskBuilder<'m> {
    pub(super) fn new(mask: &'m MaskMod) -> Self {
        Self { mask, options: BlockMaskOptions::default() }
    }

    /// Sets all options at once.
    pub fn options(mut self, options: BlockMaskOptions) -> Self {
        self.options = options;
        self
    }

    /// The size of a tile: one number for a square, a pair for queries × keys.
    pub fn block_size(mut self, block_size: impl Into<BlockSize>) -> Self {
        self.options.block_size = block_size.into();
        self
    }

    /// How many threads build it; 0 for one a core. The result does not depend on it.
    pub fn threads(mut self, threads: usize) -> Self {
        self.options.threads = Some(threads);
        self
    }

    /// Builds the block mask.
    ///
    /// # Errors
    /// As [`create_block_mask`](super::create_block_mask), or if the threads cannot be started.
    pub fn build(self, extent: Extent) -> Result<BlockMask, MaskError> {
        self.build_as(extent, Judgement::Exact)
    }

    /// Builds the mask with every tile partial. See [`BlockMask::unskipped`].
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_unskipped(self, extent: Extent) -> Result<BlockMask, MaskError> {
        self.build_as(extent, Judgement::FaultsOnly)
    }

    /// Finds what can be proved of the tiles, and leaves those open that have to be evaluated: for whoever evaluates them
    /// elsewhere than on this CPU.
    ///
    /// # Errors
    /// If a dimension is zero or too large, or the threads cannot be started. Faults are found when the open tiles are
    /// evaluated.
    pub fn survey(self, extent: Extent) -> Result<MaskSurvey, MaskError> {
        MaskSurvey::new(self.mask, extent, self.options)
    }

    fn build_as(self, extent: Extent, judgement: Judgement) -> Result<BlockMask, MaskError> {
        let plan = Plan::new(self.mask, extent, self.options.block_size, judgement)?;
        BlockMask::from_plan(&plan, self.options.threads)
    }
}
