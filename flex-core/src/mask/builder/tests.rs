//! The two ways through strips against each other.

use proptest::prelude::*;

use super::*;
use crate::mask::tests::{blocks, document, extents, square, window};
use crate::mask::{TileKind, create_mask};
use crate::testing::{self, ExprConfig};

fn built(
    mask: &MaskMod,
    extent: Extent,
    block: BlockSize,
    tiles: Option<Tiles>,
    search: Search,
) -> Result<Built, MaskError> {
    let mut plan = Plan::new(mask, extent, block, Judgement::Exact)?;
    plan.search = search;
    let all = Tiles { q: (0, plan.q_blocks() as u32), kv: (0, plan.kv_blocks() as u32) };
    plan.run(tiles.unwrap_or(all), Some(1))
}

/// Whether lanes know the mask in an extent.
fn is_swept(mask: &MaskMod, extent: Extent, block: BlockSize) -> bool {
    let plan = Plan::new(mask, extent, block, Judgement::Exact).unwrap();
    let all = Tiles { q: (0, plan.q_blocks() as u32), kv: (0, plan.kv_blocks() as u32) };
    Region::new(&plan, all).is_some()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testing::cases(20_000)))]

    #[test]
    fn sweep_and_descent_find_the_same_tiles(
        mask in testing::masks(ExprConfig::mask().without_faults()),
        extent in extents(),
        block in blocks(),
        cut in (0..40u32, 0..40u32, 0..40u32, 0..40u32),
        part in any::<bool>(),
    ) {
        let plan = Plan::new(&mask, extent, block, Judgement::Exact)?;
        // Some rectangle of tiles, as an extension has them.
        let between = |a: u32, b: u32, len: usize| {
            let (a, b) = (a % len as u32, b % len as u32);
            (a.min(b), a.max(b) + 1)
        };
        let tiles = part.then(|| Tiles {
            q: between(cut.0, cut.1, plan.q_blocks()),
            kv: between(cut.2, cut.3, plan.kv_blocks()),
        });
        let swept = built(&mask, extent, block, tiles, Search::Sweep)?;
        let descended = built(&mask, extent, block, tiles, Search::Descent)?;
        prop_assert_eq!(swept.table, descended.table);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testing::cases(2_000)))]

    /// So that there is one order in which faults are found: that of the descent.
    #[test]
    fn masks_that_fault_are_never_swept(
        mask in testing::masks(ExprConfig::mask()),
        extent in extents(),
        block in blocks(),
    ) {
        if let Err(MaskError::Fault(_)) = built(&mask, extent, block, None, Search::Descent) {
            prop_assert!(!is_swept(&mask, extent, block));
        }
    }
}

#[test]
fn common_masks_are_swept_over_many_levels() {
    let len = 3000;
    let ids: Vec<i32> = (0..len as i32).map(|i| i / 71).collect();
    let causal = crate::mask::tests::causal();
    for mask in [causal.clone(), causal.clone() & window(97), document(&ids), document(&ids) & causal] {
        let (extent, block) = (square(len), BlockSize { q: 3, kv: 2 });
        assert!(is_swept(&mask, extent, block), "{}", mask.name());
        let swept = built(&mask, extent, block, None, Search::Sweep).unwrap();
        assert_eq!(swept.table, built(&mask, extent, block, None, Search::Descent).unwrap().table);
        let dense = create_mask(&mask, extent).unwrap();
        for (row, kv) in [(0, 0), (500, 700), (999, 1499), (700, 1040)] {
            let tile = swept.table.row(row).iter().find(|run| (run.first()..run.end()).contains(&kv));
            let kept = |q: usize, kv: usize| dense.keep[q * len + kv];
            let elements: Vec<bool> =
                (0..6).map(|i| kept(row * 3 + i / 2, kv as usize * 2 + i % 2)).collect();
            let expected = match elements.iter().filter(|keep| **keep).count() {
                0 => None,
                6 => Some(TileKind::Full),
                _ => Some(TileKind::Partial),
            };
            assert_eq!(tile.map(|run| run.kind()), expected);
        }
    }
}
