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
use super::generic::{AHEAD, prefetch_row};
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
    let key = task.key.cast::<u16>();
    for next in task.lanes.clone().take(AHEAD) {
        // SAFETY: prefetching takes any address.
        unsafe { prefetch_row::<Avx512, u16>(key.wrapping_add(next * task.key_stride), task.columns) }
    }
    let mut first = task.lanes.start;
    while first < task.lanes.end {
        let keys = first..task.lanes.end.min(first + 2 * TILE_ROWS);
        for next in keys.clone() {
            // SAFETY: as above.
            unsafe {
                prefetch_row::<Avx512, u16>(key.wrapping_add((next + AHEAD) * task.key_stride), task.columns)
            }
        }
        for row in (0..task.rows).step_by(TILE_ROWS) {
            let rows = row..task.rows.min(row + TILE_ROWS);
            // SAFETY: as promised by the caller.
            unsafe { dots_of_keys(task, &rows, &keys) }
        }
        first = keys.end;
    }
}

/// At most 16 rows and 32 keys.
///
/// # Safety
/// As [`dots`]; the rows and keys are among those of the task.
#[inline(always)]
unsafe fn dots_of_keys(task: &Dots, rows: &Range<usize>, keys: &Range<usize>) {
    let mut sums = [[0.0f32; TILE_UNITS]; 2];
    // SAFETY: as promised by the caller. Tile registers of keys begin at least 16 keys before the last one, unless there
    // are fewer: these are copied.
    unsafe {
        let key = task.key.cast::<u16>();
        let few = task.lanes.len() < TILE_ROWS;
        let starts = [0, TILE_ROWS].map(|i| (keys.start + i).min(task.lanes.end.max(TILE_ROWS) - TILE_ROWS));
        let stride = if few { 2 * TILE_ELEMENTS } else { 2 * task.key_stride };
        let query = task.query.add(rows.start * task.columns / 2);
        {
            let (scores, keys_shape, query_shape) =
                ((TILE_ROWS, rows.len()), (TILE_ROWS, TILE_ROWS), (TILE_ROWS, rows.len()));
            let none = (0, 0);
            let _session =
                Session::begin([scores, scores, none, none, keys_shape, keys_shape, query_shape, none]);
            asm!("tilezero tmm0", "tilezero tmm1", options(nostack, nomem));
            for element in (0..task.columns).step_by(TILE_ELEMENTS) {
                let mut copy = [[0u16; TILE_ELEMENTS]; TILE_ROWS];
                let at = match few {
                    true => {
                        for (to, lane) in copy.iter_mut().zip(task.lanes.clone()) {
                            let from = key.add(lane * task.key_stride + element);
                            *to = from.cast::<[u16; TILE_ELEMENTS]>().read_unaligned();
                        }
                        [copy.as_ptr().cast(); 2]
                    }
                    false => starts.map(|lane| key.add(lane * task.key_stride + element)),
                };
                asm!(
                    "tileloadd tmm6, [{query} + {query_stride}]",
                    "tileloadd tmm4, [{first} + {stride}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm5, [{second} + {stride}]",
                    "tdpbf16ps tmm1, tmm5, tmm6",
                    query = in(reg) query.add(element / 2 * rows.len()), query_stride = in(reg) 4 * rows.len(),
                    first = in(reg) at[0], second = in(reg) at[1], stride = in(reg) stride,
                    options(nostack, readonly),
                );
            }
            asm!(
                "tilestored [{first} + {stride}], tmm0",
                "tilestored [{second} + {stride}], tmm1",
                first = in(reg) sums[0].as_mut_ptr(), second = in(reg) sums[1].as_mut_ptr(),
                stride = in(reg) 4 * TILE_ROWS, options(nostack),
            );
        }
        if few {
            for (lane, sums) in task.lanes.clone().zip(sums[0].chunks_exact(TILE_ROWS)) {
                for (row, &sum) in rows.clone().zip(sums) {
                    *task.scores.add(row * TILE_KEYS + lane) = sum;
                }
            }
            return;
        }
        for (sums, lane) in sums.iter().zip(starts).take(keys.len().div_ceil(TILE_ROWS)) {
            let scores = task.scores.add(rows.start * TILE_KEYS + lane);
            for eight in [0, 8] {
                let keys = std::array::from_fn(|i| sums[(eight + i) * TILE_ROWS..].as_ptr());
                Avx512::transpose(keys, rows.len(), scores.add(eight), TILE_KEYS);
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
        for start in (first..task.lanes.end).step_by(TILE_ELEMENTS) {
            interleave(task, value, start);
            for row in (0..task.rows).step_by(TILE_ROWS) {
                let rows = row..task.rows.min(row + TILE_ROWS);
                let (few, pairs) = ((rows.len(), TILE_ROWS), (TILE_ROWS, TILE_ROWS));
                let _session = Session::begin([few, few, (0, 0), (0, 0), few, pairs, pairs, (0, 0)]);
                // Weights are half as long as the floats they were made of.
                let weights = task.weights.add(rows.start * TILE_KEYS + start / 2);
                for column in (0..task.columns).step_by(TILE_ELEMENTS) {
                    asm!(
                        "tileloadd tmm4, [{weights} + {weights_stride}]",
                        "tileloadd tmm5, [{value} + {value_stride}]",
                        "tileloadd tmm6, [{value} + {value_stride} + 1024]",
                        "tileloadd tmm0, [{out} + {out_stride}]",
                        "tileloadd tmm1, [{out} + {out_stride} + 64]",
                        "tdpbf16ps tmm0, tmm4, tmm5",
                        "tdpbf16ps tmm1, tmm4, tmm6",
                        "tilestored [{out} + {out_stride}], tmm0",
                        "tilestored [{out} + {out_stride} + 64], tmm1",
                        weights = in(reg) weights, weights_stride = in(reg) 4 * TILE_KEYS,
                        value = in(reg) task.scratch.add(column / TILE_ELEMENTS * 2 * TILE_UNITS),
                        value_stride = in(reg) 64usize,
                        out = in(reg) task.out.add(rows.start * task.out_stride + column),
                        out_stride = in(reg) 4 * task.out_stride, options(nostack),
                    );
                }
            }
        }
    }
}

/// Writes 32 values from lane `start` on to the scratch memory: for every 32 columns two tile registers of 16 pairs of
/// keys, the first with the columns 0–3, 8–11, 16–19 and 24–27. Values outside the lanes are 0.
///
/// # Safety
/// As [`weighted_sum`].
#[inline(always)]
unsafe fn interleave(task: &WeightedSum, value: *const u16, start: usize) {
    // SAFETY: as promised by the caller.
    unsafe {
        for pair in 0..TILE_ROWS {
            let lanes = [start + 2 * pair, start + 2 * pair + 1];
            let rows = lanes.map(|lane| {
                let there = if task.lanes.contains(&lane) { u32::MAX } else { 0 };
                (value.wrapping_add(lane * task.value_stride), there)
            });
            for lane in lanes {
                let ahead = value.wrapping_add((lane + AHEAD) * task.value_stride);
                prefetch_row::<Avx512, u16>(ahead, task.columns);
            }
            for column in (0..task.columns).step_by(TILE_ELEMENTS) {
                let [even, odd] =
                    rows.map(|(row, there)| _mm512_maskz_loadu_epi16(there, row.wrapping_add(column).cast()));
                let to = task.scratch.add(column / TILE_ELEMENTS * 2 * TILE_UNITS + pair * TILE_ROWS);
                _mm512_storeu_si512(to.cast(), _mm512_unpacklo_epi16(even, odd));
                _mm512_storeu_si512(to.add(TILE_UNITS).cast(), _mm512_unpackhi_epi16(even, odd));
            }
        }
    }
}
