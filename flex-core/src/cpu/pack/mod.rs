//! From tensors of any strides and dtype to the layouts of the kernels.

mod planes;

use std::ops::Range;

use half::{bf16, f16};

use super::float16::{of_bf16, of_f16};
use super::kernel::{Kernels, Magnitudes, Packing};
use crate::attention::{Elements, MAX_HEAD_DIM, TensorRef};
use crate::isa::compiled_for_each_set;

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
    #[inline(always)]
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
                for (x, source) in buffer.iter_mut().zip(source) {
                    *x = of_f16(source.to_bits());
                }
                buffer
            }
            Elements::BF16(data) => {
                let source: &[bf16] = &data[start..start + self.columns];
                for (x, source) in buffer.iter_mut().zip(source) {
                    *x = of_bf16(source.to_bits());
                }
                buffer
            }
        }
    }
}

impl<'a> Head<'a> {
    /// A row before `end` widened to f32, or zeros. (A closure would be compiled without the vector instructions.)
    #[inline(always)]
    fn row_before<'b>(&self, end: usize, row: usize, buffer: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        if row < end { self.row(row, buffer) } else { &ZEROS[..self.columns] }
    }

    /// All rows and the distance of two, where they are f32 that lie side by side.
    pub(super) fn f32_rows(&self) -> Option<(&'a [f32], usize)> {
        match self.elements {
            Elements::F32(data) if self.column_stride == 1 && self.row_stride >= self.columns => {
                Some((&data[self.start..], self.row_stride))
            }
            _ => None,
        }
    }

    /// A row of bf16 elements that lie side by side.
    #[inline(always)]
    fn bf16_row(&self, row: usize) -> Option<&'a [u16]> {
        let start = self.start + row * self.row_stride;
        match self.elements {
            Elements::BF16(data) if self.column_stride == 1 => {
                Some(bytemuck::must_cast_slice(&data[start..start + self.columns]))
            }
            _ => None,
        }
    }
}

/// A row times `factor` as units, with zeros up to a whole number of them; in one of the buffers unless it can be borrowed.
/// bf16 takes factors that are powers of two, 0 or −1.
#[inline(always)]
fn units<'b>(
    kernels: &Kernels,
    head: &Head<'b>,
    row: usize,
    factor: f32,
    wide: &'b mut [f32],
    packed: &'b mut [f32],
) -> &'b [f32] {
    if kernels.packing == Packing::F32 {
        let row = head.row(row, wide);
        if factor == 1.0 {
            return row;
        }
        let scaled = &mut packed[..head.columns];
        scaled.iter_mut().zip(row).for_each(|(to, x)| *to = x * factor);
        return scaled;
    }
    let units = kernels.packing.units(head.columns);
    let packed = &mut packed[..units];
    if let Some(elements) = head.bf16_row(row) {
        if factor == 1.0
            && elements.len() == 2 * units
            && let Ok(units) = bytemuck::try_cast_slice(elements)
        {
            return units;
        }
        packed[elements.len() / 2..].fill(0.0);
        let to: &mut [u16] = bytemuck::must_cast_slice_mut(packed);
        for (to, &x) in to.iter_mut().zip(elements) {
            *to = ((f32::from_bits(u32::from(x) << 16) * factor).to_bits() >> 16) as u16;
        }
        return packed;
    }
    let (pairs, last) = head.row(row, wide).as_chunks::<2>();
    for (unit, [low, high]) in packed.iter_mut().zip(pairs) {
        *unit = pair(low * factor, high * factor);
    }
    packed[pairs.len()..].fill(0.0);
    if let [low] = last {
        packed[pairs.len()] = pair(low * factor, 0.0);
    }
    packed
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
    pub(super) wide: [RowBuffer; 16],
    packed: [RowBuffer; 16],
}

/// What stands for rows past the end. Never written.
static ZEROS: RowBuffer = [0.0; MAX_HEAD_DIM];

impl Default for Scratch {
    fn default() -> Self {
        Self { wide: [ZEROS; 16], packed: [ZEROS; 16] }
    }
}

/// Rows of a head on their way into packed operands.
pub(super) struct Packed<'a, 'b> {
    pub(super) kernels: &'a Kernels,
    pub(super) head: Head<'b>,
    pub(super) rows: Range<usize>,
    pub(super) scratch: &'a mut Scratch,
    pub(super) to: &'a mut [f32],
    /// Receives those of numbers that are split into planes.
    pub(super) magnitudes: &'a mut Magnitudes,
}

compiled_for_each_set! {
    /// Queries as strips, times `factor` (which is a power of two, 0 or −1 for 16-bit floats); rows past the end are zero.
    pub(super) fn query(task: Packed, factor: f32) = query_strips;
}

compiled_for_each_set! {
    /// Keys as panels `[panels][units][panel]`; keys past the end are zero up to a whole panel.
    pub(super) fn key(task: Packed) = key_panels;
}

compiled_for_each_set! {
    /// Values as panels `[panels][panel_units][panel]`; columns past the end, and keys up to a whole number of units
    /// (of tile registers), are zero.
    pub(super) fn value(task: Packed, panel_units: usize) = value_panels;
}

#[inline(always)]
fn query_strips(task: Packed, factor: f32) {
    if task.kernels.packing.planes() > 1 {
        return planes::query_planes(task, factor);
    }
    let Packed { kernels, head, rows, scratch, to, .. } = task;
    if kernels.packing == Packing::Bf16Tiles {
        let units_each = kernels.packing.units(head.columns);
        let Scratch { wide: [wide, ..], packed: [packed, ..] } = scratch;
        let (present, spare) = to.split_at_mut(rows.len() * units_each);
        for (row, to) in rows.zip(present.chunks_exact_mut(units_each)) {
            to.copy_from_slice(units(kernels, &head, row, factor, wide, packed));
        }
        spare.fill(0.0);
        return;
    }
    match kernels.strip {
        4 => transposed_strips::<4>(kernels, &head, rows, factor, scratch, to),
        _ => transposed_strips::<8>(kernels, &head, rows, factor, scratch, to),
    }
}

/// Strips of `STRIP` rows, that of the kernels, unit by unit.
#[inline(always)]
fn transposed_strips<const STRIP: usize>(
    kernels: &Kernels,
    head: &Head,
    rows: Range<usize>,
    factor: f32,
    scratch: &mut Scratch,
    to: &mut [f32],
) {
    let strips = to.chunks_exact_mut(STRIP * kernels.packing.units(head.columns));
    for (to, first) in strips.zip((rows.start..).step_by(STRIP)) {
        let rows = first..rows.end.min(first + STRIP);
        kernels.transpose::<STRIP>(units_of_each(kernels, head, rows, factor, scratch), to, STRIP);
    }
}

/// The units of at most `ROWS` rows; absent ones are zero.
#[inline(always)]
fn units_of_each<'b, const ROWS: usize>(
    kernels: &Kernels,
    head: &Head<'b>,
    rows: Range<usize>,
    factor: f32,
    scratch: &'b mut Scratch,
) -> [&'b [f32]; ROWS] {
    let mut sources: [&[f32]; ROWS] = [&ZEROS[..kernels.packing.units(head.columns)]; ROWS];
    let buffers = scratch.wide.iter_mut().zip(&mut scratch.packed);
    for ((source, (wide, packed)), row) in sources.iter_mut().zip(buffers).zip(rows) {
        *source = units(kernels, head, row, factor, wide, packed);
    }
    sources
}

#[inline(always)]
fn key_panels(task: Packed) {
    if task.kernels.packing.planes() > 1 {
        return planes::key_planes(task);
    }
    let Packed { kernels, head, rows, scratch, to, .. } = task;
    let (panel, units_each) = (kernels.panel, kernels.packing.units(head.columns));
    for first in (0..rows.len().next_multiple_of(panel)).step_by(16) {
        let present = rows.start + first..rows.end.min(rows.start + first + 16);
        let to = &mut to[first / panel * panel * units_each + first % panel..];
        kernels.transpose::<16>(units_of_each(kernels, &head, present, 1.0, scratch), to, panel);
    }
}

#[inline(always)]
fn value_panels(task: Packed, panel_units: usize) {
    if task.kernels.packing.planes() > 1 {
        return planes::value_planes(task, panel_units);
    }
    match task.kernels.panel {
        16 => value_panels_of::<16>(task, panel_units),
        _ => value_panels_of::<32>(task, panel_units),
    }
}

/// `PANEL` is the panel of the kernels.
#[inline(always)]
fn value_panels_of<const PANEL: usize>(task: Packed, panel_units: usize) {
    let Packed { kernels, head, rows, scratch, to, .. } = task;
    let Scratch { wide: [even_buffer, odd_buffer, ..], packed: [packed, ..] } = scratch;
    let is_f32 = kernels.packing == Packing::F32;
    let depth = if is_f32 { 1 } else { 2 };
    for unit in 0..kernels.packing.units(rows.len()) {
        let row = rows.start + unit * depth;
        let units = if is_f32 {
            head.row_before(rows.end, row, even_buffer)
        } else {
            let packed = &mut packed[..head.columns];
            let pair_of_bf16 = || Some((head.bf16_row(row)?, head.bf16_row(row + 1)?));
            match (row + 1 < rows.end).then(pair_of_bf16).flatten() {
                Some((even, odd)) => interleave(packed, even, odd, |even, odd| {
                    f32::from_bits(u32::from(even) | u32::from(odd) << 16)
                }),
                None => {
                    let even = head.row_before(rows.end, row, even_buffer);
                    interleave(packed, even, head.row_before(rows.end, row + 1, odd_buffer), pair);
                }
            }
            packed
        };
        let mut panels = to[unit * PANEL..].chunks_mut(panel_units * PANEL);
        let (whole, rest) = units.as_chunks::<PANEL>();
        for (units, to) in whole.iter().zip(&mut panels) {
            to[..PANEL].copy_from_slice(units);
        }
        if !rest.is_empty()
            && let Some(to) = panels.next()
        {
            to[..rest.len()].copy_from_slice(rest);
            to[rest.len()..PANEL].fill(0.0);
        }
    }
}

/// A row of units made of two rows of elements. A loop over whole rows, which the compiler turns into vectors; those of one
/// panel it would only unroll.
#[inline(always)]
fn interleave<T: Copy>(to: &mut [f32], even: &[T], odd: &[T], unit: impl Fn(T, T) -> f32) {
    for (to, (&even, &odd)) in to.iter_mut().zip(even.iter().zip(odd)) {
        *to = unit(even, odd);
    }
}
