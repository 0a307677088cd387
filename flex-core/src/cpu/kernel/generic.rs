//! The products, once for all instruction sets.

use super::simd::Simd;
use super::{Product, TILE_KEYS};

/// Two sums of half as many steps have fewer roundings than one.
const CHAIN: usize = 16;

/// Fewer sums than this wait for each other: an instruction that adds a product takes four cycles, and there are two a cycle.
const BUSY: usize = 8;

/// `Σₖ a[r, k] · b[k, v]` with the sums in registers, in chains of additions of at most [`CHAIN`] steps. `a` has rows `row`
/// apart and steps `STEP` apart; `b` has steps `b_step` apart, of which `NV` vectors count.
///
/// # Safety
/// The CPU has the features of `S`; the pointers are good for `steps` steps.
#[inline(always)]
unsafe fn accumulate<S: Simd, const MR: usize, const NV: usize, const STEP: usize>(
    mut a: *const f32,
    row: usize,
    mut b: *const f32,
    b_step: usize,
    steps: usize,
) -> [[S::V; NV]; MR] {
    // SAFETY: as promised by the caller.
    unsafe {
        let mut all = [[S::splat(0.0); NV]; MR];
        let mut left = steps;
        while left > 0 {
            let chain = left.min(CHAIN);
            // Side by side where one would wait for itself.
            let chains = if MR * NV < BUSY && left >= 2 * CHAIN { 2 } else { 1 };
            match chains {
                2 => add_chains::<S, MR, NV, STEP, 2>(&mut all, a, row, b, b_step, chain),
                _ => add_chains::<S, MR, NV, STEP, 1>(&mut all, a, row, b, b_step, chain),
            }
            (a, b) = (a.add(chains * chain * STEP), b.add(chains * chain * b_step));
            left -= chains * chain;
        }
        all
    }
}

/// Adds `CHAINS` chains of `chain` steps each, one after the other, which are summed side by side.
///
/// # Safety
/// As [`accumulate`].
#[inline(always)]
unsafe fn add_chains<S: Simd, const MR: usize, const NV: usize, const STEP: usize, const CHAINS: usize>(
    all: &mut [[S::V; NV]; MR],
    a: *const f32,
    row: usize,
    b: *const f32,
    b_step: usize,
    chain: usize,
) {
    // SAFETY: as promised by the caller.
    unsafe {
        let mut chains = [[[S::splat(0.0); NV]; MR]; CHAINS];
        for step in 0..chain {
            for (i, sums) in chains.iter_mut().enumerate() {
                let step = i * chain + step;
                let mut columns = [S::splat(0.0); NV];
                for (v, column) in columns.iter_mut().enumerate() {
                    *column = S::load(b.add(step * b_step + v * S::LANES));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = S::splat(*a.add(r * row + step * STEP));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = S::add_products(x, column, *sum);
                    }
                }
            }
        }
        for sums in chains {
            for (all, sums) in all.iter_mut().zip(sums) {
                for (all, sum) in all.iter_mut().zip(sums) {
                    *all = S::add(*all, sum);
                }
            }
        }
    }
}

/// What goes on around a softmax.
pub(super) trait Surroundings {
    /// Keeps the unit that multiplies from falling asleep while `_rows` rows pass. Called for each row.
    ///
    /// # Safety
    /// The products have begun.
    #[inline(always)]
    unsafe fn keep_awake(_row: usize, _rows: usize) {}
}

/// No products.
pub(super) struct Alone;

impl Surroundings for Alone {}

/// The two products of attention, of strips of `MR` rows and panels of `NV` vectors.
pub(super) trait Products<const MR: usize, const NV: usize> {
    /// What comes before the products of a thread.
    ///
    /// # Safety
    /// The CPU has the features.
    #[inline(always)]
    unsafe fn begin() {}

    /// What comes after them.
    ///
    /// # Safety
    /// It has begun.
    #[inline(always)]
    unsafe fn end() {}

    /// `out[strip][r][panel] = Σₖ left[strip][k, r] · right[panel][k]`.
    ///
    /// # Safety
    /// The CPU has the features, the products have begun, and the pointers are good for what `Product` describes.
    unsafe fn scores(task: &Product<'_>);

    /// `out[strip][r][panel] = factor[strip][r] · out[strip][r][panel] + Σₖ left[strip][r][k] · right[panel][k]`.
    ///
    /// # Safety
    /// As [`scores`](Self::scores).
    unsafe fn values(task: &Product<'_>);
}

/// The scores of one strip and `NV` vectors of keys from `column` on.
///
/// # Safety
/// As [`Products::scores`].
#[inline(always)]
unsafe fn strip_scores<S: Simd, const MR: usize, const NV: usize>(
    task: &Product<'_>,
    strip: usize,
    column: usize,
    panel: usize,
) {
    // SAFETY: as promised by the caller.
    unsafe {
        let left = task.left.add(strip * task.left_strip);
        let right = task.right.add(column / panel * task.right_panel + column % panel);
        let acc = match task.left_row {
            1 => accumulate::<S, MR, NV, MR>(left, 1, right, panel, task.extent),
            row => accumulate::<S, MR, NV, 1>(left, row, right, panel, task.extent),
        };
        let out = task.out.wrapping_add(strip * task.out_strip + column);
        for (r, row) in acc.iter().enumerate() {
            for (v, sum) in row.iter().enumerate() {
                S::store(out.add(r * TILE_KEYS + v * S::LANES), *sum);
            }
        }
    }
}

impl<S: Simd> Surroundings for S {}

impl<S: Simd, const MR: usize, const NV: usize> Products<MR, NV> for S {
    #[inline(always)]
    unsafe fn scores(task: &Product<'_>) {
        let nr = NV * S::LANES;
        let all = task.hull_of_ranges();
        // A panel of keys stays in the nearest cache while all strips of queries pass.
        for panel in (all.start / nr * nr..all.end).step_by(nr) {
            for (strip, columns) in task.ranges.iter().enumerate() {
                let columns = columns.start.max(panel)..columns.end.min(panel + nr);
                // SAFETY: as promised by the caller.
                unsafe {
                    if columns.len() == nr {
                        strip_scores::<S, MR, NV>(task, strip, panel, nr);
                    } else {
                        for column in columns.step_by(S::LANES) {
                            strip_scores::<S, MR, 1>(task, strip, column, nr);
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn values(task: &Product<'_>) {
        let nr = NV * S::LANES;
        for panel in 0..task.extent / nr {
            for (strip, keys) in task.ranges.iter().enumerate().filter(|(_, keys)| !keys.is_empty()) {
                let units = keys.start / S::DEPTH..keys.end.div_ceil(S::DEPTH);
                // SAFETY: as promised by the caller.
                unsafe {
                    let out = task.out.add(strip * task.out_strip + panel * nr);
                    // The keys of a window are summed by themselves: thousands in a row would lose digits.
                    let left = task.left.add(strip * task.left_strip + units.start);
                    let right = task.right.add(panel * task.right_panel + units.start * task.right_step);
                    let acc =
                        accumulate::<S, MR, NV, 1>(left, TILE_KEYS, right, task.right_step, units.len());
                    for (r, row) in acc.iter().enumerate() {
                        let factor = S::splat(*task.factor.add(strip * MR + r));
                        for (v, sum) in row.iter().enumerate() {
                            let at = out.add(r * task.out_row + v * S::LANES);
                            S::store(at, S::fma(factor, S::load(at), *sum));
                        }
                    }
                }
            }
        }
    }
}
