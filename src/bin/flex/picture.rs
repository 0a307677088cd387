//! Pictures of block masks, in the terminal and in files.

use std::path::Path;

use flex_attention::prelude::*;

use crate::error::ProgramError;

/// Cells along a side that fit a terminal of 100 columns, two columns a cell.
const CELLS: usize = 48;

/// The tiles of a mask in a frame: what is skipped is blank.
pub(crate) fn framed(block_mask: &BlockMask) -> String {
    let picture = block_mask.picture(0, 0, CELLS, CELLS);
    let edge = "─".repeat(2 * picture.columns());
    let rows: String = picture.to_string().lines().map(|row| format!("  │{row}│\n")).collect();
    format!("  ┌{edge}┐\n{rows}  └{edge}┘")
}

pub(crate) fn write_file(path: &Path, content: impl AsRef<[u8]>) -> Result<(), ProgramError> {
    std::fs::write(path, content).map_err(|source| ProgramError::WriteFile { path: path.into(), source })
}
