//! Numbers on their way into planes: which of them are the sum of their planes, and the splitting itself, checked.

use super::Kernels;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::{Packing, planes};

/// The lanes that are looked at side by side.
pub(super) const LANES: usize = 16;

/// How large and how small the numbers are that have been split into planes.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Magnitudes {
    /// In each lane, as bits of an f32, less one: zero is larger than everything.
    pub(super) least: [u32; LANES],
    /// In each lane, as bits of an f32, less one: zero is −1.
    pub(super) most: [i32; LANES],
}

impl Magnitudes {
    /// Those of nothing.
    pub(in super::super) const NONE: Self = Self { least: [u32::MAX; LANES], most: [-1; LANES] };

    /// Whether all numbers are the sums of their planes, products of two such numbers, and sums of products, are finite,
    /// and nothing that is lost by products below 2⁻¹²⁶ matters beside the others. Not so if one is NaN or infinite.
    pub(in super::super) fn are_exact_as_planes(&self) -> bool {
        let below_2_to_56 = self.most.iter().all(|most| *most < bits_of_power(56) as i32 - 1);
        below_2_to_56 && self.are_at_least(-100)
    }

    /// The same of products of these numbers and weights that are [small](super::LARGEST_EXPONENT) because no maximum was
    /// subtracted, which lose what is below 2⁻¹²⁶ as well.
    pub(in super::super) fn are_exact_beside_small_weights(&self) -> bool {
        self.are_at_least(-60)
    }

    fn are_at_least(&self, exponent: i32) -> bool {
        self.least.iter().all(|least| *least >= bits_of_power(exponent) - 1)
    }
}

/// The bits of a power of two.
const fn bits_of_power(exponent: i32) -> u32 {
    ((127 + exponent) as u32) << 23
}

/// Calls a function of `planes` for the planes of the packing.
macro_rules! for_planes {
    ($kernels:expr, $name:ident($($arg:expr),* $(,)?)) => {
        match $kernels.packing {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            // SAFETY: kernels with planes are for CPUs with the tile unit and AVX-512; the lengths have been checked.
            Packing::F16Tiles => unsafe { planes::$name::<2>($($arg),*) },
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            // SAFETY: as above.
            Packing::F32Tiles => unsafe { planes::$name::<3>($($arg),*) },
            _ => {
                // Read on every target.
                let _ = ($($arg),*);
                unreachable!("numbers are split for kernels that multiply planes")
            }
        }
    };
}

impl Kernels {
    /// The units of a plane of a row.
    fn units_of_plane(&self, columns: usize) -> usize {
        self.packing.units(columns) / self.packing.planes()
    }

    /// A row of query times `factor` as planes, each `plane` floats after the one before.
    pub(in super::super) fn split_query(
        &self,
        row: &[f32],
        factor: f32,
        to: &mut [f32],
        plane: usize,
        magnitudes: &mut Magnitudes,
    ) {
        let last = (self.packing.planes() - 1) * plane;
        assert!(to.len() >= last + self.units_of_plane(row.len()), "there is room for the planes");
        for_planes!(self, query(row, factor, to, plane, magnitudes));
    }

    /// Sixteen keys as columns of a panel of planes, which begins at `to`, or sixteen floats before.
    pub(in super::super) fn split_keys(
        &self,
        rows: &[&[f32]; LANES],
        to: &mut [f32],
        magnitudes: &mut Magnitudes,
    ) {
        let columns = rows[0].len();
        let plane = self.units_of_plane(columns) * self.panel;
        assert!(rows.iter().all(|row| row.len() == columns), "sixteen rows of one length");
        assert!(to.len() + LANES >= self.packing.planes() * plane, "there is room for the planes");
        for_planes!(self, keys(rows, to, plane, magnitudes));
    }

    /// Two rows of value, sixteen keys apart, as a row of units in each panel: of `panel` floats, the first one at `to`.
    pub(in super::super) fn split_values(
        &self,
        rows: [&[f32]; 2],
        to: &mut [f32],
        panel: usize,
        magnitudes: &mut Magnitudes,
    ) {
        let (columns, plane) = (rows[0].len(), panel / self.packing.planes());
        let Some(last) = columns.div_ceil(self.panel).checked_sub(1) else { return };
        let end = last * panel + (self.packing.planes() - 1) * plane + self.panel;
        assert!(rows[1].len() == columns, "rows of one length");
        assert!(to.len() >= end, "there is room for the planes");
        for_planes!(self, values(rows, to, panel, plane, magnitudes));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::float16::of_bf16;
    use super::*;
    use crate::attention::DType;
    use crate::isa::{Available, InstructionSet};

    /// The kernels that multiply planes, on CPUs that have some.
    fn all_with_planes() -> impl Iterator<Item = &'static Kernels> {
        let available = InstructionSet::Amx.is_available().then(|| Available::new(InstructionSet::Amx));
        available.into_iter().flat_map(|isa| [DType::F16, DType::F32].map(|dtype| Kernels::new(isa, dtype)))
    }

    /// Numbers of many sizes, with as many digits as the dtype has that the planes are for.
    fn numbers(kernels: &Kernels, count: usize, mut seed: u32) -> Vec<f32> {
        let digits = if kernels.packing.planes() == 2 { !0x1fff } else { !0 };
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (sign, mantissa, exponent) = (seed & 1 << 31, seed >> 8 & 0x7f_ffff, seed >> 3 & 7);
            let exponent = [-100, -37, -3, -1, 0, 1, 20, 55][exponent as usize] + 127;
            f32::from_bits((sign | (exponent as u32) << 23 | mantissa) & digits)
        };
        (0..count).map(|i| if i % 13 == 5 { 0.0 } else { next() }).collect()
    }

    /// The sum of the planes of the lower or upper half of a unit.
    fn sum(units: &[f32], at: usize, plane: usize, planes: usize, upper: bool) -> f32 {
        let shift = if upper { 16 } else { 0 };
        let part = |i: usize| of_bf16((units[at + i * plane].to_bits() >> shift) as u16);
        (1..planes).for_each(|i| assert!(part(i).abs() <= part(i - 1).abs() / 256.0, "planes get smaller"));
        (0..planes).rev().map(part).sum()
    }

    #[test]
    fn planes_sum_up_to_what_they_were_made_of_in_the_places_of_the_layout() {
        const POISON: f32 = 123.0;
        for kernels in all_with_planes() {
            let planes = kernels.packing.planes();
            for columns in [1, 16, 31, 64, 72] {
                let (units, mut magnitudes) = (kernels.units_of_plane(columns), Magnitudes::NONE);
                let element = |row: &[f32], unit: usize, upper: bool| {
                    let column = unit / 16 * 32 + unit % 16 + if upper { 16 } else { 0 };
                    row.get(column).copied().unwrap_or(0.0)
                };
                let data: Vec<_> =
                    (0..16).map(|i| numbers(kernels, columns, 7 * i + columns as u32)).collect();
                let rows: [&[f32]; 16] = std::array::from_fn(|i| data[i].as_slice());

                let plane = units + 5;
                let mut query = vec![POISON; planes * plane];
                kernels.split_query(rows[0], -1.0, &mut query, plane, &mut magnitudes);
                let mut keys = vec![POISON; planes * units * kernels.panel];
                kernels.split_keys(&rows, &mut keys[16..], &mut magnitudes);
                for (unit, upper) in (0..units).flat_map(|unit| [(unit, false), (unit, true)]) {
                    let got = sum(&query, unit, plane, planes, upper);
                    assert_eq!(got, -element(rows[0], unit, upper), "query, unit {unit}");
                    for (i, row) in rows.iter().enumerate() {
                        let at = unit * kernels.panel + 16 + i;
                        let got = sum(&keys, at, units * kernels.panel, planes, upper);
                        assert_eq!(got, element(row, unit, upper), "key {i}, unit {unit}");
                    }
                }
                assert!(query[units..plane].iter().all(|x| *x == POISON), "between planes of query");
                let others = keys.chunks_exact(32).flat_map(|units| &units[..16]);
                assert!(others.into_iter().all(|x| *x == POISON), "other keys of the panel");

                let (panels, panel) = (columns.div_ceil(32), 16 * planes * kernels.panel);
                let mut values = vec![POISON; panels * panel];
                kernels.split_values([rows[1], rows[2]], &mut values[64..], panel, &mut magnitudes);
                for column in 0..panels * 32 {
                    for (row, upper) in [(rows[1], false), (rows[2], true)] {
                        let at = 64 + column / 32 * panel + column % 32;
                        let got = sum(&values, at, panel / planes, planes, upper);
                        assert_eq!(got, row.get(column).copied().unwrap_or(0.0), "value, column {column}");
                    }
                }
                assert!(magnitudes.are_exact_as_planes());
            }
        }
    }

    #[test]
    fn what_planes_cannot_be_is_noticed() {
        let tiny = 2f32.powi(-101);
        for kernels in all_with_planes() {
            let notices = |x: f32| {
                let mut magnitudes = Magnitudes::NONE;
                let mut row = [1.0; 40];
                (row[7], row[38]) = (0.0, x);
                kernels.split_query(&row, 1.0, &mut [0.0; 96], 32, &mut magnitudes);
                kernels.split_query(&[1.0; 40], 1.0, &mut [0.0; 96], 32, &mut magnitudes);
                !magnitudes.are_exact_as_planes()
            };
            for x in [f32::NAN, f32::INFINITY, 1e17, 2f32.powi(56), tiny, 1e-40] {
                assert!(notices(x) && notices(-x), "{x:e}");
            }
            for x in [0.0, 1.0, 2f32.powi(55), 2f32.powi(-100)] {
                assert!(!notices(x) && !notices(-x), "{x:e}");
            }
        }
        assert!(Magnitudes::NONE.are_exact_as_planes());
    }
}
