//! Operands of the tile registers as planes: a number is the sum of two or three bf16.
//!
//! A unit is a pair of bf16 of one plane, of elements that are 16 apart along the dimension that is summed over: the upper
//! halves of two vectors. Sixteen rows of query are `[planes][16][units]`, 32 keys or columns of value
//! `[planes][units][32]`.

use super::{Packed, Scratch, ZEROS};
use crate::attention::MAX_HEAD_DIM;

/// The units of a row of a tile: a vector.
const TILE: usize = 16;

/// The most planes of a number.
const MOST_PLANES: usize = 3;

/// The units of the planes of a row.
pub(super) type PlaneBuffers = [[f32; MAX_HEAD_DIM / 2]; MOST_PLANES];

/// Nothing in them.
pub(super) const NO_PLANES: PlaneBuffers = [[0.0; MAX_HEAD_DIM / 2]; MOST_PLANES];

/// A vector of numbers, or of units.
type Vector = [f32; TILE];

/// How large and how small the numbers are that have been split into planes.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Magnitudes {
    /// In each lane, as bits of an f32, less one: zero is larger than everything.
    least: [u32; TILE],
    /// In each lane, as bits of an f32.
    most: [u32; TILE],
}

impl Magnitudes {
    /// Those of nothing.
    pub(in super::super) const NONE: Self = Self { least: [u32::MAX; TILE], most: [0; TILE] };

    /// Whether all numbers are the sums of their planes, products of two such numbers, and sums of products, are finite,
    /// and nothing that is lost by products below 2⁻¹²⁶ matters beside the others. Not so if one is NaN or infinite.
    pub(in super::super) fn are_exact_as_planes(&self) -> bool {
        /// The bits of 2⁻¹⁰⁰ and of 2⁵⁶.
        const LEAST: u32 = (127 - 100) << 23;
        const MOST: u32 = (127 + 56) << 23;
        self.most.iter().all(|most| *most <= MOST) && self.least.iter().all(|least| *least >= LEAST - 1)
    }

    #[inline(always)]
    fn include(&mut self, numbers: &Vector) {
        for ((least, most), x) in self.least.iter_mut().zip(&mut self.most).zip(numbers) {
            let magnitude = x.to_bits() & 0x7fff_ffff;
            *least = (*least).min(magnitude.wrapping_sub(1));
            *most = (*most).max(magnitude);
        }
    }
}

/// The planes of two vectors times `factor`, as pairs. (Loops, and no closures: those would not be compiled for the
/// instruction set.)
#[inline(always)]
fn split<const PLANES: usize>(
    [mut first, mut second]: [Vector; 2],
    factor: f32,
    magnitudes: &mut Magnitudes,
) -> [Vector; PLANES] {
    for (first, second) in first.iter_mut().zip(&mut second) {
        *first *= factor;
        *second *= factor;
    }
    magnitudes.include(&first);
    magnitudes.include(&second);
    let mut planes = [[0.0; TILE]; PLANES];
    for (plane, units) in planes.iter_mut().enumerate() {
        // What is left for the last one has no more digits than a bf16.
        let is_last = plane + 1 == PLANES;
        for ((unit, first), second) in units.iter_mut().zip(&mut first).zip(&mut second) {
            let (low, high) = match is_last {
                true => (*first, *second),
                false => (nearest_bf16(*first), nearest_bf16(*second)),
            };
            *unit = super::pair(low, high);
            *first -= low;
            *second -= high;
        }
    }
    planes
}

/// The nearest float with eight digits; the way of Veltkamp (Dekker, "A floating-point technique for extending the
/// available precision", 1971).
#[inline(always)]
fn nearest_bf16(x: f32) -> f32 {
    let shifted = x * 65537.0;
    shifted - (shifted - x)
}

/// A vector of a row, with zeros after its end.
#[inline(always)]
fn vector(row: &[f32], first: usize) -> Vector {
    let rest = &row[first.min(row.len())..];
    if let Some(whole) = rest.first_chunk() {
        return *whole;
    }
    let mut vector = [0.0; TILE];
    vector[..rest.len()].copy_from_slice(rest);
    vector
}

/// The planes of a tile's elements of a row, times `factor`.
#[inline(always)]
fn split_row<const PLANES: usize>(
    row: &[f32],
    tile: usize,
    factor: f32,
    magnitudes: &mut Magnitudes,
) -> [Vector; PLANES] {
    let first = tile * 2 * TILE;
    let pair = [vector(row, first), vector(row, first + TILE)];
    split(pair, factor, magnitudes)
}

/// Queries as planes.
#[inline(always)]
pub(super) fn query_planes(task: Packed, factor: f32) {
    match task.kernels.packing.planes() {
        2 => query_planes_of::<2>(task, factor),
        _ => query_planes_of::<3>(task, factor),
    }
}

#[inline(always)]
fn query_planes_of<const PLANES: usize>(task: Packed, factor: f32) {
    let Packed { kernels, head, rows, scratch, to, magnitudes } = task;
    // In registers.
    let mut all = *magnitudes;
    let units_each = kernels.packing.units(head.columns);
    let (row_units, plane) = (units_each / PLANES, units_each / PLANES * kernels.strip);
    let spare_rows = rows.len()..to.len() / units_each;
    let Scratch { wide: [wide, ..], .. } = scratch;
    let place =
        |row: usize| row / kernels.strip * kernels.strip * units_each + row % kernels.strip * row_units;
    for (i, row) in rows.enumerate() {
        let row = head.row(row, wide);
        for tile in 0..row_units / TILE {
            let split = split_row::<PLANES>(row, tile, factor, &mut all);
            for (plane_of, units) in split.iter().enumerate() {
                to[place(i) + plane_of * plane + tile * TILE..][..TILE].copy_from_slice(units);
            }
        }
    }
    for i in spare_rows {
        for plane_of in 0..PLANES {
            to[place(i) + plane_of * plane..][..row_units].fill(0.0);
        }
    }
    *magnitudes = all;
}

/// Keys as planes.
#[inline(always)]
pub(super) fn key_planes(task: Packed) {
    match task.kernels.packing.planes() {
        2 => key_planes_of::<2>(task),
        _ => key_planes_of::<3>(task),
    }
}

#[inline(always)]
fn key_planes_of<const PLANES: usize>(task: Packed) {
    let Packed { kernels, head, rows, scratch, to, magnitudes } = task;
    let mut all = *magnitudes;
    let (panel, units_each) = (kernels.panel, kernels.packing.units(head.columns));
    let plane_units = units_each / PLANES;
    let Scratch { wide: [wide, ..], planes, .. } = scratch;
    for first in (0..rows.len().next_multiple_of(panel)).step_by(8) {
        let eight = rows.start + first..rows.end.min(rows.start + first + 8);
        let present = eight.len();
        for (row, planes) in eight.zip(&mut *planes) {
            let row = head.row(row, wide);
            for tile in 0..plane_units / TILE {
                let split = split_row::<PLANES>(row, tile, 1.0, &mut all);
                for (plane, units) in planes.iter_mut().zip(&split) {
                    plane[tile * TILE..][..TILE].copy_from_slice(units);
                }
            }
        }
        let to = &mut to[first / panel * panel * units_each + first % panel..];
        for plane in 0..PLANES {
            let mut sources: [&[f32]; 8] = [&ZEROS[..plane_units]; 8];
            for (source, planes) in sources[..present].iter_mut().zip(&*planes) {
                *source = &planes[plane][..plane_units];
            }
            kernels.transpose(sources, &mut to[plane * panel * plane_units..], panel);
        }
    }
    *magnitudes = all;
}

/// Values as planes.
#[inline(always)]
pub(super) fn value_planes(task: Packed, panel_units: usize) {
    match task.kernels.packing.planes() {
        2 => value_planes_of::<2>(task, panel_units),
        _ => value_planes_of::<3>(task, panel_units),
    }
}

#[inline(always)]
fn value_planes_of<const PLANES: usize>(task: Packed, panel_units: usize) {
    let Packed { kernels, head, rows, scratch, to, magnitudes } = task;
    let mut all = *magnitudes;
    let (panel, columns) = (kernels.panel, head.columns);
    let Scratch { wide: [wide, other_wide, ..], .. } = scratch;
    for unit in 0..kernels.packing.units(rows.len()) / PLANES {
        let first = rows.start + unit / TILE * 2 * TILE + unit % TILE;
        let second = first + TILE;
        let first = if first < rows.end { head.row(first, wide) } else { &ZEROS[..columns] };
        let second = if second < rows.end { head.row(second, other_wide) } else { &ZEROS[..columns] };
        for column in (0..columns.next_multiple_of(panel)).step_by(TILE) {
            let at = column / panel * panel * panel_units + unit * panel + column % panel;
            let split = split::<PLANES>([vector(first, column), vector(second, column)], 1.0, &mut all);
            for (i, units) in split.iter().enumerate() {
                to[at + i * panel * (panel_units / PLANES)..][..TILE].copy_from_slice(units);
            }
        }
    }
    *magnitudes = all;
}

#[cfg(test)]
mod tests {
    use super::super::super::float16::of_bf16;
    use super::*;

    #[test]
    fn planes_sum_up_to_what_they_were_made_of() {
        fn check<const PLANES: usize>(x: f32) {
            let mut magnitudes = Magnitudes::NONE;
            let mut pair = [[0.0; TILE]; 2];
            (pair[0][3], pair[1][5]) = (x, -x);
            let planes = split::<PLANES>(pair, 1.0, &mut magnitudes);
            assert!(magnitudes.are_exact_as_planes(), "{x:e}");
            let sum = |lane: usize, shift: u32| {
                let plane = |units: &Vector| of_bf16((units[lane].to_bits() >> shift) as u16);
                planes.iter().rev().map(plane).sum::<f32>()
            };
            assert_eq!([sum(3, 0), sum(3, 16), sum(5, 0), sum(5, 16)], [x, 0.0, 0.0, -x], "{x:e}");
            let second = of_bf16(planes[1][3].to_bits() as u16);
            assert!(second.abs() <= x.abs() / 256.0, "{second:e} of {x:e}");
        }
        let mut seed = 1u32;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (sign, digits) = (seed & 1 << 31, seed >> 8 & 0x7f_ffff);
            for exponent in [-100, -37, -1, 0, 1, 55] {
                let bits = sign | ((127 + exponent) as u32) << 23 | digits;
                check::<3>(f32::from_bits(bits));
                // An f16 has eleven digits.
                check::<2>(f32::from_bits(bits & !0x1fff));
            }
        }
    }

    #[test]
    fn what_planes_cannot_be_is_noticed() {
        let tiny = 2f32.powi(-101);
        for x in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e17, -1e17, tiny, -tiny, 1e-40] {
            let mut magnitudes = Magnitudes::NONE;
            let mut numbers = [1.0; TILE];
            (numbers[7], numbers[8]) = (x, 0.0);
            magnitudes.include(&numbers);
            magnitudes.include(&[1.0; TILE]);
            assert!(!magnitudes.are_exact_as_planes(), "{x:e}");
        }
        assert!(Magnitudes::NONE.are_exact_as_planes());
    }
}
