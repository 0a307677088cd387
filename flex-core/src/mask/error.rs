//! Why a block mask could not be made.

use super::{Extent, ExtentError};
use crate::mods::ModFault;

/// Why a block mask could not be built, changed, converted or read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MaskError {
    /// A length or a block size is zero or too large.
    #[error(transparent)]
    Extent(#[from] ExtentError),
    /// The mask faults somewhere inside the extent.
    #[error(transparent)]
    Fault(#[from] ModFault),
    /// There are more rows of tiles, or more runs, than a table can hold.
    #[error(
        "the block mask would have {got} {what}, expected at most {max}: use larger blocks or a mask that depends on fewer of b and h"
    )]
    TooLarge {
        /// Rows or runs.
        what: &'static str,
        /// How many there would be.
        got: usize,
        /// How many there may be.
        max: usize,
    },
    /// A range does not lie inside the extent of the mask.
    #[error("{dimension} {start}..{end} does not lie inside the mask's {len} with at least one element")]
    OutsideExtent {
        /// The dimension.
        dimension: &'static str,
        /// The start of the range.
        start: usize,
        /// The end of the range.
        end: usize,
        /// The length of the dimension.
        len: usize,
    },
    /// The new lengths are shorter than the old ones.
    #[error(
        "cannot extend a block mask of {from:?} to q_len {q_len}, kv_len {kv_len}, which is shorter: crop it"
    )]
    Shrinks {
        /// The extent of the mask.
        from: Extent,
        /// The new number of queries.
        q_len: usize,
        /// The new number of keys.
        kv_len: usize,
    },
    /// The tiles were given by the user, so that tiles of another grid are not known.
    #[error(
        "cannot {operation} a block mask whose tiles were given and not built: the tiles there are known only on its own \
         grid; build it from its mask with create_block_mask"
    )]
    GivenTiles {
        /// What was asked for.
        operation: &'static str,
    },
    /// A list of tiles has the wrong length.
    #[error("`{list}` has {got} elements, expected {expected}")]
    ListLength {
        /// The list.
        list: &'static str,
        /// The elements needed.
        expected: usize,
        /// The elements there.
        got: usize,
    },
    /// A list of tiles names a tile that does not exist, or one twice.
    #[error("row {row} names {problem}: every index must be below {kv_blocks} and occur once")]
    TileIndex {
        /// The row of tiles.
        row: usize,
        /// What it names.
        problem: String,
        /// The number of tiles along the keys.
        kv_blocks: usize,
    },
    /// Saved data is not a block mask.
    #[error("the saved block mask is corrupted: {problem}")]
    Corrupted {
        /// What is wrong with it.
        problem: String,
    },
    /// Saved tiles are not those of the saved mask.
    #[error(
        "the saved tiles are not those of the saved mask `{name}`: save it again, or build it with create_block_mask"
    )]
    Inconsistent {
        /// The name of the mask.
        name: String,
    },
    /// The threads that were asked for could not be started.
    #[error("could not start {threads} threads: {reason}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// Why.
        reason: String,
    },
    /// Sequence lengths that do not describe sequences.
    #[error("cu_seqlens {problem}; expected 0 first and then the non-decreasing ends of the sequences")]
    SequenceEnds {
        /// What is wrong.
        problem: String,
    },
}
