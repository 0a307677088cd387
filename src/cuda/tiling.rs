//! Block masks in the tiles of a kernel, whatever tiles they were built with.

use flex_core::mask::{BlockMask, BlockSize, Origin, Run, TileKind};

use super::CudaError;
use crate::Error;

/// The runs of every row of a kernel's tiles, as [`flex_core::mask::RunTable`] has them.
#[derive(Debug)]
pub(super) struct TiledRuns {
    /// Where each row starts in `runs`, and the end of the last.
    pub(super) offsets: Vec<u32>,
    pub(super) runs: Vec<Run>,
    pub(super) q_tiles: usize,
    pub(super) kv_tiles: usize,
    /// Rows from one batch entry to the next, 0 where the mask does not depend on it.
    pub(super) batch_rows: usize,
    /// Rows from one head to the next, 0 where the mask does not depend on it.
    pub(super) head_rows: usize,
}

impl TiledRuns {
    /// The runs of `mask` in tiles of the given size.
    ///
    /// # Errors
    /// If the tiles were given by the user and are not whole numbers of the kernel's.
    pub(super) fn of(mask: &BlockMask, tiles: BlockSize) -> Result<Self, Error> {
        match mask.origin() {
            _ if mask.block_size() == tiles => Ok(Self::copied(mask)),
            Origin::Given => Ok(Self::split(mask, tiles)?),
            Origin::Proved | Origin::Unskipped => Ok(Self::copied(&mask.retile(tiles)?)),
        }
    }

    fn copied(mask: &BlockMask) -> Self {
        let (batch_rows, head_rows) = mask.row_strides();
        Self {
            offsets: mask.table().offsets().to_vec(),
            runs: mask.table().runs().to_vec(),
            q_tiles: mask.q_blocks(),
            kv_tiles: mask.extent().kv_len.div_ceil(mask.block_size().kv),
            batch_rows,
            head_rows,
        }
    }

    /// Every tile cut into smaller ones of its kind: what the user said of a tile holds for its parts.
    fn split(mask: &BlockMask, tiles: BlockSize) -> Result<Self, CudaError> {
        let block = mask.block_size();
        if !block.q.is_multiple_of(tiles.q) || !block.kv.is_multiple_of(tiles.kv) {
            return Err(CudaError::GivenTiles { block, tiles });
        }
        let extent = mask.extent();
        let (q_parts, kv_parts) = (block.q / tiles.q, (block.kv / tiles.kv) as u32);
        let (q_tiles, kv_tiles) = (extent.q_len.div_ceil(tiles.q), extent.kv_len.div_ceil(tiles.kv) as u32);
        let (mut offsets, mut runs) = (vec![0], Vec::new());
        for head in 0..mask.table().rows() / mask.q_blocks() {
            for q_tile in 0..q_tiles {
                let row = mask.table().row(head * mask.q_blocks() + q_tile / q_parts);
                runs.extend(row.iter().map(|run| {
                    let first = run.first() * kv_parts;
                    // The last tile of the user may reach past the last key.
                    let end = (u64::from(run.end()) * u64::from(kv_parts)).min(kv_tiles.into()) as u32;
                    Run::new(first, end - first, run.kind())
                }));
                offsets.push(runs.len() as u32);
            }
        }
        let scaled = |rows: usize| rows / mask.q_blocks() * q_tiles;
        let (batch_rows, head_rows) = mask.row_strides();
        Ok(Self {
            offsets,
            runs,
            q_tiles,
            kv_tiles: kv_tiles as usize,
            batch_rows: scaled(batch_rows),
            head_rows: scaled(head_rows),
        })
    }

    /// The work of a row, in quarters of a full tile.
    pub(super) fn cost(&self, row: usize) -> u64 {
        let runs = &self.runs[self.offsets[row] as usize..self.offsets[row + 1] as usize];
        runs.iter().map(|run| u64::from(run.len()) * tile_cost(run.kind())).sum()
    }

    /// The number of rows.
    pub(super) fn rows(&self) -> usize {
        self.offsets.len() - 1
    }
}

fn tile_cost(kind: TileKind) -> u64 {
    match kind {
        TileKind::Full => 4,
        TileKind::Partial => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::causal;
    use flex_core::mask::Extent;

    /// A causal mask over 2 heads, its tiles handed back as a user would give them.
    fn given(block: usize) -> BlockMask {
        let extent = Extent { batch: 1, heads: 2, q_len: 300, kv_len: 500 };
        let mask = causal::bind().unwrap();
        let built = BlockMask::builder(&mask).block_size(block).build(extent).unwrap();
        BlockMask::from_kv_blocks(&built.to_kv_blocks().unwrap(), &mask, extent, block).unwrap()
    }

    fn kind_at(tiled: &TiledRuns, row: usize, kv_tile: u32) -> Option<TileKind> {
        let runs = &tiled.runs[tiled.offsets[row] as usize..tiled.offsets[row + 1] as usize];
        runs.iter().find(|run| (run.first()..run.end()).contains(&kv_tile)).map(|run| run.kind())
    }

    #[test]
    fn given_tiles_are_cut_into_tiles_of_their_kind() {
        let mask = given(128);
        let tiled = TiledRuns::of(&mask, BlockSize { q: 64, kv: 32 }).unwrap();
        assert_eq!(tiled.q_tiles, 5);
        for row in 0..5 {
            for kv_tile in 0..500u32.div_ceil(32) {
                let users = mask.tile(0, 0, row / 2, kv_tile as usize / 4);
                assert_eq!(kind_at(&tiled, row, kv_tile), users, "row {row}, tile {kv_tile}");
            }
            let runs = &tiled.runs[tiled.offsets[row] as usize..tiled.offsets[row + 1] as usize];
            assert!(runs.iter().all(|run| run.end() <= 500u32.div_ceil(32)), "a tile behind the last key");
        }
    }

    #[test]
    fn given_tiles_that_cannot_be_cut_are_refused() {
        let error = TiledRuns::of(&given(48), BlockSize { q: 64, kv: 32 }).unwrap_err();
        assert!(matches!(error, Error::Cuda(CudaError::GivenTiles { .. })), "{error:?}");
        assert!(error.to_string().contains("48×48"), "{error}");
    }

    #[test]
    fn proved_masks_are_found_again_in_any_tiles() {
        let extent = Extent { batch: 1, heads: 1, q_len: 300, kv_len: 500 };
        let mask = BlockMask::builder(&causal::bind().unwrap()).block_size(48).build(extent).unwrap();
        let tiles = BlockSize { q: 64, kv: 32 };
        let tiled = TiledRuns::of(&mask, tiles).unwrap();
        let expected = BlockMask::builder(&causal::bind().unwrap()).block_size(tiles).build(extent).unwrap();
        assert_eq!(tiled.runs, expected.table().runs());
        assert_eq!(tiled.offsets, expected.table().offsets());
    }
}
