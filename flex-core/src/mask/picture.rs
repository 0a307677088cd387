//! Pictures of block masks, scaled down where there are many tiles.

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

    /// The share (0 to 1) of a cell's tiles that is full, and the share that is partial.
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
    /// for one more or less.
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

    /// A drawing of one batch and head as an SVG document: queries downwards, keys to the right, full tiles dark, partial
    /// ones light. Over 256 tiles a side, cells stand for several tiles.
    pub fn svg(&self, b: usize, h: usize) -> String {
        const CELLS: usize = 256;
        const SIDE: f32 = 512.0;
        const MARGIN: f32 = 24.0;
        let picture = self.picture(b, h, CELLS, CELLS);
        let longer = picture.rows.max(picture.columns) as f32;
        let cell = SIDE / longer;
        let (width, height) = (cell * picture.columns as f32, cell * picture.rows as f32);
        let (page_width, page_height) = (width.max(280.0) + 2.0 * MARGIN, height + 3.0 * MARGIN);
        let name = escaped(self.mask.name());
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {page_width} {page_height}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<title>{name}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"{MARGIN}\" y=\"16\">{name}: {q} queries × {kv} keys, {sparsity:.2} % of tiles skipped</text>\n\
             <rect x=\"{MARGIN}\" y=\"{MARGIN}\" width=\"{width}\" height=\"{height}\" fill=\"#f2f2f2\" stroke=\"#888\"/>\n",
            q = self.extent.q_len,
            kv = self.extent.kv_len,
            sparsity = self.sparsity(),
        );
        for row in 0..picture.rows {
            let mut column = 0;
            while column < picture.columns {
                let shares = picture.cell(row, column);
                let same = (column..picture.columns).take_while(|&c| picture.cell(row, c) == shares).count();
                if let Some(color) = color(shares) {
                    let (x, y) = (MARGIN + cell * column as f32, MARGIN + cell * row as f32);
                    let wide = cell * same as f32;
                    let _ = writeln!(
                        svg,
                        "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{wide:.2}\" height=\"{cell:.2}\" fill=\"{color}\"/>"
                    );
                }
                column += same;
            }
        }
        let legend = MARGIN * 1.75 + height;
        let entries = [("#1f4e79", "full"), ("#9dc3e6", "partial"), ("#f2f2f2", "skipped")];
        for (i, (fill, label)) in entries.into_iter().enumerate() {
            let x = MARGIN + 90.0 * i as f32;
            let (text_x, text_y) = (x + 16.0, legend + 10.0);
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{legend}\" width=\"11\" height=\"11\" fill=\"{fill}\" stroke=\"#888\"/>\
                 <text x=\"{text_x}\" y=\"{text_y}\">{label}</text>"
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// The colour of a cell, mixed from those of its tiles; none where all are skipped.
fn color((full, partial): (f32, f32)) -> Option<String> {
    const FULL: [f32; 3] = [31.0, 78.0, 121.0];
    const PARTIAL: [f32; 3] = [157.0, 195.0, 230.0];
    const NONE: [f32; 3] = [242.0, 242.0, 242.0];
    if full + partial == 0.0 {
        return None;
    }
    // What is kept must be seen, however little of a large cell it is.
    let kept = (full + partial).max(0.25);
    let [r, g, b] = std::array::from_fn(|i| {
        let mixed = (FULL[i] * full + PARTIAL[i] * partial) / (full + partial);
        (mixed * kept + NONE[i] * (1.0 - kept)).round() as u8
    });
    Some(format!("#{r:02x}{g:02x}{b:02x}"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
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
