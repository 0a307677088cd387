//! Block masks: which tiles of the attention matrix are skipped, full or partial.

mod block_mask;
mod builder;
mod dense;
mod error;
mod extent;
mod runs;
mod transpose;

#[cfg(test)]
mod tests;

pub use block_mask::{BlockMask, Origin};
pub use builder::{BlockMaskBuilder, BlockMaskOptions, create_block_mask};
pub use dense::{DenseMask, create_mask};
pub use error::MaskError;
pub use extent::{BlockSize, Extent, ExtentError};
pub use runs::{Run, RunTable, TileKind};
