//! The softmax of scores that are known to be small.
//!
//! The maximum of a row is subtracted from its scores so that no weight overflows. Where every exponent is known to be
//! within ±[`LARGEST_EXPONENT`], nothing needs to be subtracted: there is nothing to look for before the first weight,
//! nothing to wait for, and nothing that was summed has to be multiplied again. Weights of 16 bits are the better for it
//! none the less: the largest one is rounded to itself.

use std::ops::Range;

use super::SUM_LANES;
use super::generic::Surroundings;
use super::online_softmax::{
    Exponent, GROUP, Unchanged, WeightFormat, copy, groups_and_vectors, largest_scores, rescale, weigh,
};
use super::simd::Simd;
use super::softmax::Softmax;

/// The most that an exponent of 2 may be for the softmax to do without the maximum. Weights are far from where they lose
/// digits then; sums of values that are very large or very small beside them are [noticed](super::super::pass).
pub(in super::super) const LARGEST_EXPONENT: f32 = 31.0;

/// The coefficients of an odd polynomial, lowest power first.
pub(in super::super) type OddPolynomial = [f32; 7];

/// An odd polynomial of scores.
#[derive(Clone, Copy)]
pub(super) struct Odd<V>([V; 7]);

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
            Self(coefficients)
        }
    }

    #[inline(always)]
    unsafe fn of(self, scores: S::V, offset: S::V) -> S::V {
        // SAFETY: the caller's.
        unsafe {
            let square = S::mul(scores, scores);
            let [rest @ .., last] = self.0;
            let mut p = last;
            for &c in rest.iter().rev() {
                p = S::fma(p, square, c);
            }
            S::fma(p, scores, offset)
        }
    }
}

/// Scores become weights, which are added to the sums. Maxima are neither read nor written, unless the weights need them.
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
    let (groups, vectors) = groups_and_vectors::<S, W>(&task.keys);
    // SAFETY: as promised by the caller.
    unsafe {
        let exponent = E::new(task);
        for first in (0..task.rows).step_by(GROUP) {
            let rows = GROUP.min(task.rows - first);
            let (mut shift, mut rescale) = ([0.0; GROUP], [1.0; GROUP]);
            if W::NEEDS_MAXIMA {
                (shift, rescale) = update_maxima::<S, E, MASKED>(task, exponent, first, vectors.clone());
            }
            copy::<S>(rescale.as_ptr(), task.rescale.add(first), rows);
            for r in 0..rows {
                P::keep_awake(r, W::ROWS_AWAKE);
                let sums = task.sums.add((first + r) * SUM_LANES);
                let (groups, shift) = (groups.clone(), S::splat(shift[r]));
                let sum = weigh::<S, W, E, true, MASKED>(task, first + r, groups, exponent, shift);
                S::store(sums, S::fma(S::splat(rescale[r]), S::load(sums), sum));
            }
        }
    }
}

/// Includes the exponents of the group of rows from `first` on in their maxima; returns what is added to exponents, and
/// what earlier sums are multiplied by.
///
/// # Safety
/// As [`softmax`].
#[inline(always)]
unsafe fn update_maxima<S: Simd, E: Exponent<S>, const MASKED: bool>(
    task: &Softmax,
    exponent: E,
    first: usize,
    vectors: Range<usize>,
) -> ([f32; GROUP], [f32; GROUP]) {
    let rows = first..task.rows.min(first + GROUP);
    // SAFETY: as promised by the caller.
    unsafe {
        let mut largest = largest_scores::<S, Unchanged, MASKED>(task, first, vectors);
        for v in (0..GROUP).step_by(S::LANES) {
            let at = largest.as_mut_ptr().add(v);
            // −∞ where nothing is kept becomes that or NaN, which is no larger than what was there.
            S::store(at, exponent.of(S::load(at), S::splat(0.0)));
        }
        let max = std::slice::from_raw_parts_mut(task.max.add(rows.start), rows.len());
        rescale::<S>(max, &largest, 1.0)
    }
}
