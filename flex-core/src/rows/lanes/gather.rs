//! Reading captures, an element a lane.

use super::operations::map;
use super::{GROUP, Group, Rows, Source};
use crate::capture::{ArrayData, Capture};
use crate::ir::CaptureId;

#[inline(always)]
pub(super) fn load(rows: &mut Rows, capture: CaptureId, captures: &[Capture]) {
    let Some(array) = captures[capture.index()].array() else { return map(rows, |_| 0) };
    match array.data() {
        ArrayData::Bool(data) => each_row!(rows, |dst, a| gather(dst, a, data, |x| x.into())),
        ArrayData::I32(data) => each_row!(rows, |dst, a| gather(dst, a, data, |x| x as u32)),
        ArrayData::U32(data) => each_row!(rows, |dst, a| gather(dst, a, data, |x| x)),
        ArrayData::F32(data) => each_row!(rows, |dst, a| gather(dst, a, data, f32::to_bits)),
    }
}

/// Elements at any offsets; neighbouring ones, forwards (`doc[kv]`) or backwards (`bias[q - kv]`), are copied.
#[inline(always)]
fn gather<T: Copy>(dst: &mut [Group], offsets: Source, data: &[T], bits: impl Fn(T) -> u32) {
    let element = |offset: u32| data.get(offset as usize).map_or(0, |&x| bits(x));
    let offsets = match offsets {
        Source::Splat(offset) => return dst.fill([element(offset); GROUP]),
        Source::Lanes(offsets) => offsets,
    };
    for (d, o) in dst.iter_mut().zip(offsets) {
        let first = o[0] as usize;
        let (mut rising, mut falling) = (true, true);
        for i in 0..GROUP {
            rising &= o[i] == o[0].wrapping_add(i as u32);
            falling &= o[i] == o[0].wrapping_sub(i as u32);
        }
        let ascending = if rising { data.get(first..first + GROUP) } else { None };
        let descending =
            if falling && first + 1 >= GROUP { data.get(first + 1 - GROUP..=first) } else { None };
        if let Some(source) = ascending {
            for i in 0..GROUP {
                d[i] = bits(source[i]);
            }
        } else if let Some(source) = descending {
            for i in 0..GROUP {
                d[i] = bits(source[GROUP - 1 - i]);
            }
        } else {
            for i in 0..GROUP {
                d[i] = element(o[i]);
            }
        }
    }
}
