//! Drawings as PNG images.

use super::{SKIPPED, color};
use crate::mask::BlockMask;

/// Cells a side at most, and the pixels that the longer side has at least.
const CELLS: usize = 1024;
const SIDE: usize = 512;

impl BlockMask {
    /// A drawing of one batch and head as a PNG image, 8 bits of red, green and blue a pixel: queries downwards, keys to the
    /// right, full tiles dark, partial ones light, skipped ones grey. A tile has as many pixels each way as make the image
    /// at least 512 wide or high; over 1024 tiles a side, a pixel stands for several. Panics if there is no such batch
    /// or head.
    pub fn png(&self, b: usize, h: usize) -> Vec<u8> {
        let picture = self.picture(b, h, CELLS, CELLS);
        let zoom = SIDE.div_ceil(picture.rows.max(picture.columns));
        let mut pixels = Vec::with_capacity(picture.rows * picture.columns * zoom * zoom * 3);
        for row in 0..picture.rows {
            let start = pixels.len();
            for column in 0..picture.columns {
                let pixel = color(picture.cell(row, column)).unwrap_or(SKIPPED);
                (0..zoom).for_each(|_| pixels.extend_from_slice(&pixel));
            }
            let end = pixels.len();
            (1..zoom).for_each(|_| pixels.extend_from_within(start..end));
        }
        let mut image = Vec::new();
        let mut encoder =
            ::png::Encoder::new(&mut image, (picture.columns * zoom) as u32, (picture.rows * zoom) as u32);
        encoder.set_color(::png::ColorType::Rgb);
        encoder.set_depth(::png::BitDepth::Eight);
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&pixels)?;
            writer.finish()
        });
        written.expect("memory takes as many pixels as were announced");
        image
    }
}

#[cfg(test)]
mod tests {
    use crate::mask::tests::{causal, square};
    use crate::mask::{BlockMask, TileKind, create_block_mask};

    /// The width, the height and the pixels of an image.
    fn decoded(image: &[u8]) -> (usize, usize, Vec<[u8; 3]>) {
        let mut reader = ::png::Decoder::new(std::io::Cursor::new(image)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.color_type, info.bit_depth), (::png::ColorType::Rgb, ::png::BitDepth::Eight));
        (info.width as usize, info.height as usize, pixels.as_chunks().0.to_vec())
    }

    #[test]
    fn every_pixel_has_the_colour_of_its_tile() {
        let extent = crate::mask::Extent { kv_len: 700, ..square(1000) };
        let built = create_block_mask(&causal(), extent).unwrap();
        let (width, height, pixels) = decoded(&built.png(0, 0));
        // 8 × 6 tiles of 64 pixels.
        assert_eq!((width, height), (6 * 64, 8 * 64));
        for (i, pixel) in pixels.iter().enumerate() {
            let expected = match built.tile(0, 0, i / width / 64, i % width / 64) {
                Some(TileKind::Full) => super::super::FULL,
                Some(TileKind::Partial) => super::super::PARTIAL,
                None => super::super::SKIPPED,
            };
            assert_eq!(*pixel, expected, "pixel {i}");
        }
    }

    #[test]
    fn large_masks_are_scaled_down_and_narrow_diagonals_stay_visible() {
        let window = causal() & crate::mask::tests::window(0);
        let built = BlockMask::builder(&window).block_size(1).build(square(5000)).unwrap();
        let (width, height, pixels) = decoded(&built.png(0, 0));
        assert_eq!((width, height), (1024, 1024));
        for (i, pixel) in pixels.iter().enumerate() {
            let on_diagonal = i / width == i % width;
            assert_eq!(*pixel != super::SKIPPED, on_diagonal, "pixel {i}");
        }
    }
}
