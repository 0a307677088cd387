//! Sixteen boxes at once, one in every vector lane.
//!
//! The nodes of a mask are of three kinds: some depend on the query and not on the key, some on the key and not on the
//! query, and in the others queries and keys meet. [`LaneProgram`] holds each kind as straight code whose registers have
//! a range in every lane. The code of the rows runs once for sixteen rows of boxes, that of the columns once for sixteen
//! columns ([`Columns`]), and only the third once for sixteen boxes ([`LaneAnalysis::judge`]).
//!
//! The rules are those of [`super::integer`] and [`super::Truth`], in i32 and without checks for overflow: the program is
//! only made where the ranges of the region as a whole show that nothing in it wraps or faults. Ranges of boxes inside the
//! region are contained in them, since every rule gives a smaller range for smaller ones.

mod columns;
mod compile;
mod execute;
mod rules;

#[cfg(test)]
mod tests;

pub(crate) use columns::Columns;
pub(crate) use compile::LaneProgram;
pub(crate) use execute::{BATCH, Group, LaneAnalysis, Verdicts};

use super::{IntRange, ValueRange};

/// Boxes that are looked at together: one a lane.
pub(crate) const FAN: usize = 16;

/// What is known of a node in sixteen boxes.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Lanes {
    /// Bounds of an integer. Of a bool: nothing.
    lo: [i32; FAN],
    hi: [i32; FAN],
    /// Of an integer whether the bounds are [`ATTAINED`] and the range is [`DENSE`]; of a bool the bits of its
    /// [`Truth`](super::Truth).
    bits: [u32; FAN],
}

const ATTAINED: u32 = 1;
const DENSE: u32 = 2;

impl Lanes {
    const ZERO: Self = Self { lo: [0; FAN], hi: [0; FAN], bits: [0; FAN] };

    /// The same in all lanes.
    fn splat(value: ValueRange) -> Self {
        let (lo, hi, bits) = parts(value);
        Self { lo: [lo; FAN], hi: [hi; FAN], bits: [bits; FAN] }
    }

    /// One lane in all lanes.
    fn splat_lane(&self, lane: usize) -> Self {
        Self { lo: [self.lo[lane]; FAN], hi: [self.hi[lane]; FAN], bits: [self.bits[lane]; FAN] }
    }

    fn has_same_lanes(&self, a: usize, b: usize) -> bool {
        (self.lo[a], self.hi[a], self.bits[a]) == (self.lo[b], self.hi[b], self.bits[b])
    }

    fn range(&self, lane: usize) -> IntRange {
        IntRange {
            lo: self.lo[lane].into(),
            hi: self.hi[lane].into(),
            attained: self.bits[lane] & ATTAINED != 0,
            dense: self.bits[lane] & DENSE != 0,
        }
    }
}

/// The lane of a value that fits.
fn parts(value: ValueRange) -> (i32, i32, u32) {
    match value {
        ValueRange::Bool(truth) => (0, 0, truth.bits()),
        ValueRange::Int(IntRange { lo, hi, attained, dense }) => {
            (lo as i32, hi as i32, u32::from(attained) * ATTAINED | u32::from(dense) * DENSE)
        }
        ValueRange::Float(_) => (0, 0, 0),
    }
}
