//! From a fault record to the error a user sees.

use flex_core::analysis::interpret::{Fault, FaultKind, Point};
use flex_core::ir::{CaptureId, Node, NodeId};
use flex_core::mods::{BoundExpr, ModFault};
use serde::{Deserialize, Serialize};

use crate::{FaultSite, ModKind, abi};

/// What may go wrong at a [`FaultSite`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FaultPlace {
    /// A load of `capture` with an index outside `axis`.
    Load {
        /// The capture, in its own mod.
        capture: CaptureId,
        /// The axis, from 0.
        axis: u8,
        /// Whether the index is a u32.
        unsigned: bool,
    },
    /// An integer division by zero.
    Division,
}

/// The operations of a kernel's mods that may fault; a fault record's site is a position in this list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FaultSites(pub(crate) Vec<FaultSite>);

impl FaultSites {
    /// Whether nothing may fault.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The sites, in order.
    pub fn as_slice(&self) -> &[FaultSite] {
        &self.0
    }

    /// The fault that a launch recorded, with the names of the mods it ran; `None` if it recorded none.
    pub fn describe(
        &self,
        record: &abi::Fault,
        mask: Option<&BoundExpr>,
        score: Option<&BoundExpr>,
    ) -> Option<ModFault> {
        if record.claimed == 0 {
            return None;
        }
        let site = self.0.get(usize::try_from(record.site).ok()?)?;
        let bound = match site.of {
            ModKind::Mask => mask?,
            ModKind::Score => score?,
        };
        let kind = match site.place {
            FaultPlace::Division => FaultKind::DivisionByZero,
            FaultPlace::Load { capture, axis, unsigned } => {
                let index = if unsigned { i64::from(record.index as u32) } else { i64::from(record.index) };
                let array = bound.captures().get(capture.index())?.array()?;
                let len = *array.shape().get(usize::from(axis))?;
                FaultKind::OutOfBounds { capture, axis, index, len }
            }
        };
        let point = Point { b: record.batch, h: record.head, q: record.query, kv: record.key };
        Some(ModFault::new(bound, point, Fault { node: site.node, kind }))
    }
}

/// Whether a node may fault for some values of its operands and captures.
pub(crate) fn may_fault(expr: &flex_core::ir::Expr, id: NodeId) -> bool {
    match *expr.node(id) {
        Node::Load(..) => true,
        Node::Binary(op, _, divisor) if op.is_division() && expr.ty(divisor).is_integer() => {
            !matches!(expr.node(divisor), Node::Const(value) if value.bits() != 0)
        }
        _ => false,
    }
}
