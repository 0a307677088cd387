//! What captured arrays hold between two indices.

use super::{FloatRange, IntRange, Truth, ValueRange};
use crate::capture::{Array, ElementRange};
use crate::ir::Type;

/// The range of the elements that a load may have, whose indices lie in the given ranges, one an axis, and whether an
/// index may be out of bounds. `independent`: any values of the indices occur together.
pub(super) fn load(array: &Array, indices: &[IntRange], independent: bool) -> (ValueRange, bool) {
    let mut first = [0usize; 4];
    let mut last = [0usize; 4];
    let mut out_of_bounds = false;
    let mut dense = independent;
    let shape = array.shape();
    for (axis, (range, &len)) in indices.iter().zip(shape).enumerate() {
        let top = len as i64 - 1;
        out_of_bounds |= range.lo < 0 || range.hi > top;
        if range.lo.max(0) > range.hi.min(top) {
            // No index is in bounds, so there is no value.
            return (ValueRange::any(array.ty()), true);
        }
        first[axis] = range.lo.max(0) as usize;
        last[axis] = range.hi.min(top) as usize;
        dense &= range.dense;
    }
    let bounds = array.bounds(&first[..shape.len()], &last[..shape.len()]);
    let value = match bounds.range {
        ElementRange::Float { min, max, nan } => ValueRange::Float(FloatRange { lo: min, hi: max, nan }),
        ElementRange::Int { min, max } => {
            let attained = bounds.attained && dense && !out_of_bounds;
            if array.ty() == Type::Bool {
                let may = [min == 0, max == 1];
                ValueRange::Bool(Truth::new(may, [attained, attained]))
            } else {
                let dense = attained && min == max;
                ValueRange::Int(IntRange { lo: min, hi: max, attained, dense })
            }
        }
    };
    (value, out_of_bounds)
}
