//! Building: tiles, counts, faults, threads and sizes.

use super::*;

/// Problems for the main property: mostly small ones, and long thin ones that have several blocks of hundreds.
fn problems() -> impl Strategy<Value = (Extent, BlockSize)> {
    let thin = (1..3usize, 1..3usize, 1..=512usize, 1..=4usize, 1..=1100usize, any::<bool>()).prop_map(
        |(batch, heads, block, side, len, is_tall)| match is_tall {
            true => (Extent { batch, heads, q_len: len, kv_len: side }, BlockSize { q: block, kv: side }),
            false => (Extent { batch, heads, q_len: side, kv_len: len }, BlockSize { q: side, kv: block }),
        },
    );
    prop_oneof![19 => (extents(), blocks()), 1 => thin]
}

/// What the main property is tested on.
#[test]
fn the_cases_reach_all_kinds_of_problems() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let cases = (testing::masks(ExprConfig::mask()), problems());
    let mut counts = [0usize; 8];
    for _ in 0..4000 {
        let (mask, (extent, block)) = cases.new_tree(&mut runner).unwrap().current();
        let uses = |input| mask.bound().expr().uses(input);
        let several = extent.q_len > block.q || extent.kv_len > block.kv;
        let is_cut = !extent.q_len.is_multiple_of(block.q) || !extent.kv_len.is_multiple_of(block.kv);
        let kinds = [
            uses(Input::Batch) && extent.batch > 1,
            uses(Input::Head) && extent.heads > 1,
            uses(Input::Batch) && uses(Input::Head),
            several && is_cut,
            block.q != block.kv,
            block.q == 1 || block.kv == 1,
            several && block.q.max(block.kv) >= 128,
            block.q.max(block.kv) > 448,
        ];
        counts.iter_mut().zip(kinds).for_each(|(count, is_kind)| *count += usize::from(is_kind));
    }
    assert!(counts.iter().all(|&count| count >= 40), "{counts:?} of 4000");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testing::cases(20_000)))]

    #[test]
    fn tiles_are_those_of_dense_evaluation(
        mask in testing::masks(ExprConfig::mask()),
        (extent, block) in problems(),
    ) {
        let built = BlockMask::builder(&mask).block_size(block).build(extent);
        match create_mask(&mask, extent) {
            Ok(dense) => {
                let built = built?;
                prop_assert_eq!(built.to_dense(), tiles_of(&dense, block));
                check_form(built.table(), built.kv_blocks());
            }
            // Any fault inside the extent will do, but it must be one.
            Err(MaskError::Fault(_)) => match built {
                Err(MaskError::Fault(fault)) => {
                    let again = crate::analysis::interpret::mask(mask.bound(), fault.at).unwrap_err();
                    prop_assert_eq!(crate::mods::ModFault::new(mask.bound(), fault.at, again), fault);
                }
                other => prop_assert!(false, "expected a fault, got {other:?}"),
            },
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn transposing_keeps_every_tile(
        mask in testing::masks(ExprConfig::mask().without_faults()),
        extent in extents(),
        block in (1..8usize, 1..8usize),
    ) {
        let built = BlockMask::builder(&mask).block_size(block).build(extent)?;
        let (height, width) = (built.q_blocks(), built.kv_blocks());
        let columns = built.transposed();
        check_form(columns, height);
        prop_assert_eq!(&transpose::transpose(columns, width, height), built.table());
    }
}

#[test]
fn causal_2048_has_pytorchs_sparsity() {
    let built = create_block_mask(&causal(), square(2048)).unwrap();
    assert_eq!(built.sparsity(), 46.875);
    assert_eq!((built.tiles_full(), built.tiles_partial(), built.tiles_total()), (120, 16, 256));
    assert_eq!(built.elements_evaluated(), 0);
    assert_eq!(built.row(0, 0, 1), [Run::new(0, 1, TileKind::Full), Run::new(1, 1, TileKind::Partial)]);
}

#[test]
fn counts_of_tiles_saturate() {
    // 2¹⁷ × 2¹⁷ tiles for each of 2³⁰ heads, of which the rows of one are stored.
    let many = Extent { batch: 1, heads: 1 << 30, q_len: 1 << 24, kv_len: 1 << 24 };
    let built = create_block_mask(&causal(), many).unwrap();
    assert_eq!((built.tiles_total(), built.numel()), (u64::MAX, usize::MAX));
    assert_eq!(built.tiles_partial(), 1 << 47);
    assert!((built.sparsity() - 50.0).abs() < 1e-3, "{}", built.sparsity());
}

#[test]
fn plain_masks_are_proved_without_evaluation() {
    let ids: Vec<i32> = (0..5000).map(|i| i / 300).collect();
    let masks = [
        causal(),
        causal() & window(1000),
        causal() & window(100),
        document(&ids),
        document(&ids) & causal(),
        window(64) & !window(-65),
        causal() | !window(-100),
    ];
    for mask in masks {
        let built = create_block_mask(&mask, square(5000)).unwrap();
        assert_eq!(built.elements_evaluated(), 0, "{}", mask.name());
    }
}

#[test]
fn unskipped_keeps_every_tile_and_still_finds_faults() {
    let built = BlockMask::unskipped(&causal(), square(300)).unwrap();
    assert_eq!(built.to_dense(), vec![Some(TileKind::Partial); 9]);
    let short = document(&vec![0; 200]);
    assert!(matches!(BlockMask::unskipped(&short, square(300)), Err(MaskError::Fault(_))));
    assert!(BlockMask::unskipped(&short, square(200)).is_ok());
}

#[test]
fn a_fault_names_the_capture_and_the_index() {
    let short = document(&vec![0; 200]);
    let error = create_block_mask(&short, square(300)).unwrap_err().to_string();
    assert!(error.contains("`doc` at index 2") && error.contains("0..200"), "{error}");
}

#[test]
fn the_number_of_threads_does_not_show() {
    let ids: Vec<i32> = (0..3000).map(|i| (i * i) % 7).collect();
    let mask = document(&ids) & causal();
    let one = BlockMask::builder(&mask).block_size(16).threads(1).build(square(3000)).unwrap();
    for threads in [2, 3, 5] {
        let many = BlockMask::builder(&mask).block_size(16).threads(threads).build(square(3000)).unwrap();
        assert_eq!(one, many);
        assert_eq!(one.elements_evaluated(), many.elements_evaluated());
    }
}

/// A mask that faults in most rows of tiles, at other places in every one.
#[test]
fn the_fault_does_not_depend_on_the_threads() {
    let mask = document(&vec![0; 500]) & window(600);
    let fault = |threads: usize| {
        let built = BlockMask::builder(&mask).block_size(8).threads(threads).build(square(1500));
        let Err(MaskError::Fault(fault)) = built else { panic!("expected a fault, got {built:?}") };
        fault
    };
    let one = fault(1);
    for threads in [2, 3, 5, 2, 3, 5] {
        assert_eq!(fault(threads), one);
    }
}

#[test]
fn sizes_that_cannot_be_built_are_errors() {
    let mask = causal();
    let zero = Extent { q_len: 0, ..square(8) };
    assert!(matches!(create_block_mask(&mask, zero), Err(MaskError::Extent(_))));
    assert!(matches!(BlockMask::builder(&mask).block_size(0).build(square(8)), Err(MaskError::Extent(_))));
    let largest = Extent { q_len: i32::MAX as usize, kv_len: i32::MAX as usize, ..square(1) };
    let block = i32::MAX as usize;
    let built = BlockMask::builder(&mask).block_size(block).build(largest).unwrap();
    assert_eq!(built.to_dense(), [Some(TileKind::Partial)]);
    let by_head = mask_of(|b, q, kv| {
        let h = b.input(Input::Head);
        let later = b.binary(BinaryOp::Add, kv, h);
        b.binary(BinaryOp::Ge, q, later)
    });
    let built =
        BlockMask::builder(&by_head).block_size(block).build(Extent { heads: 8, ..square(9) }).unwrap();
    assert_eq!(built.to_dense(), [Some(TileKind::Partial); 8]);
    let rows = BlockMask::builder(&mask).block_size(1).build(largest);
    assert!(matches!(rows, Err(MaskError::TooLarge { .. })));
}
