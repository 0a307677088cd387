//! Masks over images.

use crate::prelude::*;

/// Neighborhood attention on a `width` × `height` image in row-major order: a pixel sees a square of `kernel` × `kernel`
/// pixels around it, moved inside at the borders. The kernel is odd and at most as large as the image.
#[mask_mod]
pub fn natten(b: i32, h: i32, q: i32, kv: i32, width: i32, height: i32, kernel: i32) -> bool {
    let reach = kernel / 2;
    let x = centre(q % width, width, reach);
    let y = centre(q / width, height, reach);
    (x - kv % width).abs() <= reach && (y - kv / width).abs() <= reach
}

/// The middle of the neighborhood of a position on an axis of length `len`.
#[mod_fn]
fn centre(position: i32, len: i32, reach: i32) -> i32 {
    position.max(reach).min(len - 1 - reach)
}
