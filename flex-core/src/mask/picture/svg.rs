//! Drawings as SVG documents.

use std::fmt::Write;

use super::{FULL, PARTIAL, SKIPPED, color};
use crate::mask::BlockMask;

impl BlockMask {
    /// A drawing of one batch and head as an SVG document: queries downwards, keys to the right, full tiles dark, partial
    /// ones light. Over 256 tiles a side, cells stand for several tiles. Panics if there is no such batch or
    /// head.
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
             <rect x=\"{MARGIN}\" y=\"{MARGIN}\" width=\"{width}\" height=\"{height}\" fill=\"{skipped}\" stroke=\"#888\"/>\n",
            skipped = hex(SKIPPED),
            q = self.extent.q_len,
            kv = self.extent.kv_len,
            sparsity = self.sparsity(),
        );
        for row in 0..picture.rows {
            let mut column = 0;
            while column < picture.columns {
                let shares = picture.cell(row, column);
                let same = (column..picture.columns).take_while(|&c| picture.cell(row, c) == shares).count();
                if let Some(color) = color(shares).map(hex) {
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
        let entries = [(hex(FULL), "full"), (hex(PARTIAL), "partial"), (hex(SKIPPED), "skipped")];
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

fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
