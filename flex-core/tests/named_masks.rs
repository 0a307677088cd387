//! The masks that are measured, at sizes small enough to look at every element, with lengths that no block divides.

#[path = "../benches/block_mask/by_hand.rs"]
mod by_hand;
#[path = "../benches/block_mask/masks.rs"]
mod masks;

use flex_core::mask::{BlockMask, BlockSize, DenseMask, TileKind, create_mask};
use flex_core::mods::MaskMod;
use masks::{common, square};

/// Checks every tile against the elements in it: full tiles keep all, absent ones nothing, partial ones some but not all.
/// Returns how many elements were evaluated to find them out.
fn check(mask: &MaskMod, dense: &DenseMask, block: BlockSize) -> u64 {
    let [.., q_len, kv_len] = dense.shape;
    let built = BlockMask::builder(mask).block_size(block).build(square(q_len)).unwrap();
    for q_block in 0..built.q_blocks() {
        for kv_block in 0..built.kv_blocks() {
            let queries = q_block * block.q..q_len.min((q_block + 1) * block.q);
            let keys = kv_block * block.kv..kv_len.min((kv_block + 1) * block.kv);
            let elements = queries.len() * keys.len();
            let kept: usize = queries
                .map(|q| dense.keep[q * kv_len..][keys.clone()].iter().filter(|keep| **keep).count())
                .sum();
            let tile = built.tile(0, 0, q_block, kv_block);
            let name = mask.name();
            match tile {
                None => assert_eq!(kept, 0, "{name} {block:?}: skipped tile {q_block}, {kv_block}"),
                Some(TileKind::Full) => {
                    assert_eq!(kept, elements, "{name} {block:?}: full tile {q_block}, {kv_block}");
                }
                Some(TileKind::Partial) => {
                    assert!(
                        0 < kept && kept < elements,
                        "{name} {block:?}: partial tile {q_block}, {kv_block}"
                    );
                }
            }
        }
    }
    built.elements_evaluated()
}

const BLOCKS: [(usize, usize); 4] = [(128, 128), (64, 128), (48, 80), (17, 23)];

#[test]
fn the_six_main_masks_are_right_and_nothing_is_evaluated() {
    for len in [731, 1000] {
        for mask in common(len) {
            let dense = create_mask(&mask, square(len)).unwrap();
            for block in BLOCKS {
                let evaluated = check(&mask, &dense, block.into());
                assert_eq!(evaluated, 0, "{} over {len} in {block:?}", mask.name());
            }
        }
    }
}

/// Checks a mask over so many tokens in all blocks. Returns how many elements were evaluated in each.
fn check_all(mask: MaskMod, len: usize) -> [u64; 4] {
    let dense = create_mask(&mask, square(len)).unwrap();
    BLOCKS.map(|block| check(&mask, &dense, block.into()))
}

/// Few tiles on the edges of these masks are neither proved nor seen to be mixed: no more than these elements.
fn assert_at_most(evaluated: [u64; 4], most: [u64; 4]) {
    assert!(
        evaluated.iter().zip(most).all(|(&evaluated, most)| evaluated <= most),
        "{evaluated:?} over {most:?}"
    );
}

#[test]
fn natten() {
    assert_at_most(check_all(masks::natten(27, 6), 27 * 27), [1152, 1408, 0, 3184]);
}

#[test]
fn block_diffusion() {
    // The tile in which the noised tokens end and the clean ones begin.
    assert_at_most(check_all(masks::block_diffusion(350, 24), 700), [16384, 16384, 15360, 391]);
}

#[test]
fn sliding_tiles_in_three_dimensions() {
    assert_at_most(check_all(masks::sliding_tiles(10, 2, 1), 1000), [16512, 8192, 7680, 44987]);
}

#[test]
fn ancestors_in_a_tree() {
    assert_eq!(check_all(masks::tree(&masks::last_descendants(777)), 777), [0; 4]);
}

#[test]
fn permuted_tiles() {
    assert_eq!(check_all(masks::permuted_tiles(&masks::shuffled(11), 100), 1050), [0; 4]);
}

#[test]
fn xor_of_tiles() {
    // Blocks of 48 queries and others that cut the tiles of 96.
    assert_at_most(check_all(masks::xor_tiles(96, 3), 1000), [0, 33280, 160_000, 67721]);
}

#[test]
fn what_nothing_proves_is_evaluated_once_at_every_element() {
    let (len, all) = (700, 700 * 700);
    let evaluated = check_all(masks::unprovable(), len);
    assert_eq!(evaluated[..3], [all; 3]);
    // Searches that come down to single elements look at them once more.
    assert!((all..all + all / 1000).contains(&evaluated[3]), "{evaluated:?}");
}

#[test]
fn builders_by_hand_find_the_same_tiles() {
    let check = |mask: &MaskMod, len: usize, block: usize, by_hand: by_hand::Rows| {
        let built = BlockMask::builder(mask).block_size(block).build(square(len)).unwrap();
        assert_eq!(built.q_blocks(), by_hand.len());
        assert_eq!(built.elements_evaluated(), 0, "{}", mask.name());
        for (row, expected) in by_hand.into_iter().enumerate() {
            let found: Vec<_> =
                built.row(0, 0, row).iter().map(|run| (run.first(), run.len(), run.kind())).collect();
            assert_eq!(found, expected, "row {row} of {}", mask.name());
        }
    };
    check(&masks::natten(64, 6), 64 * 64, 32, by_hand::natten(64, 6, 32));
    check(&masks::block_diffusion(512, 32), 1024, 128, by_hand::block_diffusion(512, 32, 128));
}
