//! From the IR of mods to the `struct Mods` that a kernel template is instantiated with.

mod layout;

pub use layout::{CaptureLayout, CaptureSlot, ModKind, SlotContent, SlotError};

use flex_core::ir::NodeId;
use serde::{Deserialize, Serialize};

use crate::FaultPlace;

/// An operation of a kernel's mods that may fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FaultSite {
    /// Whose operation.
    pub of: ModKind,
    /// The node of the mod's expression.
    pub node: NodeId,
    /// What may go wrong.
    pub place: FaultPlace,
}

impl crate::Snippet {
    /// The mods of a specification as C++.
    ///
    /// # Errors
    /// If they have too many captures.
    pub fn of(spec: &crate::KernelSpec) -> Result<Self, crate::CodegenError> {
        let captures = CaptureLayout::new(spec.mask.as_deref(), spec.score.as_deref())?;
        let text = "#include \"flex/default_mods.cuh\"\n".to_owned();
        Ok(Self { text, captures, fault_sites: Default::default() })
    }
}
