//! Pictures of block masks, scaled down to a size that can be looked at.

use std::fmt::{self, Write};

use super::{BlockMask, TileKind};

/// Cells along the longer side of a picture in text.
const TEXT_CELLS: usize = 48;
/// Cells along the longer side of a picture as SVG.
const SVG_CELLS: usize = 512;
/// Up to this many cells a side are drawn with gaps between them.
const GRID_CELLS: usize = 64;
/// The longer side of a picture as SVG, in pixels.
const SVG_PIXELS: f64 = 768.0;

/// The tiles of one batch and head in a grid of cells; a cell stands for a rectangle of tiles.
struct Picture {
    columns: usize,
    cells: Vec<Cell>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cell {
    tiles: u64,
    full: u64,
    partial: u64,
}

impl Cell {
    fn kind(self) -> Option<TileKind> {
        match self {
            Self { full: 0, partial: 0, .. } => None,
            Self { full, tiles, .. } if full == tiles => Some(TileKind::Full),
            _ => Some(TileKind::Partial),
        }
    }

    /// How dark the cell is, 0 to 1: partial tiles count half, and nothing that is kept becomes invisible.
    fn shade(self) -> f64 {
        if self.kind().is_none() {
            return 0.0;
        }
        let share = (self.full as f64 + 0.5 * self.partial as f64) / self.tiles as f64;
        share.max(0.15)
    }
}

impl Picture {
    fn new(mask: &BlockMask, b: usize, h: usize, most: usize) -> Self {
        let (rows, columns) = (mask.q_blocks(), mask.kv_blocks());
        let step = rows.max(columns).div_ceil(most);
        let mut picture = Self {
            columns: columns.div_ceil(step),
            cells: vec![Cell::default(); rows.div_ceil(step) * columns.div_ceil(step)],
        };
        for (cell, at) in picture.cells.iter_mut().zip(0..) {
            let (row, column) = (at / picture.columns * step, at % picture.columns * step);
            cell.tiles = ((rows - row).min(step) * (columns - column).min(step)) as u64;
        }
        for q_block in 0..rows {
            let row = &mut picture.cells[q_block / step * picture.columns..][..picture.columns];
            for run in mask.row(b, h, q_block) {
                let (first, end) = (run.first() as usize, run.end() as usize);
                for (column, cell) in row.iter_mut().enumerate().take(end.div_ceil(step)).skip(first / step) {
                    let inside = (end.min((column + 1) * step) - first.max(column * step)) as u64;
                    match run.kind() {
                        TileKind::Full => cell.full += inside,
                        TileKind::Partial => cell.partial += inside,
                    }
                }
            }
        }
        picture
    }

    fn rows(&self) -> impl ExactSizeIterator<Item = &[Cell]> {
        self.cells.chunks(self.columns)
    }
}

/// The tiles of the first batch and head, a row of text for a row of tiles: `██` full, `▒▒` partial, `· ` skipped. Large
/// masks are scaled down to 48 cells a side; a cell that is neither all full nor all skipped shows as partial.
impl fmt::Display for BlockMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, row) in Picture::new(self, 0, 0, TEXT_CELLS).rows().enumerate() {
            f.write_str(if i == 0 { "" } else { "\n" })?;
            for cell in row {
                f.write_str(match cell.kind() {
                    None => "· ",
                    Some(TileKind::Full) => "██",
                    Some(TileKind::Partial) => "▒▒",
                })?;
            }
        }
        Ok(())
    }
}

impl BlockMask {
    /// The tiles of the first batch and head as an SVG picture, queries downwards and keys to the right: dark where tiles
    /// are full, lighter where they are partial. Large masks are scaled down to 512 cells a side.
    pub fn svg(&self) -> String {
        let picture = Picture::new(self, 0, 0, SVG_CELLS);
        let (rows, columns) = (picture.rows().len(), picture.columns);
        let side = SVG_PIXELS / rows.max(columns) as f64;
        let gap = if rows.max(columns) <= GRID_CELLS { side * 0.06 } else { 0.0 };
        let (width, height) = (columns as f64 * side, rows as f64 * side);
        let mut svg = String::new();
        let mut line = |text: fmt::Arguments<'_>| writeln!(svg, "{text}").expect("writing to a string");
        line(format_args!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.2} {height:.2}">"#
        ));
        line(format_args!("<title>{}</title>", escaped(self.mask_mod().name())));
        line(format_args!(r##"<rect width="100%" height="100%" fill="#f3f5f7"/>"##));
        for (y, row) in picture.rows().enumerate() {
            let mut x = 0;
            // Neighbours of one shade are one rectangle, unless there are gaps between them.
            for cells in row.chunk_by(|left, right| gap == 0.0 && left.shade() == right.shade()) {
                let (left, wide) = (x as f64 * side + gap / 2.0, cells.len() as f64 * side - gap);
                x += cells.len();
                if cells[0].kind().is_some() {
                    line(format_args!(
                        r##"<rect x="{left:.2}" y="{:.2}" width="{wide:.2}" height="{:.2}" fill="#1f4e79" fill-opacity="{:.2}"/>"##,
                        y as f64 * side + gap / 2.0,
                        side - gap,
                        cells[0].shade()
                    ));
                }
            }
        }
        line(format_args!("</svg>"));
        svg
    }
}

fn escaped(name: &str) -> String {
    name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{BinaryOp, Builder, Input};
    use crate::mask::Extent;
    use crate::mods::MaskMod;

    fn causal(len: usize, block: usize) -> BlockMask {
        let mut b = Builder::new();
        let (q, kv) = (b.input(Input::Query), b.input(Input::Key));
        let root = b.binary(BinaryOp::Ge, q, kv);
        let mask = MaskMod::new("q >= kv", b.finish(root).unwrap(), Vec::new()).unwrap();
        let extent = Extent { batch: 1, heads: 1, q_len: len, kv_len: len };
        BlockMask::builder(&mask).block_size(block).build(extent).unwrap()
    }

    #[test]
    fn text_shows_every_tile_of_a_small_mask() {
        assert_eq!(causal(48, 16).to_string(), "▒▒· · \n██▒▒· \n████▒▒");
    }

    #[test]
    fn large_masks_are_scaled_down_and_count_every_tile() {
        let mask = causal(1 << 16, 16);
        let text = mask.to_string();
        let rows: Vec<&str> = text.lines().collect();
        assert!(rows.len() <= TEXT_CELLS && rows.len() > TEXT_CELLS / 2, "{} rows", rows.len());
        for (i, row) in rows.iter().enumerate() {
            let expected = "██".repeat(i) + "▒▒" + &"· ".repeat(rows.len() - i - 1);
            assert_eq!(*row, expected);
        }
        let picture = Picture::new(&mask, 0, 0, TEXT_CELLS);
        let sum = |count: fn(&Cell) -> u64| picture.cells.iter().map(count).sum::<u64>();
        assert_eq!(sum(|cell| cell.tiles), mask.tiles_total());
        assert_eq!(sum(|cell| cell.full), mask.tiles_full());
        assert_eq!(sum(|cell| cell.partial), mask.tiles_partial());
    }

    #[test]
    fn a_rectangle_is_drawn_for_every_kept_tile() {
        let svg = causal(64, 16).svg();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        // The background, 4 partial and 6 full tiles.
        assert_eq!(svg.matches("<rect").count(), 11);
        assert_eq!(svg.matches(r#"fill-opacity="1.00""#).count(), 6);
        assert!(svg.contains("<title>q &gt;= kv</title>"));
        assert!(causal(1 << 16, 16).svg().len() < 200_000);
    }
}
