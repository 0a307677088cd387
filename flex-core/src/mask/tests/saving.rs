//! Saved masks and PyTorch's lists of tiles.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testing::cases(3_000)))]

    #[test]
    fn saving_and_loading_changes_nothing(
        mask in testing::masks(ExprConfig::mask().without_faults()),
        extent in extents(),
        block in (1..8usize, 1..8usize),
    ) {
        let built = BlockMask::builder(&mask).block_size(block).build(extent)?;
        let saved = serde_json::to_string(&built).unwrap();
        prop_assert_eq!(serde_json::from_str::<BlockMask>(&saved).unwrap(), built);
    }

    #[test]
    fn pytorchs_lists_come_back(
        mask in testing::masks(ExprConfig::mask().without_faults()),
        extent in extents(),
        block in (1..8usize, 1..8usize),
    ) {
        let built = BlockMask::builder(&mask).block_size(block).build(extent)?;
        let lists = built.to_kv_blocks()?;
        let back = BlockMask::from_kv_blocks(&lists, &mask, extent, block)?;
        prop_assert_eq!(back.table(), built.table());
        prop_assert_eq!(back.row_strides(), built.row_strides());
        prop_assert_eq!(back.to_kv_blocks()?, lists);
    }
}

#[test]
fn tampered_data_is_an_error() {
    let built = create_block_mask(&causal(), square(1000)).unwrap();
    let saved = serde_json::to_value(&built).unwrap();
    let load = |edit: &dyn Fn(&mut serde_json::Value)| {
        let mut value = saved.clone();
        edit(&mut value);
        let saved = serde_json::from_value::<SavedBlockMask>(value);
        saved.map_err(|e| e.to_string()).and_then(|saved| saved.restore().map_err(|e| e.to_string()))
    };
    assert_eq!(load(&|_| {}).unwrap(), built);
    let says = |edit: &dyn Fn(&mut serde_json::Value), text: &str| {
        let error = load(edit).unwrap_err();
        assert!(error.contains(text), "{error}");
    };
    says(&|v| v["version"] = 9.into(), "version 9");
    says(&|v| v["expr"] = "v0 = q\nreturn v0".into(), "corrupted");
    says(&|v| v["extent"]["kv_len"] = 500.into(), "not those of the saved mask");
    says(&|v| v["extent"]["q_len"] = 0.into(), "q_len is 0");
    says(&|v| v["rows"]["offsets"] = serde_json::json!([]), "not those of the saved mask");
    says(
        &|v| {
            v["origin"] = "given".into();
            v["rows"]["offsets"] = serde_json::json!([])
        },
        "corrupted",
    );
    says(
        &|v| {
            v["origin"] = "given".into();
            v["rows"]["runs"][0]["first"] = 70.into()
        },
        "out of place",
    );
}

#[test]
fn lists_that_name_no_tile_are_errors() {
    let lists = create_block_mask(&causal(), square(300)).unwrap().to_kv_blocks().unwrap();
    let from = |edit: &dyn Fn(&mut KvBlocks)| {
        let mut lists = lists.clone();
        edit(&mut lists);
        BlockMask::from_kv_blocks(&lists, &causal(), square(300), 128)
    };
    assert_eq!(from(&|_| {}).unwrap().origin(), Origin::Given);
    assert!(matches!(from(&|l| l.indices[0] = 3), Err(MaskError::TileIndex { row: 0, .. })));
    assert!(matches!(from(&|l| l.indices[0] = -1), Err(MaskError::TileIndex { .. })));
    assert!(matches!(from(&|l| l.num_blocks[1] = 4), Err(MaskError::TileIndex { row: 1, .. })));
    assert!(matches!(from(&|l| l.full_num_blocks[0] = 1), Err(MaskError::TileIndex { .. })));
    assert!(matches!(from(&|l| l.indices.truncate(3)), Err(MaskError::ListLength { .. })));
    assert!(matches!(from(&|l| l.batch = 2), Err(MaskError::ListLength { list: "batch", .. })));
    let given = from(&|_| {}).unwrap();
    assert!(matches!(given.retile(64), Err(MaskError::GivenTiles { .. })));
    assert!(given.crop(128..300, 0..256).is_ok());
    assert!(matches!(given.crop(100..300, 0..256), Err(MaskError::GivenTiles { .. })));
}
