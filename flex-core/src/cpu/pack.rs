//! From tensors of any strides and dtype to the layouts of the kernels.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::kernel::{Kernels, Packing};
use crate::attention::{Elements, MAX_HEAD_DIM, TensorRef};

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
    pub(super) fn row<'b>(&self, row: usize, buffer: &'b mut [f32]) -> &'b [f32]
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

impl Head<'_> {
    /// A row of bf16 elements that lie side by side.
    fn bf16_row(&self, row: usize) -> Option<&[u16]> {
        let start = self.start + row * self.row_stride;
        match self.elements {
            Elements::BF16(data) if self.column_stride == 1 => {
                Some(bytemuck::must_cast_slice(&data[start..start + self.columns]))
            }
            _ => None,
        }
    }
}

/// Where a row's elements become units: f32 as they are, bf16 in pairs, with zeros at the end.
fn units<'b>(kernels: &Kernels, row: &'b [f32], buffer: &'b mut [f32]) -> &'b [f32] {
    if kernels.packing == Packing::F32 {
        return row;
    }
    let buffer = &mut buffer[..kernels.packing.units(row.len())];
    let (pairs, last) = row.as_chunks::<2>();
    for (unit, [low, high]) in buffer.iter_mut().zip(pairs) {
        *unit = pair(*low, *high);
    }
    buffer[pairs.len()..].fill(0.0);
    if let [low] = last {
        buffer[pairs.len()] = pair(*low, 0.0);
    }
    buffer
}

/// Two floats that are bf16, the first one in the lower half.
#[inline]
pub(super) fn pair(low: f32, high: f32) -> f32 {
    f32::from_bits(low.to_bits() >> 16 | high.to_bits() & 0xffff_0000)
}

pub(super) type RowBuffer = [f32; MAX_HEAD_DIM];

/// Rows on their way from a tensor to a packed layout.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) wide: [RowBuffer; 8],
    packed: [RowBuffer; 8],
}

/// What stands for rows past the end. Never written.
static ZEROS: RowBuffer = [0.0; MAX_HEAD_DIM];

impl Default for Scratch {
    fn default() -> Self {
        Self { wide: [ZEROS; 8], packed: [ZEROS; 8] }
    }
}

/// Queries as strips, times `factor` (which is 1, 0 or −1 for bf16); rows past the end are zero.
pub(super) fn query(
    kernels: &Kernels,
    head: &Head,
    rows: Range<usize>,
    factor: f32,
    scratch: &mut Scratch,
    to: &mut [f32],
) {
    let (strip, units_each) = (kernels.strip, kernels.packing.units(head.columns));
    if kernels.packing == Packing::F32 && strip == 8 {
        return query_strips_of_8(kernels, head, rows, factor, scratch, to);
    }
    let Scratch { wide: [wide, scaled, ..], packed: [packed, ..] } = scratch;
    to.fill(0.0);
    for (i, row) in rows.enumerate() {
        let scaled = &mut scaled[..head.columns];
        for (x, y) in scaled.iter_mut().zip(head.row(row, wide)) {
            *x = y * factor;
        }
        let units = units(kernels, scaled, packed);
        let to = &mut to[i / strip * strip * units_each..];
        match kernels.packing {
            Packing::Bf16Tiles => to[i % strip * units_each..][..units_each].copy_from_slice(units),
            _ => {
                for (unit, &x) in units.iter().enumerate() {
                    to[unit * strip + i % strip] = x;
                }
            }
        }
    }
}

fn query_strips_of_8(
    kernels: &Kernels,
    head: &Head,
    rows: Range<usize>,
    factor: f32,
    scratch: &mut Scratch,
    to: &mut [f32],
) {
    let strips = to.chunks_exact_mut(8 * head.columns);
    for (to, first) in strips.zip(rows.clone().step_by(8)) {
        let mut sources: [&[f32]; 8] = [&ZEROS[..head.columns]; 8];
        let buffers = scratch.wide.iter_mut().zip(&mut scratch.packed);
        for ((source, (wide, scaled)), row) in sources.iter_mut().zip(buffers).zip(first..rows.end) {
            let scaled = &mut scaled[..head.columns];
            for (x, y) in scaled.iter_mut().zip(head.row(row, wide)) {
                *x = y * factor;
            }
            *source = scaled;
        }
        kernels.transpose(sources, to, 8);
    }
}

/// Keys as panels `[panels][units][panel]`; keys past the end are zero up to a whole panel.
pub(super) fn key(kernels: &Kernels, head: &Head, rows: Range<usize>, scratch: &mut Scratch, to: &mut [f32]) {
    let (panel, units_each) = (kernels.panel, kernels.packing.units(head.columns));
    for first in (0..rows.len().next_multiple_of(panel)).step_by(8) {
        let mut sources: [&[f32]; 8] = [&ZEROS[..units_each]; 8];
        let buffers = scratch.wide.iter_mut().zip(&mut scratch.packed);
        let present = rows.start + first..rows.end.min(rows.start + first + 8);
        for ((source, (wide, packed)), row) in sources.iter_mut().zip(buffers).zip(present) {
            *source = match head.bf16_row(row) {
                Some(elements) if kernels.packing != Packing::F32 => {
                    let packed = &mut packed[..units_each];
                    packed[elements.len() / 2..].fill(0.0);
                    let bytes: &mut [u16] = bytemuck::must_cast_slice_mut(packed);
                    bytes[..elements.len()].copy_from_slice(elements);
                    packed
                }
                _ => units(kernels, head.row(row, wide), packed),
            };
        }
        let to = &mut to[first / panel * panel * units_each + first % panel..];
        kernels.transpose(sources, to, panel);
    }
}

/// Values as panels `[panels][panel_units][panel]`; columns past the end, and keys up to a whole number of units
/// (of tile registers), are zero.
pub(super) fn value(
    kernels: &Kernels,
    head: &Head,
    rows: Range<usize>,
    scratch: &mut Scratch,
    (to, panel_units): (&mut [f32], usize),
) {
    let (panel, units_each) = (kernels.panel, panel_units);
    let [even_buffer, odd_buffer, ..] = &mut scratch.wide;
    let depth = if kernels.packing == Packing::F32 { 1 } else { 2 };
    let whole_pairs = if depth == 2 && head.bf16_row(rows.start).is_some() { rows.len() / 2 } else { 0 };
    for unit in 0..whole_pairs {
        let row = rows.start + 2 * unit;
        let (Some(even), Some(odd)) = (head.bf16_row(row), head.bf16_row(row + 1)) else { break };
        for (p, (even, odd)) in even.chunks(panel).zip(odd.chunks(panel)).enumerate() {
            let to = &mut to[(p * units_each + unit) * panel..][..panel];
            for (x, (&even, &odd)) in to.iter_mut().zip(even.iter().zip(odd)) {
                *x = f32::from_bits(u32::from(even) | u32::from(odd) << 16);
            }
            to[even.len()..].fill(0.0);
        }
    }
    for unit in whole_pairs..kernels.packing.units(rows.len()) {
        let row = |i: usize, buffer| -> &[f32] {
            let row = rows.start + unit * depth + i;
            if row < rows.end { head.row(row, buffer) } else { &ZEROS[..head.columns] }
        };
        let even = row(0, even_buffer);
        let odd = if depth == 2 { row(1, odd_buffer) } else { even };
        for (p, (even, odd)) in even.chunks(panel).zip(odd.chunks(panel)).enumerate() {
            let to = &mut to[(p * units_each + unit) * panel..][..panel];
            match depth {
                1 => to[..even.len()].copy_from_slice(even),
                _ => {
                    for (x, (even, odd)) in to.iter_mut().zip(even.iter().zip(odd)) {
                        *x = pair(*even, *odd);
                    }
                }
            }
            to[even.len()..].fill(0.0);
        }
    }
}
