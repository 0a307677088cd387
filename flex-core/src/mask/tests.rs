//! Block masks against dense evaluation.

use proptest::prelude::*;

use super::*;
use crate::capture::{Capture, CaptureValue, IntoArray};
use crate::ir::{BinaryOp, Builder, Input, NodeId, Type};
use crate::mods::MaskMod;
use crate::testing::{self, ExprConfig};

pub(super) fn mask_of(build: impl FnOnce(&mut Builder, NodeId, NodeId) -> NodeId) -> MaskMod {
    let mut b = Builder::new();
    let (q, kv) = (b.input(Input::Query), b.input(Input::Key));
    let root = build(&mut b, q, kv);
    MaskMod::new("mask", b.finish(root).unwrap(), vec![]).unwrap()
}

pub(super) fn causal() -> MaskMod {
    mask_of(|b, q, kv| b.binary(BinaryOp::Ge, q, kv)).named("causal")
}

/// `q − kv ≤ size`.
pub(super) fn window(size: i32) -> MaskMod {
    mask_of(|b, q, kv| {
        let (difference, size) = (b.binary(BinaryOp::Sub, q, kv), b.constant(size));
        b.binary(BinaryOp::Le, difference, size)
    })
    .named("window")
}

/// `doc[q] == doc[kv]`.
pub(super) fn document(ids: &Vec<i32>) -> MaskMod {
    let mut b = Builder::new();
    let doc = b.declare("doc", Type::I32, 1);
    let (q, kv) = (b.input(Input::Query), b.input(Input::Key));
    let (left, right) = (b.load(doc, &[q]), b.load(doc, &[kv]));
    let root = b.binary(BinaryOp::Eq, left, right);
    let capture = Capture { name: "doc".into(), value: CaptureValue::Array(ids.into_array()) };
    MaskMod::new("document", b.finish(root).unwrap(), vec![capture]).unwrap()
}

pub(super) fn square(len: usize) -> Extent {
    Extent { batch: 1, heads: 1, q_len: len, kv_len: len }
}

/// The tiles that dense evaluation gives.
pub(super) fn tiles_of(dense: &DenseMask, block: BlockSize) -> Vec<Option<TileKind>> {
    let [batch, heads, q_len, kv_len] = dense.shape;
    let mut tiles = Vec::new();
    for group in 0..batch * heads {
        let group = &dense.keep[group * q_len * kv_len..][..q_len * kv_len];
        for q in (0..q_len).step_by(block.q) {
            for kv in (0..kv_len).step_by(block.kv) {
                let rows = q..q_len.min(q + block.q);
                let columns = kv..kv_len.min(kv + block.kv);
                let elements = rows.flat_map(|q| &group[q * kv_len..][columns.clone()]);
                let (kept, all) = elements.fold((0, 0), |(kept, all), &k| (kept + usize::from(k), all + 1));
                tiles.push(match kept {
                    0 => None,
                    _ if kept == all => Some(TileKind::Full),
                    _ => Some(TileKind::Partial),
                });
            }
        }
    }
    tiles
}

/// Rows of runs have no gaps of form: increasing, never empty, never two that could be one.
pub(super) fn check_form(table: &RunTable, width: usize) {
    for row in 0..table.rows() {
        let runs = table.row(row);
        assert!(runs.iter().all(|run| run.len() > 0 && run.end() as usize <= width));
        for pair in runs.windows(2) {
            assert!(pair[0].end() <= pair[1].first());
            assert!(pair[0].end() < pair[1].first() || pair[0].kind() != pair[1].kind());
        }
    }
}

pub(super) fn extents() -> impl Strategy<Value = Extent> {
    (1..3usize, 1..3usize, 1..40usize, 1..40usize).prop_map(|(batch, heads, q_len, kv_len)| Extent {
        batch,
        heads,
        q_len,
        kv_len,
    })
}

pub(super) fn blocks() -> impl Strategy<Value = BlockSize> {
    let side = || prop_oneof![6 => 1..12usize, 1 => 1..=512usize];
    (side(), side()).prop_map(|(q, kv)| BlockSize { q, kv })
}

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
    let rows = BlockMask::builder(&mask).block_size(1).build(largest);
    assert!(matches!(rows, Err(MaskError::TooLarge { .. })));
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

#[test]
fn packed_sequences_become_document_ids() {
    assert_eq!(document_ids_from_cu_seqlens(&[0, 3, 3, 5]).unwrap(), [0, 0, 0, 2, 2]);
    assert!(document_ids_from_cu_seqlens(&[0]).unwrap().is_empty());
    for wrong in [&[][..], &[1, 2], &[0, 4, 3], &[0, i32::MAX, 3], &[0, -1]] {
        assert!(matches!(document_ids_from_cu_seqlens(wrong), Err(MaskError::SequenceEnds { .. })));
    }
}

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
