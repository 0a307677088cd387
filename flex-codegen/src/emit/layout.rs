//! The block of captures that a kernel takes as its last parameter: slots of 8 bytes.

use std::sync::Arc;

use flex_core::capture::{Array, CaptureValue};
use flex_core::ir::{CaptureId, Expr, Type};
use flex_core::mods::BoundExpr;
use serde::{Deserialize, Serialize};

use crate::CodegenError;

/// Which of a kernel's two mods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModKind {
    /// The mask of partial tiles.
    Mask,
    /// The score mod.
    Score,
}

impl ModKind {
    /// The lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mask => "mask",
            Self::Score => "score",
        }
    }
}

/// What a slot holds, in its low bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotContent {
    /// The device address of a row-major array; bool elements take one byte each, the others four.
    Pointer(Type),
    /// The length of an axis of the array, i32.
    Extent(u8),
    /// The 32 bits of a scalar; a bool is 0 or 1.
    Scalar(Type),
}

/// One slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CaptureSlot {
    /// Whose capture.
    pub of: ModKind,
    /// Which of that mod's captures.
    pub capture: CaptureId,
    /// What of it.
    pub content: SlotContent,
}

/// The slots in order: for every capture of the mask, then of the score mod, either its value, or its address and the
/// length of every axis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CaptureLayout {
    slots: Vec<CaptureSlot>,
}

/// A mod that was bound to a kernel is not the one that the kernel was made for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {mod_kind} mod has no capture {capture} of the form {content:?}, expected the mod that the kernel was compiled for"
)]
pub struct SlotError {
    /// Mask or score.
    pub mod_kind: &'static str,
    /// The position of the capture.
    pub capture: u32,
    /// What the slot holds.
    pub content: SlotContent,
}

impl CaptureLayout {
    /// The most slots a kernel takes: its parameters fit the 4 KiB of every driver.
    pub const MAX_SLOTS: usize = 440;

    pub(crate) fn new(mask: Option<&Expr>, score: Option<&Expr>) -> Result<Self, CodegenError> {
        let mut slots = Vec::new();
        for (of, expr) in [(ModKind::Mask, mask), (ModKind::Score, score)] {
            for (i, decl) in expr.into_iter().flat_map(|e| e.captures().iter().enumerate()) {
                let capture = CaptureId(i as u32);
                let mut push = |content| slots.push(CaptureSlot { of, capture, content });
                if decl.rank == 0 {
                    push(SlotContent::Scalar(decl.ty));
                } else {
                    push(SlotContent::Pointer(decl.ty));
                    (0..decl.rank).for_each(|axis| push(SlotContent::Extent(axis)));
                }
            }
        }
        match slots.len() {
            got if got > Self::MAX_SLOTS => Err(CodegenError::TooManyCaptures { got, max: Self::MAX_SLOTS }),
            _ => Ok(Self { slots }),
        }
    }

    /// The slots, in order.
    pub fn slots(&self) -> &[CaptureSlot] {
        &self.slots
    }

    /// Fills `block` with the captures of the mods that the kernel was compiled for; `address` gives the device address
    /// of an array's copy. A kernel without captures takes one zero slot.
    ///
    /// # Errors
    /// If a mod is missing or has other captures.
    pub fn pack<A>(
        &self,
        mask: Option<&BoundExpr>,
        score: Option<&BoundExpr>,
        mut address: impl FnMut(&Arc<Array>) -> Result<u64, A>,
        block: &mut Vec<u64>,
    ) -> Result<(), A>
    where
        A: From<SlotError>,
    {
        block.clear();
        for slot in &self.slots {
            let wrong =
                || SlotError { mod_kind: slot.of.name(), capture: slot.capture.0, content: slot.content };
            let bound = match slot.of {
                ModKind::Mask => mask,
                ModKind::Score => score,
            };
            let capture = bound.and_then(|b| b.captures().get(slot.capture.index())).ok_or_else(wrong)?;
            let word = match (slot.content, &capture.value) {
                (SlotContent::Scalar(ty), CaptureValue::Scalar(value)) if value.ty() == ty => {
                    value.bits().into()
                }
                (SlotContent::Pointer(ty), CaptureValue::Array(array)) if array.ty() == ty => address(array)?,
                (SlotContent::Extent(axis), CaptureValue::Array(array)) => {
                    *array.shape().get(usize::from(axis)).ok_or_else(wrong)? as u64
                }
                _ => return Err(wrong().into()),
            };
            block.push(word);
        }
        if block.is_empty() {
            block.push(0);
        }
        Ok(())
    }
}
