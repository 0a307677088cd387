//! The inner loops: products of packed tiles and the online softmax, one set of functions an instruction set, chosen
//! once. The only unsafe code of the backend beside the shared output; what others call are the safe methods of
//! [`Kernels`], which check every length.

mod generic;
mod simd;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::isa::InstructionSet;
use simd::Simd;

/// The keys of a tile: the length of a row of scores.
pub(super) const TILE_KEYS: usize = 128;

/// The partial sums of a softmax row, summed at the end.
pub(super) const SUM_LANES: usize = 16;

/// What a product function works on: pointers, and distances in floats.
struct Product {
    left: *const f32,
    left_strip: usize,
    right: *const f32,
    right_panel: usize,
    out: *mut f32,
    out_strip: usize,
    out_row: usize,
    factor: *const f32,
    strips: usize,
    panels: Range<usize>,
    steps: usize,
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
}

/// The kernels of one instruction set.
#[derive(Clone, Copy)]
pub(super) struct Kernels {
    /// Query rows of a strip: what one call of the innermost loop computes.
    pub(super) strip: usize,
    /// Columns of a panel: keys of a product of query and key, value columns of a product of weights and value.
    pub(super) panel: usize,
    /// Floats of a vector.
    pub(super) lanes: usize,
    scores: unsafe fn(&Product),
    values: unsafe fn(&Product),
    softmax: unsafe fn(&Softmax),
    #[cfg_attr(not(test), expect(dead_code, reason = "the softmax has its own"))]
    exp2: unsafe fn(&mut [f32]),
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
    /// The kernels of an instruction set; those of the best one available if this CPU does not have it.
    pub(super) fn new(isa: InstructionSet) -> &'static Self {
        match isa.or_available() {
            InstructionSet::Portable => &PORTABLE,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => &x86::AVX2,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => &x86::AVX512,
            #[cfg(not(target_arch = "x86_64"))]
            _ => &PORTABLE,
        }
    }

    /// `scores[r, key] = Σ query[r, d] · key[key, d]` for whole strips of rows and the given panels of keys.
    ///
    /// `query` has strips `[strips][head_dim][strip]`, `key` panels `[panels][head_dim][panel]`, `scores` rows of
    /// [`TILE_KEYS`].
    pub(super) fn scores(
        &self,
        query: &[f32],
        key: &[f32],
        head_dim: usize,
        panels: Range<usize>,
        scores: &mut [f32],
    ) {
        let strips = scores.len() / (self.strip * TILE_KEYS);
        assert!(query.len() >= strips * head_dim * self.strip, "query strips are complete");
        assert!(key.len() >= panels.end * head_dim * self.panel, "key panels are complete");
        assert!(panels.end * self.panel <= TILE_KEYS, "panels lie in the tile");
        let task = Product {
            left: query.as_ptr(),
            left_strip: head_dim * self.strip,
            right: key.as_ptr(),
            right_panel: head_dim * self.panel,
            out: scores.as_mut_ptr(),
            out_strip: self.strip * TILE_KEYS,
            out_row: TILE_KEYS,
            factor: std::ptr::null(),
            strips,
            panels,
            steps: head_dim,
        };
        // SAFETY: the lengths are checked above, and `Kernels::new` gives only what the CPU can execute.
        unsafe { (self.scores)(&task) }
    }

    /// `out[r, c] = rescale[r] · out[r, c] + Σ weights[r, key] · value[key, c]` over the given keys of the tile.
    ///
    /// `weights` has rows of [`TILE_KEYS`], `value` panels `[panels][TILE_KEYS][panel]`, `out` rows of `out_row` columns,
    /// a multiple of the panel.
    pub(super) fn values(
        &self,
        weights: &[f32],
        value: &[f32],
        keys: Range<usize>,
        rescale: &[f32],
        out: &mut [f32],
        out_row: usize,
    ) {
        let strips = weights.len() / (self.strip * TILE_KEYS);
        let panels = out_row / self.panel;
        assert!(keys.start <= keys.end && keys.end <= TILE_KEYS, "the keys are those of the tile");
        assert!(value.len() >= panels * TILE_KEYS * self.panel, "value panels are complete");
        assert!(out.len() >= strips * self.strip * out_row, "output rows are complete");
        assert!(rescale.len() >= strips * self.strip, "every row has its factor");
        let task = Product {
            left: weights[keys.start..].as_ptr(),
            left_strip: self.strip * TILE_KEYS,
            right: value[keys.start * self.panel..].as_ptr(),
            right_panel: TILE_KEYS * self.panel,
            out: out.as_mut_ptr(),
            out_strip: self.strip * out_row,
            out_row,
            factor: rescale.as_ptr(),
            strips,
            panels: 0..panels,
            steps: keys.len(),
        };
        // SAFETY: as above; the last row and panel end before the slices do.
        unsafe { (self.values)(&task) }
    }

    /// Turns scores into weights `2^(factor · score − max)`, keeping maximum and sums of each row. Keys outside the
    /// range are not read, but for those that share a vector with its ends: they must be −∞ there.
    pub(super) fn softmax(&self, scores: &mut [f32], keys: Range<usize>, factor: f32, state: SoftmaxRows) {
        let rows = scores.len() / TILE_KEYS;
        assert!(keys.end <= TILE_KEYS, "the keys are those of the tile");
        assert!(
            state.max.len() >= rows && state.rescale.len() >= rows && state.sums.len() >= rows * SUM_LANES,
            "every row has its state"
        );
        let task = Softmax {
            scores: scores.as_mut_ptr(),
            rows,
            keys,
            factor,
            max: state.max.as_mut_ptr(),
            sums: state.sums.as_mut_ptr(),
            rescale: state.rescale.as_mut_ptr(),
        };
        // SAFETY: the lengths are checked above.
        unsafe { (self.softmax)(&task) }
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

/// Instantiates the kernels for one instruction set.
macro_rules! kernels {
    ($name:ident, $simd:ty, strip $mr:literal, vectors $nv:literal $(, features $features:literal)?) => {
        pub(super) static $name: Kernels = {
            // SAFETY of the functions: that of the generic ones they are made of.
            $(#[target_feature(enable = $features)])?
            unsafe fn scores(task: &Product) {
                // SAFETY: the caller's.
                unsafe { generic::scores::<$simd, $mr, $nv>(task) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn values(task: &Product) {
                // SAFETY: the caller's.
                unsafe { generic::values::<$simd, $mr, $nv>(task) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn softmax(task: &Softmax) {
                // SAFETY: the caller's.
                unsafe { generic::softmax::<$simd>(task) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn exponentials(x: &mut [f32]) {
                // SAFETY: the caller's.
                unsafe { exp2::<$simd>(x) }
            }
            Kernels {
                strip: $mr,
                panel: $nv * <$simd>::LANES,
                lanes: <$simd>::LANES,
                scores,
                values,
                softmax,
                exp2: exponentials,
            }
        };
    };
}

kernels!(PORTABLE, simd::Portable, strip 4, vectors 2);

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;

    kernels!(AVX2, simd::Avx2, strip 4, vectors 2, features "avx2,fma");
    kernels!(AVX512, simd::Avx512, strip 8, vectors 2, features "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
}
