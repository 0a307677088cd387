//! Partial results of rows whose keys are split among items, and their combination.

use std::ops::Range;

use super::output::{Output, RowResult};
use crate::attention::{ElementsMut, MAX_HEAD_DIM, Shape};

/// The most bytes of partial results at a time.
const MOST_BYTES: usize = 1 << 20;

/// The most items at a time whose results are not partial.
const MOST_ITEMS: usize = 4096;

/// The bytes of a part's results for all rows of a key/value head.
fn part_bytes(shape: &Shape) -> usize {
    shape.group() * shape.q_len * (shape.value_dim + 2) * size_of::<f32>()
}

/// The most parts that the keys of a row may be split into.
pub(super) fn most_parts(shape: &Shape) -> usize {
    (MOST_BYTES / part_bytes(shape)).max(1)
}

/// How many key/value heads (of all sequences) have their turn together where their keys are split into so many parts:
/// what they need beside inputs and output is bounded.
pub(super) fn heads_at_a_time(shape: &Shape, splits: usize) -> usize {
    let most = if splits > 1 { MOST_BYTES / (splits * part_bytes(shape)) } else { MOST_ITEMS };
    most.max(1)
}

/// Results of `splits` parts of the keys for every row of some key/value heads: `[heads, splits, group, q_len]`. The memory
/// is used again.
#[derive(Debug, Default)]
pub(super) struct Partials {
    heads: Range<usize>,
    splits: usize,
    columns: usize,
    weighted: Vec<f32>,
    sums: Vec<f32>,
    max: Vec<f32>,
}

impl Partials {
    /// Makes room for the parts of some heads, numbered `batch · kv_heads + kv_head`. What is in them is to be overwritten.
    pub(super) fn prepare(&mut self, shape: &Shape, heads: Range<usize>, splits: usize) {
        let (rows, columns) = (heads.len() * shape.group() * shape.q_len * splits, shape.value_dim);
        (self.heads, self.splits, self.columns) = (heads, splits, columns);
        self.weighted.resize(rows * columns, 0.0);
        self.sums.resize(rows, 0.0);
        self.max.resize(rows, 0.0);
    }

    /// Where items write.
    pub(super) fn output(&mut self) -> Output<'_> {
        let (rows, columns) = (self.sums.len(), self.columns);
        let out = ElementsMut::F32(&mut self.weighted);
        Output::new(out, rows, columns, Some(&mut self.sums), Some(&mut self.max))
    }

    /// Writes the combined rows.
    pub(super) fn combine(&self, shape: &Shape, output: &Output) {
        let columns = self.columns;
        let rows_each = shape.group() * shape.q_len;
        let mut weighted = [0.0; MAX_HEAD_DIM];
        let weighted = &mut weighted[..columns];
        for row in self.heads.start * rows_each..self.heads.end * rows_each {
            let (of_kv_head, within) = (row / rows_each - self.heads.start, row % rows_each);
            let part = |split: usize| (of_kv_head * self.splits + split) * rows_each + within;
            let max = (0..self.splits).fold(f32::NEG_INFINITY, |max, split| max.max(self.max[part(split)]));
            let reference = if max == f32::NEG_INFINITY { 0.0 } else { max };
            let mut sum = 0.0;
            weighted.fill(0.0);
            for part in (0..self.splits).map(part) {
                let weight = (self.max[part] - reference).exp2();
                sum += weight * self.sums[part];
                let part = &self.weighted[part * columns..][..columns];
                for (total, x) in weighted.iter_mut().zip(part) {
                    *total += weight * x;
                }
            }
            // SAFETY: one row at a time, on one thread.
            let mut rows = unsafe { output.rows(row..row + 1) };
            rows.write(0, columns, RowResult { weighted, sum, max });
        }
    }
}
