//! Three tiles of keys at once, each at another stage: scores of one, weights of the one before, and the sums of weighted
//! values of the one before that, 16 keys at a time.
//!
//! One stage after the other, memory would have nothing to do during the softmax, and each product would wait for the end
//! of what it is made from. Side by side, a CPU finds loads of keys and of values to begin wherever it looks ahead.

use super::super::SUM_LANES;
use super::{HeadRows, InPlace, TILE_KEYS};
use crate::attention::DType;

/// The even and the odd columns of so many rows fit one tile register.
const MOST_ROWS: usize = 8;

/// The sums of so many columns fit the tile registers beside what a step needs.
const MOST_VALUE_COLUMNS: usize = 128;

/// The distance from the products of one key to those of the next: four keys fill a vector where rows are few.
pub(super) fn product_stride(rows: usize) -> usize {
    rows.max(4)
}

/// How far ahead of the products cache lines are asked for. Loads do not wait for each other here, so that little is
/// needed: the beginnings of pages, where the CPU does not know yet what comes next.
const AHEAD_BYTES: usize = 8192;

/// The kernels of an instruction set.
pub(super) struct Stages {
    /// Brings the products of a tile into the order of scores: `[keys][product_stride(rows)]` to rows of [`TILE_KEYS`].
    pub(super) order: unsafe fn(*const f32, usize, *mut f32),
    pub(super) update_maxima: unsafe fn(&mut Maxima),
    pub(super) step: unsafe fn(&Step),
}

/// What finding the maxima of some rows works on.
pub(super) struct Maxima {
    /// Rows of [`TILE_KEYS`].
    pub(super) scores: *mut f32,
    pub(super) rows: usize,
    pub(super) factor: f32,
    pub(super) max: *mut f32,
    pub(super) sums: *mut f32,
    /// What earlier sums and outputs are multiplied by.
    pub(super) rescale: [f32; MOST_ROWS],
    /// What scores are multiplied by, and then what is added, before the exponential.
    pub(super) row_factor: [f32; MOST_ROWS],
    pub(super) shift: [f32; MOST_ROWS],
}

/// What a step works on: up to three tiles of [`TILE_KEYS`] keys. Distances are in elements.
pub(super) struct Step {
    pub(super) rows: usize,
    pub(super) products: Option<Products>,
    pub(super) exponentials: Option<Exponentials>,
    pub(super) weighted_sum: Option<WeightedSum>,
}

/// query · key of a tile.
pub(super) struct Products {
    pub(super) query: *const f32,
    pub(super) columns: usize,
    pub(super) key: *const (),
    pub(super) key_stride: usize,
    /// So many rows ahead, cache lines are asked for.
    pub(super) ahead: usize,
    /// `[keys][product_stride(rows)]`.
    pub(super) products: *mut f32,
}

/// Scores of a tile become weights.
pub(super) struct Exponentials {
    /// Rows of [`TILE_KEYS`].
    pub(super) scores: *const f32,
    pub(super) factor: [f32; MOST_ROWS],
    pub(super) shift: [f32; MOST_ROWS],
    pub(super) sums: *mut f32,
    /// For every 16 keys, the weights of all rows beside zeros, and zeros beside them.
    pub(super) weights: *mut f32,
}

/// weights · value of a tile.
pub(super) struct WeightedSum {
    pub(super) weights: *const f32,
    pub(super) rescale: [f32; MOST_ROWS],
    pub(super) columns: usize,
    pub(super) value: *const (),
    pub(super) value_stride: usize,
    /// So many rows ahead, cache lines are asked for.
    pub(super) ahead: usize,
    pub(super) out: *mut f32,
}

/// Tiles on their way through the stages, each of [`TILE_KEYS`] keys.
pub(in crate::cpu) struct Pipeline<'w> {
    stages: &'static Stages,
    rows: usize,
    /// Of the tile in `multiplied`.
    products: &'w mut [f32],
    /// Of the tiles in `scored` and `weighted`, which change places.
    weights: [&'w mut [f32]; 2],
    factor: [f32; MOST_ROWS],
    shift: [f32; MOST_ROWS],
    rescale: [[f32; MOST_ROWS]; 2],
    /// The tile whose products are there, by its first key.
    multiplied: Option<usize>,
    /// The tile whose scores and maxima are there.
    scored: Option<usize>,
    /// The tile whose weights are there.
    weighted: Option<usize>,
}

/// What the steps of a pipeline read and write, the same ones for all.
pub(in crate::cpu) struct Operands<'a, 'k> {
    pub(in crate::cpu) query: &'a [f32],
    pub(in crate::cpu) key: &'a HeadRows<'k>,
    pub(in crate::cpu) value: &'a HeadRows<'k>,
    pub(in crate::cpu) scores: &'a [f32],
    pub(in crate::cpu) sums: &'a mut [f32],
    pub(in crate::cpu) out: &'a mut [f32],
}

impl<'w> Pipeline<'w> {
    /// The floats of [`new`](Self::new)'s buffer.
    pub(in crate::cpu) fn buffer_len(rows: usize) -> usize {
        TILE_KEYS * product_stride(rows) + 2 * Self::weights_len(rows)
    }

    fn weights_len(rows: usize) -> usize {
        2 * TILE_KEYS * rows
    }

    /// An empty one, if the kernels have stages for so many rows and columns.
    pub(in crate::cpu) fn new(
        in_place: &InPlace,
        rows: usize,
        value_dim: usize,
        buffer: &'w mut [f32],
    ) -> Option<Self> {
        let stages = in_place.stages?;
        if rows > MOST_ROWS || value_dim > MOST_VALUE_COLUMNS {
            return None;
        }
        let (products, weights) =
            buffer[..Self::buffer_len(rows)].split_at_mut(TILE_KEYS * product_stride(rows));
        Some(Self {
            stages,
            rows,
            products,
            weights: weights.split_at_mut(Self::weights_len(rows)).into(),
            factor: [1.0; _],
            shift: [0.0; _],
            rescale: [[0.0; _]; 2],
            multiplied: None,
            scored: None,
            weighted: None,
        })
    }

    /// Whether no tile is on its way.
    pub(in crate::cpu) fn is_empty(&self) -> bool {
        [self.multiplied, self.scored, self.weighted].iter().all(Option::is_none)
    }

    /// Writes the scores of the tile that was multiplied last, if that was not done yet; returns its first key.
    pub(in crate::cpu) fn take_scores(&mut self, scores: &mut [f32]) -> Option<usize> {
        let tile = self.multiplied.take()?;
        assert!(scores.len() >= self.rows * TILE_KEYS, "every row has its scores");
        // SAFETY: `new` gave every row its products, and stages exist only where the CPU has the features.
        unsafe { (self.stages.order)(self.products.as_ptr(), self.rows, scores.as_mut_ptr()) }
        Some(tile)
    }

    /// Updates the maxima and the sums so far for the scores of a tile, which then are those of the next step.
    pub(in crate::cpu) fn update_maxima(
        &mut self,
        tile: usize,
        scores: &mut [f32],
        factor: f32,
        max: &mut [f32],
        sums: &mut [f32],
    ) {
        assert!(self.scored.is_none(), "a step takes the scores before others come");
        assert!(
            scores.len() >= self.rows * TILE_KEYS
                && max.len() >= self.rows
                && sums.len() >= self.rows * SUM_LANES,
            "every row has its state"
        );
        let mut maxima = Maxima {
            scores: scores.as_mut_ptr(),
            rows: self.rows,
            factor,
            max: max.as_mut_ptr(),
            sums: sums.as_mut_ptr(),
            rescale: [0.0; _],
            row_factor: [factor; _],
            shift: [0.0; _],
        };
        // SAFETY: the lengths are checked; as above.
        unsafe { (self.stages.update_maxima)(&mut maxima) }
        (self.factor, self.shift) = (maxima.row_factor, maxima.shift);
        self.rescale[0] = maxima.rescale;
        self.scored = Some(tile);
    }

    /// Every tile on its way goes one stage on, and the one whose first key is `tile` enters. The scores of the last one
    /// that entered have been taken.
    pub(in crate::cpu) fn step(&mut self, tile: Option<usize>, operands: Operands) {
        let Operands { query, key, value, scores, sums, out } = operands;
        let rows = self.rows;
        assert!(self.multiplied.is_none(), "the scores are taken before others come");
        assert!(
            [key, value].iter().all(|x| x.elements.dtype() == DType::BF16),
            "the stages are those of the dtype"
        );
        assert!([key, value].iter().all(|x| x.columns.is_multiple_of(32)), "columns fill tile registers");
        assert!(query.len() >= rows * key.columns / 2, "every row has its query");
        assert!(
            value.columns <= MOST_VALUE_COLUMNS && out.len() >= rows * value.columns,
            "every row has its output"
        );
        assert!(
            scores.len() >= rows * TILE_KEYS && sums.len() >= rows * SUM_LANES,
            "every row has its state"
        );
        let keys = |first: usize| first..first + TILE_KEYS;
        let ahead = |of: &HeadRows| AHEAD_BYTES / (of.columns * DType::BF16.size());
        let [new_weights, old_weights] = &mut self.weights;
        let step = Step {
            rows,
            products: tile.map(|first| Products {
                query: query.as_ptr(),
                columns: key.columns,
                key: key.pointer(&keys(first)),
                key_stride: key.stride,
                ahead: ahead(key),
                products: self.products.as_mut_ptr(),
            }),
            exponentials: self.scored.map(|_| Exponentials {
                scores: scores.as_ptr(),
                factor: self.factor,
                shift: self.shift,
                sums: sums.as_mut_ptr(),
                weights: new_weights.as_mut_ptr(),
            }),
            weighted_sum: self.weighted.map(|first| WeightedSum {
                weights: old_weights.as_ptr(),
                rescale: self.rescale[1],
                columns: value.columns,
                value: value.pointer(&keys(first)),
                value_stride: value.stride,
                ahead: ahead(value),
                out: out.as_mut_ptr(),
            }),
        };
        // SAFETY: `pointer` has checked that the rows are there, and the lengths of all else are checked above or those of
        // `new`; stages exist only where the CPU has the features.
        unsafe { (self.stages.step)(&step) }
        self.weights.swap(0, 1);
        self.rescale.swap(0, 1);
        (self.multiplied, self.scored, self.weighted) = (tile, None, self.scored);
    }
}
