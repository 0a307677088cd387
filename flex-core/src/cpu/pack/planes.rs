//! Operands of the tile registers as planes: a number is the sum of two or three bf16.
//!
//! A unit is a pair of bf16 of one plane, of elements that are 16 apart along the dimension that is summed over. Sixteen
//! rows of query are `[planes][16][units]`, 32 keys or columns of value `[planes][units][32]`.

use super::{Packed, ZEROS};

/// The units of a row of a tile.
const TILE: usize = 16;

/// Queries as planes.
#[inline(always)]
pub(super) fn query_planes(task: Packed, factor: f32) {
    let Packed { kernels, head, rows, scratch, to, magnitudes } = task;
    let units_each = kernels.packing.units(head.columns);
    let row_units = units_each / kernels.packing.planes();
    let plane = row_units * kernels.strip;
    let spare_rows = rows.len()..to.len() / units_each.max(1);
    let place =
        |row: usize| row / kernels.strip * kernels.strip * units_each + row % kernels.strip * row_units;
    for (i, row) in rows.enumerate() {
        let row = head.row(row, &mut scratch.wide[0]);
        kernels.split_query(row, factor, &mut to[place(i)..], plane, magnitudes);
    }
    for i in spare_rows {
        for plane_of in 0..kernels.packing.planes() {
            to[place(i) + plane_of * plane..][..row_units].fill(0.0);
        }
    }
}

/// Keys as planes.
#[inline(always)]
pub(super) fn key_planes(task: Packed) {
    let Packed { kernels, head, rows, scratch, to, magnitudes } = task;
    let (panel, units_each) = (kernels.panel, kernels.packing.units(head.columns));
    for first in (0..rows.len().next_multiple_of(panel)).step_by(TILE) {
        let present = rows.start + first..rows.end.min(rows.start + first + TILE);
        let mut sources: [&[f32]; TILE] = [&ZEROS[..head.columns]; TILE];
        for ((source, wide), row) in sources.iter_mut().zip(&mut scratch.wide).zip(present) {
            *source = head.row(row, wide);
        }
        let to = &mut to[first / panel * panel * units_each + first % panel..];
        kernels.split_keys(&sources, to, magnitudes);
    }
}

/// Values as planes.
#[inline(always)]
pub(super) fn value_planes(task: Packed, panel_units: usize) {
    let Packed { kernels, head, rows, scratch, to, magnitudes } = task;
    let [wide, other_wide, ..] = &mut scratch.wide;
    for unit in 0..kernels.packing.units(rows.len()) / kernels.packing.planes() {
        let first = rows.start + unit / TILE * 2 * TILE + unit % TILE;
        let second = first + TILE;
        let pair = [head.row_before(rows.end, first, wide), head.row_before(rows.end, second, other_wide)];
        let panel = panel_units * kernels.panel;
        kernels.split_values(pair, &mut to[unit * kernels.panel..], panel, magnitudes);
    }
}
