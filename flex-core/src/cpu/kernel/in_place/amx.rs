//! bf16 keys and values in the tile registers as they lie in memory, 16 rows at a time.
//!
//! A register of 16 keys of 32 elements is the left side of scores = key · queryᵀ, with query in pairs of elements as the
//! right side.
//!
//! A register of 16 values of 32 columns is the right side of out += weights · value. A unit of it is a pair of
//! neighbouring columns, where the unit wants a pair of neighbouring keys: weights beside zeros take the even columns, and
//! zeros beside weights the odd ones. So nothing has to be interleaved; but an infinite or NaN value makes its neighbour
//! NaN, and such parts are computed again by other kernels.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::TILE_KEYS;
use super::super::online_softmax::multiply;
use super::super::simd::{Avx512, Simd};
use super::super::tile_unit::{
    self, Configuration, Session, TILE_ELEMENTS, TILE_ROWS, TILE_UNITS, add_products,
};
use super::ahead::prefetch_rows;
use super::{Dots, WeightedSum};
use crate::attention::MAX_HEAD_DIM;

/// The shapes of [`dots`] for so many rows: sums in tmm0 to tmm3, keys in tmm4 and tmm5, queries in tmm6.
static DOTS: [Configuration; TILE_ROWS + 1] = {
    let mut all = [Configuration::new([(0, 0); 8]); _];
    let mut rows = 1;
    while rows < all.len() {
        let (scores, keys) = ((TILE_ROWS, rows), (TILE_ROWS, TILE_UNITS));
        all[rows] = Configuration::new([scores, scores, scores, scores, keys, keys, scores, (0, 0)]);
        rows += 1;
    }
    all
};

/// The shapes of [`weighted_sum`]: sums in tmm0 to tmm3, and weights and values in tmm4 to tmm7 as
/// [`columns_in_one_register`] and [`columns_in_two_registers`] want them.
static WEIGHTED_SUM: [Configuration; TILE_ROWS + 1] = {
    let mut all = [Configuration::new([(0, 0); 8]); _];
    let value = (TILE_ROWS, TILE_UNITS);
    let mut rows = 1;
    while rows < all.len() {
        let one = rows <= ROWS_OF_ONE_REGISTER;
        let sums = (if one { 2 * rows } else { rows }, TILE_UNITS);
        let fifth = if one { value } else { sums };
        all[rows] = Configuration::new([sums, sums, sums, sums, sums, fifth, value, value]);
        rows += 1;
    }
    all
};

/// The even and the odd columns of up to so many rows fit one register.
const ROWS_OF_ONE_REGISTER: usize = TILE_ROWS / 2;

/// # Safety
/// The CPU has AVX-512 and the tile unit; the pointers are good for what `Dots` describes, with rows of whole tile
/// registers.
#[inline(always)]
pub(super) unsafe fn dots(task: &Dots) {
    for row in (0..task.rows).step_by(TILE_ROWS) {
        let rows = row..task.rows.min(row + TILE_ROWS);
        // SAFETY: as promised by the caller.
        unsafe {
            let _session = Session::begin(&DOTS[rows.len()]);
            match task.lanes.len() {
                ..TILE_ROWS => dots_of_few_keys(task, &rows),
                _ => dots_of_keys(task, &rows),
            }
        }
    }
}

/// Registers of keys whose scores are computed at a time.
const KEYS_A_PASS: usize = 4;

/// Sums of 16 keys and at most 16 rows, all rows of a key side by side.
type Sums = [f32; TILE_ROWS * TILE_UNITS];

/// At most 16 rows and at least 16 keys.
///
/// # Safety
/// In a session of [`dots`]; the rows are among those of the task.
#[inline(always)]
unsafe fn dots_of_keys(task: &Dots, rows: &Range<usize>) {
    let key = task.key.cast::<u16>();
    let steps = task.columns / TILE_ELEMENTS;
    let last = task.lanes.end - TILE_ROWS;
    let mut sums: [MaybeUninit<Sums>; TILE_KEYS / TILE_ROWS] = [const { MaybeUninit::uninit() }; _];
    // Near the end, keys are taken once more instead of reading behind the last one.
    let start = |register: usize| (task.lanes.start + register * TILE_ROWS).min(last);
    let registers = task.lanes.len().div_ceil(TILE_ROWS);
    // SAFETY: as promised by the caller; sixteen keys follow each start.
    unsafe {
        for first in (0..registers).step_by(KEYS_A_PASS) {
            tile_unit::zero::<0>();
            tile_unit::zero::<1>();
            tile_unit::zero::<2>();
            tile_unit::zero::<3>();
            let keys: [*const u16; KEYS_A_PASS] =
                std::array::from_fn(|i| key.add(start(first + i) * task.key_stride));
            let query = task.query.add(rows.start * task.columns / 2);
            for step in 0..steps {
                if rows.start == 0 {
                    let keys = KEYS_A_PASS * TILE_ROWS;
                    let ahead = step * keys / steps..(step + 1) * keys / steps;
                    let lane = task.lanes.start + first * TILE_ROWS + ahead.start;
                    prefetch_rows(&task.ahead, lane, ahead.len());
                }
                let [a, b, c, d] = keys.map(|key| key.add(step * TILE_ELEMENTS).cast::<f32>());
                let stride = 2 * task.key_stride;
                tile_unit::load::<6>(query.add(step * TILE_UNITS * rows.len()), 4 * rows.len());
                tile_unit::load::<4>(a, stride);
                add_products::<0, 4, 6>();
                tile_unit::load::<5>(b, stride);
                add_products::<1, 5, 6>();
                tile_unit::load::<4>(c, stride);
                add_products::<2, 4, 6>();
                tile_unit::load::<5>(d, stride);
                add_products::<3, 5, 6>();
            }
            let [a, b, c, d] = std::array::from_fn(|i| sums[first + i].as_mut_ptr().cast::<f32>());
            tile_unit::store::<0>(a, 4 * rows.len());
            tile_unit::store::<1>(b, 4 * rows.len());
            tile_unit::store::<2>(c, 4 * rows.len());
            tile_unit::store::<3>(d, 4 * rows.len());
        }
        // All registers are written before the first one is read: reading at once would wait for the caches.
        for (register, sums) in sums[..registers].iter().enumerate() {
            let scores = task.scores.add(rows.start * TILE_KEYS + start(register));
            scores_of_rows(sums.as_ptr().cast(), rows.len(), scores);
        }
    }
}

/// `scores[row][key] = sums[key][row]` for 16 keys.
///
/// # Safety
/// The CPU has AVX-512; there are so many sums and scores.
#[inline(always)]
pub(super) unsafe fn scores_of_rows(sums: *const f32, rows: usize, scores: *mut f32) {
    // SAFETY: the caller's.
    unsafe {
        for row in (0..rows).step_by(4) {
            let few = 4.min(rows - row);
            let mask = (1 << few) - 1;
            let vectors = [
                four_keys(sums.add(row), rows, mask),
                four_keys(sums.add(4 * rows + row), rows, mask),
                four_keys(sums.add(8 * rows + row), rows, mask),
                four_keys(sums.add(12 * rows + row), rows, mask),
            ];
            for r in 0..few {
                let index = _mm512_add_epi32(
                    _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28),
                    _mm512_set1_epi32(r as i32),
                );
                let low = _mm512_permutex2var_ps(vectors[0], index, vectors[1]);
                let high = _mm512_permutex2var_ps(vectors[2], index, vectors[3]);
                let keys = _mm512_shuffle_f32x4::<0x44>(low, high);
                _mm512_storeu_ps(scores.add((row + r) * TILE_KEYS), keys);
            }
        }
    }
}

/// Four rows of four keys: those of key i are quarter i of the vector.
///
/// # Safety
/// As [`scores_of_rows`].
#[inline(always)]
unsafe fn four_keys(sums: *const f32, rows: usize, mask: __mmask8) -> __m512 {
    // SAFETY: the caller's.
    unsafe {
        let low = _mm512_castps128_ps512(_mm_maskz_loadu_ps(mask, sums));
        let low = _mm512_insertf32x4::<1>(low, _mm_maskz_loadu_ps(mask, sums.add(rows)));
        let high = _mm512_castps128_ps512(_mm_maskz_loadu_ps(mask, sums.add(2 * rows)));
        let high = _mm512_insertf32x4::<1>(high, _mm_maskz_loadu_ps(mask, sums.add(3 * rows)));
        _mm512_shuffle_f32x4::<0x44>(low, high)
    }
}

/// At most 16 rows and fewer than 16 keys, which are copied so that nothing behind them is read.
///
/// # Safety
/// In a session of [`dots`]; the rows are among those of the task.
unsafe fn dots_of_few_keys(task: &Dots, rows: &Range<usize>) {
    let key = task.key.cast::<u16>();
    let mut sums: Sums = [0.0; _];
    // SAFETY: as promised by the caller.
    unsafe {
        tile_unit::zero::<0>();
        let query = task.query.add(rows.start * task.columns / 2);
        for element in (0..task.columns).step_by(TILE_ELEMENTS) {
            let mut copy = [[0u16; TILE_ELEMENTS]; TILE_ROWS];
            for (to, lane) in copy.iter_mut().zip(task.lanes.clone()) {
                *to =
                    key.add(lane * task.key_stride + element).cast::<[u16; TILE_ELEMENTS]>().read_unaligned();
            }
            tile_unit::load::<6>(query.add(element / 2 * rows.len()), 4 * rows.len());
            tile_unit::load::<4>(copy.as_ptr().cast(), 2 * TILE_ELEMENTS);
            add_products::<0, 4, 6>();
        }
        tile_unit::store::<0>(sums.as_mut_ptr(), 4 * TILE_UNITS);
        for (lane, sums) in task.lanes.clone().zip(sums.chunks_exact(TILE_UNITS)) {
            for (row, &sum) in rows.clone().zip(sums) {
                *task.scores.add(row * TILE_KEYS + lane) = sum;
            }
        }
    }
}

/// The floats of scratch memory of [`weighted_sum`]: for every 16 keys the weights of 16 rows beside zeros, and zeros
/// beside them.
pub(super) const SCRATCH: usize = TILE_KEYS * 2 * TILE_ROWS;

/// # Safety
/// The CPU has AVX-512 BW and the tile unit; the pointers are good for what `WeightedSum` describes, with columns of
/// whole tile registers. Weights are bf16, and 0 for the keys around the lanes up to whole registers.
///
/// Of the output, every 16 rows have first all their even columns, row by row, and then all odd ones.
#[inline(always)]
pub(super) unsafe fn weighted_sum(task: &WeightedSum) {
    for first in (0..task.rows).step_by(TILE_ROWS) {
        let rows = first..task.rows.min(first + TILE_ROWS);
        // SAFETY: as promised by the caller; the rows are among those of the task.
        unsafe {
            let out = task.out.add(first * task.out_stride);
            rescale(out, task.columns, std::slice::from_raw_parts(task.rescale.add(first), rows.len()));
            spread_weights(task, &rows);
            let _session = Session::begin(&WEIGHTED_SUM[rows.len()]);
            if rows.len() <= ROWS_OF_ONE_REGISTER {
                columns_in_one_register(task, rows.len(), out, first == 0);
            } else {
                columns_in_two_registers(task, rows.len(), out, first == 0);
            }
        }
    }
}

/// Multiplies the output so far, a factor a row: seldom needed after the first tiles.
///
/// # Safety
/// The CPU has AVX-512; the output is that of [`weighted_sum`], of so many columns and as many rows as factors.
#[inline(always)]
pub(super) unsafe fn rescale(out: *mut f32, columns: usize, factors: &[f32]) {
    let half = columns / 2;
    for (row, &factor) in factors.iter().enumerate().filter(|(_, factor)| **factor != 1.0) {
        for half_row in [row, row + factors.len()] {
            // SAFETY: the caller's; half the columns of whole tile registers are whole vectors.
            unsafe {
                let row = out.add(half_row * half);
                multiply::<Avx512>(row, 0..half / Avx512::LANES, Avx512::splat(factor));
            }
        }
    }
}

/// The groups of 16 keys that the lanes are in.
#[inline(always)]
fn key_groups(lanes: &Range<usize>) -> Range<usize> {
    lanes.start / TILE_ROWS..lanes.end.div_ceil(TILE_ROWS)
}

/// Writes the weights of the rows to the scratch memory as left sides: `[groups][even, odd][rows][16 keys]`.
///
/// # Safety
/// As [`weighted_sum`].
#[inline(always)]
unsafe fn spread_weights(task: &WeightedSum, rows: &Range<usize>) {
    for group in key_groups(&task.lanes) {
        let even = task.scratch.wrapping_add(group * 2 * rows.len() * TILE_UNITS);
        let odd = even.wrapping_add(rows.len() * TILE_UNITS);
        for (i, row) in rows.clone().enumerate() {
            // SAFETY: as promised by the caller. Sixteen weights take the place of eight floats.
            unsafe {
                let weights = task.weights.add(row * TILE_KEYS + group * TILE_UNITS / 2);
                let weights = _mm512_cvtepu16_epi32(_mm256_loadu_si256(weights.cast()));
                _mm512_storeu_si512(even.add(i * TILE_UNITS).cast(), weights);
                _mm512_storeu_si512(odd.add(i * TILE_UNITS).cast(), _mm512_slli_epi32::<16>(weights));
            }
        }
    }
}

/// Sixteen values where a register can read all of them.
struct ValueGroup {
    from: *const u16,
    /// In bytes.
    stride: usize,
}

/// Values that are not all there, between rows of zeros.
type Copy = [[u16; MAX_HEAD_DIM]; TILE_ROWS];

impl ValueGroup {
    /// The values of a group of keys: where they are, or, if some are not among the lanes, in a copy.
    ///
    /// # Safety
    /// As [`weighted_sum`].
    #[inline(always)]
    unsafe fn new(task: &WeightedSum, group: usize, copy: &mut MaybeUninit<Copy>) -> Self {
        let value = task.value.cast::<u16>();
        let keys = group * TILE_ROWS..(group + 1) * TILE_ROWS;
        if task.lanes.start <= keys.start && keys.end <= task.lanes.end {
            return Self {
                from: value.wrapping_add(keys.start * task.value_stride),
                stride: 2 * task.value_stride,
            };
        }
        let copy = copy.write([[0; MAX_HEAD_DIM]; TILE_ROWS]);
        for (row, lane) in copy.iter_mut().zip(keys).filter(|(_, lane)| task.lanes.contains(lane)) {
            // SAFETY: the caller's.
            unsafe {
                row.as_mut_ptr().copy_from_nonoverlapping(value.add(lane * task.value_stride), task.columns)
            }
        }
        Self { from: copy.as_ptr().cast(), stride: 2 * MAX_HEAD_DIM }
    }

    /// Reads 32 columns into register `T`.
    ///
    /// # Safety
    /// In a session; the columns are there.
    #[inline(always)]
    unsafe fn load<const T: usize>(&self, column: usize) {
        // SAFETY: the caller's.
        unsafe { tile_unit::load::<T>(self.from.wrapping_add(column).cast(), self.stride) }
    }
}

/// Calls a macro with the register of each of the first columns' sums, of which there are `$count`, at most four.
macro_rules! for_registers {
    ($count:expr, |$register:ident, $i:ident| $body:block) => {{
        for_registers!(@ 0, $count, $register, $i, $body);
        for_registers!(@ 1, $count, $register, $i, $body);
        for_registers!(@ 2, $count, $register, $i, $body);
        for_registers!(@ 3, $count, $register, $i, $body);
    }};
    (@ $number:literal, $count:expr, $register:ident, $i:ident, $body:block) => {
        if $number < $count {
            const $register: usize = $number;
            let $i: usize = $number;
            $body
        }
    };
}
pub(super) use for_registers;

/// At most 8 rows: their even and their odd columns are the rows of one register, for 32 columns. tmm0 to tmm3 are 128
/// columns of sums.
///
/// # Safety
/// As [`weighted_sum`], in its session; `out` are the rows' sums.
#[inline(always)]
unsafe fn columns_in_one_register(task: &WeightedSum, rows: usize, out: *mut f32, prefetch: bool) {
    let (half, weights_stride) = (task.columns / 2, 4 * TILE_UNITS);
    let mut copy = MaybeUninit::uninit();
    // SAFETY: as promised by the caller.
    unsafe {
        for column in (0..task.columns).step_by(4 * TILE_ELEMENTS) {
            let registers = ((task.columns - column) / TILE_ELEMENTS).min(4);
            let prefetch = prefetch && column == 0;
            let sums = out.add(column / 2);
            for_registers!(registers, |SUMS, i| {
                tile_unit::load::<SUMS>(sums.add(i * TILE_UNITS), 4 * half)
            });
            for group in key_groups(&task.lanes) {
                let value = ValueGroup::new(task, group, &mut copy);
                tile_unit::load::<4>(task.scratch.add(group * 2 * rows * TILE_UNITS), weights_stride);
                for_registers!(registers, |SUMS, i| {
                    if prefetch {
                        let each = TILE_ROWS / registers;
                        prefetch_rows(&task.ahead, group * TILE_ROWS + i * each, each);
                    }
                    let column = column + i * TILE_ELEMENTS;
                    if SUMS.is_multiple_of(2) {
                        value.load::<5>(column);
                        add_products::<SUMS, 4, 5>();
                    } else {
                        value.load::<6>(column);
                        add_products::<SUMS, 4, 6>();
                    }
                });
            }
            for_registers!(registers, |SUMS, i| {
                tile_unit::store::<SUMS>(sums.add(i * TILE_UNITS), 4 * half)
            });
        }
    }
}

/// At most 16 rows, and their even columns in tmm0 and tmm2, the odd ones in tmm1 and tmm3, for 64 columns.
///
/// # Safety
/// As [`weighted_sum`], in its session; `out` are the rows' sums.
#[inline(always)]
unsafe fn columns_in_two_registers(task: &WeightedSum, rows: usize, out: *mut f32, prefetch: bool) {
    let (half, weights_stride) = (task.columns / 2, 4 * TILE_UNITS);
    let mut copy = MaybeUninit::uninit();
    // SAFETY: as promised by the caller.
    unsafe {
        for column in (0..task.columns).step_by(2 * TILE_ELEMENTS) {
            let registers = ((task.columns - column) / TILE_ELEMENTS).min(2);
            let two = registers == 2;
            let prefetch = prefetch && column == 0;
            let even = out.add(column / 2);
            let odd = even.add(rows * half);
            tile_unit::load::<0>(even, 4 * half);
            tile_unit::load::<1>(odd, 4 * half);
            if two {
                tile_unit::load::<2>(even.add(TILE_UNITS), 4 * half);
                tile_unit::load::<3>(odd.add(TILE_UNITS), 4 * half);
            }
            for group in key_groups(&task.lanes) {
                let value = ValueGroup::new(task, group, &mut copy);
                let weights = task.scratch.add(group * 2 * rows * TILE_UNITS);
                if prefetch {
                    prefetch_rows(&task.ahead, group * TILE_ROWS, TILE_ROWS);
                }
                tile_unit::load::<4>(weights, weights_stride);
                value.load::<6>(column);
                add_products::<0, 4, 6>();
                tile_unit::load::<5>(weights.add(rows * TILE_UNITS), weights_stride);
                add_products::<1, 5, 6>();
                if two {
                    value.load::<7>(column + TILE_ELEMENTS);
                    add_products::<2, 4, 7>();
                    add_products::<3, 5, 7>();
                }
            }
            tile_unit::store::<0>(even, 4 * half);
            tile_unit::store::<1>(odd, 4 * half);
            if two {
                tile_unit::store::<2>(even.add(TILE_UNITS), 4 * half);
                tile_unit::store::<3>(odd.add(TILE_UNITS), 4 * half);
            }
        }
    }
}
