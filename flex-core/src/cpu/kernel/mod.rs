//! The inner loops: products of packed tiles and the online softmax, one set of functions an instruction set, chosen
//! once. The only unsafe code of the backend beside the shared output; what others call are the safe methods of
//! [`Kernels`], which check every length.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod bounded_softmax;
mod generic;
mod in_place;
mod magnitudes;
mod online_softmax;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod planes;
mod products;
mod read;
mod simd;
mod softmax;
#[cfg(test)]
mod tests;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tile_unit;

use std::ops::Range;

use crate::attention::DType;
use crate::isa::{Available, InstructionSet};
pub(super) use bounded_softmax::{LARGEST_EXPONENT, OddPolynomial};
pub(super) use in_place::{HeadRows, InPlace, Operands, Pipeline};
pub(super) use magnitudes::Magnitudes;
use online_softmax::{Exponent, WeightFormat};
use products::Product;
pub(super) use products::{Multiplier, QueryRows, ValueRows};
pub(super) use read::{Prefetch, Reader};
use simd::Simd;
use softmax::Softmax;
pub(super) use softmax::{AddedBias, ScoreChange, SoftmaxRows, WeightedRows};

/// The keys of a tile: the length of a row of scores.
pub(super) const TILE_KEYS: usize = 128;

/// The most strips of a product of query and key.
pub(super) const MAX_STRIPS: usize = 8;

/// The partial sums of a softmax row, summed at the end.
pub(super) const SUM_LANES: usize = 16;

/// The 32-bit units that packed operands are made of. `units(d)` of them hold a row of `d` elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// An f32. Query strips are `[units][strip]`.
    F32,
    /// Two bf16, neighbours along the dimension that is summed over. Query strips are `[units][strip]`.
    Bf16Pairs,
    /// Pairs as well, in whole tile registers of 16 × 16 units: bf16 as they are.
    Bf16Tiles,
    /// The same, f16 as sums of two bf16, its planes.
    F16Tiles,
    /// The same, f32 as sums of three bf16.
    F32Tiles,
}

impl Packing {
    /// The units of `len` elements along the dimension that is summed over.
    pub(super) fn units(self, len: usize) -> usize {
        match self {
            Self::F32 => len,
            Self::Bf16Pairs => len.div_ceil(2),
            _ => len.next_multiple_of(32) / 2 * self.planes(),
        }
    }

    /// Whether operands are in whole tile registers: strips of sixteen rows of query or weights are `[planes][16][units]`,
    /// panels of 32 columns of key or value `[planes][units][32]`. A unit is a pair of neighbours, of several planes one of
    /// elements that are 16 apart.
    pub(super) const fn is_tiles(self) -> bool {
        matches!(self, Self::Bf16Tiles | Self::F16Tiles | Self::F32Tiles)
    }

    /// The bf16 whose sum an element is, if it is no f32.
    pub(super) const fn planes(self) -> usize {
        match self {
            Self::F32 | Self::Bf16Pairs | Self::Bf16Tiles => 1,
            Self::F16Tiles => 2,
            Self::F32Tiles => 3,
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
    /// Whether cores with this instruction set and no more have 32 KiB of the nearest cache and half a MiB of the next one,
    /// instead of 48 KiB and one or two MiB.
    pub(super) has_small_caches: bool,
    begin: unsafe fn(),
    end: unsafe fn(),
    scores: unsafe fn(&Product<'_>),
    values: unsafe fn(&Product<'_>),
    softmax: unsafe fn(&Softmax),
    /// Between products.
    softmaxes: Softmaxes,
    /// The same where the sums of weights are no results.
    coarse_softmaxes: Softmaxes,
    /// Whether softmaxes of small scores look for maxima none the less.
    pub(super) small_need_maxima: bool,
    transpose: unsafe fn(&[*const f32], usize, *mut f32, usize),
}

/// A softmax where all keys count, and one where each row keeps some.
type WholeOrKept = [unsafe fn(&Softmax); 2];

/// The softmaxes that make weights in one way.
#[derive(Clone, Copy)]
struct Softmaxes {
    unchanged: WholeOrKept,
    biased: WholeOrKept,
    capped: WholeOrKept,
    /// Of exponents that are known to be small, proportional to scores or odd polynomials of them.
    bounded: WholeOrKept,
    bounded_odd: WholeOrKept,
    #[cfg_attr(not(test), expect(dead_code, reason = "the softmaxes have their own"))]
    exp2: unsafe fn(&mut [f32]),
}

/// How precise powers of two are before they are rounded to what weights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    /// As results that are f32: their sums are.
    Sums,
    /// As the weights.
    Weights,
}

impl Kernels {
    fn softmaxes(&self, precision: Precision) -> &Softmaxes {
        match precision {
            Precision::Sums => &self.softmaxes,
            Precision::Weights => &self.coarse_softmaxes,
        }
    }

    /// The kernels of an instruction set for inputs of a dtype.
    pub(super) fn new(isa: Available, dtype: DType) -> &'static Self {
        match (isa.set(), dtype) {
            (InstructionSet::Portable, _) => &PORTABLE,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, _) => &x86::AVX2,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            (InstructionSet::Amx, DType::BF16) => &x86::AMX,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            (InstructionSet::Amx, DType::F16) => &x86::AMX_F16,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            (InstructionSet::Amx, DType::F32) => &x86::AMX_F32,
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512Bf16, DType::BF16) => &x86::AVX512_BF16,
            #[cfg(target_arch = "x86_64")]
            #[allow(unreachable_patterns, reason = "tile registers are for Linux, and for every dtype there")]
            (InstructionSet::Avx512 | InstructionSet::Avx512Bf16 | InstructionSet::Amx, _) => &x86::AVX512,
            #[cfg(not(target_arch = "x86_64"))]
            _ => &PORTABLE,
        }
    }

    /// The kernels that take what these cannot represent: numbers so large or so small that planes do not sum up to them.
    pub(super) fn for_all_numbers(&self) -> Option<&'static Self> {
        match self.packing {
            #[cfg(target_arch = "x86_64")]
            Packing::F16Tiles | Packing::F32Tiles => Some(&x86::AVX512),
            _ => None,
        }
    }

    /// How many rows must meet each packed key for [others](Self::for_all_numbers) to be slower, on average, where rows of
    /// keys and values have so many elements together: splitting them and multiplying them takes time in proportion to the
    /// elements, but making planes of weights does not.
    pub(super) fn least_reuse(&self, elements: usize) -> f64 {
        let (least, of_one_element) = match self.packing.planes() {
            1 => return 0.0,
            2 => (28.0, 2560.0),
            _ => (60.0, 7000.0),
        };
        f64::max(least, 16.0 + of_one_element / elements as f64)
    }

    /// The floats of memory that the weights of some whole strips of rows take; as planes, not in the place of the scores.
    pub(super) fn weights_len(&self, rows: usize) -> usize {
        match self.packing.planes() {
            1 => rows * TILE_KEYS,
            _ => rows * self.packing.units(TILE_KEYS),
        }
    }

    /// As [`Multiplier::softmax`], where all keys count as they are and weights take the place of scores, rows of bf16
    /// where the packing has some.
    pub(super) fn softmax(&self, scores: &mut [f32], keys: Range<usize>, factor: f32, state: SoftmaxRows) {
        let task = Softmax::new(scores, keys, factor, state);
        // SAFETY: the lengths are checked.
        unsafe { (self.softmax)(&task) }
    }

    /// `to[column · stride + i] = rows[i][column]` for four or eight rows, a strip of queries, or sixteen, a part of a key panel.
    pub(super) fn transpose<const ROWS: usize>(&self, rows: [&[f32]; ROWS], to: &mut [f32], stride: usize) {
        const { assert!(ROWS == 4 || ROWS == 8 || ROWS == 16) };
        let columns = rows[0].len();
        assert!(rows.iter().all(|row| row.len() == columns), "rows of one length");
        assert!(columns == 0 || to.len() >= (columns - 1) * stride + ROWS, "there is room for all columns");
        // SAFETY: the lengths are checked above.
        unsafe { (self.transpose)(&rows.map(<[f32]>::as_ptr), columns, to.as_mut_ptr(), stride) }
    }

    /// 2ˣ of every element, as the softmax computes it. The length is a multiple of [`lanes`](Self::lanes).
    #[cfg(test)]
    pub(super) fn exp2(&self, precision: Precision, x: &mut [f32]) {
        assert!(x.len().is_multiple_of(self.lanes), "whole vectors");
        // SAFETY: the length is checked.
        unsafe { (self.softmaxes(precision).exp2)(x) }
    }
}

/// # Safety
/// The CPU has the features of `S`, and the length is a multiple of its lanes.
#[inline(always)]
unsafe fn exp2<S: Simd, W: WeightFormat<S>>(x: &mut [f32]) {
    for chunk in x.chunks_exact_mut(S::LANES) {
        // SAFETY: the chunk is one vector.
        unsafe { S::store(chunk.as_mut_ptr(), W::exp2::<false>(S::load(chunk.as_ptr()))) }
    }
}

/// Instantiates the kernels for one instruction set: `products` multiplies, `vectors` does the rest.
macro_rules! kernels {
    (
        $name:ident, products $products:ty, vectors $vectors:ty, packing $packing:ident, weights $weights:ty,
        coarse $coarse:ty, in place $rows:ty, strip $mr:literal, columns $nv:literal, pad $lanes:literal,
        small caches $small_caches:literal $(, features $features:literal)?
    ) => {
        pub(super) static $name: Kernels = {
            // SAFETY of the functions: that of the generic ones they are made of.
            unsafe fn begin() {
                // SAFETY: the caller's.
                unsafe { <$products as generic::Products<$mr, $nv>>::begin() }
            }
            unsafe fn end() {
                // SAFETY: the caller's.
                unsafe { <$products as generic::Products<$mr, $nv>>::end() }
            }
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
                unsafe { online_softmax::softmax::<$vectors, generic::Alone, $rows, online_softmax::Unchanged, false>(task) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn between<W, C, const MASKED: bool>(task: &Softmax)
            where
                W: WeightFormat<$vectors>,
                C: online_softmax::Change<$vectors>,
            {
                // SAFETY: the caller's.
                unsafe { online_softmax::softmax::<$vectors, $products, W, C, MASKED>(task) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn bounded<W, E, const MASKED: bool>(task: &Softmax)
            where
                W: WeightFormat<$vectors>,
                E: Exponent<$vectors>,
            {
                // SAFETY: the caller's.
                unsafe { bounded_softmax::softmax::<$vectors, $products, W, E, MASKED>(task) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn transpose(rows: &[*const f32], columns: usize, to: *mut f32, stride: usize) {
                // SAFETY: the caller's.
                unsafe { <$vectors>::transpose(rows, columns, to, stride) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn exponentials<W: WeightFormat<$vectors>>(x: &mut [f32]) {
                // SAFETY: the caller's.
                unsafe { exp2::<$vectors, W>(x) }
            }
            const fn softmaxes<W: WeightFormat<$vectors>>() -> Softmaxes {
                use bounded_softmax::Odd;
                use online_softmax::{Biased, Capped, Scaled, Unchanged};
                type V = <$vectors as Simd>::V;
                Softmaxes {
                    unchanged: [between::<W, Unchanged, false>, between::<W, Unchanged, true>],
                    biased: [between::<W, Biased, false>, between::<W, Biased, true>],
                    capped: [between::<W, Capped, false>, between::<W, Capped, true>],
                    bounded: [bounded::<W, Scaled<V>, false>, bounded::<W, Scaled<V>, true>],
                    bounded_odd: [bounded::<W, Odd<V>, false>, bounded::<W, Odd<V>, true>],
                    exp2: exponentials::<W>,
                }
            }
            Kernels {
                strip: $mr,
                panel: $nv * <$vectors>::LANES,
                lanes: $lanes,
                packing: Packing::$packing,
                has_small_caches: $small_caches,
                begin,
                end,
                scores,
                values,
                softmax,
                softmaxes: softmaxes::<$weights>(),
                coarse_softmaxes: softmaxes::<$coarse>(),
                small_need_maxima: <$weights as WeightFormat<$vectors>>::NEEDS_MAXIMA,
                transpose,
            }
        };
    };
}

kernels!(
    PORTABLE, products simd::Portable, vectors simd::Portable, packing F32, weights online_softmax::InF32,
    coarse online_softmax::InF32, in place online_softmax::InF32, strip 4, columns 2, pad 8, small caches false
);

#[cfg(target_arch = "x86_64")]
mod x86 {
    #[cfg(target_os = "linux")]
    use super::amx::Tiles;
    use super::online_softmax::{InBf16, InCoarseBf16, InF32};
    use super::simd::{Avx2, Avx512, Bf16Dot};
    use super::*;

    kernels!(
        AVX2, products Avx2, vectors Avx2, packing F32, weights InF32, coarse InF32, in place InF32, strip 4, columns 2,
        pad 8, small caches true, features "avx2,fma"
    );
    kernels!(
        AVX512, products Avx512, vectors Avx512, packing F32, weights InF32, coarse InF32, in place InF32, strip 8,
        columns 2, pad 16, small caches false, features "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
    );
    kernels!(
        AVX512_BF16, products Bf16Dot, vectors Avx512, packing Bf16Pairs, weights InBf16, coarse InCoarseBf16,
        in place InBf16, strip 8, columns 2, pad 32, small caches false,
        features "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,avx512bf16"
    );
    #[cfg(target_os = "linux")]
    kernels!(
        AMX, products Tiles<1>, vectors Avx512, packing Bf16Tiles, weights InBf16, coarse InCoarseBf16,
        in place InBf16, strip 16, columns 2, pad 32, small caches false,
        features "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,avx512bf16"
    );
    #[cfg(target_os = "linux")]
    kernels!(
        AMX_F16, products Tiles<2>, vectors Avx512, packing F16Tiles, weights Tiles<2>, coarse Tiles<2>,
        in place InF32, strip 16, columns 2, pad 32, small caches false,
        features "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,avx512bf16"
    );
    #[cfg(target_os = "linux")]
    kernels!(
        AMX_F32, products Tiles<3>, vectors Avx512, packing F32Tiles, weights Tiles<3>, coarse Tiles<3>,
        in place InF32, strip 16, columns 2, pad 32, small caches false,
        features "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,avx512bf16"
    );
}
