//! Facts about rows, pictures and explanations.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testing::cases(2_000)))]

    #[test]
    fn facts_about_rows_are_those_of_dense_evaluation(
        mask in testing::masks(ExprConfig::mask().without_faults()),
        extent in extents(),
        block in (1..8usize, 1..8usize),
    ) {
        let built = BlockMask::builder(&mask).block_size(block).build(extent)?;
        let dense = create_mask(&mask, extent)?;
        let safe = dense.keep.chunks(extent.kv_len).all(|row| row.contains(&true));
        prop_assert_eq!(built.rows_are_non_empty()?, safe);
        for (group, rows) in dense.keep.chunks(extent.q_len * extent.kv_len).enumerate() {
            let (b, h) = (group / dense.shape[1], group % dense.shape[1]);
            let is_empty = |q: usize| !rows[q * extent.kv_len..][..extent.kv_len].contains(&true);
            let empty: Vec<usize> = (0..extent.q_len).filter(|&q| is_empty(q)).collect();
            let found = built.empty_rows(b, h)?;
            prop_assert!(found.windows(2).all(|pair| pair[0].end < pair[1].start));
            prop_assert_eq!(found.into_iter().flatten().collect::<Vec<_>>(), empty);
            for q_block in 0..built.q_blocks() {
                let tiles: Vec<bool> =
                    (0..built.kv_blocks()).map(|kv| built.tile(b, h, q_block, kv).is_some()).collect();
                let parts = tiles.chunk_by(|a, b| a == b).filter(|part| part[0]).count();
                prop_assert_eq!(built.row_is_contiguous(b, h, q_block), parts <= 1);
            }
        }
        let gapless = built.to_dense().chunks(built.kv_blocks()).all(|row| {
            row.chunk_by(|a, b| a.is_some() == b.is_some()).filter(|part| part[0].is_some()).count() <= 1
        });
        prop_assert_eq!(built.blocks_are_contiguous(), gapless);
    }

    #[test]
    fn every_tile_is_explained_and_every_mask_drawn(
        mask in testing::masks(ExprConfig::mask().without_faults()),
        extent in extents(),
        block in (1..8usize, 1..8usize),
        (rows, columns) in (1..9usize, 1..9usize),
    ) {
        let built = BlockMask::builder(&mask).block_size(block).build(extent)?;
        for q_block in 0..built.q_blocks() {
            let explained = built.explain(0, 0, q_block, q_block % built.kv_blocks())?;
            prop_assert_eq!(explained.kind, built.tile(0, 0, q_block, q_block % built.kv_blocks()));
            prop_assert!(!explained.reason.is_empty());
        }
        let picture = built.picture(0, 0, rows, columns);
        prop_assert!(picture.rows() <= rows && picture.columns() <= columns);
        let text = built.to_string();
        prop_assert!(text.contains("% skipped"), "{text}");
        let svg = built.svg(0, 0);
        prop_assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    }
}

#[test]
fn a_causal_picture() {
    let built = create_block_mask(&causal(), square(1024)).unwrap();
    insta::assert_snapshot!(built.to_string().replace(' ', "·"), @"
    BlockMask·causal·[1,·1,·1024,·1024],·blocks·128×128:·43.75·%·skipped,·28·full·and·8·partial·of·64·tiles
    ░░··············
    ██░░············
    ████░░··········
    ██████░░········
    ████████░░······
    ██████████░░····
    ████████████░░··
    ██████████████░░
    ");
    let large = create_block_mask(&causal(), square(1 << 16)).unwrap();
    insta::assert_snapshot!(large.picture(0, 0, 4, 4).to_string().replace(' ', "·"), @"
    ░░······
    ██░░····
    ████░░··
    ██████░░
    ");
}

#[test]
fn explanations_name_the_part_that_decides() {
    let ids: Vec<i32> = (0..1000).map(|i| i / 300).collect();
    let built = create_block_mask(&(document(&ids) & causal()), square(1000)).unwrap();
    let explain = |q, kv| built.explain(0, 0, q, kv).unwrap().to_string();
    insta::assert_snapshot!(explain(0, 2), @"The tile of queries 0..128 and keys 256..384 is skipped: `q >= kv` is false for every element.");
    insta::assert_snapshot!(explain(3, 0), @"The tile of queries 384..512 and keys 0..128 is skipped: `doc[q] == doc[kv]` is false for every element.");
    insta::assert_snapshot!(explain(1, 0), @"The tile of queries 128..256 and keys 0..128 is full: `doc[q] == doc[kv]` is true for every element, and `q >= kv` is true for every element.");
    insta::assert_snapshot!(explain(2, 2), @"The tile of queries 256..384 and keys 256..384 is partial: `doc[q] == doc[kv]` is true for some elements and false for others; `q >= kv` is true for some elements and false for others.");
    assert!(matches!(built.explain(0, 0, 8, 0), Err(MaskError::OutsideExtent { .. })));
}
