//! The online softmax between the two products: what it works on, checked.

use std::ops::Range;

use super::{Multiplier, OddPolynomial, SUM_LANES, TILE_KEYS};
use crate::rows::SoftCap;

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
    /// What scores that change are multiplied by before.
    pub(super) scale: f32,
    /// What is added to the first row's scores, where biases are.
    pub(super) bias: *const f32,
    pub(super) bias_step: usize,
    pub(super) soft_cap: SoftCap,
    /// What makes exponents of scores that are known to be small.
    pub(super) polynomial: OddPolynomial,
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

/// What a softmax does to scores first.
#[derive(Clone, Copy)]
pub(in super::super) enum ScoreChange<'a> {
    Nothing,
    /// Multiplied by the scale, and a bias added.
    Bias(f32, AddedBias<'a>),
    /// Multiplied by the scale, and capped.
    SoftCap(f32, SoftCap),
    /// Nothing; all exponents are within ±[`LARGEST_EXPONENT`](super::LARGEST_EXPONENT): odd polynomials of scores, or their
    /// products with the factor. Where [maxima are not needed](super::Kernels::small_need_maxima), all are 0 and stay it.
    Bounded(Option<OddPolynomial>),
}

/// A bias of scores that is the same for all keys, or for all pairs of query and key, that are equally far apart.
#[derive(Clone, Copy)]
pub(in super::super) struct AddedBias<'a> {
    pub(in super::super) table: &'a [f32],
    /// Where the bias of the first row and the first key of the window is.
    pub(in super::super) first: usize,
    /// How much earlier that of the next row is.
    pub(in super::super) step: usize,
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
            scale: 1.0,
            bias: std::ptr::null(),
            bias_step: 0,
            soft_cap: SoftCap::NONE,
            polynomial: [0.0; 7],
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
    pub(in super::super) change: ScoreChange<'a>,
    /// What scores are multiplied by in the exponent of 2.
    pub(in super::super) factor: f32,
}

impl Multiplier {
    /// Turns scores into weights `2^(factor · score − max)` in the units of the packing, keeping maximum and sums of each
    /// row; changed scores take the place of scores.
    #[inline(always)]
    pub(in super::super) fn softmax(&self, rows: WeightedRows, state: SoftmaxRows) {
        let WeightedRows { scores, weights, keys, kept, change, factor } = rows;
        let mut task = Softmax::new(scores, keys, factor, state);
        if self.kernels.packing.planes() > 1 {
            assert!(weights.len() >= self.kernels.weights_len(task.rows), "every row has its weights");
            task.weights = weights.as_mut_ptr();
        }
        if let Some(kept) = kept {
            assert!(kept.len() >= task.rows, "every row says what it keeps");
            task.kept = kept.as_ptr();
        }
        let softmaxes = self.kernels.softmaxes(self.precision);
        let functions = match change {
            ScoreChange::Nothing => &softmaxes.unchanged,
            ScoreChange::Bias(scale, AddedBias { table, first, step }) => {
                let reach = task.rows.saturating_sub(1) * step;
                assert!(first >= reach && table.len() >= first + TILE_KEYS, "every score has its bias");
                (task.scale, task.bias, task.bias_step) = (scale, table[first..].as_ptr(), step);
                &softmaxes.biased
            }
            ScoreChange::SoftCap(scale, soft_cap) => {
                (task.scale, task.soft_cap) = (scale, soft_cap);
                &softmaxes.capped
            }
            ScoreChange::Bounded(None) => &softmaxes.bounded,
            ScoreChange::Bounded(Some(polynomial)) => {
                task.polynomial = polynomial;
                &softmaxes.bounded_odd
            }
        };
        let softmax = functions[usize::from(kept.is_some())];
        // SAFETY: the lengths are checked above.
        unsafe { softmax(&task) }
    }
}
