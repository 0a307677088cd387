//! Products in the tile registers, of numbers that are sums of bf16.
//!
//! A float is the sum of one, two or three bf16: its planes. A bf16 is one, an f16 two, and an f32 three, exactly. The
//! product of two floats is that of their planes, of which those are left out that are less than what an f32 would lose:
//! with three planes each, six products are left. The tile unit is so much faster than the vector units that this takes two
//! thirds of the time of multiplying the f32.
//!
//! Products of small planes are summed first, so that they lose nothing beside those of the large ones; a sum has the
//! error of one chain of f32 additions.
//!
//! tmm0–tmm3 hold a 32×32 block of f32 sums, tmm4 and tmm5 two times 16 rows of 32 elements of one plane of the left side,
//! tmm6 and tmm7 16 pairs of rows of one plane of the right side, 16 columns each.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::generic::{Products, Surroundings};
use super::online_softmax::{SLOW_ROWS, WeightFormat, multiply};
use super::simd::{Avx512, Simd};
use super::softmax::Softmax;
use super::tile_unit::{self, Configuration, Session, TILE_ROWS, TILE_UNITS};
use super::{Product, TILE_KEYS};

/// Products of whole tile registers of floats with so many planes.
pub(super) struct Tiles<const PLANES: usize>;

static WHOLE_REGISTERS: Configuration = Configuration::new([(16, 16); 8]);

/// The elements of a row that a tile register holds, and the columns of a panel and of a block of sums.
pub(super) const WIDTH: usize = 32;

/// The cache lines of two tiles of the right side, side by side.
const TILE_LINES: usize = 2 * TILE_ROWS;

/// The most tiles of a row of query beside whose planes, and those of keys, there is room for the next keys' in the nearest
/// cache.
const FEW_TILES: usize = 2;

/// One side of a product, where its tiles are.
#[derive(Clone, Copy)]
struct Side {
    first: *const f32,
    /// From a row of a tile to the next, in bytes.
    stride: usize,
    /// From a tile to the one beside it: of the next sixteen rows, or columns.
    beside: usize,
    plane: usize,
    tile: usize,
}

impl Side {
    /// Strips of sixteen rows, `[planes][16][units]`.
    fn left(task: &Product<'_>, strip: usize, planes: usize) -> Self {
        Self {
            first: task.left.wrapping_add(strip * task.left_strip),
            stride: task.left_row * 4,
            beside: task.left_strip,
            plane: task.left_strip / planes,
            tile: TILE_UNITS,
        }
    }

    /// A panel of 32 columns, `[planes][units][32]`.
    fn right(task: &Product<'_>, panel: usize, planes: usize) -> Self {
        Self {
            first: task.right.wrapping_add(panel * task.right_panel),
            stride: WIDTH * 4,
            beside: TILE_UNITS,
            plane: task.right_panel / planes,
            tile: TILE_ROWS * WIDTH,
        }
    }

    /// A tile and the one beside it.
    fn tiles(&self, plane: usize, tile: usize) -> [*const f32; 2] {
        let first = self.first.wrapping_add(plane * self.plane + tile * self.tile);
        [first, first.wrapping_add(self.beside)]
    }
}

/// The planes of left and right side that are multiplied: all of two but not of three. Large ones come last, and from one
/// product to the next, one side changes where that is possible.
const fn products(planes: usize) -> &'static [(usize, usize)] {
    match planes {
        1 => &[(0, 0)],
        2 => &[(1, 0), (1, 1), (0, 1), (0, 0)],
        _ => &[(2, 0), (1, 0), (1, 1), (0, 1), (0, 2), (0, 0)],
    }
}

/// 16 or 32 rows of 32 columns.
#[derive(Clone, Copy)]
struct Block {
    left: Side,
    right: Side,
    two_strips: bool,
    /// Where the panel begins that comes after this one of the right side, if tiles of many planes are asked for before they
    /// are loaded.
    next_panel: Option<usize>,
}

impl Block {
    /// # Safety
    /// Inside a session; the left side has the tile.
    #[inline(always)]
    unsafe fn load_left(&self, plane: usize, tile: usize) {
        let [first, second] = self.left.tiles(plane, tile);
        // SAFETY: the caller's.
        unsafe {
            tile_unit::load::<4>(first, self.left.stride);
            if self.two_strips {
                tile_unit::load::<5>(second, self.left.stride);
            }
        }
    }

    /// # Safety
    /// Inside a session; the right side has the tile.
    #[inline(always)]
    unsafe fn load_right(&self, plane: usize, tile: usize) {
        let [first, second] = self.right.tiles(plane, tile);
        // SAFETY: the caller's.
        unsafe {
            tile_unit::load::<6>(first, self.right.stride);
            tile_unit::load::<7>(second, self.right.stride);
        }
    }

    /// # Safety
    /// Inside a session.
    #[inline(always)]
    unsafe fn add_products(&self) {
        // SAFETY: the caller's.
        unsafe {
            tile_unit::add_products::<0, 4, 6>();
            tile_unit::add_products::<1, 4, 7>();
            if self.two_strips {
                tile_unit::add_products::<2, 5, 6>();
                tile_unit::add_products::<3, 5, 7>();
            }
        }
    }

    /// Sets the sums to zero.
    ///
    /// # Safety
    /// Inside a session.
    #[inline(always)]
    unsafe fn clear(&self) {
        // SAFETY: the caller's.
        unsafe {
            tile_unit::zero::<0>();
            tile_unit::zero::<1>();
            if self.two_strips {
                tile_unit::zero::<2>();
                tile_unit::zero::<3>();
            }
        }
    }

    /// Adds the product of two planes of a tile, each as soon as what it takes is there.
    ///
    /// # Safety
    /// Inside a session; both sides have the tile.
    #[inline(always)]
    unsafe fn load_and_add(&self, (left, right): (usize, usize), tile: usize) {
        let (left, right) = (self.left.tiles(left, tile), self.right.tiles(right, tile));
        // SAFETY: the caller's.
        unsafe {
            tile_unit::load::<6>(right[0], self.right.stride);
            tile_unit::load::<4>(left[0], self.left.stride);
            tile_unit::load::<7>(right[1], self.right.stride);
            tile_unit::add_products::<0, 4, 6>();
            if self.two_strips {
                tile_unit::load::<5>(left[1], self.left.stride);
                tile_unit::add_products::<1, 4, 7>();
                tile_unit::add_products::<2, 5, 6>();
                tile_unit::add_products::<3, 5, 7>();
            } else {
                tile_unit::add_products::<1, 4, 7>();
            }
        }
    }

    /// The tile of the right side that comes after one of `tiles`, if it is asked for.
    #[inline(always)]
    fn after(&self, tile: usize, tiles: &Range<usize>) -> Option<*const f32> {
        let next_panel = self.next_panel?;
        let next = if tile + 1 < tiles.end { (tile + 1) * self.right.tile } else { next_panel };
        Some(self.right.first.wrapping_add(next))
    }

    /// Asks for some cache lines of the planes of a tile and of the one beside it.
    #[inline(always)]
    fn ask_for_lines(&self, tiles: Option<*const f32>, lines: Range<usize>) {
        let Some(tiles) = tiles else { return };
        for line in lines {
            let at = line / TILE_LINES * self.right.plane + line % TILE_LINES * TILE_UNITS;
            tile_unit::ask_for(tiles.wrapping_add(at));
        }
    }

    /// Adds the products of some tiles to the sums.
    ///
    /// # Safety
    /// Inside a session; both sides have the tiles.
    #[inline(always)]
    unsafe fn add<const PLANES: usize>(&self, tiles: Range<usize>) {
        // SAFETY: the caller's.
        unsafe {
            let (large, small) = products(PLANES).split_last().unwrap_or((&(0, 0), &[]));
            for tile in tiles.clone() {
                let mut loaded = (usize::MAX, usize::MAX);
                let ahead = self.after(tile, &tiles);
                let mut asked = 0;
                for &(left, right) in small {
                    if left != loaded.0 {
                        self.load_left(left, tile);
                    }
                    if right != loaded.1 {
                        self.load_right(right, tile);
                    }
                    loaded = (left, right);
                    let ask = (TILE_LINES * PLANES).div_ceil(small.len());
                    self.ask_for_lines(ahead, asked..(asked + ask).min(TILE_LINES * PLANES));
                    asked += ask;
                    self.add_products();
                }
            }
            for tile in tiles {
                self.load_and_add(*large, tile);
            }
        }
    }

    /// Reads sums, rows `stride` floats apart.
    ///
    /// # Safety
    /// Inside a session; `from` has rows of 32 floats, the second strip `strip` floats after the first.
    #[inline(always)]
    unsafe fn load(&self, from: *const f32, stride: usize, strip: usize) {
        // SAFETY: the caller's.
        unsafe {
            tile_unit::load::<0>(from, stride * 4);
            tile_unit::load::<1>(from.add(TILE_UNITS), stride * 4);
            if self.two_strips {
                let from = from.add(strip);
                tile_unit::load::<2>(from, stride * 4);
                tile_unit::load::<3>(from.add(TILE_UNITS), stride * 4);
            }
        }
    }

    /// Writes the sums, rows `stride` floats apart.
    ///
    /// # Safety
    /// Inside a session; `out` has rows of 32 floats, the second strip `strip` floats after the first.
    #[inline(always)]
    unsafe fn store(&self, out: *mut f32, stride: usize, strip: usize) {
        // SAFETY: the caller's.
        unsafe {
            tile_unit::store::<0>(out, stride * 4);
            tile_unit::store::<1>(out.add(TILE_UNITS), stride * 4);
            if self.two_strips {
                let out = out.add(strip);
                tile_unit::store::<2>(out, stride * 4);
                tile_unit::store::<3>(out.add(TILE_UNITS), stride * 4);
            }
        }
    }
}

impl<const PLANES: usize> Surroundings for Tiles<PLANES> {
    /// Left idle for 700 cycles, the tile unit needs some 600 more to wake up, and works at half its rate until then.
    #[inline(always)]
    unsafe fn keep_awake(row: usize, rows: usize) {
        if row % rows == rows / 2 {
            // SAFETY: the caller's. Between products no register holds anything.
            unsafe { tile_unit::add_products::<0, 4, 6>() }
        }
    }
}

impl<const PLANES: usize> Products<16, 2> for Tiles<PLANES> {
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
        let tiles = task.extent / PLANES / TILE_UNITS;
        let all = task.hull_of_ranges();
        for panel in all.start / WIDTH..all.end.div_ceil(WIDTH) {
            let in_panel = |strip: usize| {
                task.ranges.get(strip).is_some_and(|columns| columns.contains(&(panel * WIDTH)))
            };
            let mut strip = 0;
            while strip < task.ranges.len() {
                if !in_panel(strip) {
                    strip += 1;
                    continue;
                }
                let two_strips = in_panel(strip + 1);
                // SAFETY: both sides are as `Side` says, and rows of scores are whole.
                unsafe {
                    let (left, right) = (Side::left(task, strip, PLANES), Side::right(task, panel, PLANES));
                    let next_panel = (PLANES > 1 && tiles <= FEW_TILES).then_some(task.right_panel);
                    let block = Block { left, right, two_strips, next_panel };
                    block.clear();
                    block.add::<PLANES>(0..tiles);
                    let out = task.out.wrapping_add(strip * task.out_strip + panel * WIDTH);
                    block.store(out, TILE_KEYS, task.out_strip);
                }
                strip += if two_strips { 2 } else { 1 };
            }
        }
    }

    #[inline(always)]
    unsafe fn values(task: &Product<'_>) {
        let tiles = |keys: &Range<usize>| match keys.is_empty() {
            true => 0..0,
            false => keys.start / WIDTH..keys.end.div_ceil(WIDTH),
        };
        let mut sums = MaybeUninit::<Sums>::uninit();
        let sums: *mut f32 = sums.as_mut_ptr().cast();
        if PLANES == 1 {
            // SAFETY: rows of `out` are whole panels.
            unsafe { rescale_rows(task) };
        }
        let ranges = task.ranges;
        for panel in 0..task.extent / WIDTH {
            let mut strip = 0;
            // Not a closure: that would be compiled without the vectors' features.
            while strip < ranges.len() {
                let tiles_of_strip = tiles(&ranges[strip]);
                if tiles_of_strip.is_empty() {
                    strip += 1;
                    continue;
                }
                let two_strips = ranges.get(strip + 1).is_some_and(|keys| tiles(keys) == tiles_of_strip);
                // SAFETY: both sides are as `Side` says, and rows of `out` whole panels.
                unsafe {
                    let (left, right) = (Side::left(task, strip, PLANES), Side::right(task, panel, PLANES));
                    let next_panel = (PLANES > 1).then_some(task.right_panel);
                    let block = Block { left, right, two_strips, next_panel };
                    let first = strip * TILE_ROWS;
                    if PLANES == 1 {
                        // The weights have fewer digits than many additions take.
                        let out = task.out.add(first * task.out_row + panel * WIDTH);
                        block.load(out, task.out_row, task.out_strip);
                        block.add::<PLANES>(tiles_of_strip);
                        block.store(out, task.out_row, task.out_strip);
                        strip += if two_strips { 2 } else { 1 };
                        continue;
                    }
                    // The keys of a window are summed by themselves: thousands in a row would lose digits.
                    block.clear();
                    block.add::<PLANES>(tiles_of_strip);
                    block.store(sums, WIDTH, TILE_ROWS * WIDTH);
                    for row in 0..if two_strips { 2 * TILE_ROWS } else { TILE_ROWS } {
                        let factor = Avx512::splat(*task.factor.add(first + row));
                        let out = task.out.add((first + row) * task.out_row + panel * WIDTH);
                        for column in [0, Avx512::LANES] {
                            let sum = Avx512::load(sums.add(row * WIDTH + column));
                            let out = out.add(column);
                            Avx512::store(out, Avx512::fma(factor, Avx512::load(out), sum));
                        }
                    }
                }
                strip += if two_strips { 2 } else { 1 };
            }
        }
    }
}

/// Multiplies the rows of strips that have keys by their factors.
///
/// # Safety
/// As [`Products::values`].
#[inline(always)]
unsafe fn rescale_rows(task: &Product<'_>) {
    for (strip, _) in task.ranges.iter().enumerate().filter(|(_, keys)| !keys.is_empty()) {
        // SAFETY: the caller's; a strip has as many rows as a vector has lanes.
        unsafe {
            let factors = task.factor.add(strip * TILE_ROWS);
            let mut changed = Avx512::differ_from(Avx512::load(factors), 1.0);
            while changed != 0 {
                let row = changed.trailing_zeros() as usize;
                changed &= changed - 1;
                let out = task.out.add((strip * TILE_ROWS + row) * task.out_row);
                let factor = Avx512::splat(*factors.add(row));
                multiply::<Avx512>(out, 0..task.extent.div_ceil(Avx512::LANES), factor);
            }
        }
    }
}

/// A block of sums.
#[repr(C, align(64))]
struct Sums([f32; 2 * TILE_ROWS * WIDTH]);

/// The units of the weights of a row.
const WEIGHT_UNITS: usize = TILE_KEYS / 2;

/// Weights as planes, `[strips][planes][16][units]`. A unit is made of a key and that 16 keys further, because the upper
/// halves of two vectors are joined like that by cheaper instructions.
impl<const PLANES: usize> WeightFormat<Avx512> for Tiles<PLANES> {
    const VECTORS: usize = 2;
    const ROWS_AWAKE: usize = SLOW_ROWS;

    #[inline(always)]
    unsafe fn exp2<const SMALL: bool>(x: <Avx512 as Simd>::V) -> <Avx512 as Simd>::V {
        // SAFETY: the caller's.
        unsafe { if PLANES == 3 { Avx512::exp2::<SMALL>(x) } else { Avx512::exp2_for_bf16::<SMALL>(x) } }
    }

    #[inline(always)]
    unsafe fn store(task: &Softmax, row: usize, group: usize, weights: [<Avx512 as Simd>::V; 2]) {
        const PLANE: usize = TILE_ROWS * WEIGHT_UNITS;
        let at = row / TILE_ROWS * PLANES * PLANE + row % TILE_ROWS * WEIGHT_UNITS + group * TILE_UNITS;
        let [mut low, mut high] = weights;
        for plane in 0..PLANES {
            // SAFETY: the caller's.
            unsafe {
                Avx512::store(task.weights.add(at + plane * PLANE), Avx512::join_upper_halves(low, high));
                low = Avx512::sub(low, Avx512::upper_half(low));
                high = Avx512::sub(high, Avx512::upper_half(high));
            }
        }
    }
}
