//! Block masks: which tiles of the attention matrix are skipped, full or partial.

mod block_mask;
mod builder;
mod convert;
mod dense;
mod error;
mod explain;
mod extend;
mod extent;
mod picture;
mod rows;
mod runs;
mod saved;
mod sequences;
mod slice;
mod transpose;

#[cfg(test)]
pub(crate) mod tests;

pub use block_mask::{BlockMask, Origin};
pub use builder::{BlockMaskBuilder, BlockMaskOptions, MaskSurvey, OpenTile, TileVerdict, create_block_mask};
pub use convert::KvBlocks;
pub use dense::{DenseMask, create_mask};
pub use error::MaskError;
pub use explain::Explanation;
pub use extent::{BlockSize, Extent, ExtentError};
pub use picture::Picture;
pub use runs::{Run, RunTable, TileKind};
pub use saved::SavedBlockMask;
pub use sequences::document_ids_from_cu_seqlens;
