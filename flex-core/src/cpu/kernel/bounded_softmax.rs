//! The softmax of scores that are known to be small.
//!
//! The maximum of a row is subtracted from its scores so that no weight overflows. Where every exponent is known to be
//! within ±[`LARGEST_EXPONENT`], nothing needs to be subtracted: there is nothing to look for before the first weight,
//! nothing to wait for, and nothing that was summed has to be multiplied again.

use std::ops::Range;

use super::TILE_KEYS;
use super::generic::{Surroundings, WeightFormat};
use super::simd::Simd;
use super::softmax::Softmax;

/// The most that an exponent of 2 may be for the softmax to do without the maximum. Weights are far from where they lose
/// digits then; sums of values that are very large or very small beside them are [noticed](super::super::pass).
pub(in super::super) const LARGEST_EXPONENT: f32 = 31.0;

/// The coefficients of an odd polynomial, lowest power first.
pub(in super::super) type OddPolynomial = [f32; 7];

/// What becomes of exponents before their powers of two are taken.
#[derive(Clone, Copy)]
pub(super) struct SmallExponents {
    /// What stands for the maximum of a row: it is subtracted,
    pub(super) maximum: f32,
    /// the difference multiplied by this,
    pub(super) unit: f32,
    /// and this added.
    pub(super) offset: f32,
}

/// The exponents of scores.
pub(super) trait Exponent<S: Simd>: Copy {
    /// They are multiplied by `unit`, and `offset` is added.
    ///
    /// # Safety
    /// As [`softmax`].
    unsafe fn new(task: &Softmax, unit: f32, offset: f32) -> Self;

    /// # Safety
    /// As [`softmax`].
    unsafe fn of(self, scores: S::V) -> S::V;
}

/// Scores times a factor.
#[derive(Clone, Copy)]
pub(super) struct Scaled<V> {
    factor: V,
    offset: V,
}

impl<S: Simd> Exponent<S> for Scaled<S::V> {
    #[inline(always)]
    unsafe fn new(task: &Softmax, unit: f32, offset: f32) -> Self {
        // SAFETY: the caller's.
        unsafe { Self { factor: S::splat(task.factor * unit), offset: S::splat(offset) } }
    }

    #[inline(always)]
    unsafe fn of(self, scores: S::V) -> S::V {
        // SAFETY: the caller's.
        unsafe { S::fma(scores, self.factor, self.offset) }
    }
}

/// An odd polynomial of scores.
#[derive(Clone, Copy)]
pub(super) struct Odd<V> {
    coefficients: [V; 7],
    offset: V,
}

impl<S: Simd> Exponent<S> for Odd<S::V> {
    #[inline(always)]
    unsafe fn new(task: &Softmax, unit: f32, offset: f32) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let mut coefficients = [S::splat(0.0); 7];
            // A closure would be compiled without the features.
            for (vector, &c) in coefficients.iter_mut().zip(&task.polynomial) {
                *vector = S::splat(c * unit);
            }
            Self { coefficients, offset: S::splat(offset) }
        }
    }

    #[inline(always)]
    unsafe fn of(self, scores: S::V) -> S::V {
        // SAFETY: the caller's.
        unsafe {
            let square = S::mul(scores, scores);
            let [rest @ .., last] = self.coefficients;
            let mut p = last;
            for &c in rest.iter().rev() {
                p = S::fma(p, square, c);
            }
            S::fma(p, scores, self.offset)
        }
    }
}

/// Scores become weights, which are added to the sums. Maxima are neither read nor written.
///
/// # Safety
/// The CPU has the features of `S`, the products of `P` have begun, and the pointers are good for what `Softmax` describes.
#[inline(always)]
pub(super) unsafe fn softmax<S, P, W, E, const MASKED: bool>(task: &Softmax)
where
    S: Simd,
    P: Surroundings,
    W: WeightFormat<S>,
    E: Exponent<S>,
{
    let width = W::VECTORS * S::LANES;
    let groups = task.keys.start / width..task.keys.end.div_ceil(width);
    // SAFETY: as promised by the caller.
    unsafe {
        let SmallExponents { maximum, unit, offset } = W::SMALL_EXPONENTS;
        let exponent = E::new(task, unit, offset - maximum * unit);
        for r in 0..task.rows {
            P::keep_awake(r, W::ROWS_AWAKE);
            *task.rescale.add(r) = 1.0;
            let sums = task.sums.add(r * super::SUM_LANES);
            let sum = W::weigh_small::<E, MASKED>(task, r, groups.clone(), exponent, S::load(sums));
            S::store(sums, sum);
        }
    }
}

/// A row of scores becomes weights, which are added to the sums.
///
/// # Safety
/// As [`softmax`].
#[inline(always)]
pub(super) unsafe fn weigh<S, W, E, const MASKED: bool>(
    task: &Softmax,
    r: usize,
    groups: Range<usize>,
    exponent: E,
    mut sum: S::V,
) -> S::V
where
    S: Simd,
    W: WeightFormat<S>,
    E: Exponent<S>,
{
    // SAFETY: as promised by the caller.
    unsafe {
        let row = task.scores.add(r * TILE_KEYS);
        for group in groups {
            let first = group * W::VECTORS * S::LANES;
            let mut low = exponent.of(S::load(row.add(first)));
            if MASKED {
                low = S::keep(low, &*task.kept.add(r), first as u32);
            }
            let low = W::exp2(low);
            if W::VECTORS == 1 {
                W::store(task, r, group, [low, low]);
                sum = S::add(sum, low);
                continue;
            }
            let mut high = exponent.of(S::load(row.add(first + S::LANES)));
            if MASKED {
                high = S::keep(high, &*task.kept.add(r), (first + S::LANES) as u32);
            }
            let high = W::exp2(high);
            W::store(task, r, group, [low, high]);
            sum = S::add(sum, S::add(low, high));
        }
        sum
    }
}
