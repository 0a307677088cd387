//! Slices, longer masks and other tiles: the same as building anew.

use super::*;

#[test]
fn a_mask_that_would_shrink_is_an_error() {
    let built = create_block_mask(&causal(), square(300)).unwrap();
    for (q_len, kv_len) in [(299, 300), (300, 299), (1, 1)] {
        let error = built.extend(q_len, kv_len).unwrap_err();
        assert!(
            matches!(error, MaskError::Shrinks { .. }) && error.to_string().contains("crop it"),
            "{error}"
        );
    }
    assert_eq!(built.extend(300, 300).unwrap(), built);
}

fn sub_range(len: usize) -> impl Strategy<Value = std::ops::Range<usize>> {
    (0..len, 0..len).prop_map(|(a, b)| a.min(b)..a.max(b) + 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testing::cases(3_000)))]

    #[test]
    fn slices_are_those_of_dense_evaluation(
        mask in testing::masks(ExprConfig::mask().without_faults()),
        (extent, q, kv, b, h) in extents().prop_flat_map(|e| (
            Just(e), sub_range(e.q_len), sub_range(e.kv_len), sub_range(e.batch), sub_range(e.heads),
        )),
        block in (1..8usize, 1..8usize),
    ) {
        let built = BlockMask::builder(&mask).block_size(block).build(extent)?;
        let sliced = built.slice(b.clone(), h.clone(), q.clone(), kv.clone())?;
        let rebuilt = BlockMask::builder(sliced.mask_mod()).block_size(block).build(sliced.extent())?;
        prop_assert_eq!(&sliced, &rebuilt);
        // Every element of the slice is the element of the whole that it stands for.
        let (whole, part) = (create_mask(&mask, extent)?, create_mask(sliced.mask_mod(), sliced.extent())?);
        let at = |dense: &DenseMask, [b, h, q, kv]: [usize; 4]| {
            let [batch, heads, q_len, kv_len] = dense.shape;
            dense.keep[((b.min(batch - 1) * heads + h.min(heads - 1)) * q_len + q) * kv_len + kv]
        };
        for (i, q) in q.enumerate() {
            for (j, kv) in kv.clone().enumerate() {
                prop_assert_eq!(at(&part, [0, 0, i, j]), at(&whole, [b.start, h.start, q, kv]));
            }
        }
    }

    #[test]
    fn extending_is_building_anew(
        mask in testing::masks(ExprConfig::mask().without_faults()),
        extent in extents(),
        (more_q, more_kv) in (0..30usize, 0..30usize),
        block in (1..8usize, 1..8usize),
    ) {
        let longer = Extent { q_len: extent.q_len + more_q, kv_len: extent.kv_len + more_kv, ..extent };
        let build = |extent| BlockMask::builder(&mask).block_size(block).build(extent);
        prop_assert_eq!(build(extent)?.extend(longer.q_len, longer.kv_len)?, build(longer)?);
        let decoded = Extent { kv_len: longer.kv_len, ..extent };
        prop_assert_eq!(build(extent)?.extend_keys(decoded.kv_len)?, build(decoded)?);
    }

    #[test]
    fn other_tiles_are_building_anew(
        mask in testing::masks(ExprConfig::mask().without_faults()),
        extent in extents(),
        blocks in prop::array::uniform4(1..20usize),
        offset in -5..20i32,
    ) {
        let build = |mask: &MaskMod, block: (usize, usize)| BlockMask::builder(mask).block_size(block).build(extent);
        let (first, second) = ((blocks[0], blocks[1]), (blocks[2], blocks[3]));
        prop_assert_eq!(build(&mask, first)?.retile(second)?, build(&mask, second)?);
        prop_assert_eq!(build(&mask, first)?.shift_q(offset)?, build(&mask.shift_q(offset), first)?);
    }
}
