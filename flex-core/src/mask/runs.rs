//! Runs of neighbouring tiles, a list a row.

use serde::{Deserialize, Serialize};

use super::MaskError;

/// What a mask does to the elements of a tile that it does not skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TileKind {
    /// Keeps every element that lies inside the tensors; the mask need not be evaluated.
    Full,
    /// Keeps some; the mask is evaluated by element.
    Partial,
}

/// A stretch of neighbouring tiles of one kind. Eight bytes, the form in which kernels read it: bit 31 of the second
/// word says full.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, bytemuck::Pod, bytemuck::Zeroable,
)]
#[repr(C)]
pub struct Run {
    first: u32,
    len_and_full: u32,
}

const FULL: u32 = 1 << 31;

impl Run {
    /// `len` tiles from `first`; both under 2³¹.
    pub fn new(first: u32, len: u32, kind: TileKind) -> Self {
        debug_assert!(len < FULL);
        Self { first, len_and_full: len | if kind == TileKind::Full { FULL } else { 0 } }
    }

    /// The first tile.
    pub fn first(self) -> u32 {
        self.first
    }

    /// The number of tiles.
    #[expect(clippy::len_without_is_empty, reason = "runs are never empty")]
    pub fn len(self) -> u32 {
        self.len_and_full & !FULL
    }

    /// One past the last tile.
    pub fn end(self) -> u32 {
        self.first + self.len()
    }

    /// Whether the tiles are full or partial.
    pub fn kind(self) -> TileKind {
        if self.len_and_full & FULL != 0 { TileKind::Full } else { TileKind::Partial }
    }
}

/// A list of runs for every row of tiles: row `i` has `runs[offsets[i]..offsets[i + 1]]`, in increasing order, with no
/// two neighbouring runs of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunTable {
    pub(crate) offsets: Vec<u32>,
    pub(crate) runs: Vec<Run>,
}

impl RunTable {
    /// A table without rows, and with room for the ends of so many.
    pub(crate) fn with_capacity(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { offsets, runs: Vec::new() }
    }

    /// Adds a run to the row that is being made, joined with the one before where they are one.
    pub(crate) fn push(&mut self, run: Run) {
        let row = self.offsets.last().map_or(0, |&start| start as usize);
        match self.runs[row..].last_mut() {
            Some(last) if last.end() == run.first() && last.kind() == run.kind() => {
                *last = Run::new(last.first(), last.len() + run.len(), run.kind());
            }
            _ => self.runs.push(run),
        }
    }

    /// Ends the row that is being made.
    ///
    /// # Errors
    /// [`MaskError::TooLarge`] if there are more runs than offsets can count.
    pub(crate) fn end_row(&mut self) -> Result<(), MaskError> {
        let got = self.runs.len();
        let end = u32::try_from(got);
        self.offsets.push(end.map_err(|_| MaskError::TooLarge {
            what: "runs",
            got,
            max: u32::MAX as usize,
        })?);
        Ok(())
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The runs of one row. Panics if there is no such row.
    pub fn row(&self, row: usize) -> &[Run] {
        &self.runs[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }

    /// The memory of the table in bytes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.offsets) + size_of_val(&*self.runs)
    }

    /// Where each row starts in [`runs`](Self::runs), and the end of the last.
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// All runs, row after row.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }
}
