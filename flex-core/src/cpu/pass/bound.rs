//! What is known of scores before they are computed: a product of query and key is at most the product of their lengths
//! (Cauchy and Schwarz).

use std::ops::{Range, RangeInclusive};

use super::super::item::{Item, Job};
use super::super::kernel::{
    HeadRows, InPlace, LARGEST_EXPONENT, Magnitudes, OddPolynomial, SUM_LANES, ScoreChange,
};
use super::super::output::{self, FinishedRows};
use super::visit::Visit;
use super::{Pass, Stop};
use crate::attention::{Problem, TensorRef};

/// The magnitudes of sums of values that cannot have lost digits, nor overflowed, where no maximum was subtracted.
const SAFE_SUMS: RangeInclusive<f32> = 1e-18..=f32::MAX;

/// How small scores are, for a softmax that needs no maximum.
pub(in super::super) struct Bound<'p> {
    /// The most that ‖query‖ · ‖key‖ may be.
    most: f32,
    /// The exponents of scores, where they are not proportional to them.
    exponents: Option<OddPolynomial>,
    kernels: &'static InPlace,
    query: &'p TensorRef<'p>,
    key: HeadRows<'p>,
    /// The largest ‖query‖² of the item so far.
    query_square: f32,
    /// The largest ‖key‖² of what is packed.
    key_square: f32,
}

impl<'p> Bound<'p> {
    /// `None` where scores are changed in ways that say nothing of their size, or maxima are needed.
    pub(in super::super) fn new(job: &'p Job<'p>, item: &Item) -> Option<Self> {
        // Nothing would be gained, or a result not be there.
        let is_useless = if job.kernels.small_need_maxima { job.score.is_none() } else { job.wants_max };
        if is_useless || item.partial.is_some() {
            return None;
        }
        let (of_query, factor) = job.factors();
        let (most, exponents) = match job.score {
            None => (LARGEST_EXPONENT / (of_query * factor).abs(), None),
            Some(score) => {
                let scale = job.scales().1;
                let (most, exponents) = score.soft_cap()?.exponents(scale, LARGEST_EXPONENT)?;
                (most / (of_query * scale).abs(), Some(exponents))
            }
        };
        let Problem { query, key, .. } = job.problem;
        let batch = if job.shape.kv_batch == 1 { 0 } else { item.batch };
        Some(Self {
            most,
            exponents,
            kernels: InPlace::new(job.isa, query.elements().dtype(), job.shape.head_dim, job.shape.value_dim),
            query,
            key: HeadRows::new(key, batch, item.kv_head)?,
            query_square: 0.0,
            key_square: 0.0,
        })
    }

    /// Some queries of a head will meet the packed keys. Those whose elements do not lie side by side may be of any length.
    pub(super) fn include_queries(&mut self, batch: usize, (head, queries): (usize, Range<usize>)) {
        let square = HeadRows::new(self.query, batch, head)
            .map_or(f32::INFINITY, |rows| self.kernels.largest_square(&rows, &queries));
        self.query_square = self.query_square.max(square);
    }

    /// These keys and their values are packed now.
    pub(super) fn set_keys(&mut self, keys: &Range<usize>, packed: Magnitudes) {
        self.key_square = match packed.are_exact_beside_small_weights() {
            true => self.kernels.largest_square(&self.key, keys),
            false => f32::INFINITY,
        };
    }

    fn holds(&self, is_asked: bool) -> bool {
        let product = self.query_square.sqrt() * self.key_square.sqrt();
        // −∞ stands for keys that an asked mask does not keep.
        product.is_finite() && product <= self.most && !is_asked
    }
}

impl Pass<'_, '_> {
    /// Whether the scores of a block and the packed keys are known to be small; the maxima of its rows are prepared for
    /// either.
    pub(super) fn begin_keys(&mut self, slot: usize, is_asked: bool) -> bool {
        let Some(bound) = &self.bound else { return false };
        let is_small = bound.holds(is_asked);
        if self.job.kernels.small_need_maxima {
            return is_small;
        }
        let rows = slot..slot + self.sizes.block_rows;
        let max = &mut self.buffers.max[rows.clone()];
        // A row of scores that are not small has a maximum of its own.
        if is_small && max.iter().all(|max| *max == 0.0 || *max == f32::NEG_INFINITY) {
            max.fill(0.0);
            return true;
        }
        let sums = self.buffers.sums[rows.start * SUM_LANES..].as_chunks::<SUM_LANES>().0;
        for (max, sums) in max.iter_mut().zip(sums) {
            // It is no maximum of scores as long as there is no score.
            if *max == 0.0 && *sums == [0.0; SUM_LANES] {
                *max = f32::NEG_INFINITY;
            }
        }
        false
    }

    /// Makes sure that the sums of values of a block lost nothing where no maximum was subtracted from scores.
    pub(super) fn check_sums(&self, rows: &FinishedRows) -> Result<(), Stop> {
        let may_lose = self.bound.is_some() && !self.job.kernels.small_need_maxima;
        let is_safe = !(may_lose && rows.max.contains(&0.0))
            || output::are_in_range(self.job.isa, rows.weighted, &SAFE_SUMS);
        if is_safe { Ok(()) } else { Err(Stop::OutOfRange) }
    }

    /// What the softmax does to scores that are known to be small.
    pub(super) fn bounded_change(&self, visit: &Visit) -> Option<ScoreChange<'static>> {
        self.bound.as_ref().filter(|_| visit.is_bounded).map(|bound| ScoreChange::Bounded(bound.exponents))
    }
}
