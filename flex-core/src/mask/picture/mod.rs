//! Pictures of block masks, scaled down where there are many tiles.

#[cfg(feature = "png")]
mod png;
mod svg;

use std::fmt::{self, Write};

use super::{BlockMask, TileKind};

/// A grid of cells, each of one or more tiles.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    rows: usize,
    columns: usize,
    /// For every cell the share of its tiles that is full, and that is partial.
    cells: Vec<[f32; 2]>,
}

impl Picture {
    /// The number of rows of cells.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of cells a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The share (0 to 1) of a cell's tiles that is full, and the share that is partial. Panics if there is no such cell.
    pub fn cell(&self, row: usize, column: usize) -> (f32, f32) {
        let [full, partial] = self.cells[row * self.columns + column];
        (full, partial)
    }

    /// How much of a cell is kept, if half of a partial tile is.
    fn shade(&self, row: usize, column: usize) -> f32 {
        let (full, partial) = self.cell(row, column);
        full + partial / 2.0
    }
}

/// Full cells `█`, empty ones blank, the others from `░` to `▓` by how much is kept: a partial tile alone is `░`.
impl fmt::Display for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in 0..self.rows {
            for column in 0..self.columns {
                let (full, partial) = self.cell(row, column);
                f.write_str(match () {
                    () if full >= 1.0 => "██",
                    () if full + partial == 0.0 => "  ",
                    () if self.shade(row, column) <= 0.5 => "░░",
                    () if self.shade(row, column) <= 0.75 => "▒▒",
                    () => "▓▓",
                })?;
            }
            f.write_char('\n')?;
        }
        Ok(())
    }
}

impl BlockMask {
    /// A picture of one batch and head with at most so many cells each way. Cells stand for equal numbers of tiles, but
    /// for one more or less. Panics if there is no such batch or head.
    pub fn picture(&self, b: usize, h: usize, max_rows: usize, max_columns: usize) -> Picture {
        let (height, width) = (self.q_blocks(), self.kv_blocks());
        let (rows, columns) = (height.min(max_rows.max(1)), width.min(max_columns.max(1)));
        let first_of = |cell: usize, cells: usize, len: usize| (cell * len).div_ceil(cells);
        let mut cells = vec![[0f32; 2]; rows * columns];
        for q_block in 0..height {
            let row = q_block * rows / height;
            let tall = first_of(row + 1, rows, height) - first_of(row, rows, height);
            for run in self.row(b, h, q_block) {
                let (first, end) = (run.first() as usize, run.end() as usize);
                let slot = usize::from(run.kind() == TileKind::Partial);
                for column in first * columns / width..=(end - 1) * columns / width {
                    let (from, to) = (first_of(column, columns, width), first_of(column + 1, columns, width));
                    let inside = to.min(end) - from.max(first);
                    cells[row * columns + column][slot] += inside as f32 / ((to - from) * tall) as f32;
                }
            }
        }
        // Sums of shares may miss 1 by a rounding.
        for share in cells.iter_mut().flatten().filter(|share| (**share - 1.0).abs() < 1e-3) {
            *share = 1.0;
        }
        Picture { rows, columns, cells }
    }
}

const FULL: [u8; 3] = [31, 78, 121];
const PARTIAL: [u8; 3] = [157, 195, 230];
const SKIPPED: [u8; 3] = [242, 242, 242];

/// The colour of a cell, mixed from those of its tiles; none where all are skipped.
fn color((full, partial): (f32, f32)) -> Option<[u8; 3]> {
    if full + partial == 0.0 {
        return None;
    }
    // What is kept must be seen, however little of a large cell it is.
    let kept = (full + partial).max(0.25);
    Some(std::array::from_fn(|i| {
        let mixed = (f32::from(FULL[i]) * full + f32::from(PARTIAL[i]) * partial) / (full + partial);
        (mixed * kept + f32::from(SKIPPED[i]) * (1.0 - kept)).round() as u8
    }))
}

/// What it is, and pictures of the first batches and heads.
impl fmt::Display for BlockMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SIDE: usize = 40;
        const PICTURES: usize = 4;
        let super::Extent { batch, heads, q_len, kv_len } = self.extent;
        writeln!(
            f,
            "BlockMask {} [{batch}, {heads}, {q_len}, {kv_len}], blocks {}×{}: {:.2} % skipped, {} full and {} partial of {} \
             tiles",
            self.mask.name(),
            self.block.q,
            self.block.kv,
            self.sparsity(),
            self.tiles_full(),
            self.tiles_partial(),
            self.tiles_total(),
        )?;
        let batches = if self.batch_rows == 0 { 1 } else { batch };
        let shown_heads = if self.head_rows == 0 { 1 } else { heads };
        let pairs = (0..batches).flat_map(|b| (0..shown_heads).map(move |h| (b, h)));
        for (b, h) in pairs.take(PICTURES) {
            if batches * shown_heads > 1 {
                writeln!(f, "batch {b}, head {h}:")?;
            }
            self.picture(b, h, SIDE, SIDE).fmt(f)?;
        }
        match (batches * shown_heads).checked_sub(PICTURES + 1) {
            Some(more) => writeln!(f, "and {} more", more + 1),
            None => Ok(()),
        }
    }
}
