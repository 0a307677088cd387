//! Memory that a thread keeps from one call to the next.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use super::item::Item;
use super::kernel::{Kernels, SUM_LANES, TILE_KEYS};
use super::pack::Scratch;
use super::split::Partials;
use crate::rows::RowRegisters;

/// 64 bytes on a boundary of 64 bytes: a cache line, and the widest vector.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Floats from a boundary of 64 bytes on. Grows, never shrinks.
#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<Line>);

impl Buffer {
    /// Nothing yet.
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

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
    pub(super) weights: Buffer,
    pub(super) out: Buffer,
    pub(super) max: Buffer,
    pub(super) sums: Buffer,
    pub(super) rescale: Buffer,
    pub(super) keep: Vec<u32>,
    kept: [KeptRows; 8],
    /// Which of them is overwritten next.
    oldest_kept: usize,
    pub(super) scratch: Box<Scratch>,
    pub(super) mask_registers: RowRegisters,
    pub(super) score_registers: RowRegisters,
    pub(super) bias_registers: RowRegisters,
    pub(super) bias_table: Buffer,
}

/// Whose kept keys are known: items of other heads keep the same ones, where the mask does not depend on the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeptOf {
    pub(super) call: u64,
    pub(super) batch: usize,
    pub(super) heads: Range<usize>,
    pub(super) queries: Range<usize>,
    pub(super) keys: Range<usize>,
    /// Query rows of a strip, of which there are whole ones.
    pub(super) strip: usize,
}

/// The keys that some rows keep.
#[derive(Debug, Default)]
struct KeptRows {
    of: Option<KeptOf>,
    rows: Vec<Range<u32>>,
}

/// The sizes of an item.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Rows, in whole blocks.
    pub(super) rows: usize,
    /// Rows of a block, in whole strips.
    pub(super) block_rows: usize,
    /// Packed units of a row of query or key.
    pub(super) units: usize,
    /// Columns of an output row in memory, in whole panels.
    pub(super) columns: usize,
}

/// The buffers at the sizes that an item needs.
pub(super) struct Buffers<'w> {
    /// Strips of `strip · units` units, all rows of the item.
    pub(super) query: &'w mut [f32],
    /// The keys that are packed at a time.
    pub(super) chunk_keys: usize,
    /// `[panels][units][panel]`.
    pub(super) key: &'w mut [f32],
    /// `[panels][value_units][panel]`.
    pub(super) value: &'w mut [f32],
    pub(super) value_units: usize,
    /// `[rows of a block][TILE_KEYS]`.
    pub(super) scores: &'w mut [f32],
    /// The same before the score mod.
    pub(super) plain_scores: &'w mut [f32],
    /// The weights of a block, where they are planes; nothing where they take the place of the scores.
    pub(super) weights: &'w mut [f32],
    /// `[rows][value columns]`, unnormalised.
    pub(super) out: &'w mut [f32],
    pub(super) max: &'w mut [f32],
    pub(super) sums: &'w mut [f32],
    pub(super) rescale: &'w mut [f32],
    /// `[rows of a strip][TILE_KEYS]`.
    pub(super) keep: &'w mut [u32],
    /// The keys that each row keeps, where these are intervals, and whose they are.
    pub(super) kept: &'w mut [Range<u32>],
    pub(super) kept_of: &'w mut Option<KeptOf>,
    pub(super) scratch: &'w mut Scratch,
}

/// The most keys that are packed at a time: a document of a few hundred tokens is packed once for all its queries.
const CHUNK_KEYS: usize = 512;
/// The same for tile registers, where an item has more rows, and reading and writing their sums again for every chunk
/// weighs more.
const CHUNK_KEYS_OF_TILES: usize = 1024;
/// The most bytes of packed keys, and of packed values, but for one tile: both stay in the second-level cache, …
const CHUNK_BYTES: usize = 256 << 10;
/// … also in a small one.
const CHUNK_BYTES_OF_SMALL_CACHES: usize = 128 << 10;

impl Workspace {
    /// Cuts the buffers for an item, with the kept keys of its rows if they are known.
    pub(super) fn buffers(
        &mut self,
        kernels: &Kernels,
        sizes: Sizes,
        kept_of: Option<&KeptOf>,
    ) -> Buffers<'_> {
        let Sizes { rows, block_rows, units, columns } = sizes;
        debug_assert!(rows.is_multiple_of(kernels.strip) && columns.is_multiple_of(kernels.panel));
        let bytes_per_tile = 4 * (TILE_KEYS * units).max(kernels.packing.units(TILE_KEYS) * columns);
        let most_keys = if kernels.packing.is_tiles() { CHUNK_KEYS_OF_TILES } else { CHUNK_KEYS };
        let most_bytes = if kernels.has_small_caches { CHUNK_BYTES_OF_SMALL_CACHES } else { CHUNK_BYTES };
        let tiles = (most_bytes / bytes_per_tile.max(1)).clamp(1, most_keys / TILE_KEYS);
        let chunk_keys = tiles * TILE_KEYS;
        let value_units = kernels.packing.units(chunk_keys);
        self.keep.resize(kernels.strip * TILE_KEYS, 0);
        let known = self.kept.iter().position(|kept| kept_of.is_some() && kept.of.as_ref() == kept_of);
        let kept = known.unwrap_or_else(|| {
            let oldest = self.oldest_kept;
            self.oldest_kept = (oldest + 1) % self.kept.len();
            self.kept[oldest].of = None;
            oldest
        });
        let KeptRows { of: kept_of, rows: kept } = &mut self.kept[kept];
        kept.resize(rows, 0..0);
        Buffers {
            query: self.query.take(rows * units),
            chunk_keys,
            key: self.key.take(chunk_keys * units),
            value: self.value.take(value_units * columns),
            value_units,
            scores: self.scores.take(block_rows * TILE_KEYS),
            plain_scores: self.plain_scores.take(block_rows * TILE_KEYS),
            weights: self.weights.take(if kernels.packing.planes() > 1 {
                kernels.weights_len(block_rows)
            } else {
                0
            }),
            out: self.out.take(rows * columns),
            max: self.max.take(rows),
            sums: self.sums.take(rows * SUM_LANES),
            rescale: self.rescale.take(block_rows),
            keep: &mut self.keep,
            kept,
            kept_of,
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

/// What a call consists of: kept by the thread that calls.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) items: Vec<Item>,
    pub(super) partials: Partials,
}

thread_local! {
    static PLAN: Cell<Plan> = Cell::default();
}

/// The memory of the last plan of this thread, or fresh memory where a call runs inside another one.
pub(super) fn take_plan() -> Plan {
    PLAN.take()
}

/// Gives the memory back.
pub(super) fn keep_plan(plan: Plan) {
    PLAN.set(plan);
}
