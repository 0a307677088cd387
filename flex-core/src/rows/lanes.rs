//! Buffers of neighbouring values.

/// The most keys that are evaluated at once.
pub const LANES: usize = 256;

/// Lanes are worked on in whole groups of so many; those past the end hold values that mean nothing.
pub(super) const GROUP: usize = 16;

/// One value a lane, as 32 bits: bools are all ones or 0.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Lanes(pub(super) [u32; LANES]);

impl Lanes {
    pub(super) const ZERO: Self = Self([0; LANES]);
}

/// Where an operation finds a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    /// One value a lane.
    Lane(u32),
    /// The same value for all lanes: lane 0 of a register.
    Scalar(u32),
}

/// The bits of a bool in a lane.
#[inline(always)]
pub(super) const fn word(value: bool) -> u32 {
    (value as u32).wrapping_neg()
}
