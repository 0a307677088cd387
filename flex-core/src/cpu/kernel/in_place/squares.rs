//! How long rows are.

use super::widen::{LaneSums, Widen};

/// Rows of a head, and where they are; distances are in elements.
pub(super) struct Squares {
    pub(super) first: *const (),
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// The largest sum of squares of a row; infinite where one is infinite or NaN.
///
/// # Safety
/// The CPU has the features of `S`; the rows are there, of elements of type `T`.
#[inline(always)]
pub(super) unsafe fn largest_square<S: Widen<T> + LaneSums, T: Copy + Default>(task: &Squares) -> f32 {
    // SAFETY: as promised by the caller.
    unsafe {
        let (mut largest, mut check) = (S::splat(0.0), S::splat(0.0));
        for first in (0..task.rows).step_by(S::LANES) {
            let mut sums = [S::splat(0.0); 16];
            for (i, sum) in sums.iter_mut().enumerate().take((task.rows - first).min(S::LANES)) {
                *sum = square::<S, T>(task.first.cast::<T>().add((first + i) * task.stride), task.columns);
            }
            let squares = S::lane_sums(&sums);
            largest = S::max(squares, largest);
            // A maximum forgets what is NaN.
            check = S::fma(squares, S::splat(0.0), check);
        }
        let mut checks = [0.0; 16];
        S::store(checks.as_mut_ptr(), check);
        match checks.iter().sum::<f32>() == 0.0 {
            true => S::reduce_max(largest),
            false => f32::INFINITY,
        }
    }
}

/// Parts of the sum of squares of a row.
///
/// # Safety
/// As [`largest_square`].
#[inline(always)]
unsafe fn square<S: Widen<T>, T: Copy + Default>(row: *const T, columns: usize) -> S::V {
    let whole = columns / (2 * S::LANES) * (2 * S::LANES);
    // SAFETY: as promised by the caller.
    unsafe {
        let (mut low, mut high) = (S::splat(0.0), S::splat(0.0));
        for column in (0..whole).step_by(2 * S::LANES) {
            let [a, b] = S::widen(row.add(column));
            (low, high) = (S::fma(a, a, low), S::fma(b, b, high));
        }
        if whole < columns {
            let [a, b] = S::widen_first(row.add(whole), columns - whole);
            (low, high) = (S::fma(a, a, low), S::fma(b, b, high));
        }
        S::add(low, high)
    }
}
