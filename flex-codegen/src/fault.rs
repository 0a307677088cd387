//! From a fault record to the error a user sees.

use flex_core::analysis::interpret::Point;
use flex_core::ir::CaptureId;
use flex_core::mods::{BoundExpr, FaultReason, ModFault};
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
        let what = match site.place {
            FaultPlace::Division => FaultReason::DivisionByZero,
            FaultPlace::Load { capture, axis, unsigned } => {
                let index = if unsigned { i64::from(record.index as u32) } else { i64::from(record.index) };
                let capture = bound.captures().get(capture.index())?;
                let len = *capture.array()?.shape().get(usize::from(axis))?;
                FaultReason::OutOfBounds { capture: capture.name.clone(), axis, index, len }
            }
        };
        let at = Point { b: record.batch, h: record.head, q: record.query, kv: record.key };
        Some(ModFault { name: bound.name().into(), at, what })
    }
}
