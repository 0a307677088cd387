//! Products of bf16 in the tile registers.
//!
//! tmm0–tmm3 hold a 32×32 block of f32 sums, tmm4 and tmm5 two times 16 rows of 32 bf16 of the left side, tmm6 and tmm7
//! 16 pairs of rows of the right side, 16 columns each.

use std::ops::Range;

use super::generic::{Products, Surroundings, multiply};
use super::simd::{Avx512, Simd};
use super::tile_unit::{self, Configuration, Session, TILE_UNITS};
use super::{Product, TILE_KEYS};

/// Products of whole tile registers.
pub(super) struct Tiles;

static WHOLE_REGISTERS: Configuration = Configuration::new([(16, 16); 8]);

/// A block of sums: 16 or 32 rows of 32 columns in memory.
struct Block {
    out: *mut f32,
    /// Bytes from one row to the next.
    stride: usize,
    two_strips: bool,
    /// Bytes from the first strip to the second one.
    second_strip: usize,
}

impl Block {
    /// # Safety
    /// Inside a session.
    #[inline(always)]
    unsafe fn zero(&self) {
        // SAFETY: the caller's.
        unsafe {
            tile_unit::zero::<0>();
            tile_unit::zero::<1>();
            tile_unit::zero::<2>();
            tile_unit::zero::<3>();
        }
    }

    /// # Safety
    /// Inside a session; the rows are there.
    #[inline(always)]
    unsafe fn load(&self) {
        // SAFETY: the caller's.
        unsafe {
            tile_unit::load::<0>(self.out, self.stride);
            tile_unit::load::<1>(self.out.add(TILE_UNITS), self.stride);
            if self.two_strips {
                let out = self.out.byte_add(self.second_strip);
                tile_unit::load::<2>(out, self.stride);
                tile_unit::load::<3>(out.add(TILE_UNITS), self.stride);
            }
        }
    }

    /// # Safety
    /// Inside a session; the rows are there.
    #[inline(always)]
    unsafe fn store(&self) {
        // SAFETY: the caller's.
        unsafe {
            tile_unit::store::<0>(self.out, self.stride);
            tile_unit::store::<1>(self.out.add(TILE_UNITS), self.stride);
            if self.two_strips {
                let out = self.out.byte_add(self.second_strip);
                tile_unit::store::<2>(out, self.stride);
                tile_unit::store::<3>(out.add(TILE_UNITS), self.stride);
            }
        }
    }

    /// Adds the products of 32 steps.
    ///
    /// # Safety
    /// Inside a session; `left` has 16 rows `left_stride` bytes apart (and 16 more `left_strip` bytes on, for two
    /// strips), `right` 16 rows of 32 units.
    #[inline(always)]
    unsafe fn add(&self, left: *const f32, left_stride: usize, left_strip: usize, right: *const f32) {
        const RIGHT_STRIDE: usize = 32 * 4;
        // SAFETY: the caller's.
        unsafe {
            tile_unit::load::<6>(right, RIGHT_STRIDE);
            tile_unit::load::<4>(left, left_stride);
            tile_unit::load::<7>(right.add(TILE_UNITS), RIGHT_STRIDE);
            tile_unit::add_products::<0, 4, 6>();
            if self.two_strips {
                tile_unit::load::<5>(left.byte_add(left_strip), left_stride);
                tile_unit::add_products::<1, 4, 7>();
                tile_unit::add_products::<2, 5, 6>();
                tile_unit::add_products::<3, 5, 7>();
            } else {
                tile_unit::add_products::<1, 4, 7>();
            }
        }
    }
}

/// Calls `f` with the strips that go together, and whether they are two: neighbours with something in common.
#[inline(always)]
fn pair_strips(
    ranges: &[Range<usize>],
    together: impl Fn(&Range<usize>, &Range<usize>) -> bool,
    mut f: impl FnMut(usize, bool),
) {
    let mut strip = 0;
    while strip < ranges.len() {
        let two = ranges.get(strip + 1).is_some_and(|next| together(&ranges[strip], next));
        f(strip, two);
        strip += 1 + usize::from(two);
    }
}

impl Surroundings for Tiles {
    /// Left idle for the time of a softmax, the tile unit needs some 600 cycles to wake up, and works at half its rate
    /// until then.
    #[inline(always)]
    unsafe fn keep_awake() {
        // SAFETY: the caller's. Between products no register holds anything.
        unsafe { tile_unit::add_products::<0, 4, 6>() }
    }
}

impl Products<16, 2> for Tiles {
    #[inline(always)]
    unsafe fn begin() {
        // SAFETY: the caller's. The session ends in `end`.
        std::mem::forget(unsafe { Session::begin(&WHOLE_REGISTERS) });
    }

    #[inline(always)]
    unsafe fn end() {
        drop(Session);
    }

    #[inline(always)]
    unsafe fn scores(task: &Product<'_>) {
        let units = task.extent;
        let all = task.ranges.iter().filter(|columns| !columns.is_empty()).cloned();
        let Some(all) = all.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)) else { return };
        // SAFETY: the caller's. Left strips are 16 rows of `units` units, right panels `units` rows of 32 units.
        unsafe {
            for panel in all.start / 32..all.end / 32 {
                let both =
                    |a: &Range<usize>, b: &Range<usize>| [a, b].iter().all(|x| x.contains(&(panel * 32)));
                pair_strips(task.ranges, both, |strip, two_strips| {
                    if !task.ranges[strip].contains(&(panel * 32)) {
                        return;
                    }
                    let block = Block {
                        out: task.out.wrapping_add(strip * task.out_strip + panel * 32),
                        stride: TILE_KEYS * 4,
                        two_strips,
                        second_strip: task.out_strip * 4,
                    };
                    let left = task.left.add(strip * task.left_strip);
                    let right = task.right.add(panel * task.right_panel);
                    block.zero();
                    for unit in (0..units).step_by(16) {
                        block.add(left.add(unit), units * 4, task.left_strip * 4, right.add(unit * 32));
                    }
                    block.store();
                });
            }
        }
    }

    #[inline(always)]
    unsafe fn values(task: &Product<'_>) {
        let pairs = |keys: &Range<usize>| keys.start / 32 * 16..keys.end.div_ceil(32) * 16;
        // SAFETY: the caller's. Weights are rows of bf16, `TILE_KEYS` floats apart; right panels have a row a pair of
        // keys.
        unsafe {
            for (strip, _) in task.ranges.iter().enumerate().filter(|(_, keys)| !keys.is_empty()) {
                for row in strip * 16..strip * 16 + 16 {
                    let factor = *task.factor.add(row);
                    if factor != 1.0 {
                        let out = task.out.add(row * task.out_row);
                        let vectors = 0..task.extent.div_ceil(Avx512::LANES);
                        multiply::<Avx512>(out, vectors, Avx512::splat(factor));
                    }
                }
            }
            for panel in 0..task.extent / 32 {
                let same = |a: &Range<usize>, b: &Range<usize>| {
                    !a.is_empty() && !b.is_empty() && pairs(a) == pairs(b)
                };
                pair_strips(task.ranges, same, |strip, two_strips| {
                    if task.ranges[strip].is_empty() {
                        return;
                    }
                    let block = Block {
                        out: task.out.add(strip * task.out_strip + panel * 32),
                        stride: task.out_row * 4,
                        two_strips,
                        second_strip: task.out_strip * 4,
                    };
                    let left = task.left.add(strip * task.left_strip);
                    let right = task.right.add(panel * task.right_panel);
                    block.load();
                    for pair in pairs(&task.ranges[strip]).step_by(16) {
                        block.add(left.add(pair), TILE_KEYS * 4, task.left_strip * 4, right.add(pair * 32));
                    }
                    block.store();
                });
            }
        }
    }
}
