//! The loops over keys in place, once for all instruction sets and dtypes.
//!
//! Sums of `MR` rows and `MK` keys are in registers.

use super::super::TILE_KEYS;
use super::super::read::LINE;
use super::super::simd::Simd;
use super::Dots;
use super::ahead::{Ask, Asking};
use super::order::{STREAMS, Together, streams_and_rest};
use super::widen::{LaneSums, Widen};

/// `scores[r][lane] = Σ query[r][d] · key[lane][d]` for all rows.
///
/// # Safety
/// The CPU has the features of `S`; the pointers are good for what `Dots` describes.
#[inline(always)]
pub(super) unsafe fn dots<S: Widen<T> + LaneSums, T: Copy + Default>(task: &Dots) {
    // SAFETY: as promised by the caller.
    unsafe {
        match task.columns.is_multiple_of(2 * S::LANES) {
            true => dots_of_all_keys::<S, T, true>(task),
            false => dots_of_all_keys::<S, T, false>(task),
        }
    }
}

/// # Safety
/// As [`dots`]; if `WHOLE`, rows are pairs of vectors.
#[inline(always)]
unsafe fn dots_of_all_keys<S: Widen<T> + LaneSums, T: Copy + Default, const WHOLE: bool>(task: &Dots) {
    // Whole ones by themselves, in either case: how many keys these are is known to the compiler.
    if task.ahead.is_worth_asking(task.rows, S::ROWS_TO_ASK) {
        let mut ask = Ask::new(&task.ahead, task.lanes.start);
        let steps = task.rows.div_ceil(rows_of_a_pass::<S>()) * task.columns.div_ceil(2 * S::LANES);
        let parts = steps * const { lines_of_a_step::<S, T>() };
        let whole = task.lanes.start + task.lanes.len() / STREAMS * STREAMS;
        for lane in (task.lanes.start..whole).step_by(STREAMS) {
            let mut lines = ask.bytes_in(parts, STREAMS * task.ahead.this_row);
            // SAFETY: as promised by the caller.
            unsafe {
                let keys = Together::neighbours(lane, STREAMS);
                dots_of_all_rows::<S, T, WHOLE>(task, keys, &mut lines)
            }
        }
        if whole < task.lanes.end {
            // SAFETY: as promised by the caller.
            unsafe {
                let rest = Together::neighbours(whole, task.lanes.end - whole);
                dots_of_all_rows::<S, T, WHOLE>(task, rest, &mut ())
            }
        }
        return;
    }
    let (streams, rest) = streams_and_rest(&task.lanes);
    for keys in streams {
        // SAFETY: as promised by the caller.
        unsafe { dots_of_all_rows::<S, T, WHOLE>(task, keys, &mut ()) }
    }
    if let Some(keys) = rest {
        // SAFETY: as promised by the caller.
        unsafe { dots_of_all_rows::<S, T, WHOLE>(task, keys, &mut ()) }
    }
}

/// # Safety
/// As [`dots_of_all_keys`]; the keys are among those of the task.
#[inline(always)]
unsafe fn dots_of_all_rows<S: Widen<T> + LaneSums, T: Copy + Default, const WHOLE: bool>(
    task: &Dots,
    keys: Together,
    asking: &mut impl Asking,
) {
    let mut row = 0;
    while row < task.rows {
        // SAFETY: as promised by the caller; the rows are among those of the task.
        row += unsafe {
            match task.rows - row {
                8.. if S::LANES == 16 => dots_of_rows::<S, T, 8, 2, WHOLE>(task, row, keys, asking),
                4.. if S::LANES == 16 => dots_of_rows::<S, T, 4, 4, WHOLE>(task, row, keys, asking),
                2.. => dots_of_rows::<S, T, 2, 4, WHOLE>(task, row, keys, asking),
                _ => dots_of_rows::<S, T, 1, 4, WHOLE>(task, row, keys, asking),
            }
        };
    }
}

/// The rows that go through four keys together, or twice as many through two of them and then the others.
const fn rows_of_a_pass<S: Simd>() -> usize {
    S::LANES / 4
}

/// The lines of keys that a step reads, divided by the passes of four rows: as many are asked for.
const fn lines_of_a_step<S: Simd, T>() -> usize {
    STREAMS * 2 * S::LANES * size_of::<T>() * rows_of_a_pass::<S>() / 4 / LINE
}

/// `MR` rows, `MK` keys at a time; returns how many rows.
///
/// # Safety
/// As [`dots_of_all_keys`]; the rows from `row` on, `MR` of them, are there.
#[inline(always)]
unsafe fn dots_of_rows<
    S: Widen<T> + LaneSums,
    T: Copy + Default,
    const MR: usize,
    const MK: usize,
    const WHOLE: bool,
>(
    task: &Dots,
    row: usize,
    keys: Together,
    asking: &mut impl Asking,
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
            if whole > 0 {
                step::<S, T, MR, MK, FIRST>(&mut sums, query, task, at, pair, asking);
            }
            for d in (pair..whole).step_by(pair) {
                step::<S, T, MR, MK, LATER>(
                    &mut sums,
                    query.add(d),
                    task,
                    at.map(|at| at.add(d)),
                    pair,
                    asking,
                );
            }
            if !WHOLE {
                let left = task.columns - whole;
                let at = at.map(|at| at.add(whole));
                step::<S, T, MR, MK, LAST>(&mut sums, query.add(whole), task, at, left, asking);
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

/// The first two vectors of elements, later ones, and what is left that fills no two vectors.
const FIRST: u8 = 0;
const LATER: u8 = 1;
const LAST: u8 = 2;

/// Adds the products of some elements of `MR` queries and `MK` keys: two vectors of them, or the last `count`. Asks for lines
/// before.
///
/// # Safety
/// As [`dots_of_rows`].
#[inline(always)]
unsafe fn step<
    S: Widen<T> + LaneSums,
    T: Copy + Default,
    const MR: usize,
    const MK: usize,
    const PART: u8,
>(
    sums: &mut [[S::V; MK]; MR],
    query: *const f32,
    task: &Dots,
    keys: [*const T; MK],
    count: usize,
    asking: &mut impl Asking,
) {
    asking.ask(const { lines_of_a_step::<S, T>() });
    // SAFETY: as promised by the caller.
    unsafe {
        let mut queries = [[S::splat(0.0); 2]; MR];
        for (r, queries) in queries.iter_mut().enumerate() {
            let query = query.add(r * task.query_stride);
            *queries = [S::load(query), S::load(query.add(S::LANES))];
        }
        for (k, &key) in keys.iter().enumerate() {
            let [low, high] = match PART {
                FIRST => S::widen(key),
                LATER => S::widen_after_another(key),
                _ => S::widen_first(key, count),
            };
            // A sum waits for itself; the others come between.
            for (sums, queries) in sums.iter_mut().zip(&queries) {
                sums[k] = S::fma(queries[0], low, sums[k]);
            }
            for (sums, queries) in sums.iter_mut().zip(&queries) {
                sums[k] = S::fma(queries[1], high, sums[k]);
            }
        }
    }
}
