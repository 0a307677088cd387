//! The loops over values in place, once for all instruction sets and dtypes.
//!
//! Sums of `MR` rows and `NV` vectors of value columns are in registers.

use super::super::TILE_KEYS;
use super::super::read::LINE;
use super::super::simd::Simd;
use super::WeightedSum;
use super::ahead::{Ask, Asking};
use super::order::{Together, streams_and_rest};
use super::widen::{LaneSums, Widen};

/// `out[r] = rescale[r] · out[r] + Σ weights[r][lane] · value[lane]` for all rows.
///
/// # Safety
/// The CPU has the features of `S`; the pointers are good for what `WeightedSum` describes.
#[inline(always)]
pub(super) unsafe fn weighted_sum<S: Widen<T> + LaneSums, T: Copy + Default>(task: &WeightedSum) {
    for row in 0..task.rows {
        // SAFETY: as promised by the caller; rows are pairs of vectors.
        unsafe {
            let (out, factor) = (task.out.add(row * task.out_stride), S::splat(*task.rescale.add(row)));
            for column in (0..task.columns.next_multiple_of(2 * S::LANES)).step_by(S::LANES) {
                S::store(out.add(column), S::mul(factor, S::load(out.add(column))));
            }
        }
    }
    if task.ahead.is_worth_asking(task.rows, S::ROWS_TO_ASK) {
        let mut ask = Ask::new(&task.ahead, task.lanes.start);
        let panels = (task.rows * task.columns).div_ceil(S::LANES * S::LANES);
        let group = task.ahead.rows;
        for first in task.lanes.clone().step_by(group) {
            let keys = Together::neighbours(first, group.min(task.lanes.end - first));
            let parts = keys.count * const { lines_of_a_step::<S, T>() };
            let mut lines_of_a_panel =
                || ask.bytes_in(parts, (keys.count * task.ahead.this_row).div_ceil(panels));
            // SAFETY: as promised by the caller.
            unsafe { columns_of_all_rows::<S, T, _>(task, keys, &mut lines_of_a_panel) }
        }
        return;
    }
    let (streams, rest) = streams_and_rest(&task.lanes);
    // By themselves: how many keys these are is known to the compiler.
    for keys in streams {
        // SAFETY: as promised by the caller.
        unsafe { columns_of_all_rows::<S, T, _>(task, keys, &mut || ()) }
    }
    if let Some(keys) = rest {
        // SAFETY: as promised by the caller.
        unsafe { columns_of_all_rows::<S, T, _>(task, keys, &mut || ()) }
    }
}

/// # Safety
/// As [`weighted_sum`]; the values are among those of the task.
#[inline(always)]
unsafe fn columns_of_all_rows<S: Widen<T> + LaneSums, T: Copy + Default, A: Asking>(
    task: &WeightedSum,
    keys: Together,
    asking_of_panel: &mut impl FnMut() -> A,
) {
    let mut row = 0;
    while row < task.rows {
        // SAFETY: as promised by the caller; the rows are among those of the task.
        row += unsafe {
            match task.rows - row {
                8.. if S::LANES == 16 => columns_of_rows::<S, T, A, 8>(task, row, keys, asking_of_panel),
                4.. => columns_of_rows::<S, T, A, 4>(task, row, keys, asking_of_panel),
                2.. => columns_of_rows::<S, T, A, 2>(task, row, keys, asking_of_panel),
                _ => columns_of_rows::<S, T, A, 1>(task, row, keys, asking_of_panel),
            }
        };
    }
}

/// All columns of `MR` rows; returns how many rows.
///
/// # Safety
/// As [`weighted_sum`]; the rows from `row` on, `MR` of them, are there.
#[inline(always)]
unsafe fn columns_of_rows<S: Widen<T> + LaneSums, T: Copy + Default, A: Asking, const MR: usize>(
    task: &WeightedSum,
    row: usize,
    keys: Together,
    asking_of_panel: &mut impl FnMut() -> A,
) -> usize {
    let mut column = 0;
    while column < task.columns {
        let asking = asking_of_panel();
        let left = task.columns - column;
        let vectors = (left / S::LANES).min(S::LANES / MR);
        // SAFETY: as promised by the caller; so many columns are left.
        let done = unsafe {
            match vectors {
                8.. => panel::<S, T, MR, 8, true>(task, row, keys, column, asking),
                4.. => panel::<S, T, MR, 4, true>(task, row, keys, column, asking),
                2.. => panel::<S, T, MR, 2, true>(task, row, keys, column, asking),
                _ => panel::<S, T, MR, 2, false>(task, row, keys, column, asking),
            }
        };
        column += done;
    }
    MR
}

/// What a step reads of the values of a key in a panel of four rows (or half a line): as many lines are asked for.
const fn lines_of_a_step<S: Simd, T>() -> usize {
    (S::LANES / 4 * S::LANES * size_of::<T>()).div_ceil(LINE)
}

/// `MR` rows and `NV` vectors of columns; returns how many columns these are. Unless `WHOLE`, the columns end before the
/// vectors do.
///
/// # Safety
/// As [`columns_of_rows`]; the columns are there.
#[inline(always)]
unsafe fn panel<
    S: Widen<T> + LaneSums,
    T: Copy + Default,
    const MR: usize,
    const NV: usize,
    const WHOLE: bool,
>(
    task: &WeightedSum,
    row: usize,
    keys: Together,
    column: usize,
    mut asking: impl Asking,
) -> usize {
    // SAFETY: as promised by the caller.
    unsafe {
        let out = task.out.add(row * task.out_stride + column);
        let mut sums = [[S::splat(0.0); NV]; MR];
        for (r, sums) in sums.iter_mut().enumerate() {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = S::load(out.add(r * task.out_stride + v * S::LANES));
            }
        }
        let value = task.value.cast::<T>().add(column);
        let weights = task.weights.add(row * TILE_KEYS);
        for i in 0..keys.count {
            asking.ask(const { lines_of_a_step::<S, T>() });
            let key = keys.lane(i);
            let value = value.add(key * task.value_stride);
            let mut columns = [S::splat(0.0); NV];
            for (v, columns) in columns.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let at = value.add(2 * v * S::LANES);
                *columns = if WHOLE { S::widen(at) } else { S::widen_first(at, task.columns - column) };
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let weight = S::splat(*weights.add(r * TILE_KEYS + key));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = S::fma(weight, column, *sum);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                S::store(out.add(r * task.out_stride + v * S::LANES), *sum);
            }
        }
    }
    NV * S::LANES
}
