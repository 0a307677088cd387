//! The inner loops: products of packed tiles and the online softmax, one set of functions an instruction set, chosen
//! once. The only unsafe code of the backend beside the shared output; what others call are the safe methods of
//! [`Kernels`], which check every length.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod generic;
mod in_place;
mod read;
mod simd;
#[cfg(test)]
mod tests;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tile_unit;

use std::ops::Range;

use crate::attention::DType;
use crate::isa::{Available, InstructionSet};
pub(super) use in_place::{HeadRows, InPlace, Operands, Pipeline};
pub(super) use read::{Prefetch, Reader};
use simd::Simd;

/// The keys of a tile: the length of a row of scores.
pub(super) const TILE_KEYS: usize = 128;

/// The most strips of a product of query and key.
pub(super) const MAX_STRIPS: usize = 8;

/// The partial sums of a softmax row, summed at the end.
pub(super) const SUM_LANES: usize = 16;

/// What a product function works on: pointers, and distances in floats.
struct Product<'a> {
    left: *const f32,
    left_strip: usize,
    /// Of queries, from one row to the next: 1 in a packed strip, more where steps are next to each other.
    left_row: usize,
    right: *const f32,
    right_panel: usize,
    /// From one unit that is summed over to the next one.
    right_step: usize,
    out: *mut f32,
    out_strip: usize,
    out_row: usize,
    factor: *const f32,
    /// Of each strip: of a product of query and key the columns of `right` and `out`, of weights and value the keys that
    /// are summed over.
    ranges: &'a [Range<usize>],
    /// The rest: the units that are summed over, or the columns of `right` and `out`.
    extent: usize,
}

/// What the softmax function works on.
struct Softmax {
    scores: *mut f32,
    rows: usize,
    keys: Range<usize>,
    factor: f32,
    max: *mut f32,
    sums: *mut f32,
    rescale: *mut f32,
    /// The lanes that each row keeps; null if it keeps all of `keys`.
    kept: *const Range<u32>,
}

/// The 32-bit units that packed operands are made of. `units(d)` of them hold a row of `d` elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// An f32. Query strips are `[units][strip]`.
    F32,
    /// Two bf16, neighbours along the dimension that is summed over. Query strips are `[units][strip]`.
    Bf16Pairs,
    /// The same, but query strips are rows, `[strip][units]`, and units come in sixteens: whole tile registers.
    Bf16Tiles,
}

impl Packing {
    /// The units of `len` elements along the dimension that is summed over.
    pub(super) fn units(self, len: usize) -> usize {
        match self {
            Self::F32 => len,
            Self::Bf16Pairs => len.div_ceil(2),
            Self::Bf16Tiles => len.next_multiple_of(32) / 2,
        }
    }
}

/// The kernels of one instruction set.
#[derive(Clone, Copy)]
pub(super) struct Kernels {
    /// Query rows of a strip: what one call of the innermost loop computes.
    pub(super) strip: usize,
    /// Columns of a panel: keys of a product of query and key, value columns of a product of weights and value.
    pub(super) panel: usize,
    /// Products of query and key are of multiples of this many keys, and scores beyond the kept ones are −∞ up to that.
    pub(super) lanes: usize,
    /// How operands are packed.
    pub(super) packing: Packing,
    scores: unsafe fn(&Product<'_>),
    values: unsafe fn(&Product<'_>),
    softmax: unsafe fn(&Softmax),
    masked_softmax: unsafe fn(&Softmax),
    transpose: unsafe fn([*const f32; 8], usize, *mut f32, usize),
    #[cfg_attr(not(test), expect(dead_code, reason = "the softmax has its own"))]
    exp2: unsafe fn(&mut [f32]),
}

/// The queries of a block.
#[derive(Clone, Copy)]
pub(super) enum QueryRows<'a> {
    /// Strips of `units · strip` units.
    Packed(&'a [f32]),
    /// Whole strips of rows as they lie, `stride` apart.
    InPlace { rows: &'a [f32], stride: usize },
}

/// The values that a window of keys is multiplied with.
#[derive(Clone, Copy)]
pub(super) enum ValueRows<'a> {
    /// Panels `[panels][units][panel]`, and the packed key at which the window begins, a multiple of
    /// [`Kernels::lanes`].
    Packed { panels: &'a [f32], units: usize, first: usize },
    /// The rows of the window as they lie, of at least as many columns as the output has, `stride` apart.
    InPlace { rows: &'a [f32], stride: usize },
}

/// The state of the online softmax of some rows.
pub(super) struct SoftmaxRows<'a> {
    /// The maximum so far, in the units of the exponent of 2.
    pub(super) max: &'a mut [f32],
    /// [`SUM_LANES`] partial sums a row.
    pub(super) sums: &'a mut [f32],
    /// Receives what earlier sums and outputs are multiplied by.
    pub(super) rescale: &'a mut [f32],
}

impl Kernels {
    /// The kernels of an instruction set for inputs of a dtype.
    pub(super) fn new(isa: Available, dtype: DType) -> &'static Self {
        match (isa.set(), dtype) {
            (InstructionSet::Portable, _) => &PORTABLE,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, _) => &x86::AVX2,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            (InstructionSet::Amx, DType::BF16) => &x86::AMX,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16, DType::BF16) => &x86::AVX512_BF16,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512 | InstructionSet::Avx512Bf16 | InstructionSet::Amx, _) => &x86::AVX512,
            #[cfg(not(target_arch = "x86_64"))]
            _ => &PORTABLE,
        }
    }

    /// `scores[r, lane] = Σ query[r, d] · key[first + lane, d]` for strips of rows, each with the vectors around its own
    /// lanes of a window that begins at the packed key `first`, a multiple of [`lanes`](Self::lanes).
    ///
    /// `key` has panels `[panels][units][panel]`, `scores` rows of [`TILE_KEYS`].
    pub(super) fn scores(
        &self,
        query: QueryRows,
        key: &[f32],
        units: usize,
        first: usize,
        lanes: &[Range<usize>],
        scores: &mut [f32],
    ) {
        let strips = lanes.len();
        let last = lanes.iter().map(|lanes| lanes.end).max().unwrap_or(0);
        let (query, left_strip, left_row) = match query {
            QueryRows::Packed(query) => {
                assert!(query.len() >= strips * units * self.strip, "query strips are complete");
                (query, units * self.strip, 1)
            }
            QueryRows::InPlace { rows, stride } => {
                assert!(self.packing == Packing::F32, "only f32 is multiplied where it is");
                let end = (strips * self.strip).checked_sub(1).map_or(0, |last| last * stride + units);
                assert!(rows.len() >= end && stride > 1, "the queries are there");
                (rows, self.strip * stride, stride)
            }
        };
        assert!(scores.len() >= strips * self.strip * TILE_KEYS, "rows of scores are complete");
        assert!(last <= TILE_KEYS, "the lanes are those of the window");
        assert!(key.len() >= (first + last).next_multiple_of(self.panel) * units, "key panels are complete");
        assert!(first.is_multiple_of(self.lanes), "windows begin at whole vectors");
        let mut columns = [const { 0..0 }; MAX_STRIPS];
        for (columns, lanes) in columns[..strips].iter_mut().zip(lanes) {
            if !lanes.is_empty() {
                let start = first + lanes.start / self.lanes * self.lanes;
                *columns = start..first + lanes.end.next_multiple_of(self.lanes);
            }
        }
        let task = Product {
            left: query.as_ptr(),
            left_strip,
            left_row,
            right: key.as_ptr(),
            right_panel: units * self.panel,
            right_step: self.panel,
            // Column `first` is at the start of a row.
            out: scores.as_mut_ptr().wrapping_sub(first),
            out_strip: self.strip * TILE_KEYS,
            out_row: TILE_KEYS,
            factor: std::ptr::null(),
            ranges: &columns[..strips],
            extent: units,
        };
        // SAFETY: the lengths are checked above, and `Kernels::new` gives only what the CPU can execute.
        unsafe { (self.scores)(&task) }
    }

    /// `out[r, c] = rescale[r] · out[r, c] + Σ weights[r, lane] · value[first + lane, c]` for strips of rows, each over its
    /// own lanes of a window that begins at the key `first`. A strip without lanes stays as it is.
    ///
    /// `weights` has rows of [`TILE_KEYS`] floats of memory, `out` rows of `out_row` columns, a multiple of the panel.
    pub(super) fn values(
        &self,
        weights: &[f32],
        value: ValueRows,
        lanes: &[Range<usize>],
        rescale: &[f32],
        out: &mut [f32],
        out_row: usize,
    ) {
        let strips = lanes.len();
        let panels = out_row / self.panel;
        let last = lanes.iter().map(|lanes| lanes.end).max().unwrap_or(0);
        assert!(weights.len() >= strips * self.strip * TILE_KEYS, "rows of weights are complete");
        assert!(last <= TILE_KEYS, "the lanes are those of the window");
        assert!(out.len() >= strips * self.strip * out_row, "output rows are complete");
        assert!(rescale.len() >= strips * self.strip, "every row has its factor");
        let (right, right_panel, right_step) = match value {
            ValueRows::Packed { panels: value, units, first } => {
                let before = self.packing.units(first);
                assert!(first.is_multiple_of(self.lanes), "windows begin at whole vectors");
                assert!(before + self.packing.units(last) <= units, "the keys are packed");
                assert!(value.len() >= panels * units * self.panel, "value panels are complete");
                (&value[before * self.panel..], units * self.panel, self.panel)
            }
            ValueRows::InPlace { rows: value, stride } => {
                assert!(self.packing == Packing::F32, "only f32 is multiplied where it is");
                let end = last.checked_sub(1).map_or(0, |last| last * stride + out_row);
                assert!(value.len() >= end && stride >= out_row, "the keys are there");
                (value, self.panel, stride)
            }
        };
        let task = Product {
            left: weights.as_ptr(),
            left_strip: self.strip * TILE_KEYS,
            left_row: TILE_KEYS,
            right: right.as_ptr(),
            right_panel,
            right_step,
            out: out.as_mut_ptr(),
            out_strip: self.strip * out_row,
            out_row,
            factor: rescale.as_ptr(),
            ranges: lanes,
            extent: out_row,
        };
        // SAFETY: as above; the last row and panel end before the slices do.
        unsafe { (self.values)(&task) }
    }

    /// Turns scores into weights `2^(factor · score − max)` in the units of the packing, keeping maximum and sums of each
    /// row. Keys outside the range are not read, but for those that share a vector with its ends: where no row says what
    /// it keeps, they must be −∞ there. Of a row in `kept`, only the lanes that it says count.
    pub(super) fn softmax(
        &self,
        scores: &mut [f32],
        keys: Range<usize>,
        kept: Option<&[Range<u32>]>,
        factor: f32,
        state: SoftmaxRows,
    ) {
        let rows = scores.len() / TILE_KEYS;
        assert!(keys.end <= TILE_KEYS, "the keys are those of the window");
        assert!(
            state.max.len() >= rows && state.rescale.len() >= rows && state.sums.len() >= rows * SUM_LANES,
            "every row has its state"
        );
        assert!(kept.is_none_or(|kept| kept.len() >= rows), "every row says what it keeps");
        let task = Softmax {
            scores: scores.as_mut_ptr(),
            rows,
            keys,
            factor,
            max: state.max.as_mut_ptr(),
            sums: state.sums.as_mut_ptr(),
            rescale: state.rescale.as_mut_ptr(),
            kept: kept.map_or(std::ptr::null(), <[Range<u32>]>::as_ptr),
        };
        let softmax = if kept.is_some() { self.masked_softmax } else { self.softmax };
        // SAFETY: the lengths are checked above.
        unsafe { softmax(&task) }
    }

    /// `to[column · stride + i] = rows[i][column]` for eight rows: a part of a key panel or of a strip of queries.
    pub(super) fn transpose(&self, rows: [&[f32]; 8], to: &mut [f32], stride: usize) {
        let columns = rows[0].len();
        assert!(rows.iter().all(|row| row.len() == columns), "eight rows of one length");
        assert!(columns == 0 || to.len() >= (columns - 1) * stride + 8, "there is room for all columns");
        // SAFETY: the lengths are checked above.
        unsafe { (self.transpose)(rows.map(<[f32]>::as_ptr), columns, to.as_mut_ptr(), stride) }
    }

    /// 2ˣ of every element, as the softmax computes it. The length is a multiple of [`lanes`](Self::lanes).
    #[cfg(test)]
    pub(super) fn exp2(&self, x: &mut [f32]) {
        assert!(x.len().is_multiple_of(self.lanes), "whole vectors");
        // SAFETY: the length is checked.
        unsafe { (self.exp2)(x) }
    }
}

/// # Safety
/// The CPU has the features of `S`, and the length is a multiple of its lanes.
#[inline(always)]
unsafe fn exp2<S: Simd>(x: &mut [f32]) {
    for chunk in x.chunks_exact_mut(S::LANES) {
        // SAFETY: the chunk is one vector.
        unsafe { S::store(chunk.as_mut_ptr(), S::exp2(S::load(chunk.as_ptr()))) }
    }
}

/// Instantiates the kernels for one instruction set: `products` multiplies, `vectors` does the rest.
macro_rules! kernels {
    (
        $name:ident, products $products:ty, vectors $vectors:ty, packing $packing:ident, strip $mr:literal,
        columns $nv:literal, pad $lanes:literal $(, features $features:literal)?
    ) => {
        pub(super) static $name: Kernels = {
            // SAFETY of the functions: that of the generic ones they are made of.
            $(#[target_feature(enable = $features)])?
            unsafe fn scores(task: &Product<'_>) {
                // SAFETY: the caller's.
                unsafe { <$products as generic::Products<$mr, $nv>>::scores(task) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn values(task: &Product<'_>) {
                // SAFETY: the caller's.
                unsafe { <$products as generic::Products<$mr, $nv>>::values(task) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn softmax(task: &Softmax) {
                // SAFETY: the caller's.
                unsafe { generic::softmax::<$vectors, { Packing::$packing as u8 }, false>(task) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn masked_softmax(task: &Softmax) {
                // SAFETY: the caller's.
                unsafe { generic::softmax::<$vectors, { Packing::$packing as u8 }, true>(task) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn transpose(rows: [*const f32; 8], columns: usize, to: *mut f32, stride: usize) {
                // SAFETY: the caller's.
                unsafe { <$vectors>::transpose(rows, columns, to, stride) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn exponentials(x: &mut [f32]) {
                // SAFETY: the caller's.
                unsafe { exp2::<$vectors>(x) }
            }
            Kernels {
                strip: $mr,
                panel: $nv * <$vectors>::LANES,
                lanes: $lanes,
                packing: Packing::$packing,
                scores,
                values,
                softmax,
                masked_softmax,
                transpose,
                exp2: exponentials,
            }
        };
    };
}

kernels!(PORTABLE, products simd::Portable, vectors simd::Portable, packing F32, strip 4, columns 2, pad 8);

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::simd::{Avx2, Avx512, Bf16Dot};
    use super::*;

    kernels!(AVX2, products Avx2, vectors Avx2, packing F32, strip 4, columns 2, pad 8, features "avx2,fma");
    kernels!(
        AVX512, products Avx512, vectors Avx512, packing F32, strip 8, columns 2, pad 16,
        features "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
    );
    kernels!(
        AVX512_BF16, products Bf16Dot, vectors Avx512, packing Bf16Pairs, strip 8, columns 2, pad 32,
        features "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,avx512bf16"
    );
    #[cfg(target_os = "linux")]
    kernels!(
        AMX, products super::amx::Tiles, vectors Avx512, packing Bf16Tiles, strip 16, columns 2, pad 32,
        features "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,avx512bf16"
    );
}
