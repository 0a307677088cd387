//! The softmax of scores that are known to be small.
//!
//! The maximum of a row is subtracted from its scores so that no weight overflows. Where every exponent is known to be
//! within ±[`LARGEST_EXPONENT`], nothing needs to be subtracted: there is nothing to look for before the first weight,
//! nothing to wait for, and nothing that was summed has to be multiplied again.

use super::TILE_KEYS;
use super::generic::{Surroundings, WeightFormat};
use super::simd::Simd;
use super::softmax::Softmax;

/// The most that an exponent of 2 may be for the softmax to do without the maximum. Weights from 2⁻³² to 2³² are far from
/// where they would lose digits; values overflow beside them from 10²⁵ on at the earliest, which is
/// [noticed](super::super::output::are_finite).
pub(in super::super) const LARGEST_EXPONENT: f32 = 32.0;

/// The coefficients of an odd polynomial, lowest power first.
pub(in super::super) type OddPolynomial = [f32; 7];

/// The exponents of scores.
pub(super) trait Exponent<S: Simd>: Copy {
    /// # Safety
    /// As [`softmax`].
    unsafe fn new(task: &Softmax) -> Self;

    /// # Safety
    /// As [`softmax`].
    unsafe fn of(self, scores: S::V) -> S::V;
}

/// Scores times a factor.
#[derive(Clone, Copy)]
pub(super) struct Scaled<V> {
    factor: V,
}

impl<S: Simd> Exponent<S> for Scaled<S::V> {
    #[inline(always)]
    unsafe fn new(task: &Softmax) -> Self {
        // SAFETY: the caller's.
        unsafe { Self { factor: S::splat(task.factor) } }
    }

    #[inline(always)]
    unsafe fn of(self, scores: S::V) -> S::V {
        // SAFETY: the caller's.
        unsafe { S::mul(scores, self.factor) }
    }
}

/// An odd polynomial of scores.
#[derive(Clone, Copy)]
pub(super) struct Odd<V> {
    coefficients: [V; 7],
}

impl<S: Simd> Exponent<S> for Odd<S::V> {
    #[inline(always)]
    unsafe fn new(task: &Softmax) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let mut coefficients = [S::splat(0.0); 7];
            // A closure would be compiled without the features.
            for (vector, &c) in coefficients.iter_mut().zip(&task.polynomial) {
                *vector = S::splat(c);
            }
            Self { coefficients }
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
            S::mul(p, scores)
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
        let exponent = E::new(task);
        for r in 0..task.rows {
            P::keep_awake(r, W::ROWS_AWAKE);
            *task.rescale.add(r) = 1.0;
            let row = task.scores.add(r * TILE_KEYS);
            let sums = task.sums.add(r * super::SUM_LANES);
            let mut sum = S::load(sums);
            for group in groups.clone() {
                let first = group * width;
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
            S::store(sums, sum);
        }
    }
}
