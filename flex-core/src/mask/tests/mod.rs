//! Block masks against dense evaluation: what the tests share, and masks for tests elsewhere.

mod building;
mod changing;
mod saving;
mod seeing;

use proptest::prelude::*;

use super::*;
use crate::capture::{Capture, CaptureValue, IntoArray};
use crate::ir::{BinaryOp, Builder, Input, NodeId, Type};
use crate::mods::MaskMod;
use crate::testing::{self, ExprConfig};

pub(crate) fn mask_of(build: impl FnOnce(&mut Builder, NodeId, NodeId) -> NodeId) -> MaskMod {
    let mut b = Builder::new();
    let (q, kv) = (b.input(Input::Query), b.input(Input::Key));
    let root = build(&mut b, q, kv);
    MaskMod::new("mask", b.finish(root).unwrap(), vec![]).unwrap()
}

pub(crate) fn causal() -> MaskMod {
    mask_of(|b, q, kv| b.binary(BinaryOp::Ge, q, kv)).named("causal")
}

/// `q − kv ≤ size`.
pub(crate) fn window(size: i32) -> MaskMod {
    mask_of(|b, q, kv| {
        let (difference, size) = (b.binary(BinaryOp::Sub, q, kv), b.constant(size));
        b.binary(BinaryOp::Le, difference, size)
    })
    .named("window")
}

/// `doc[q] == doc[kv]`.
pub(crate) fn document(ids: &Vec<i32>) -> MaskMod {
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
