//! The online softmax, once for all instruction sets and formats of weights.

use std::ops::Range;

use super::generic::Surroundings;
use super::simd::Simd;
use super::{Softmax, TILE_KEYS};

/// From here on the rounding of a maximum is so large that it would show in the weights: such scores are multiplied by the
/// factor before, and not fused. A fused multiplication does not round the product as the maximum was rounded, so that the
/// largest weight of scores as large as additive masks (−10¹⁰) would not be 2⁰ but anything.
pub(super) const LARGE: f32 = (1 << 24) as f32;

/// Multiplies vectors of a row by `factor`.
///
/// # Safety
/// The CPU has the features of `S`, and the row the vectors.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd>(row: *mut f32, vectors: Range<usize>, factor: S::V) {
    // SAFETY: as promised by the caller.
    unsafe {
        for v in vectors {
            let at = row.add(v * S::LANES);
            S::store(at, S::mul(S::load(at), factor));
        }
    }
}

/// The rows whose maxima are updated together, in whole vectors.
pub(super) const GROUP: usize = 16;

/// The rows that take as long as the unit that multiplies may be left alone, where they are changed or become planes.
/// Rows of which nothing but the exponential is taken are twice as fast.
pub(super) const SLOW_ROWS: usize = 4;

/// How weights are written.
pub(super) trait WeightFormat<S: Simd> {
    /// The rows that take as long as the unit that multiplies may be left alone.
    const ROWS_AWAKE: usize = 2 * SLOW_ROWS;
    /// The vectors that are written together: 1 or 2.
    const VECTORS: usize;
    /// Whether the largest weight must be 1, be scores as small as they may: it is rounded to itself.
    const NEEDS_MAXIMA: bool = false;

    /// 2ˣ, as precise as the weights are.
    ///
    /// # Safety
    /// As that of [`Simd`].
    unsafe fn exp2<const SMALL: bool>(x: S::V) -> S::V;

    /// Writes the weights of a group of vectors of a row, whose scores have been read.
    ///
    /// # Safety
    /// The CPU has the features of `S`, and `task` memory for the weights.
    unsafe fn store(task: &Softmax, row: usize, group: usize, weights: [S::V; 2]);
}

/// Weights take the place of the scores.
pub(super) struct InF32;

impl<S: Simd> WeightFormat<S> for InF32 {
    const VECTORS: usize = 1;

    #[inline(always)]
    unsafe fn exp2<const SMALL: bool>(x: S::V) -> S::V {
        // SAFETY: the caller's.
        unsafe { S::exp2::<SMALL>(x) }
    }

    #[inline(always)]
    unsafe fn store(task: &Softmax, row: usize, group: usize, [weights, _]: [S::V; 2]) {
        // SAFETY: the caller's.
        unsafe { S::store(task.weights.add(row * TILE_KEYS + group * S::LANES), weights) }
    }
}

/// Weights as a row of bf16, in the first half of the row of scores: behind what is still to be read.
pub(super) struct InBf16;

impl<S: Simd> WeightFormat<S> for InBf16 {
    const VECTORS: usize = 2;
    const NEEDS_MAXIMA: bool = true;

    #[inline(always)]
    unsafe fn exp2<const SMALL: bool>(x: S::V) -> S::V {
        // SAFETY: the caller's.
        unsafe { S::exp2_for_bf16::<SMALL>(x) }
    }

    #[inline(always)]
    unsafe fn store(task: &Softmax, row: usize, group: usize, [low, high]: [S::V; 2]) {
        // SAFETY: the caller's.
        unsafe { S::store_bf16(task.weights.add(row * TILE_KEYS + group * S::LANES), low, high) }
    }
}

/// The same where the sum of weights need not be more precise than they are.
pub(super) struct InCoarseBf16;

impl<S: Simd> WeightFormat<S> for InCoarseBf16 {
    const VECTORS: usize = <InBf16 as WeightFormat<S>>::VECTORS;
    const NEEDS_MAXIMA: bool = <InBf16 as WeightFormat<S>>::NEEDS_MAXIMA;

    #[inline(always)]
    unsafe fn exp2<const SMALL: bool>(x: S::V) -> S::V {
        // SAFETY: the caller's.
        unsafe { S::exp2_coarse::<SMALL>(x) }
    }

    #[inline(always)]
    unsafe fn store(task: &Softmax, row: usize, group: usize, weights: [S::V; 2]) {
        // SAFETY: the caller's.
        unsafe { <InBf16 as WeightFormat<S>>::store(task, row, group, weights) }
    }
}

/// The groups of vectors, of which whole ones are written, that have some of the keys, and their vectors.
#[inline(always)]
pub(super) fn groups_and_vectors<S: Simd, W: WeightFormat<S>>(
    keys: &Range<usize>,
) -> (Range<usize>, Range<usize>) {
    let width = W::VECTORS * S::LANES;
    let groups = keys.start / width..keys.end.div_ceil(width);
    (groups.clone(), groups.start * W::VECTORS..groups.end * W::VECTORS)
}

/// One step of the online softmax: scores become weights.
///
/// # Safety
/// The CPU has the features of `S`, the products of `P` have begun, and the pointers are good for what `Softmax` describes.
#[inline(always)]
pub(super) unsafe fn softmax<S, P, W, C, const MASKED: bool>(task: &Softmax)
where
    S: Simd,
    P: Surroundings,
    W: WeightFormat<S>,
    C: Change<S>,
{
    let (groups, vectors) = groups_and_vectors::<S, W>(&task.keys);
    // SAFETY: as promised by the caller.
    unsafe {
        for first in (0..task.rows).step_by(GROUP) {
            let rows = GROUP.min(task.rows - first);
            let (shift, rescale) = update_maxima::<S, P, C, MASKED>(task, first, vectors.clone());
            copy::<S>(rescale.as_ptr(), task.rescale.add(first), rows);
            let factor = S::splat(task.factor);
            for r in 0..rows {
                P::keep_awake(r, W::ROWS_AWAKE);
                let row = task.scores.add((first + r) * TILE_KEYS);
                let exponent = match shift[r].abs() < LARGE {
                    true => Scaled(factor),
                    false => {
                        multiply::<S>(row, vectors.clone(), factor);
                        Scaled(S::splat(1.0))
                    }
                };
                let sums = task.sums.add((first + r) * super::SUM_LANES);
                let (groups, shift) = (groups.clone(), S::splat(shift[r]));
                let sum = match MASKED && !S::HAS_MASKS {
                    true => weigh::<S, W, _, false, true>(task, first + r, groups, exponent, shift),
                    false => weigh::<S, W, _, false, false>(task, first + r, groups, exponent, shift),
                };
                S::store(sums, S::fma(S::splat(rescale[r]), S::load(sums), sum));
            }
        }
    }
}

/// The exponents of scores.
pub(super) trait Exponent<S: Simd>: Copy {
    /// # Safety
    /// As [`softmax`].
    unsafe fn new(task: &Softmax) -> Self;

    /// Those of some scores, plus `offset`. Larger scores have larger ones.
    ///
    /// # Safety
    /// As [`softmax`].
    unsafe fn of(self, scores: S::V, offset: S::V) -> S::V;
}

/// Scores times a factor.
#[derive(Clone, Copy)]
pub(super) struct Scaled<V>(V);

impl<S: Simd> Exponent<S> for Scaled<S::V> {
    #[inline(always)]
    unsafe fn new(task: &Softmax) -> Self {
        // SAFETY: the caller's.
        unsafe { Self(S::splat(task.factor)) }
    }

    #[inline(always)]
    unsafe fn of(self, scores: S::V, offset: S::V) -> S::V {
        // SAFETY: the caller's.
        unsafe { S::fma(scores, self.0, offset) }
    }
}

/// Of units of `width` lanes those of which a row keeps all lanes, between those of which it does not.
#[inline(always)]
fn kept_whole(kept: &Range<u32>, width: usize, units: &Range<usize>) -> Range<usize> {
    let start = (kept.start as usize).div_ceil(width).clamp(units.start, units.end);
    start..(kept.end as usize / width).clamp(start, units.end)
}

/// A row of scores becomes weights; returns their sums, which the caller adds to those of earlier tiles: one chain of all
/// additions would lose a digit over a few thousand keys. Exponents may be known to be `SMALL`.
///
/// # Safety
/// As [`softmax`].
#[inline(always)]
pub(super) unsafe fn weigh<S, W, E, const SMALL: bool, const MASKED: bool>(
    task: &Softmax,
    r: usize,
    groups: Range<usize>,
    exponent: E,
    shift: S::V,
) -> S::V
where
    S: Simd,
    W: WeightFormat<S>,
    E: Exponent<S>,
{
    // SAFETY: as promised by the caller.
    unsafe {
        let sum = S::splat(0.0);
        if !MASKED || S::HAS_MASKS {
            return weigh_groups::<S, W, E, SMALL, MASKED>(task, r, groups, exponent, shift, sum);
        }
        let whole = kept_whole(&*task.kept.add(r), W::VECTORS * S::LANES, &groups);
        let (before, after) = (groups.start..whole.start, whole.end..groups.end);
        let sum = weigh_groups::<S, W, E, SMALL, true>(task, r, before, exponent, shift, sum);
        let sum = weigh_groups::<S, W, E, SMALL, false>(task, r, whole, exponent, shift, sum);
        weigh_groups::<S, W, E, SMALL, true>(task, r, after, exponent, shift, sum)
    }
}

/// The same for groups of vectors, added to `sum`, all of which are kept whole or asked for what is kept of them.
///
/// # Safety
/// As [`softmax`].
#[inline(always)]
unsafe fn weigh_groups<S, W, E, const SMALL: bool, const MASKED: bool>(
    task: &Softmax,
    r: usize,
    groups: Range<usize>,
    exponent: E,
    shift: S::V,
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
            let mut low = exponent.of(S::load(row.add(first)), shift);
            if MASKED {
                low = S::keep(low, &*task.kept.add(r), first as u32);
            }
            let low = W::exp2::<SMALL>(low);
            if W::VECTORS == 1 {
                W::store(task, r, group, [low, low]);
                sum = S::add(sum, low);
                continue;
            }
            let mut high = exponent.of(S::load(row.add(first + S::LANES)), shift);
            if MASKED {
                high = S::keep(high, &*task.kept.add(r), (first + S::LANES) as u32);
            }
            let high = W::exp2::<SMALL>(high);
            W::store(task, r, group, [low, high]);
            sum = S::add(sum, S::add(low, high));
        }
        sum
    }
}

/// Includes the changed scores of the group of rows from `first` on in their maxima; returns what each row adds to its scores,
/// and what it multiplies earlier sums and outputs by.
///
/// # Safety
/// As [`softmax`].
#[inline(always)]
unsafe fn update_maxima<S: Simd, P: Surroundings, C: Change<S>, const MASKED: bool>(
    task: &Softmax,
    first: usize,
    vectors: Range<usize>,
) -> ([f32; GROUP], [f32; GROUP]) {
    let rows = GROUP.min(task.rows - first);
    // SAFETY: as promised by the caller.
    unsafe {
        if C::CHANGES_ROWS {
            for r in 0..rows {
                P::keep_awake(r, SLOW_ROWS);
                C::change_row(task, first + r, vectors.clone());
            }
        }
        let largest = largest_scores::<S, C, MASKED>(task, first, vectors);
        let max = std::slice::from_raw_parts_mut(task.max.add(first), rows);
        rescale::<S>(max, &largest, task.factor)
    }
}

/// What happens to scores first.
pub(super) trait Change<S: Simd> {
    /// Whether [`change`](Self::change) does anything.
    const CHANGES: bool = false;
    /// Whether [`change_row`](Self::change_row) does, which takes about as much time as the exponentials then.
    const CHANGES_ROWS: bool = false;

    /// Before the scores of a row are looked at.
    ///
    /// # Safety
    /// As [`softmax`].
    #[inline(always)]
    unsafe fn change_row(_task: &Softmax, _r: usize, _vectors: Range<usize>) {}

    /// The changed scores of vector `v`.
    ///
    /// # Safety
    /// As [`softmax`].
    #[inline(always)]
    unsafe fn change(_task: &Softmax, _r: usize, _v: usize, scores: S::V) -> S::V {
        scores
    }
}

/// Scores are taken as they are.
pub(super) struct Unchanged;

impl<S: Simd> Change<S> for Unchanged {}

/// Scores get their biases.
pub(super) struct Biased;

impl<S: Simd> Change<S> for Biased {
    const CHANGES: bool = true;

    #[inline(always)]
    unsafe fn change(task: &Softmax, r: usize, v: usize, scores: S::V) -> S::V {
        // SAFETY: the caller's.
        unsafe {
            let bias = S::load(task.bias.sub(r * task.bias_step).add(v * S::LANES));
            S::fma(scores, S::splat(task.scale), bias)
        }
    }
}

/// Scores are capped.
pub(super) struct Capped;

impl<S: Simd> Change<S> for Capped {
    const CHANGES_ROWS: bool = true;

    #[inline(always)]
    unsafe fn change_row(task: &Softmax, r: usize, vectors: Range<usize>) {
        // SAFETY: the caller's.
        unsafe {
            let row = task.scores.add(r * TILE_KEYS);
            if task.scale != 1.0 {
                multiply::<S>(row, vectors.clone(), S::splat(task.scale));
            }
            let first = row.add(vectors.start * S::LANES);
            let scores = std::slice::from_raw_parts_mut(first, vectors.len() * S::LANES);
            task.soft_cap.apply::<S::Arithmetic>(scores);
        }
    }
}

/// The largest score of each row of the group from `first` on that it keeps, as changed. A NaN is dropped here and comes back
/// as the exponential of itself.
///
/// # Safety
/// As [`softmax`].
#[inline(always)]
pub(super) unsafe fn largest_scores<S: Simd, C: Change<S>, const MASKED: bool>(
    task: &Softmax,
    first: usize,
    vectors: Range<usize>,
) -> [f32; GROUP] {
    // SAFETY: as promised by the caller.
    unsafe {
        // Of a whole group, and of a strip of vectors of eight, the maxima are in registers all the time.
        let largest = match GROUP.min(task.rows - first) {
            GROUP => largest_in_lanes::<S, C, MASKED, GROUP>(task, first, GROUP, vectors),
            4 if S::LANES == 8 => {
                let largest = largest_in_lanes::<S, C, MASKED, 4>(task, first, 4, vectors);
                let mut each = [f32::NEG_INFINITY; GROUP];
                each[..4].copy_from_slice(&S::reduce_max_of_four(&largest));
                return each;
            }
            rows => largest_in_lanes::<S, C, MASKED, GROUP>(task, first, rows, vectors),
        };
        S::reduce_max_of_each(&largest)
    }
}

/// The same in each lane.
///
/// # Safety
/// As [`softmax`].
#[inline(always)]
unsafe fn largest_in_lanes<S: Simd, C: Change<S>, const MASKED: bool, const MOST_ROWS: usize>(
    task: &Softmax,
    first: usize,
    rows: usize,
    vectors: Range<usize>,
) -> [S::V; MOST_ROWS] {
    // SAFETY: as promised by the caller.
    unsafe {
        let mut largest = [S::splat(f32::NEG_INFINITY); MOST_ROWS];
        if MASKED {
            // What a row keeps stays in registers.
            for (r, largest) in largest[..rows].iter_mut().enumerate() {
                *largest = largest_kept::<S, C>(task, first + r, vectors.clone());
            }
        } else {
            for v in vectors {
                for (r, largest) in largest[..rows].iter_mut().enumerate() {
                    *largest = S::max(changed::<S, C, MASKED>(task, first + r, v), *largest);
                }
            }
        }
        largest
    }
}

/// The largest score that a row keeps, in each lane.
///
/// # Safety
/// As [`softmax`].
#[inline(always)]
unsafe fn largest_kept<S: Simd, C: Change<S>>(task: &Softmax, r: usize, vectors: Range<usize>) -> S::V {
    // SAFETY: as promised by the caller.
    unsafe {
        let mut largest = S::splat(f32::NEG_INFINITY);
        let mut whole = vectors.start..vectors.start;
        if !S::HAS_MASKS {
            whole = kept_whole(&*task.kept.add(r), S::LANES, &vectors);
        }
        for v in vectors.start..whole.start {
            largest = S::max(changed::<S, C, true>(task, r, v), largest);
        }
        for v in whole.clone() {
            largest = S::max(changed::<S, C, false>(task, r, v), largest);
        }
        for v in whole.end..vectors.end {
            largest = S::max(changed::<S, C, true>(task, r, v), largest);
        }
        largest
    }
}

/// The changed scores of vector `v` of a row, which are written if they are not what they were; what a row does not keep
/// only if that takes no time.
///
/// # Safety
/// As [`softmax`].
#[inline(always)]
unsafe fn changed<S: Simd, C: Change<S>, const MASKED: bool>(task: &Softmax, r: usize, v: usize) -> S::V {
    // SAFETY: as promised by the caller.
    unsafe {
        let at = task.scores.add(r * TILE_KEYS + v * S::LANES);
        let mut scores = C::change(task, r, v, S::load(at));
        if MASKED {
            scores = S::keep(scores, &*task.kept.add(r), (v * S::LANES) as u32);
        }
        if MASKED && S::HAS_MASKS || C::CHANGES {
            S::store(at, scores);
        }
        scores
    }
}

/// Updates the maxima of a group of rows, the last group perhaps of fewer, for the largest of their new scores, times
/// `factor`; returns what each row adds to its scores, and what it multiplies earlier sums and outputs by.
///
/// # Safety
/// The CPU has the features of `S`, and `max` at most [`GROUP`] rows.
#[inline(always)]
pub(super) unsafe fn rescale<S: Simd>(
    max: &mut [f32],
    largest: &[f32; GROUP],
    factor: f32,
) -> ([f32; GROUP], [f32; GROUP]) {
    let (mut shift, mut rescale, mut group_max) = ([0.0; GROUP], [0.0; GROUP], [0.0; GROUP]);
    // SAFETY: as promised by the caller; a group is whole vectors.
    unsafe {
        copy::<S>(max.as_ptr(), group_max.as_mut_ptr(), max.len());
        for v in (0..max.len()).step_by(S::LANES) {
            let before = S::load(group_max.as_ptr().add(v));
            let largest = S::mul(S::load(largest.as_ptr().add(v)), S::splat(factor));
            let now = S::max(largest, before);
            S::store(group_max.as_mut_ptr().add(v), now);
            // Where there is no score yet, any number will do.
            let shifted = S::mul(S::max(now, S::splat(f32::MIN)), S::splat(-1.0));
            S::store(shift.as_mut_ptr().add(v), shifted);
            S::store(rescale.as_mut_ptr().add(v), S::exp2::<false>(S::add(before, shifted)));
        }
        copy::<S>(group_max.as_ptr(), max.as_mut_ptr(), max.len());
    }
    (shift, rescale)
}

/// Copies some floats of a group; all of them as vectors.
///
/// # Safety
/// The CPU has the features of `S`, and both have so many floats, at most [`GROUP`].
#[inline(always)]
pub(super) unsafe fn copy<S: Simd>(from: *const f32, to: *mut f32, count: usize) {
    // SAFETY: the caller's.
    unsafe {
        if count < GROUP {
            return to.copy_from_nonoverlapping(from, count);
        }
        // The compiler would make one call of both cases.
        for v in (0..GROUP).step_by(S::LANES) {
            S::store(to.add(v), S::load(from.add(v)));
        }
    }
}
