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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testing::cases(20_000)))]

    #[test]
    fn tiles_are_those_of_dense_evaluation(
        mask in testing::masks(ExprConfig::mask()),
        extent in extents(),
        block in blocks(),
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
