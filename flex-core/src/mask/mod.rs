//! Block masks: which tiles of the attention matrix are skipped, full or partial.

mod block_mask;
mod extent;
mod runs;

pub use block_mask::BlockMask;
pub use extent::{BlockSize, Extent, ExtentError};
pub use runs::{Run, RunTable, TileKind};
