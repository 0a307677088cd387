//! Memory that a thread keeps from one call to the next.

use std::cell::RefCell;

use super::kernel::{Kernels, SUM_LANES, TILE_KEYS};
use super::pack::Scratch;
use crate::rows::RowRegisters;

/// 64 bytes on a boundary of 64 bytes: a cache line, and the widest vector.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Floats from a boundary of 64 bytes on. Grows, never shrinks.
#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<Line>);

impl Buffer {
    /// The first `len` floats, with whatever is in them.
    pub(super) fn take(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(16);
        if self.0.len() < lines {
            self.0.resize(lines, Line::default());
        }
        &mut bytemuck::must_cast_slice_mut(&mut self.0)[..len]
    }
}

/// The buffers of one thread.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub(super) query: Buffer,
    pub(super) key: Buffer,
    pub(super) value: Buffer,
    pub(super) scores: Buffer,
    pub(super) plain_scores: Buffer,
    pub(super) out: Buffer,
    pub(super) max: Buffer,
    pub(super) sums: Buffer,
    pub(super) rescale: Buffer,
    pub(super) keep: Vec<u32>,
    pub(super) scratch: Box<Scratch>,
    pub(super) mask_registers: RowRegisters,
    pub(super) score_registers: RowRegisters,
}

/// The buffers at the sizes that an item needs.
pub(super) struct Tile<'w> {
    /// Strips of `strip · units` units, all rows of the item.
    pub(super) query: &'w mut [f32],
    /// `[panels][units][panel]`.
    pub(super) key: &'w mut [f32],
    /// `[panels][units of TILE_KEYS][panel]`.
    pub(super) value: &'w mut [f32],
    /// `[rows of a block][TILE_KEYS]`.
    pub(super) scores: &'w mut [f32],
    /// The same before the score mod.
    pub(super) plain_scores: &'w mut [f32],
    /// `[rows][value columns]`, unnormalised.
    pub(super) out: &'w mut [f32],
    pub(super) max: &'w mut [f32],
    pub(super) sums: &'w mut [f32],
    pub(super) rescale: &'w mut [f32],
    /// `[rows of a strip][TILE_KEYS]`.
    pub(super) keep: &'w mut [u32],
    pub(super) scratch: &'w mut Scratch,
}

impl Workspace {
    /// Cuts the buffers for `rows` rows (whole strips) of `units` packed units, in blocks of `block_rows`.
    pub(super) fn tile(
        &mut self,
        kernels: &Kernels,
        rows: usize,
        block_rows: usize,
        units: usize,
        value_columns: usize,
    ) -> Tile<'_> {
        debug_assert!(rows.is_multiple_of(kernels.strip) && value_columns.is_multiple_of(kernels.panel));
        self.keep.resize(kernels.strip * TILE_KEYS, 0);
        Tile {
            query: self.query.take(rows * units),
            key: self.key.take(TILE_KEYS * units),
            value: self.value.take(TILE_KEYS * value_columns),
            scores: self.scores.take(block_rows * TILE_KEYS),
            plain_scores: self.plain_scores.take(block_rows * TILE_KEYS),
            out: self.out.take(rows * value_columns),
            max: self.max.take(rows),
            sums: self.sums.take(rows * SUM_LANES),
            rescale: self.rescale.take(block_rows),
            keep: &mut self.keep,
            scratch: &mut self.scratch,
        }
    }
}

/// Runs `f` with the workspace of this thread. A call from inside `f` (work stealing can do that) gets a fresh one.
pub(super) fn with<R>(f: impl FnOnce(&mut Workspace) -> R) -> R {
    thread_local! {
        static WORKSPACE: RefCell<Workspace> = RefCell::default();
    }
    WORKSPACE.with(|workspace| match workspace.try_borrow_mut() {
        Ok(mut workspace) => f(&mut workspace),
        Err(_) => f(&mut Workspace::default()),
    })
}
