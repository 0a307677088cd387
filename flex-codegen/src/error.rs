//! What can go wrong between a specification and a kernel.

use crate::nvrtc::NvrtcError;
use crate::{Arch, SlotError};

/// Why there is no kernel.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CodegenError {
    /// NVRTC is missing or refused the source.
    #[error(transparent)]
    Nvrtc(#[from] NvrtcError),
    /// No kernel can run there.
    #[error("no kernel for {arch}, expected sm_80 or newer: use the CPU backend")]
    UnsupportedArch {
        /// The architecture.
        arch: Arch,
    },
    /// The specification contradicts itself or the template.
    #[error("{what} is {got}, expected {expected}")]
    Spec {
        /// Which part.
        what: &'static str,
        /// Its value.
        got: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The mods have more captures than a kernel takes.
    #[error(
        "the mods need {got} capture slots, expected at most {max}: pack scalars into one captured array"
    )]
    TooManyCaptures {
        /// Slots needed.
        got: usize,
        /// Slots there are.
        max: usize,
    },
    /// A capture does not fit its slot.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// A program that may not compile met a kernel that its bundle lacks.
    #[error(
        "the bundle has no kernel {key} ({describe}) and NVRTC is not to be used: add it with `flex kernel … --out`"
    )]
    NotInBundle {
        /// The kernel's key.
        key: String,
        /// What it is.
        describe: String,
    },
}
