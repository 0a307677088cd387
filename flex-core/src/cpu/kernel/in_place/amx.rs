//! bf16 keys and values in the tile registers, 16 rows at a time.
//!
//! A tile register takes 16 keys of 32 elements from their place in memory as the left side of scores = key · queryᵀ;
//! query is the right side, in pairs of elements. For out += weights · value the pairs are those of neighbouring keys, so
//! value is interleaved on its way, 32 keys at a time.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use super::super::TILE_KEYS;
use super::super::simd::{Avx512, Simd};
use super::generic::prefetch_row;
use super::{Dots, WeightedSum};

/// Rows of a tile register.
const TILE_ROWS: usize = 16;

/// Elements of a row of a tile register: 64 bytes.
const TILE_ELEMENTS: usize = 32;

/// 32-bit units of a tile register.
const TILE_UNITS: usize = 256;

/// The shapes of tmm0 to tmm7 in palette 1: bytes a row and rows, set for one call at a time.
#[repr(C, align(64))]
struct Configuration([u8; 64]);

impl Configuration {
    /// The shape of every register as (rows, 32-bit units a row).
    fn new(shapes: [(usize, usize); 8]) -> Self {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        for (i, (rows, units)) in shapes.into_iter().enumerate() {
            bytes[16 + 2 * i] = 4 * units as u8;
            bytes[48 + i] = rows as u8;
        }
        Self(bytes)
    }
}

/// The tile registers while they are configured.
struct Session;

impl Session {
    /// # Safety
    /// The CPU has the tile unit and the kernel has given its permission.
    #[inline(always)]
    unsafe fn begin(shapes: [(usize, usize); 8]) -> Self {
        let configuration = Configuration::new(shapes);
        // SAFETY: shapes have at most 16 rows of 16 units, and the caller's promise.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly)) }
        Self
    }
}

impl Drop for Session {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: a session exists only where the tile unit does.
        unsafe { asm!("tilerelease", options(nostack, nomem)) }
    }
}

/// # Safety
/// The CPU has AVX-512 and the tile unit; the pointers are good for what `Dots` describes, with rows of whole tile
/// registers.
#[inline(always)]
pub(super) unsafe fn dots(task: &Dots) {
    for row in (0..task.rows).step_by(TILE_ROWS) {
        let rows = row..task.rows.min(row + TILE_ROWS);
        let (scores, keys, none) = ((TILE_ROWS, rows.len()), (TILE_ROWS, TILE_ROWS), (0, 0));
        // SAFETY: as promised by the caller.
        unsafe {
            let _session = Session::begin([scores, scores, scores, scores, keys, keys, scores, none]);
            match task.lanes.len() {
                ..TILE_ROWS => dots_of_few_keys(task, &rows),
                _ => dots_of_keys(task, &rows),
            }
        }
    }
}

/// Keys whose scores are in tile registers at a time.
const KEYS_A_PASS: usize = 4 * TILE_ROWS;

/// tmm0 to tmm3 += key · queryᵀ, 16 keys each.
///
/// # Safety
/// In a session of [`dots`]; the keys have 16 rows of 32 elements, `stride` bytes apart.
#[inline(always)]
unsafe fn add_products(keys: [*const u16; 4], stride: usize, query: *const f32, rows: usize) {
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "tileloadd tmm6, [{query} + {query_stride}]",
            "tileloadd tmm4, [{first} + {stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{second} + {stride}]",
            "tdpbf16ps tmm1, tmm5, tmm6",
            "tileloadd tmm4, [{third} + {stride}]",
            "tdpbf16ps tmm2, tmm4, tmm6",
            "tileloadd tmm5, [{fourth} + {stride}]",
            "tdpbf16ps tmm3, tmm5, tmm6",
            query = in(reg) query, query_stride = in(reg) 4 * rows, stride = in(reg) stride,
            first = in(reg) keys[0], second = in(reg) keys[1], third = in(reg) keys[2], fourth = in(reg) keys[3],
            options(nostack, readonly),
        );
    }
}

/// At most 16 rows and at least 16 keys.
///
/// # Safety
/// In a session of [`dots`]; the rows are among those of the task.
#[inline(always)]
unsafe fn dots_of_keys(task: &Dots, rows: &Range<usize>) {
    let key = task.key.cast::<u16>();
    let mut sums = [0.0f32; 4 * TILE_UNITS];
    let steps = task.columns / TILE_ELEMENTS;
    for first in task.lanes.clone().step_by(KEYS_A_PASS) {
        // Near the end, keys are taken once more instead of reading behind the last one.
        let starts: [usize; 4] =
            std::array::from_fn(|i| (first + i * TILE_ROWS).min(task.lanes.end - TILE_ROWS));
        // SAFETY: as promised by the caller; sixteen keys follow each start.
        unsafe {
            asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, nomem));
            let query = task.query.add(rows.start * task.columns / 2);
            for step in 0..steps {
                if rows.start == 0 {
                    let lanes = first + step * KEYS_A_PASS / steps..first + (step + 1) * KEYS_A_PASS / steps;
                    lanes.for_each(|lane| prefetch_row::<Avx512>(&task.ahead, lane));
                }
                let keys = starts.map(|lane| key.add(lane * task.key_stride + step * TILE_ELEMENTS));
                add_products(keys, 2 * task.key_stride, query.add(step * TILE_ROWS * rows.len()), rows.len());
            }
            asm!(
                "tilestored [{sums} + {stride}], tmm0",
                "tilestored [{sums} + {stride} + 1024], tmm1",
                "tilestored [{sums} + {stride} + 2048], tmm2",
                "tilestored [{sums} + {stride} + 3072], tmm3",
                sums = in(reg) sums.as_mut_ptr(), stride = in(reg) 4 * TILE_ROWS, options(nostack),
            );
            for (sums, lane) in sums.chunks_exact(TILE_UNITS).zip(starts) {
                let scores = task.scores.add(rows.start * TILE_KEYS + lane);
                for eight in [0, 8] {
                    let keys = std::array::from_fn(|i| sums[(eight + i) * TILE_ROWS..].as_ptr());
                    Avx512::transpose(keys, rows.len(), scores.add(eight), TILE_KEYS);
                }
            }
        }
    }
}

/// At most 16 rows and fewer than 16 keys, which are copied so that nothing behind them is read.
///
/// # Safety
/// In a session of [`dots`]; the rows are among those of the task.
unsafe fn dots_of_few_keys(task: &Dots, rows: &Range<usize>) {
    let key = task.key.cast::<u16>();
    let mut sums = [0.0f32; TILE_UNITS];
    // SAFETY: as promised by the caller.
    unsafe {
        asm!("tilezero tmm0", options(nostack, nomem));
        let query = task.query.add(rows.start * task.columns / 2);
        for element in (0..task.columns).step_by(TILE_ELEMENTS) {
            let mut copy = [[0u16; TILE_ELEMENTS]; TILE_ROWS];
            for (to, lane) in copy.iter_mut().zip(task.lanes.clone()) {
                *to =
                    key.add(lane * task.key_stride + element).cast::<[u16; TILE_ELEMENTS]>().read_unaligned();
            }
            let query = query.add(element / 2 * rows.len());
            add_products([copy.as_ptr().cast(); 4], 2 * TILE_ELEMENTS, query, rows.len());
        }
        asm!(
            "tilestored [{sums} + {stride}], tmm0",
            sums = in(reg) sums.as_mut_ptr(), stride = in(reg) 4 * TILE_ROWS, options(nostack),
        );
        for (lane, sums) in task.lanes.clone().zip(sums.chunks_exact(TILE_ROWS)) {
            for (row, &sum) in rows.clone().zip(sums) {
                *task.scores.add(row * TILE_KEYS + lane) = sum;
            }
        }
    }
}

/// # Safety
/// The CPU has AVX-512 BW and the tile unit; the pointers are good for what `WeightedSum` describes, with columns of
/// whole tile registers. Weights are bf16, in groups of 32 keys.
#[inline(always)]
pub(super) unsafe fn weighted_sum(task: &WeightedSum) {
    let value = task.value.cast::<u16>();
    // SAFETY: as promised by the caller.
    unsafe {
        for row in 0..task.rows {
            let (factor, out) = (*task.rescale.add(row), task.out.add(row * task.out_stride));
            if factor != 1.0 {
                for column in (0..task.columns).step_by(Avx512::LANES) {
                    let at = out.add(column);
                    Avx512::store(at, Avx512::mul(Avx512::splat(factor), Avx512::load(at)));
                }
            }
        }
        let first = task.lanes.start / TILE_ELEMENTS * TILE_ELEMENTS;
        for row in (0..task.rows).step_by(TILE_ROWS) {
            let rows = row..task.rows.min(row + TILE_ROWS);
            let (few, pairs, none) = ((rows.len(), TILE_ROWS), (TILE_ROWS, TILE_ROWS), (0, 0));
            let _session = Session::begin([few, few, few, few, few, pairs, pairs, none]);
            let weights = task.weights.add(rows.start * TILE_KEYS);
            for column in (0..task.columns).step_by(COLUMNS_A_PASS) {
                let groups = (task.columns - column).min(COLUMNS_A_PASS) / TILE_ELEMENTS;
                let out = task.out.add(rows.start * task.out_stride + column);
                let sums = Sums { out, stride: 4 * task.out_stride, two: groups == 2 };
                sums.load();
                for start in (first..task.lanes.end).step_by(TILE_ELEMENTS) {
                    interleave(task, value.wrapping_add(column), start, groups, row == 0 && column == 0);
                    // Weights are half as long as the floats they were made of.
                    sums.add(weights.add(start / 2), task.scratch);
                }
                sums.store();
            }
        }
    }
}

/// Columns of value that are interleaved, and whose sums are in tile registers, at a time.
const COLUMNS_A_PASS: usize = 2 * TILE_ELEMENTS;

/// At most 16 rows of 32 or 64 columns of output, in tmm0 to tmm3.
struct Sums {
    out: *mut f32,
    /// In bytes, from one row to the next.
    stride: usize,
    two: bool,
}

impl Sums {
    /// # Safety
    /// In a session of [`weighted_sum`]; the rows are there.
    #[inline(always)]
    unsafe fn load(&self) {
        // SAFETY: the caller's.
        unsafe {
            asm!(
                "tileloadd tmm0, [{out} + {stride}]",
                "tileloadd tmm1, [{out} + {stride} + 64]",
                out = in(reg) self.out, stride = in(reg) self.stride, options(nostack, readonly),
            );
            if self.two {
                asm!(
                    "tileloadd tmm2, [{out} + {stride} + 128]",
                    "tileloadd tmm3, [{out} + {stride} + 192]",
                    out = in(reg) self.out, stride = in(reg) self.stride, options(nostack, readonly),
                );
            }
        }
    }

    /// # Safety
    /// As [`load`](Self::load).
    #[inline(always)]
    unsafe fn store(&self) {
        // SAFETY: the caller's.
        unsafe {
            asm!(
                "tilestored [{out} + {stride}], tmm0",
                "tilestored [{out} + {stride} + 64], tmm1",
                out = in(reg) self.out, stride = in(reg) self.stride, options(nostack),
            );
            if self.two {
                asm!(
                    "tilestored [{out} + {stride} + 128], tmm2",
                    "tilestored [{out} + {stride} + 192], tmm3",
                    out = in(reg) self.out, stride = in(reg) self.stride, options(nostack),
                );
            }
        }
    }

    /// Adds the products of 32 keys.
    ///
    /// # Safety
    /// In a session of [`weighted_sum`]; `value` is interleaved.
    #[inline(always)]
    unsafe fn add(&self, weights: *const f32, value: *const f32) {
        // SAFETY: the caller's.
        unsafe {
            asm!(
                "tileloadd tmm4, [{weights} + {weights_stride}]",
                "tileloadd tmm5, [{value} + {value_stride}]",
                "tdpbf16ps tmm0, tmm4, tmm5",
                "tileloadd tmm6, [{value} + {value_stride} + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm6",
                weights = in(reg) weights, weights_stride = in(reg) 4 * TILE_KEYS,
                value = in(reg) value, value_stride = in(reg) 64usize, options(nostack, readonly),
            );
            if self.two {
                asm!(
                    "tileloadd tmm5, [{value} + {value_stride} + 2048]",
                    "tdpbf16ps tmm2, tmm4, tmm5",
                    "tileloadd tmm6, [{value} + {value_stride} + 3072]",
                    "tdpbf16ps tmm3, tmm4, tmm6",
                    value = in(reg) value, value_stride = in(reg) 64usize, options(nostack, readonly),
                );
            }
        }
    }
}

/// Writes 32 values from lane `start` on to the scratch memory: for every 32 columns, of which there are `groups`, two
/// tile registers of 16 pairs of keys, the first with the columns 0–3, 8–11, 16–19 and 24–27. Values outside the lanes
/// are 0.
///
/// # Safety
/// As [`weighted_sum`].
#[inline(always)]
unsafe fn interleave(task: &WeightedSum, value: *const u16, start: usize, groups: usize, prefetch: bool) {
    // SAFETY: as promised by the caller.
    unsafe {
        for pair in 0..TILE_ROWS {
            let lanes = [start + 2 * pair, start + 2 * pair + 1];
            let rows = lanes.map(|lane| {
                let there = if task.lanes.contains(&lane) { u32::MAX } else { 0 };
                (value.wrapping_add(lane * task.value_stride), there)
            });
            if prefetch {
                lanes.iter().for_each(|lane| prefetch_row::<Avx512>(&task.ahead, *lane));
            }
            for group in 0..groups {
                let [even, odd] = rows.map(|(row, there)| {
                    _mm512_maskz_loadu_epi16(there, row.wrapping_add(group * TILE_ELEMENTS).cast())
                });
                let to = task.scratch.add(group * 2 * TILE_UNITS + pair * TILE_ROWS);
                _mm512_storeu_si512(to.cast(), _mm512_unpacklo_epi16(even, odd));
                _mm512_storeu_si512(to.add(TILE_UNITS).cast(), _mm512_unpackhi_epi16(even, odd));
            }
        }
    }
}
