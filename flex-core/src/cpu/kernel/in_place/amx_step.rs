//! A step of the pipeline in the tile registers, as [`amx`](super::amx) multiplies: tmm0 to tmm3 hold the sums of weighted
//! values (the even columns of all rows and then the odd ones, 32 columns a register), tmm4 weights, tmm5 keys or values,
//! tmm6 products of query and key, and tmm7 queries. One configuration for all three stages: changing it would wait for
//! everything before.

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::online_softmax;
use super::super::simd::{Avx512, Simd};
use super::super::tile_unit::{
    self, Configuration, Session, TILE_ELEMENTS, TILE_ROWS, TILE_UNITS, add_products,
};
use super::super::{SUM_LANES, TILE_KEYS};
use super::ahead::prefetch;
use super::amx::{for_registers, rescale, scores_of_rows};
use super::pipeline::{Exponentials, Maxima, Products, Step, WeightedSum, product_stride};

/// The shapes of the registers for so many rows.
static SHAPES: [Configuration; TILE_ROWS / 2 + 1] = {
    let mut all = [Configuration::new([(0, 0); 8]); _];
    let mut rows = 1;
    while rows < all.len() {
        let (sums, products) = ((2 * rows, TILE_UNITS), (TILE_ROWS, rows));
        let elements = (TILE_ROWS, TILE_UNITS);
        all[rows] = Configuration::new([sums, sums, sums, sums, sums, elements, products, products]);
        rows += 1;
    }
    all
};

const GROUPS: usize = TILE_KEYS / TILE_ROWS;

/// # Safety
/// The CPU has AVX-512; there are the products, [`product_stride`] apart, and the scores of so many rows.
#[inline(always)]
pub(super) unsafe fn order(products: *const f32, rows: usize, scores: *mut f32) {
    for group in 0..GROUPS {
        // SAFETY: the caller's.
        unsafe {
            let products = products.add(group * TILE_ROWS * product_stride(rows));
            let scores = scores.add(group * TILE_ROWS);
            if rows > 4 {
                scores_of_rows(products, rows, scores);
                continue;
            }
            // Of key 4k + i, the four rows are quarter i of vector k.
            let vector = |k: usize| Avx512::load(products.add(16 * k));
            let low = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
            let high = _mm512_setr_epi32(2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31);
            let first = _mm512_permutex2var_ps(vector(0), low, vector(1));
            let last = _mm512_permutex2var_ps(vector(2), low, vector(3));
            Avx512::store(scores, _mm512_shuffle_f32x4::<0x44>(first, last));
            if rows > 1 {
                Avx512::store(scores.add(TILE_KEYS), _mm512_shuffle_f32x4::<0xee>(first, last));
            }
            if rows > 2 {
                let first = _mm512_permutex2var_ps(vector(0), high, vector(1));
                let last = _mm512_permutex2var_ps(vector(2), high, vector(3));
                Avx512::store(scores.add(2 * TILE_KEYS), _mm512_shuffle_f32x4::<0x44>(first, last));
                if rows > 3 {
                    Avx512::store(scores.add(3 * TILE_KEYS), _mm512_shuffle_f32x4::<0xee>(first, last));
                }
            }
        }
    }
}

/// # Safety
/// The CPU has AVX-512; the pointers are good for what `Maxima` describes.
#[inline(always)]
pub(super) unsafe fn update_maxima(task: &mut Maxima) {
    // SAFETY: as promised by the caller.
    unsafe {
        let mut largest = [f32::NEG_INFINITY; online_softmax::GROUP];
        for (row, largest) in largest[..task.rows].iter_mut().enumerate() {
            let mut all = Avx512::splat(f32::NEG_INFINITY);
            for group in 0..GROUPS {
                all = Avx512::max(Avx512::load(task.scores.add(row * TILE_KEYS + group * TILE_ROWS)), all);
            }
            *largest = Avx512::reduce_max(all) * task.factor;
        }
        let max = std::slice::from_raw_parts_mut(task.max, task.rows);
        if max.iter().zip(&largest).all(|(max, largest)| largest <= max && *max != f32::NEG_INFINITY) {
            // So it is after the first tiles, most of the time.
            task.rescale = [1.0; _];
            task.shift.iter_mut().zip(max).for_each(|(shift, max)| *shift = -*max);
        } else {
            let (shift, rescale) = online_softmax::rescale::<Avx512>(max, &largest, 1.0);
            for row in 0..task.rows {
                (task.shift[row], task.rescale[row]) = (shift[row], rescale[row]);
                let sums = task.sums.add(row * SUM_LANES);
                Avx512::store(sums, Avx512::mul(Avx512::splat(rescale[row]), Avx512::load(sums)));
            }
        }
        task.row_factor = [task.factor; _];
        for row in 0..task.rows {
            if task.shift[row].abs() >= online_softmax::LARGE {
                let scores = task.scores.add(row * TILE_KEYS);
                online_softmax::multiply::<Avx512>(scores, 0..GROUPS, Avx512::splat(task.factor));
                task.row_factor[row] = 1.0;
            }
        }
    }
}

/// # Safety
/// The CPU has AVX-512 with bf16 and the tile unit; the pointers are good for what `Step` describes, with columns of whole
/// tile registers, at most 128 of values, and at most 8 rows.
#[inline(always)]
pub(super) unsafe fn step(task: &Step) {
    let rows = task.rows;
    // SAFETY: as promised by the caller.
    unsafe {
        if let Some(WeightedSum { columns, out, rescale: factors, .. }) = &task.weighted_sum {
            rescale(*out, *columns, &factors[..rows]);
        }
        let _session = Session::begin(&SHAPES[rows]);
        if let Some(WeightedSum { columns, out, .. }) = task.weighted_sum {
            for_registers!(columns / TILE_ELEMENTS, |SUMS, i| {
                tile_unit::load::<SUMS>(out.add(i * TILE_UNITS), 2 * columns)
            });
        }
        for group in 0..GROUPS {
            if let Some(products) = &task.products {
                let (all, half) = (products.columns / TILE_ELEMENTS, products.columns / TILE_ELEMENTS / 2);
                tile_unit::zero::<6>();
                products.add(rows, group, 0..half);
                exponentials(task, group, 0);
                products.add(rows, group, half..all);
                let stride = product_stride(rows);
                tile_unit::store::<6>(products.products.add(group * TILE_ROWS * stride), 4 * stride);
            } else {
                exponentials(task, group, 0);
            }
            exponentials(task, group, 1);
            if let Some(WeightedSum { columns, value, value_stride, weights, ahead, .. }) = task.weighted_sum
            {
                let registers = columns / TILE_ELEMENTS;
                let value = value.cast::<u16>().add(group * TILE_ROWS * value_stride);
                tile_unit::load::<4>(weights.add(group * 2 * rows * TILE_UNITS), 4 * TILE_UNITS);
                for_registers!(registers, |SUMS, i| {
                    ask_ahead(value.wrapping_add(i * TILE_ELEMENTS), value_stride, ahead);
                    tile_unit::load::<5>(value.add(i * TILE_ELEMENTS).cast(), 2 * value_stride);
                    add_products::<SUMS, 4, 5>();
                    if i == registers / 2 {
                        exponentials(task, group, 2);
                    }
                });
            } else {
                exponentials(task, group, 2);
            }
            exponentials(task, group, 3);
        }
        if let Some(WeightedSum { columns, out, .. }) = task.weighted_sum {
            for_registers!(columns / TILE_ELEMENTS, |SUMS, i| {
                tile_unit::store::<SUMS>(out.add(i * TILE_UNITS), 2 * columns)
            });
        }
    }
}

/// The weights of a quarter of the rows and the keys of a group: some between every two products, so that the CPU finds
/// loads to begin wherever it looks ahead.
///
/// # Safety
/// As [`step`].
#[inline(always)]
unsafe fn exponentials(task: &Step, group: usize, quarter: usize) {
    if let Some(exponentials) = &task.exponentials {
        // SAFETY: the caller's; these are all rows, of which there are at most eight.
        unsafe {
            if quarter < task.rows {
                exponentials.weights_of(task.rows, group, quarter);
            }
            if quarter + 4 < task.rows {
                exponentials.weights_of(task.rows, group, quarter + 4);
            }
        }
    }
}

impl Products {
    /// Adds to tmm6 the products of a group of keys and all rows over some steps of 32 columns.
    ///
    /// # Safety
    /// As [`step`], in its session.
    #[inline(always)]
    unsafe fn add(&self, rows: usize, group: usize, steps: Range<usize>) {
        // SAFETY: the caller's.
        unsafe {
            let key = self.key.cast::<u16>().add(group * TILE_ROWS * self.key_stride);
            for step in steps {
                ask_ahead(key.wrapping_add(step * TILE_ELEMENTS), self.key_stride, self.ahead);
                tile_unit::load::<5>(key.add(step * TILE_ELEMENTS).cast(), 2 * self.key_stride);
                tile_unit::load::<7>(self.query.add(step * TILE_UNITS * rows), 4 * rows);
                add_products::<6, 5, 7>();
            }
        }
    }
}

/// Asks for the lines of a tile register as that which begins here, so many rows further on. Where what follows is skipped,
/// some are asked for in vain.
#[inline(always)]
fn ask_ahead(from: *const u16, stride: usize, rows: usize) {
    for row in rows..rows + TILE_ROWS {
        prefetch(from.wrapping_add(row * stride).cast());
    }
}

impl Exponentials {
    /// The weights of a row and the keys of a group.
    ///
    /// # Safety
    /// As [`step`].
    #[inline(always)]
    unsafe fn weights_of(&self, rows: usize, group: usize, row: usize) {
        // SAFETY: the caller's.
        unsafe {
            let scores = Avx512::load(self.scores.add(row * TILE_KEYS + group * TILE_ROWS));
            let factor = Avx512::splat(*self.factor.get_unchecked(row));
            let shift = Avx512::splat(*self.shift.get_unchecked(row));
            let weights = Avx512::exp2::<false>(Avx512::fma(scores, factor, shift));
            let sums = self.sums.add(row * SUM_LANES);
            Avx512::store(sums, Avx512::add(Avx512::load(sums), weights));
            let weights = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(weights));
            let pairs = _mm512_cvtepu16_epi32(weights);
            let even = self.weights.add((group * 2 * rows + row) * TILE_UNITS);
            _mm512_storeu_si512(even.cast(), pairs);
            _mm512_storeu_si512(even.add(rows * TILE_UNITS).cast(), _mm512_slli_epi32::<16>(pairs));
        }
    }
}
