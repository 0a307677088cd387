//! The two products of attention, and what the CPU must be told before and after some of them.

use std::marker::PhantomData;
use std::ops::Range;

use super::{Kernels, MAX_STRIPS, Packing, Precision, TILE_KEYS};

/// What a product function works on: pointers, and distances in floats.
pub(super) struct Product<'a> {
    pub(super) left: *const f32,
    pub(super) left_strip: usize,
    /// Of queries, from one row to the next: 1 in a packed strip, more where steps are next to each other.
    pub(super) left_row: usize,
    pub(super) right: *const f32,
    pub(super) right_panel: usize,
    /// From one unit that is summed over to the next one.
    pub(super) right_step: usize,
    pub(super) out: *mut f32,
    pub(super) out_strip: usize,
    pub(super) out_row: usize,
    pub(super) factor: *const f32,
    /// Of each strip: of a product of query and key the columns of `right` and `out`, of weights and value the keys that
    /// are summed over.
    pub(super) ranges: &'a [Range<usize>],
    /// The rest: the units that are summed over, or the columns of `right` and `out`.
    pub(super) extent: usize,
}

impl Product<'_> {
    /// From the first column or key of a strip to the last one of all; empty if there are none.
    #[inline(always)]
    pub(super) fn hull_of_ranges(&self) -> Range<usize> {
        let (mut start, mut end) = (usize::MAX, 0);
        for range in self.ranges.iter().filter(|range| !range.is_empty()) {
            (start, end) = (start.min(range.start), end.max(range.end));
        }
        start..end
    }
}

/// The queries of a block.
#[derive(Clone, Copy)]
pub(in super::super) enum QueryRows<'a> {
    /// Strips of `units · strip` units.
    Packed(&'a [f32]),
    /// Whole strips of rows as they lie, `stride` apart.
    InPlace { rows: &'a [f32], stride: usize },
}

/// The values that a window of keys is multiplied with.
#[derive(Clone, Copy)]
pub(in super::super) enum ValueRows<'a> {
    /// Panels `[panels][units][panel]`, and the packed key at which the window begins, a multiple of
    /// [`Kernels::lanes`].
    Packed { panels: &'a [f32], units: usize, first: usize },
    /// The rows of the window as they lie, of at least as many columns as the output has, `stride` apart.
    InPlace { rows: &'a [f32], stride: usize },
}

/// The products of a set of kernels, for as long as the CPU is set up for them: what that takes is long beside one tile.
pub(in super::super) struct Multiplier {
    pub(super) kernels: &'static Kernels,
    /// Of its softmax.
    pub(super) precision: Precision,
    /// The set-up is that of a thread.
    of_this_thread: PhantomData<*const ()>,
}

impl Multiplier {
    /// Sets this thread up.
    ///
    /// # Panics
    /// If another one is alive on this thread, and the kernels have something to set up.
    pub(in super::super) fn new(kernels: &'static Kernels, precision: Precision) -> Self {
        // SAFETY: `Kernels::new` gives only what the CPU can execute.
        unsafe { (kernels.begin)() };
        Self { kernels, precision, of_this_thread: PhantomData }
    }

    /// `scores[r, lane] = Σ query[r, d] · key[first + lane, d]` for strips of rows, each with the vectors around its own
    /// lanes of a window that begins at the packed key `first`, a multiple of [`Kernels::lanes`].
    ///
    /// `key` has panels `[panels][units][panel]`, `scores` rows of [`TILE_KEYS`].
    #[inline(always)]
    pub(in super::super) fn scores(
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
                assert!(query.len() >= strips * units * self.kernels.strip, "query strips are complete");
                let row =
                    if self.kernels.packing.is_tiles() { units / self.kernels.packing.planes() } else { 1 };
                (query, units * self.kernels.strip, row)
            }
            QueryRows::InPlace { rows, stride } => {
                assert!(self.kernels.packing == Packing::F32, "only f32 is multiplied where it is");
                let end =
                    (strips * self.kernels.strip).checked_sub(1).map_or(0, |last| last * stride + units);
                assert!(rows.len() >= end && stride > 1, "the queries are there");
                (rows, self.kernels.strip * stride, stride)
            }
        };
        assert!(scores.len() >= strips * self.kernels.strip * TILE_KEYS, "rows of scores are complete");
        assert!(last <= TILE_KEYS, "the lanes are those of the window");
        assert!(
            key.len() >= (first + last).next_multiple_of(self.kernels.panel) * units,
            "key panels are complete"
        );
        assert!(first.is_multiple_of(self.kernels.lanes), "windows begin at whole vectors");
        let mut columns = [const { 0..0 }; MAX_STRIPS];
        for (columns, lanes) in columns[..strips].iter_mut().zip(lanes) {
            if !lanes.is_empty() {
                let start = first + lanes.start / self.kernels.lanes * self.kernels.lanes;
                *columns = start..first + lanes.end.next_multiple_of(self.kernels.lanes);
            }
        }
        let task = Product {
            left: query.as_ptr(),
            left_strip,
            left_row,
            right: key.as_ptr(),
            right_panel: units * self.kernels.panel,
            right_step: self.kernels.panel,
            // Column `first` is at the start of a row.
            out: scores.as_mut_ptr().wrapping_sub(first),
            out_strip: self.kernels.strip * TILE_KEYS,
            out_row: TILE_KEYS,
            factor: std::ptr::null(),
            ranges: &columns[..strips],
            extent: units,
        };
        // SAFETY: the lengths are checked above, and `Kernels::new` gives only what the CPU can execute.
        unsafe { (self.kernels.scores)(&task) }
    }

    /// `out[r, c] = rescale[r] · out[r, c] + Σ weights[r, lane] · value[first + lane, c]` for strips of rows, each over its
    /// own lanes of a window that begins at the key `first`. A strip without lanes stays as it is.
    ///
    /// `weights` is what [`softmax`](Self::softmax) wrote, `out` has rows of `out_row` columns, a multiple of the panel.
    #[inline(always)]
    pub(in super::super) fn values(
        &self,
        weights: &[f32],
        value: ValueRows,
        lanes: &[Range<usize>],
        rescale: &[f32],
        out: &mut [f32],
        out_row: usize,
    ) {
        let strips = lanes.len();
        let panels = out_row / self.kernels.panel;
        let last = lanes.iter().map(|lanes| lanes.end).max().unwrap_or(0);
        let (packing, left_strip) = (self.kernels.packing, self.kernels.weights_len(self.kernels.strip));
        assert!(weights.len() >= strips * left_strip, "rows of weights are complete");
        assert!(last <= TILE_KEYS, "the lanes are those of the window");
        assert!(out.len() >= strips * self.kernels.strip * out_row, "output rows are complete");
        assert!(rescale.len() >= strips * self.kernels.strip, "every row has its factor");
        let (right, right_panel, right_step) = match value {
            ValueRows::Packed { panels: value, units, first } => {
                let before = packing.units(first);
                assert!(first.is_multiple_of(self.kernels.lanes), "windows begin at whole vectors");
                assert!(before + packing.units(last) <= units, "the keys are packed");
                assert!(value.len() >= panels * units * self.kernels.panel, "value panels are complete");
                let first = before / packing.planes() * self.kernels.panel;
                (&value[first..], units * self.kernels.panel, self.kernels.panel)
            }
            ValueRows::InPlace { rows: value, stride } => {
                assert!(self.kernels.packing == Packing::F32, "only f32 is multiplied where it is");
                let end = last.checked_sub(1).map_or(0, |last| last * stride + out_row);
                assert!(value.len() >= end && stride >= out_row, "the keys are there");
                (value, self.kernels.panel, stride)
            }
        };
        let task = Product {
            left: weights.as_ptr(),
            left_strip,
            left_row: left_strip / self.kernels.strip / packing.planes(),
            right: right.as_ptr(),
            right_panel,
            right_step,
            out: out.as_mut_ptr(),
            out_strip: self.kernels.strip * out_row,
            out_row,
            factor: rescale.as_ptr(),
            ranges: lanes,
            extent: out_row,
        };
        // SAFETY: as above; the last row and panel end before the slices do.
        unsafe { (self.kernels.values)(&task) }
    }
}

impl Drop for Multiplier {
    fn drop(&mut self) {
        // SAFETY: it has begun.
        unsafe { (self.kernels.end)() }
    }
}
