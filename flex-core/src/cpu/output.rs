//! Where results go: the caller's buffers, shared by threads that write different rows.

use std::marker::PhantomData;
use std::ops::{Range, RangeInclusive};

use half::{bf16, f16};

use super::float16::{nearest_bf16, nearest_f16};
use super::kernel::SUM_LANES;
use crate::attention::{DType, ElementsMut};
use crate::isa::{Available, compiled_for_each_set};

/// The output buffers of a call.
pub(super) struct Output<'a> {
    out: *mut u8,
    dtype: DType,
    columns: usize,
    rows: usize,
    lse: Option<*mut f32>,
    max_scores: Option<*mut f32>,
    borrowed: PhantomData<&'a mut f32>,
}

// SAFETY: rows are handed out through `Output::rows` only, whose caller promises that no two threads have the same row.
unsafe impl Sync for Output<'_> {}

/// Some rows of the output buffers.
pub(super) struct OutputRows<'a> {
    pub(super) out: ElementsMut<'a>,
    pub(super) lse: Option<&'a mut [f32]>,
    pub(super) max_scores: Option<&'a mut [f32]>,
}

impl<'a> Output<'a> {
    /// Takes the buffers of `rows` rows of `columns` columns. The caller has checked the lengths.
    pub(super) fn new(
        out: ElementsMut<'a>,
        rows: usize,
        columns: usize,
        lse: Option<&'a mut [f32]>,
        max_scores: Option<&'a mut [f32]>,
    ) -> Self {
        assert_eq!(out.len(), rows * columns, "the output has its length");
        assert!(
            [&lse, &max_scores].iter().all(|x| x.as_ref().is_none_or(|x| x.len() == rows)),
            "one value a row"
        );
        let dtype = out.dtype();
        let out = match out {
            ElementsMut::F32(x) => x.as_mut_ptr().cast(),
            ElementsMut::F16(x) => x.as_mut_ptr().cast(),
            ElementsMut::BF16(x) => x.as_mut_ptr().cast(),
        };
        Self {
            out,
            dtype,
            columns,
            rows,
            lse: lse.map(<[f32]>::as_mut_ptr),
            max_scores: max_scores.map(<[f32]>::as_mut_ptr),
            borrowed: PhantomData,
        }
    }

    /// Some rows, to write.
    ///
    /// # Safety
    /// While the result lives, no other one may contain any of the rows.
    pub(super) unsafe fn rows(&self, rows: Range<usize>) -> OutputRows<'_> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "the rows are there");
        let (first, count) = (rows.start * self.columns, rows.len() * self.columns);
        // SAFETY: the range lies inside buffers that are borrowed for 'a, and the caller keeps others off.
        unsafe fn part<'b, T>(start: *mut T, first: usize, count: usize) -> &'b mut [T] {
            // SAFETY: see above.
            unsafe { std::slice::from_raw_parts_mut(start.add(first), count) }
        }
        // SAFETY: as above; the element type is the one the pointer was made from.
        unsafe {
            OutputRows {
                out: match self.dtype {
                    DType::F32 => ElementsMut::F32(part(self.out.cast(), first, count)),
                    DType::F16 => ElementsMut::F16(part(self.out.cast::<f16>(), first, count)),
                    DType::BF16 => ElementsMut::BF16(part(self.out.cast::<bf16>(), first, count)),
                },
                lse: self.lse.map(|x| part(x, rows.start, rows.len())),
                max_scores: self.max_scores.map(|x| part(x, rows.start, rows.len())),
            }
        }
    }
}

/// One row of results before it is rounded to the output's type.
pub(super) struct RowResult<'a> {
    /// Σ weight · value, at least as many columns as the output.
    pub(super) weighted: &'a [f32],
    /// The sum of the weights.
    pub(super) sum: f32,
    /// The maximum, in the units of the exponent of 2.
    pub(super) max: f32,
}

impl OutputRows<'_> {
    /// Writes row `i` of partial results, which are f32: the sum goes where lse does, nothing is divided.
    pub(super) fn write_partial(&mut self, i: usize, columns: usize, row: RowResult) {
        if let ElementsMut::F32(out) = &mut self.out {
            out[i * columns..(i + 1) * columns].copy_from_slice(&row.weighted[..columns]);
        }
        for (to, value) in [(&mut self.lse, row.sum), (&mut self.max_scores, row.max)] {
            if let Some(to) = to {
                to[i] = value;
            }
        }
    }

    /// Writes row `i` of these rows.
    pub(super) fn write(&mut self, i: usize, columns: usize, row: RowResult) {
        let RowResult { weighted, sum, max } = row;
        self.write_columns(i, &weighted[..columns], sum);
        self.write_statistics(i, sum, max);
    }

    /// A row without any weight is zero; a NaN sum makes the row NaN.
    #[inline(always)]
    fn write_columns(&mut self, i: usize, weighted: &[f32], sum: f32) {
        let inverse = if sum == 0.0 { 0.0 } else { 1.0 / sum };
        let range = i * weighted.len()..(i + 1) * weighted.len();
        match &mut self.out {
            ElementsMut::F32(out) => {
                for (x, w) in out[range].iter_mut().zip(weighted) {
                    *x = w * inverse;
                }
            }
            ElementsMut::F16(out) => {
                for (x, w) in out[range].iter_mut().zip(weighted) {
                    *x = f16::from_bits(nearest_f16(w * inverse));
                }
            }
            ElementsMut::BF16(out) => {
                for (x, w) in out[range].iter_mut().zip(weighted) {
                    *x = bf16::from_bits(nearest_bf16(w * inverse));
                }
            }
        }
    }

    #[inline(always)]
    fn write_statistics(&mut self, i: usize, sum: f32, max: f32) {
        if let Some(lse) = &mut self.lse {
            lse[i] = if sum == 0.0 {
                f32::NEG_INFINITY
            } else {
                ((f64::from(max) + f64::from(sum).log2()) * std::f64::consts::LN_2) as f32
            };
        }
        if let Some(max_scores) = &mut self.max_scores {
            max_scores[i] = if sum.is_nan() { f32::NAN } else { max * std::f32::consts::LN_2 };
        }
    }
}

/// Some rows of a pass when their keys are done.
pub(super) struct FinishedRows<'a> {
    /// Rows of Σ weight · value, `stride` apart.
    pub(super) weighted: &'a [f32],
    pub(super) stride: usize,
    /// [`SUM_LANES`] partial sums of the weights a row.
    pub(super) sums: &'a [f32],
    /// The maximum of each row, in the units of the exponent of 2.
    pub(super) max: &'a [f32],
    /// The columns of the output.
    pub(super) columns: usize,
}

/// Whether the magnitudes of all numbers but 0 are in a range.
pub(super) fn are_in_range(isa: Available, numbers: &[f32], range: &RangeInclusive<f32>) -> bool {
    let mut extremes = Extremes { least_but_zero: u32::MAX, most: 0 };
    include(isa, numbers, &mut extremes);
    range.start().to_bits() - 1 <= extremes.least_but_zero && extremes.most <= range.end().to_bits()
}

/// Of magnitudes as bits, which are in the order of the numbers; NaN is larger than ∞.
struct Extremes {
    /// Less 1, which makes 0 the largest of all.
    least_but_zero: u32,
    most: u32,
}

compiled_for_each_set! {
    /// Includes some numbers.
    fn include(numbers: &[f32], extremes: &mut Extremes) = include_all;
}

#[inline(always)]
fn include_all(numbers: &[f32], extremes: &mut Extremes) {
    for x in numbers {
        let magnitude = x.to_bits() & !(1 << 31);
        extremes.least_but_zero = extremes.least_but_zero.min(magnitude.wrapping_sub(1));
        extremes.most = extremes.most.max(magnitude);
    }
}

compiled_for_each_set! {
    /// Writes the rows to the first ones of the output.
    pub(super) fn write_rows(to: &mut OutputRows, rows: FinishedRows) = write_all;
}

#[inline(always)]
fn write_all(to: &mut OutputRows, rows: FinishedRows) {
    let partial_sums = rows.sums.as_chunks::<SUM_LANES>().0;
    let weighted = rows.weighted.chunks_exact(rows.stride);
    for (i, ((weighted, sums), max)) in weighted.zip(partial_sums).zip(rows.max).enumerate() {
        let sum = sum(sums);
        to.write_columns(i, &weighted[..rows.columns], sum);
        to.write_statistics(i, sum, *max);
    }
}

/// Writes the rows as partial results.
pub(super) fn write_partial_rows(to: &mut OutputRows, rows: FinishedRows) {
    let partial_sums = rows.sums.as_chunks::<SUM_LANES>().0;
    let weighted = rows.weighted.chunks_exact(rows.stride);
    for (i, ((weighted, sums), max)) in weighted.zip(partial_sums).zip(rows.max).enumerate() {
        to.write_partial(i, rows.columns, RowResult { weighted, sum: sum(sums), max: *max });
    }
}

/// The sum of the partial sums of a row, in halves: no chain of sixteen additions.
#[inline(always)]
pub(super) fn sum(partial: &[f32; SUM_LANES]) -> f32 {
    let mut sums = *partial;
    let mut half = SUM_LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}
