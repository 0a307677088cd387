//! Builders that a person would write for one mask, as the yardstick.

use flex_core::mask::TileKind;

/// The runs of a row of tiles: first, length, kind.
pub(crate) type Rows = Vec<Vec<(u32, u32, TileKind)>>;

/// Blocks of neighbouring tokens of a `side`×`side` grid whose rows are a multiple of the block: every tile is a piece of
/// one grid row, so a row of tiles sees the pieces that its columns reach, in the grid rows that its row reaches.
pub(crate) fn natten(side: i32, radius: i32, block: i32) -> Rows {
    let (len, per_row) = (side * side, side / block);
    assert_eq!(side % block, 0);
    let clamp = |x: i32| x.clamp(radius, side - 1 - radius);
    (0..len / block)
        .map(|q_block| {
            let (y, x) = (q_block / per_row, q_block % per_row * block);
            let (top, bottom) = (clamp(y) - radius, clamp(y) + radius);
            // The columns that some query sees, and those that all queries see.
            let (first, last) = (clamp(x) - radius, clamp(x + block - 1) + radius);
            let (all_first, all_last) = (clamp(x + block - 1) - radius, clamp(x) + radius);
            let mut runs: Vec<(u32, u32, TileKind)> = Vec::new();
            for row in top..=bottom {
                for piece in first / block..=last / block {
                    let full = all_first <= piece * block && piece * block + block - 1 <= all_last;
                    let kind = if full { TileKind::Full } else { TileKind::Partial };
                    let tile = (row * per_row + piece) as u32;
                    match runs.last_mut() {
                        Some((start, len, last)) if *start + *len == tile && *last == kind => *len += 1,
                        _ => runs.push((tile, 1, kind)),
                    }
                }
            }
            runs
        })
        .collect()
}

/// Block diffusion with `half` a multiple of `block`, and `block` a larger multiple of `size`.
pub(crate) fn block_diffusion(half: i32, size: i32, block: i32) -> Rows {
    assert!(half % block == 0 && block % size == 0 && size < block);
    let clean = (half / block) as u32;
    let noised_row = |i: u32| {
        let past = (i > 0).then_some((clean, i, TileKind::Full));
        [Some((i, 1, TileKind::Partial)), past, Some((clean + i, 1, TileKind::Partial))]
    };
    let clean_row = |i: u32| {
        let past = (i > 0).then_some((clean, i, TileKind::Full));
        [past, Some((clean + i, 1, TileKind::Partial)), None]
    };
    let rows = (0..clean).map(noised_row).chain((0..clean).map(clean_row));
    rows.map(|runs| runs.into_iter().flatten().collect()).collect()
}
