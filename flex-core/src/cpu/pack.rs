//! From tensors of any strides and dtype to the f32 layouts of the kernels.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::kernel::{Kernels, TILE_KEYS};
use crate::attention::{Elements, TensorRef};

/// One head of a tensor: rows of `len` elements.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    elements: Elements<'a>,
    start: usize,
    row_stride: usize,
    column_stride: usize,
    columns: usize,
}

impl<'a> Head<'a> {
    /// The rows `[batch, head, ..]` of a tensor.
    pub(super) fn new(tensor: &TensorRef<'a>, batch: usize, head: usize) -> Self {
        let [_, _, row_stride, column_stride] = tensor.strides();
        let [.., columns] = tensor.shape();
        let start = tensor.offset([batch, head, 0, 0]);
        Self { elements: tensor.elements(), start, row_stride, column_stride, columns }
    }

    /// A row widened to f32, in `buffer` unless it can be borrowed.
    fn row<'b>(&self, row: usize, buffer: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        let start = self.start + row * self.row_stride;
        let buffer = &mut buffer[..self.columns];
        if self.column_stride != 1 {
            for (i, x) in buffer.iter_mut().enumerate() {
                *x = self.elements.get(start + i * self.column_stride);
            }
            return buffer;
        }
        match self.elements {
            Elements::F32(data) => &data[start..start + self.columns],
            Elements::F16(data) => {
                let source: &[f16] = &data[start..start + self.columns];
                source.convert_to_f32_slice(buffer);
                buffer
            }
            Elements::BF16(data) => {
                let source: &[bf16] = &data[start..start + self.columns];
                for (x, source) in buffer.iter_mut().zip(source) {
                    *x = f32::from_bits(u32::from(source.to_bits()) << 16);
                }
                buffer
            }
        }
    }
}

/// Queries as strips `[strips][head_dim][strip]`, times `factor`; rows past the end are zero.
pub(super) fn query(kernels: &Kernels, head: &Head, rows: Range<usize>, factor: f32, to: &mut [f32]) {
    let (strip, head_dim) = (kernels.strip, head.columns);
    let mut buffer = [0.0; crate::attention::MAX_HEAD_DIM];
    to.fill(0.0);
    for (i, row) in rows.enumerate() {
        let packed = &mut to[i / strip * strip * head_dim + i % strip..];
        for (d, &x) in head.row(row, &mut buffer).iter().enumerate() {
            packed[d * strip] = x * factor;
        }
    }
}

/// Keys as panels `[panels][head_dim][panel]`; keys past the end are zero up to a whole panel.
pub(super) fn key(kernels: &Kernels, head: &Head, rows: Range<usize>, to: &mut [f32]) {
    let (panel, head_dim) = (kernels.panel, head.columns);
    let mut buffers = [[0.0; crate::attention::MAX_HEAD_DIM]; 8];
    let count = rows.len().next_multiple_of(panel);
    for first in (0..count).step_by(8) {
        let to = &mut to[first / panel * panel * head_dim + first % panel..];
        let mut sources: [&[f32]; 8] = [&[]; 8];
        for (i, (source, buffer)) in sources.iter_mut().zip(&mut buffers).enumerate() {
            let row = rows.start + first + i;
            *source = if row < rows.end {
                head.row(row, buffer)
            } else {
                buffer.fill(0.0);
                &buffer[..head_dim]
            };
        }
        let sources = sources.map(|s| &s[..head_dim]);
        for d in 0..head_dim {
            let column: [f32; 8] = std::array::from_fn(|i| sources[i][d]);
            to[d * panel..][..8].copy_from_slice(&column);
        }
    }
}

/// Values as panels `[panels][TILE_KEYS][panel]`; columns past the end are zero.
pub(super) fn value(kernels: &Kernels, head: &Head, rows: Range<usize>, to: &mut [f32]) {
    let panel = kernels.panel;
    let mut buffer = [0.0; crate::attention::MAX_HEAD_DIM];
    for (i, row) in rows.enumerate() {
        for (p, columns) in head.row(row, &mut buffer).chunks(panel).enumerate() {
            let to = &mut to[(p * TILE_KEYS + i) * panel..][..panel];
            to[..columns.len()].copy_from_slice(columns);
            to[columns.len()..].fill(0.0);
        }
    }
}
