//! The online softmax between the two products: what it works on, checked.

use std::ops::Range;

use super::{Multiplier, SUM_LANES, TILE_KEYS};

/// What the softmax function works on.
pub(super) struct Softmax {
    pub(super) scores: *mut f32,
    /// Where the weights go: those that are not planes, to the place of the scores.
    pub(super) weights: *mut f32,
    pub(super) rows: usize,
    pub(super) keys: Range<usize>,
    pub(super) factor: f32,
    pub(super) max: *mut f32,
    pub(super) sums: *mut f32,
    pub(super) rescale: *mut f32,
    /// The lanes that each row keeps; null if it keeps all of `keys`.
    pub(super) kept: *const Range<u32>,
    /// What is added to the first row's scores; null if nothing is.
    pub(super) bias: *const f32,
    pub(super) bias_step: usize,
    pub(super) scale: f32,
}

/// The state of the online softmax of some rows.
pub(in super::super) struct SoftmaxRows<'a> {
    /// The maximum so far, in the units of the exponent of 2.
    pub(in super::super) max: &'a mut [f32],
    /// [`SUM_LANES`] partial sums a row.
    pub(in super::super) sums: &'a mut [f32],
    /// Receives what earlier sums and outputs are multiplied by.
    pub(in super::super) rescale: &'a mut [f32],
}

/// A bias of scores that is the same for all keys, or for all pairs of query and key, that are equally far apart.
#[derive(Clone, Copy)]
pub(in super::super) struct AddedBias<'a> {
    pub(in super::super) table: &'a [f32],
    /// Where the bias of the first row and the first key of the window is.
    pub(in super::super) first: usize,
    /// How much earlier that of the next row is.
    pub(in super::super) step: usize,
    /// What scores are multiplied by before.
    pub(in super::super) scale: f32,
}

impl Softmax {
    /// All rows of some scores, of which all keys count as they are.
    #[inline(always)]
    pub(super) fn new(scores: &mut [f32], keys: Range<usize>, factor: f32, state: SoftmaxRows) -> Self {
        let rows = scores.len() / TILE_KEYS;
        assert!(keys.end <= TILE_KEYS, "the keys are those of the window");
        assert!(
            state.max.len() >= rows && state.rescale.len() >= rows && state.sums.len() >= rows * SUM_LANES,
            "every row has its state"
        );
        Self {
            scores: scores.as_mut_ptr(),
            weights: scores.as_mut_ptr(),
            rows,
            keys,
            factor,
            max: state.max.as_mut_ptr(),
            sums: state.sums.as_mut_ptr(),
            rescale: state.rescale.as_mut_ptr(),
            kept: std::ptr::null(),
            bias: std::ptr::null(),
            bias_step: 0,
            scale: 1.0,
        }
    }
}

/// Rows of scores that become weights.
pub(in super::super) struct WeightedRows<'a> {
    /// Rows of [`TILE_KEYS`].
    pub(in super::super) scores: &'a mut [f32],
    /// Receives [the weights](super::Kernels::weights_len) as planes; other weights take the place of the scores.
    pub(in super::super) weights: &'a mut [f32],
    /// Keys outside the range are not read, but for those that share a vector with its ends: where no row says what it
    /// keeps, they must be −∞ there.
    pub(in super::super) keys: Range<usize>,
    /// The lanes of each row that count.
    pub(in super::super) kept: Option<&'a [Range<u32>]>,
    pub(in super::super) bias: Option<AddedBias<'a>>,
    /// What scores are multiplied by in the exponent of 2.
    pub(in super::super) factor: f32,
}

impl Multiplier {
    /// Turns scores into weights `2^(factor · score − max)` in the units of the packing, keeping maximum and sums of each
    /// row; `score · scale + bias` takes the place of a score that has a bias.
    #[inline(always)]
    pub(in super::super) fn softmax(&self, rows: WeightedRows, state: SoftmaxRows) {
        let WeightedRows { scores, weights, keys, kept, bias, factor } = rows;
        let mut task = Softmax::new(scores, keys, factor, state);
        if self.kernels.packing.planes() > 1 {
            assert!(weights.len() >= self.kernels.weights_len(task.rows), "every row has its weights");
            task.weights = weights.as_mut_ptr();
        }
        if let Some(kept) = kept {
            assert!(kept.len() >= task.rows, "every row says what it keeps");
            task.kept = kept.as_ptr();
        }
        if let Some(AddedBias { table, first, step, scale }) = bias {
            let reach = task.rows.saturating_sub(1) * step;
            assert!(first >= reach && table.len() >= first + TILE_KEYS, "every score has its bias");
            (task.bias, task.bias_step, task.scale) = (table[first..].as_ptr(), step, scale);
        }
        let softmax = self.kernels.softmax_between[usize::from(bias.is_some())][usize::from(kept.is_some())];
        // SAFETY: the lengths are checked above.
        unsafe { softmax(&task) }
    }
}
