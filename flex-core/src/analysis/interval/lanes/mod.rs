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
mod program;
mod rules;
mod specialise;

#[cfg(test)]
mod tests;

pub(crate) use columns::Columns;
pub(crate) use execute::{BATCH, CodeId, Group, LaneAnalysis, Verdicts};
pub(crate) use program::LaneProgram;

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
    /// [`Truth`](super::Truth). Of both what they are at the corners of the box.
    bits: [u32; FAN],
}

const ATTAINED: u32 = 1;
const DENSE: u32 = 2;

/// The corners of a box, a bit each: the first or the last query and the first or the last key. Values there are followed
/// through every operation, which tells that a box is mixed where several conditions must meet at one point.
const FIRST_FIRST: u32 = 1;
const FIRST_LAST: u32 = 2;
const LAST_FIRST: u32 = 4;
const LAST_LAST: u32 = 8;
const CORNERS: u32 = 15;

/// At the corner of this bit and above, an integer is its lower bound; a bool is true.
const LOW: u32 = 8;
const TRUE: u32 = 8;
/// The same for the upper bound, and for false.
const HIGH: u32 = 12;
const FALSE: u32 = 12;

/// The corners of what has one value only.
const ONE_VALUE: u32 = CORNERS << LOW | CORNERS << HIGH;
/// The corners of what rises with the query, or with the key.
const RISES_WITH_QUERY: u32 = (FIRST_FIRST | FIRST_LAST) << LOW | (LAST_FIRST | LAST_LAST) << HIGH;
const RISES_WITH_KEY: u32 = (FIRST_FIRST | LAST_FIRST) << LOW | (FIRST_LAST | LAST_LAST) << HIGH;

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

/// The lane of a value that fits, with its corners where it has but one value.
fn parts(value: ValueRange) -> (i32, i32, u32) {
    match value {
        ValueRange::Bool(truth) => {
            let corners = |value, at: u32| if truth.is_always(value) { CORNERS << at } else { 0 };
            (0, 0, truth.bits() | corners(true, TRUE) | corners(false, FALSE))
        }
        ValueRange::Int(IntRange { lo, hi, attained, dense }) => {
            let corners = if lo == hi { ONE_VALUE } else { 0 };
            let witnesses = (u32::from(attained) * ATTAINED) | (u32::from(dense) * DENSE);
            (lo as i32, hi as i32, witnesses | corners)
        }
        ValueRange::Float(_) => (0, 0, 0),
    }
}
