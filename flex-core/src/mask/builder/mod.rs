//! Building block masks: descent over boxes of tiles, decided by proof where possible.
//!
//! The rows of tiles are cut into strips, the unit of parallel work. In a strip boxes of tiles are judged by the interval
//! analysis; a box that is wholly kept or skipped is written down as runs without visiting its tiles, any other is
//! split. What is left are single tiles that the mask's edge crosses: they are proved to be mixed, or evaluated.
//!
//! There are two ways through a strip, which give the same tiles: [`Sweep`] judges sixteen boxes of a row at a time in
//! vector lanes, and [`Descent`] one box after another; it serves masks that the lanes do not know.

mod descent;
mod options;
mod survey;
mod sweep;
mod tile;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

pub use options::{BlockMaskBuilder, BlockMaskOptions};
pub use survey::{MaskSurvey, OpenTile, TileVerdict};

use super::{BlockMask, BlockSize, Extent, MaskError, Origin, Run, RunTable};
use crate::analysis::interval::{IndexBox, IntervalProgram, Span};
use crate::ir::Input;
use crate::mods::{MaskMod, ModFault};
use descent::Descent;
use sweep::{Region, Sweep};
use tile::TilePrograms;

/// Builds the block mask of a mask with tiles of 128×128.
///
/// Every tile inside the extent is classified exactly: absent if the mask keeps nothing of it, full if it keeps all of
/// it, partial otherwise; tiles at the ends are judged by their elements inside the extent. The result is also a proof
/// that the mask does not fault at any point of the extent.
///
/// # Errors
/// If a dimension is zero or too large, or the mask faults somewhere inside the extent.
pub fn create_block_mask(mask: &MaskMod, extent: Extent) -> Result<BlockMask, MaskError> {
    BlockMask::builder(mask).build(extent)
}

/// What a builder does with tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Finds absent, full and partial tiles.
    Exact,
    /// Makes every tile partial, once it is proved that it cannot fault.
    FaultsOnly,
    /// Finds what the analysis can prove and leaves the other tiles open.
    Survey,
}

/// How strips are searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Search {
    /// By [`Sweep`] where it is possible and pays, else by [`Descent`].
    #[default]
    Auto,
    /// By [`Sweep`] wherever it is possible.
    #[cfg(test)]
    Sweep,
    #[cfg(test)]
    Descent,
}

/// Some rows of tiles of one batch and head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strip {
    b: i32,
    h: i32,
    tiles: Tiles,
}

/// A rectangle of tiles, ends excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tiles {
    pub(super) q: (u32, u32),
    pub(super) kv: (u32, u32),
}

/// What all strips share.
pub(super) struct Plan<'m> {
    pub(super) mask: &'m MaskMod,
    pub(super) program: IntervalProgram,
    pub(super) extent: Extent,
    pub(super) block: BlockSize,
    pub(super) judgement: Judgement,
    pub(super) search: Search,
    tile_programs: TilePrograms,
}

/// The runs of some rows of tiles, and what it took to find them.
pub(super) struct Built {
    pub(super) table: RunTable,
    pub(super) elements_evaluated: u64,
}

/// Rows a table may have: their offsets alone take a gigabyte.
const MAX_ROWS: usize = 1 << 28;
/// The most rows of tiles a strip has.
const MAX_STRIP: usize = 64;

/// The number of rows of tiles, if a table may have so many.
pub(super) fn countable_rows(dimensions: [usize; 3]) -> Result<usize, MaskError> {
    let got = dimensions.into_iter().fold(1, usize::saturating_mul);
    if got <= MAX_ROWS {
        Ok(got)
    } else {
        Err(MaskError::TooLarge { what: "rows of tiles", got, max: MAX_ROWS })
    }
}

impl<'m> Plan<'m> {
    pub(super) fn new(
        mask: &'m MaskMod,
        extent: Extent,
        block: BlockSize,
        judgement: Judgement,
    ) -> Result<Self, MaskError> {
        extent.validate()?;
        block.validate()?;
        let program = IntervalProgram::new(mask.bound());
        let tile_programs = TilePrograms::default();
        Ok(Self { mask, program, extent, block, judgement, search: Search::Auto, tile_programs })
    }

    /// How often the rows of tiles are stored for batch and heads.
    pub(super) fn stored(&self) -> (usize, usize) {
        let expr = self.mask.bound().expr();
        let times = |input, len| if expr.uses(input) { len } else { 1 };
        (times(Input::Batch, self.extent.batch), times(Input::Head, self.extent.heads))
    }

    pub(super) fn q_blocks(&self) -> usize {
        self.extent.q_len.div_ceil(self.block.q)
    }

    pub(super) fn kv_blocks(&self) -> usize {
        self.extent.kv_len.div_ceil(self.block.kv)
    }

    pub(super) fn all_tiles(&self) -> Tiles {
        Tiles { q: (0, self.q_blocks() as u32), kv: (0, self.kv_blocks() as u32) }
    }

    /// The strides of the stored rows in batch and heads.
    pub(super) fn row_strides(&self) -> (usize, usize) {
        let expr = self.mask.bound().expr();
        let head_rows = if expr.uses(Input::Head) { self.q_blocks() } else { 0 };
        let batch_rows = if expr.uses(Input::Batch) { self.q_blocks() * self.stored().1 } else { 0 };
        (batch_rows, head_rows)
    }

    /// Finds the runs of a rectangle of tiles for every stored batch and head.
    pub(super) fn run(&self, tiles: Tiles, threads: Option<usize>) -> Result<Built, MaskError> {
        let (batches, heads) = self.stored();
        let height = (tiles.q.1 - tiles.q.0) as usize;
        let rows = countable_rows([batches, heads, height])?;
        let strips = self.strips(tiles);
        let region = self.region(tiles);
        let serial = threads == Some(1) || self.is_small(strips.len(), tiles);
        let build = |threads: usize| share(&strips, threads, || Worker::new(self, region.as_ref()));
        let parts = match threads {
            _ if serial => build(1),
            None => build(rayon::current_num_threads()),
            Some(threads) => rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .map_err(|e| MaskError::Threads { threads, reason: e.to_string() })?
                .install(|| build(threads)),
        };
        assemble(parts, rows)
    }

    /// What a sweep of the tiles needs, if that is the way to search them.
    fn region(&self, tiles: Tiles) -> Option<Region> {
        let (height, width) = (tiles.q.1 - tiles.q.0, tiles.kv.1 - tiles.kv.0);
        // For few rows it does not pay to look at every one of many columns.
        let pays = width <= 64 || height >= 8 && u64::from(height) * u64::from(width) >= 1024;
        let wanted = match self.search {
            Search::Auto => pays,
            #[cfg(test)]
            Search::Sweep => true,
            #[cfg(test)]
            Search::Descent => false,
        };
        if wanted && self.judgement == Judgement::Exact { Region::new(self, tiles) } else { None }
    }

    /// The elements of a box of tiles that lie inside the extent.
    fn index_box(&self, strip: Strip, tiles: Tiles) -> IndexBox {
        let span = |(first, end): (u32, u32), block: usize, len: usize| {
            let last = (end as usize * block).min(len) - 1;
            Span { first: (first as usize * block) as i32, last: last as i32 }
        };
        IndexBox {
            b: Span::single(strip.b),
            h: Span::single(strip.h),
            q: span(tiles.q, self.block.q, self.extent.q_len),
            kv: span(tiles.kv, self.block.kv, self.extent.kv_len),
        }
    }

    /// Whether starting threads would cost more than they save.
    fn is_small(&self, strips: usize, tiles: Tiles) -> bool {
        let columns = (tiles.kv.1 - tiles.kv.0) as usize;
        let tiles = strips * columns;
        tiles <= 256 && tiles.saturating_mul(self.block.q * self.block.kv) <= 1 << 16
    }

    /// The strips in the order of the rows. Their height depends on the problem alone, so that the work, and with it
    /// every count of it, is the same on any number of threads.
    fn strips(&self, tiles: Tiles) -> Vec<Strip> {
        let (batches, heads) = self.stored();
        let height = (tiles.q.1 - tiles.q.0) as usize;
        let groups = batches * heads;
        let step = (height * groups / 32).next_power_of_two().clamp(1, MAX_STRIP);
        let mut strips = Vec::with_capacity(groups * height.div_ceil(step));
        for b in 0..batches {
            for h in 0..heads {
                for first in (tiles.q.0..tiles.q.1).step_by(step) {
                    let q = (first, tiles.q.1.min(first + step as u32));
                    strips.push(Strip { b: b as i32, h: h as i32, tiles: Tiles { q, kv: tiles.kv } });
                }
            }
        }
        strips
    }
}

/// Searches strips one after another, keeping its working memory.
enum Worker<'p> {
    Descent(Descent<'p>),
    Sweep(Sweep<'p>),
}

impl<'p> Worker<'p> {
    fn new(plan: &'p Plan<'p>, region: Option<&'p Region>) -> Self {
        match region {
            Some(region) => Self::Sweep(Sweep::new(plan, region)),
            None => Self::Descent(Descent::new(plan)),
        }
    }

    fn build(&mut self, strip: Strip) -> Result<StripRuns, ModFault> {
        match self {
            Self::Descent(descent) => descent.build(strip),
            Self::Sweep(sweep) => sweep.build(strip),
        }
    }
}

/// The runs of the rows of one strip.
pub(super) struct StripRuns {
    pub(super) runs: Vec<Run>,
    /// How many of them each row has.
    pub(super) lens: Vec<u32>,
    pub(super) elements_evaluated: u64,
}

/// Builds strips by up to so many threads, each with a worker of its own. The calling thread begins at once and the others
/// come when they have woken up, which takes as long as many a mask. After a fault, only the strips before it are built.
fn share<'p>(
    strips: &[Strip],
    threads: usize,
    new_worker: impl Fn() -> Worker<'p> + Sync,
) -> Vec<Result<StripRuns, ModFault>> {
    let next = AtomicUsize::new(0);
    let built = Mutex::new(Vec::with_capacity(strips.len()));
    let work = || {
        let mut worker = None;
        let mut parts = Vec::new();
        // Strips are given out in their order, so that those before a fault are all built.
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(strip) = strips.get(index) else { break };
            let part = worker.get_or_insert_with(&new_worker).build(*strip);
            if part.is_err() {
                next.store(strips.len(), Ordering::Relaxed);
            }
            parts.push((index, part));
        }
        built.lock().unwrap_or_else(PoisonError::into_inner).append(&mut parts);
    };
    match threads.min(strips.len()) {
        0 | 1 => work(),
        threads => rayon::in_place_scope(|scope| {
            (1..threads).for_each(|_| scope.spawn(|_| work()));
            work();
        }),
    }
    let mut built = built.into_inner().unwrap_or_else(PoisonError::into_inner);
    built.sort_unstable_by_key(|part| part.0);
    built.into_iter().map(|part| part.1).collect()
}

/// Joins strips; the first fault in their order is the one reported.
fn assemble(parts: Vec<Result<StripRuns, ModFault>>, rows: usize) -> Result<Built, MaskError> {
    let parts = parts.into_iter().collect::<Result<Vec<_>, _>>()?;
    let total: usize = parts.iter().map(|part| part.runs.len()).sum();
    if u32::try_from(total).is_err() {
        return Err(MaskError::TooLarge { what: "runs", got: total, max: u32::MAX as usize });
    }
    let mut offsets = Vec::with_capacity(rows + 1);
    let mut runs = Vec::with_capacity(total);
    let (mut end, mut elements_evaluated) = (0, 0);
    offsets.push(0);
    for part in parts {
        offsets.extend(part.lens.iter().map(|len| {
            end += len;
            end
        }));
        runs.extend_from_slice(&part.runs);
        elements_evaluated += part.elements_evaluated;
    }
    Ok(Built { table: RunTable { offsets, runs }, elements_evaluated })
}

impl BlockMask {
    /// Builds a block mask with other blocks or threads than [`create_block_mask`] does.
    pub fn builder(mask: &MaskMod) -> BlockMaskBuilder<'_> {
        BlockMaskBuilder::new(mask)
    }

    /// The mask alone, with no tile skipped: every tile is partial, so that kernels evaluate the mask everywhere. For
    /// comparisons with the block mask proper.
    ///
    /// # Errors
    /// As [`create_block_mask`]: that the mask cannot fault inside the extent is proved here too, by evaluation where the
    /// analysis cannot tell.
    pub fn unskipped(mask: &MaskMod, extent: Extent) -> Result<Self, MaskError> {
        Self::builder(mask).build_unskipped(extent)
    }

    pub(super) fn from_plan(plan: &Plan, threads: Option<usize>) -> Result<Self, MaskError> {
        let Built { table, elements_evaluated } = plan.run(plan.all_tiles(), threads)?;
        Ok(Self::with_table(plan, table, elements_evaluated))
    }

    fn with_table(plan: &Plan, table: RunTable, elements_evaluated: u64) -> Self {
        let origin = match plan.judgement {
            Judgement::Exact | Judgement::Survey => Origin::Proved,
            Judgement::FaultsOnly => Origin::Unskipped,
        };
        let (batch_rows, head_rows) = plan.row_strides();
        Self {
            mask: plan.mask.clone(),
            extent: plan.extent,
            block: plan.block,
            batch_rows,
            head_rows,
            rows: table.into(),
            origin,
            elements_evaluated,
            transposed: std::sync::OnceLock::new(),
        }
    }
}
