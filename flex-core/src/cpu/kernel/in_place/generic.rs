//! The loops over keys and values in place, once for all instruction sets and dtypes.
//!
//! Sums are in registers: of `MR` rows and `MK` keys, or of `MR` rows and `NV` vectors of value columns.

use std::ops::Range;

use super::super::TILE_KEYS;
use super::widen::{LaneSums, Widen};
use super::{Dots, WeightedSum};

/// How many places keys or values are read from in turns, a part of the tile apart. Prefetchers follow four streams as fast
/// as memory is; of neighbouring rows in turns they make a half of that, or, on AMD's CPUs, a third.
const STREAMS: usize = 4;

/// Lanes whose keys or values are read together: `count` of them, `apart` lanes from one to the next.
#[derive(Clone, Copy)]
struct Together {
    first: usize,
    apart: usize,
    count: usize,
}

impl Together {
    #[inline(always)]
    fn lane(self, i: usize) -> usize {
        self.first + i * self.apart
    }
}

/// The lanes that are read as [streams](STREAMS), and the few that are left.
#[inline(always)]
fn streams_and_rest(lanes: &Range<usize>) -> (impl Iterator<Item = Together> + use<>, Option<Together>) {
    let apart = lanes.len() / STREAMS;
    let streams = lanes.start..lanes.start + apart;
    let streams = streams.map(move |first| Together { first, apart, count: STREAMS });
    let rest = lanes.start + apart * STREAMS..lanes.end;
    (streams, (!rest.is_empty()).then(|| Together { first: rest.start, apart: 1, count: rest.len() }))
}

/// `scores[r][lane] = Σ query[r][d] · key[lane][d]` for all rows.
///
/// # Safety
/// The CPU has the features of `S`; the pointers are good for what `Dots` describes.
#[inline(always)]
pub(super) unsafe fn dots<S: Widen<T> + LaneSums, T: Copy + Default>(task: &Dots) {
    let (streams, rest) = streams_and_rest(&task.lanes);
    // By themselves: how many keys these are is known to the compiler.
    for keys in streams {
        // SAFETY: as promised by the caller.
        unsafe { dots_of_all_rows::<S, T>(task, keys) }
    }
    if let Some(keys) = rest {
        // SAFETY: as promised by the caller.
        unsafe { dots_of_all_rows::<S, T>(task, keys) }
    }
}

/// # Safety
/// As [`dots`]; the keys are among those of the task.
#[inline(always)]
unsafe fn dots_of_all_rows<S: Widen<T> + LaneSums, T: Copy + Default>(task: &Dots, keys: Together) {
    let mut row = 0;
    while row < task.rows {
        // SAFETY: as promised by the caller; the rows are among those of the task.
        row += unsafe {
            match task.rows - row {
                8.. if S::LANES == 16 => dots_of_rows::<S, T, 8, 2>(task, row, keys),
                4.. if S::LANES == 16 => dots_of_rows::<S, T, 4, 4>(task, row, keys),
                2.. => dots_of_rows::<S, T, 2, 4>(task, row, keys),
                _ => dots_of_rows::<S, T, 1, 4>(task, row, keys),
            }
        };
    }
}

/// `MR` rows, `MK` keys at a time; returns how many rows.
///
/// # Safety
/// As [`dots`]; the rows from `row` on, `MR` of them, are there.
#[inline(always)]
unsafe fn dots_of_rows<S: Widen<T> + LaneSums, T: Copy + Default, const MR: usize, const MK: usize>(
    task: &Dots,
    row: usize,
    keys: Together,
) -> usize {
    let pair = 2 * S::LANES;
    let whole = task.columns / pair * pair;
    for first in (0..keys.count).step_by(MK) {
        // SAFETY: as promised by the caller.
        unsafe {
            let key = task.key.cast::<T>();
            // Past the end the last key stands in; its sums are not stored.
            let at: [*const T; MK] = std::array::from_fn(|k| {
                key.add(keys.lane((first + k).min(keys.count - 1)) * task.key_stride)
            });
            let query = task.query.add(row * task.query_stride);
            let mut sums = [[S::splat(0.0); MK]; MR];
            for d in (0..whole).step_by(pair) {
                step::<S, T, MR, MK, true>(&mut sums, query.add(d), task, at.map(|at| at.add(d)), pair);
            }
            if whole < task.columns {
                let left = task.columns - whole;
                step::<S, T, MR, MK, false>(
                    &mut sums,
                    query.add(whole),
                    task,
                    at.map(|at| at.add(whole)),
                    left,
                );
            }
            let mut vectors = [S::splat(0.0); 16];
            for (r, sums) in sums.iter().enumerate() {
                for (k, sum) in sums.iter().enumerate() {
                    vectors[r * MK + k] = *sum;
                }
            }
            let mut results = [0.0f32; 16];
            S::store(results.as_mut_ptr(), S::lane_sums(&vectors));
            let count = MK.min(keys.count - first);
            for r in 0..MR {
                let results = results.as_ptr().add(r * MK);
                let scores = task.scores.add((row + r) * TILE_KEYS + keys.lane(first));
                for k in 0..count {
                    *scores.add(k * keys.apart) = *results.add(k);
                }
            }
        }
    }
    MR
}

/// Adds the products of `count` elements of `MR` queries and `MK` keys: two vectors of them, or, unless `WHOLE`, fewer.
///
/// # Safety
/// As [`dots_of_rows`].
#[inline(always)]
unsafe fn step<
    S: Widen<T> + LaneSums,
    T: Copy + Default,
    const MR: usize,
    const MK: usize,
    const WHOLE: bool,
>(
    sums: &mut [[S::V; MK]; MR],
    query: *const f32,
    task: &Dots,
    keys: [*const T; MK],
    count: usize,
) {
    // SAFETY: as promised by the caller.
    unsafe {
        let mut queries = [[S::splat(0.0); 2]; MR];
        for (r, queries) in queries.iter_mut().enumerate() {
            let query = query.add(r * task.query_stride);
            *queries = [S::load(query), S::load(query.add(S::LANES))];
        }
        for (k, &key) in keys.iter().enumerate() {
            let [low, high] = if WHOLE { S::widen(key) } else { S::widen_first(key, count) };
            for (sums, queries) in sums.iter_mut().zip(&queries) {
                sums[k] = S::fma(queries[0], low, sums[k]);
                sums[k] = S::fma(queries[1], high, sums[k]);
            }
        }
    }
}

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
    let (streams, rest) = streams_and_rest(&task.lanes);
    // By themselves, as above.
    for keys in streams {
        // SAFETY: as promised by the caller.
        unsafe { columns_of_all_rows::<S, T>(task, keys) }
    }
    if let Some(keys) = rest {
        // SAFETY: as promised by the caller.
        unsafe { columns_of_all_rows::<S, T>(task, keys) }
    }
}

/// # Safety
/// As [`weighted_sum`]; the values are among those of the task.
#[inline(always)]
unsafe fn columns_of_all_rows<S: Widen<T> + LaneSums, T: Copy + Default>(task: &WeightedSum, keys: Together) {
    let mut row = 0;
    while row < task.rows {
        // SAFETY: as promised by the caller; the rows are among those of the task.
        row += unsafe {
            match task.rows - row {
                8.. if S::LANES == 16 => columns_of_rows::<S, T, 8>(task, row, keys),
                4.. => columns_of_rows::<S, T, 4>(task, row, keys),
                2.. => columns_of_rows::<S, T, 2>(task, row, keys),
                _ => columns_of_rows::<S, T, 1>(task, row, keys),
            }
        };
    }
}

/// All columns of `MR` rows; returns how many rows.
///
/// # Safety
/// As [`weighted_sum`]; the rows from `row` on, `MR` of them, are there.
#[inline(always)]
unsafe fn columns_of_rows<S: Widen<T> + LaneSums, T: Copy + Default, const MR: usize>(
    task: &WeightedSum,
    row: usize,
    keys: Together,
) -> usize {
    let mut column = 0;
    while column < task.columns {
        let left = task.columns - column;
        let vectors = (left / S::LANES).min(S::LANES / MR);
        // SAFETY: as promised by the caller; so many columns are left.
        let done = unsafe {
            match vectors {
                8.. => panel::<S, T, MR, 8, true>(task, row, keys, column),
                4.. => panel::<S, T, MR, 4, true>(task, row, keys, column),
                2.. => panel::<S, T, MR, 2, true>(task, row, keys, column),
                _ => panel::<S, T, MR, 2, false>(task, row, keys, column),
            }
        };
        column += done;
    }
    MR
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
