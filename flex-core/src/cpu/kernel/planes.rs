//! Numbers split into their planes: a float is the sum of two or three bf16.
//!
//! A unit is a pair of bf16 of one plane, of elements that are 16 apart along the dimension that is summed over: the upper
//! halves of two vectors.

use std::arch::x86_64::*;

use super::amx::WIDTH;
use super::magnitudes::{LANES, Magnitudes};
use super::simd::{Avx512, Simd, transpose16};

/// [`Magnitudes`] in registers.
struct Tracked {
    least: __m512i,
    most: __m512i,
}

// SAFETY of the bodies: the CPU has AVX-512.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Tracked {
    #[inline(always)]
    unsafe fn load(magnitudes: &Magnitudes) -> Self {
        unsafe {
            Self {
                least: _mm512_loadu_si512(magnitudes.least.as_ptr().cast()),
                most: _mm512_loadu_si512(magnitudes.most.as_ptr().cast()),
            }
        }
    }

    #[inline(always)]
    unsafe fn store(self, magnitudes: &mut Magnitudes) {
        unsafe {
            _mm512_storeu_si512(magnitudes.least.as_mut_ptr().cast(), self.least);
            _mm512_storeu_si512(magnitudes.most.as_mut_ptr().cast(), self.most);
        }
    }

    #[inline(always)]
    unsafe fn include(&mut self, numbers: __m512) {
        unsafe {
            let magnitude = _mm512_castps_si512(_mm512_abs_ps(numbers));
            // Zero becomes the largest of all, and −1 where signs count.
            let less_one = _mm512_sub_epi32(magnitude, _mm512_set1_epi32(1));
            self.least = _mm512_min_epu32(self.least, less_one);
            self.most = _mm512_max_epi32(self.most, less_one);
        }
    }
}

/// The nearest bf16, halves away from zero. For numbers that are not close to the largest ones.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn nearest_bf16(x: __m512) -> __m512 {
    // SAFETY: the caller's.
    unsafe {
        let half = _mm512_set1_epi32(0x8000);
        Avx512::upper_half(_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), half)))
    }
}

/// Writes the planes of two vectors as vectors of units, `plane` floats apart.
///
/// # Safety
/// The CPU has AVX-512 F and BW, and `to` memory for them.
#[inline(always)]
unsafe fn split<const PLANES: usize>(
    mut low: __m512,
    mut high: __m512,
    to: *mut f32,
    plane: usize,
    tracked: &mut Tracked,
) {
    // SAFETY: the caller's.
    unsafe {
        tracked.include(low);
        tracked.include(high);
        for i in 0..PLANES {
            // What is left for the last one has no more digits than a bf16.
            if i + 1 == PLANES {
                Avx512::store(to.add(i * plane), Avx512::join_upper_halves(low, high));
                break;
            }
            let (nearest_low, nearest_high) = (nearest_bf16(low), nearest_bf16(high));
            Avx512::store(to.add(i * plane), Avx512::join_upper_halves(nearest_low, nearest_high));
            low = Avx512::sub(low, nearest_low);
            high = Avx512::sub(high, nearest_high);
        }
    }
}

/// A vector of a row, with zeros after its end.
///
/// # Safety
/// The CPU has AVX-512 F, and the row has `columns`.
#[inline(always)]
unsafe fn vector(row: *const f32, first: usize, columns: usize) -> __m512 {
    let left = columns.saturating_sub(first).min(LANES);
    // SAFETY: lanes beyond the row are not read.
    unsafe { _mm512_maskz_loadu_ps(((1u32 << left) - 1) as u16, row.wrapping_add(first)) }
}

/// See [`Kernels::split_query`](super::Kernels::split_query).
///
/// # Safety
/// The CPU has the features, and the slices are as long as the caller has checked.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn query<const PLANES: usize>(
    row: &[f32],
    factor: f32,
    to: &mut [f32],
    plane: usize,
    magnitudes: &mut Magnitudes,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut tracked = Tracked::load(magnitudes);
        let factor = Avx512::splat(factor);
        for first in (0..row.len()).step_by(2 * LANES) {
            let low = Avx512::mul(vector(row.as_ptr(), first, row.len()), factor);
            let high = Avx512::mul(vector(row.as_ptr(), first + LANES, row.len()), factor);
            split::<PLANES>(low, high, to.as_mut_ptr().add(first / 2), plane, &mut tracked);
        }
        tracked.store(magnitudes);
    }
}

/// See [`Kernels::split_keys`](super::Kernels::split_keys).
///
/// # Safety
/// As [`query`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn keys<const PLANES: usize>(
    rows: &[&[f32]; LANES],
    to: &mut [f32],
    plane: usize,
    magnitudes: &mut Magnitudes,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut tracked = Tracked::load(magnitudes);
        let columns = rows[0].len();
        for first in (0..columns).step_by(2 * LANES) {
            let mut halves = [[_mm512_setzero_ps(); LANES]; 2];
            for (half, first) in halves.iter_mut().zip([first, first + LANES]) {
                for (vector_of, row) in half.iter_mut().zip(rows) {
                    *vector_of = vector(row.as_ptr(), first, columns);
                }
                transpose16(half);
            }
            let [low, high] = halves;
            for unit in 0..LANES {
                let to = to.as_mut_ptr().add((first / 2 + unit) * WIDTH);
                split::<PLANES>(low[unit], high[unit], to, plane, &mut tracked);
            }
        }
        tracked.store(magnitudes);
    }
}

/// See [`Kernels::split_values`](super::Kernels::split_values).
///
/// # Safety
/// As [`query`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn values<const PLANES: usize>(
    [low, high]: [&[f32]; 2],
    to: &mut [f32],
    panel: usize,
    plane: usize,
    magnitudes: &mut Magnitudes,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut tracked = Tracked::load(magnitudes);
        let columns = low.len();
        for column in (0..columns.next_multiple_of(WIDTH)).step_by(LANES) {
            let to = to.as_mut_ptr().add(column / WIDTH * panel + column % WIDTH);
            let (low, high) = (vector(low.as_ptr(), column, columns), vector(high.as_ptr(), column, columns));
            split::<PLANES>(low, high, to, plane, &mut tracked);
        }
        tracked.store(magnitudes);
    }
}
