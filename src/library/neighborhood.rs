//! Masks over images and videos.

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

/// Sliding tile attention (STA) over a volume of `depth` × `height` × `width` tiles, the tokens of one tile after those of
/// another, `tile_len` each. A token sees the tiles up to `reach` tiles away from its own along every axis, a window that is
/// moved inside at the borders.
///
/// ```
/// // A video of 48×48×48 latents in tiles of 4×4×4.
/// let mask = flex_attention::library::sliding_tiles::bind(12, 12, 12, 64, 1)?;
/// # Ok::<(), flex_attention::BindError>(())
/// ```
#[mask_mod]
#[allow(clippy::too_many_arguments)]
pub fn sliding_tiles(
    b: i32,
    h: i32,
    q: i32,
    kv: i32,
    depth: i32,
    height: i32,
    width: i32,
    tile_len: i32,
    reach: i32,
) -> bool {
    let (q_tile, kv_tile) = (q / tile_len, kv / tile_len);
    let layer = height * width;
    near(q_tile / layer, kv_tile / layer, depth, reach)
        && near(q_tile / width % height, kv_tile / width % height, height, reach)
        && near(q_tile % width, kv_tile % width, width, reach)
}

/// Whether a key is in the neighborhood of a query on an axis of length `len`.
#[mod_fn]
fn near(q: i32, kv: i32, len: i32, reach: i32) -> bool {
    (centre(q, len, reach) - kv).abs() <= reach
}

/// The middle of the neighborhood of a position on an axis of length `len`.
#[mod_fn]
fn centre(position: i32, len: i32, reach: i32) -> i32 {
    position.max(reach).min(len - 1 - reach)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_see_the_tiles_around_them() {
        // 5 × 4 × 3 tiles of 2 tokens, windows of 3 tiles an axis moved inside.
        let (depth, height, width, tile_len, reach) = (5, 4, 3, 2, 1);
        let place = |token: i32| {
            let tile = token / tile_len;
            [tile / (height * width), tile / width % height, tile % width]
        };
        let tokens = depth * height * width * tile_len;
        for (q, kv) in (0..tokens).flat_map(|q| (0..tokens).map(move |kv| (q, kv))) {
            let seen =
                place(q).into_iter().zip(place(kv)).zip([depth, height, width]).all(|((q, kv), len)| {
                    let first = (q - reach).clamp(0, len - 1 - 2 * reach);
                    (first..=first + 2 * reach).contains(&kv)
                });
            assert_eq!(sliding_tiles(0, 0, q, kv, depth, height, width, tile_len, reach), seen, "{q} {kv}");
        }
    }
}
