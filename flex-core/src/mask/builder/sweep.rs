//! The search of a strip by sweep: sixteen boxes of tiles are judged at a time, in vector lanes.
//!
//! The columns of the tiles, of every 16, 256, … of them, are looked at once for the whole region. The rows of a strip
//! together are judged against the widest columns, and inside those that stay open against narrower ones: their outline.
//! Sixteen rows together refine it down to groups of sixteen tiles, which every row judges for itself. A tile that is
//! still open is cut into 4 × 4 boxes, which are judged together; what they do not tell is evaluated.

use std::sync::OnceLock;

use super::tile::{Seen, TileProver, Trials};
use super::{Plan, Strip, StripRuns, Tiles};
use crate::analysis::interval::lanes::{
    BATCH, CodeId, Columns, FAN, Group, LaneAnalysis, LaneProgram, Verdicts,
};
use crate::analysis::interval::{FloatRange, IndexBox, IntervalAnalysis, Span};
use crate::mask::{Run, TileKind};
use crate::mods::ModFault;

/// What all sweeps of a rectangle of tiles share.
pub(super) struct Region {
    tiles: Tiles,
    program: LaneProgram,
    /// The columns of every batch and head that they depend on, once they are needed.
    columns: Vec<OnceLock<Columns>>,
    heads: usize,
}

impl Region {
    /// `None` where lanes do not know the mask.
    pub(super) fn new(plan: &Plan, tiles: Tiles) -> Option<Self> {
        let all = IndexBox::of(&plan.extent);
        let index_box = IndexBox { b: all.b, h: all.h, ..plan.index_box(Strip { b: 0, h: 0, tiles }, tiles) };
        let mut analysis = IntervalAnalysis::new(&plan.program);
        analysis.evaluate(&index_box, FloatRange::ANY);
        let program = LaneProgram::new(&analysis)?;
        let (by_batch, by_head) = program.columns_depend_on;
        let batches = if by_batch { plan.extent.batch } else { 1 };
        let heads = if by_head { plan.extent.heads } else { 1 };
        let mut columns = Vec::new();
        columns.resize_with(batches * heads, OnceLock::new);
        Some(Self { tiles, program, columns, heads })
    }

    fn columns(&self, plan: &Plan, lanes: &mut LaneAnalysis, strip: Strip) -> &Columns {
        let (by_batch, by_head) = self.program.columns_depend_on;
        let batch = if by_batch { strip.b as usize } else { 0 };
        let head = if by_head { strip.h as usize } else { 0 };
        self.columns[batch * self.heads + head].get_or_init(|| {
            let Span { first, last } = plan.index_box(strip, self.tiles).kv;
            Columns::new(lanes, (strip.b, strip.h), (first as usize, last as usize + 1), plan.block.kv)
        })
    }
}

/// A part of the outline of some rows, in the order of the keys. What is between the parts is skipped.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// Tiles that are full in all rows.
    Full { first: u32, end: u32 },
    /// A group of boxes to be judged, by a code that is enough for all of the rows.
    Open { group: u32, code: CodeId },
}

impl Part {
    /// The boxes to be judged, of a level, for the row at a place.
    fn open_group(&self, row: usize, level: usize) -> Option<Group> {
        match *self {
            Self::Open { group, code } => Some(Group { row, level, group: group as usize, code }),
            Self::Full { .. } => None,
        }
    }
}

/// Rows of tiles that refine an outline together. Their ranges have places of their own, as have those of all of them
/// together and those of the strip.
const ROWS: usize = 16;
const ALL_ROWS: usize = ROWS;
const STRIP: usize = ROWS + 1;
const PLACES: usize = ROWS + 2;

/// Builds strips one after another, keeping its working memory.
pub(super) struct Sweep<'p> {
    plan: &'p Plan<'p>,
    region: &'p Region,
    strip: Strip,
    lanes: LaneAnalysis<'p>,
    prover: TileProver<'p>,
    trials: Trials,
    /// The outline of the strip, that of the rows at hand, and one that is being refined.
    strip_outline: Vec<Part>,
    outline: Vec<Part>,
    coarser: Vec<Part>,
    groups: Vec<Group>,
    verdicts: Vec<Verdicts>,
    /// Boxes in a tile that is searched.
    open: Vec<(Span, Span)>,
}

impl<'p> Sweep<'p> {
    pub(super) fn new(plan: &'p Plan<'p>, region: &'p Region) -> Self {
        Self {
            plan,
            region,
            strip: Strip { b: 0, h: 0, tiles: region.tiles },
            lanes: LaneAnalysis::new(&region.program, PLACES),
            prover: TileProver::new(plan.mask.bound(), &plan.tile_programs),
            trials: Trials::default(),
            strip_outline: Vec::new(),
            outline: Vec::new(),
            coarser: Vec::new(),
            groups: Vec::new(),
            verdicts: Vec::new(),
            open: Vec::new(),
        }
    }

    pub(super) fn build(&mut self, strip: Strip) -> Result<StripRuns, ModFault> {
        self.strip = strip;
        self.prover.start_strip();
        self.trials = Trials::default();
        let columns = self.region.columns(self.plan, &mut self.lanes, strip);
        let (first, end) = strip.tiles.q;
        self.start_outline(columns);
        let mut rows = Rows { runs: Vec::with_capacity(4 * (end - first) as usize), start: 0 };
        let mut lens = Vec::with_capacity((end - first) as usize);
        for top in (first..end).step_by(ROWS) {
            let bottom = end.min(top + ROWS as u32);
            self.set_rows(ALL_ROWS, &[(top, bottom)]);
            self.outline.clone_from(&self.strip_outline);
            if columns.top() > 0 {
                self.refine_outline(columns, 1, ALL_ROWS);
            }
            self.judge_rows(columns, (top, bottom));
            for row in top..bottom {
                rows.start = rows.runs.len();
                self.write_row(row, (row - top, bottom - top), &mut rows)?;
                lens.push((rows.runs.len() - rows.start) as u32);
            }
        }
        Ok(StripRuns { runs: rows.runs, lens, elements_evaluated: self.prover.elements_evaluated() })
    }

    /// Looks at the rows of tiles from `.0` to `.1`, sixteen at most.
    fn set_rows(&mut self, place: usize, rows: &[(u32, u32)]) {
        let Self { plan, strip, lanes, .. } = self;
        let queries = rows.iter().map(|&q| plan.index_box(*strip, Tiles { q, ..strip.tiles }).q);
        lanes.set_rows(place, (strip.b, strip.h), queries);
    }

    /// Finds what all rows of the strip skip and keep, down to groups of boxes of sixteen tiles.
    fn start_outline(&mut self, columns: &Columns) {
        self.outline.clear();
        self.outline.push(Part::Open { group: 0, code: CodeId::default() });
        if columns.top() > 1 {
            self.set_rows(STRIP, &[self.strip.tiles.q]);
            for level in (2..=columns.top()).rev() {
                self.refine_outline(columns, level, STRIP);
            }
        }
        std::mem::swap(&mut self.outline, &mut self.strip_outline);
    }

    /// Judges the open groups of the outline, whose boxes are of the given level. What stays open are the groups inside
    /// the boxes that some of the rows at `place` cross.
    fn refine_outline(&mut self, columns: &Columns, level: usize, place: usize) {
        std::mem::swap(&mut self.outline, &mut self.coarser);
        self.outline.clear();
        self.groups.clear();
        self.groups.extend(self.coarser.iter().filter_map(|part| part.open_group(place, level)));
        let width = (FAN as u32).saturating_pow(level as u32);
        let tiles = self.region.tiles.kv.1 - self.region.tiles.kv.0;
        let Self { lanes, outline, coarser, groups, .. } = self;
        let mut parts = coarser.iter().copied();
        for batch in groups.chunks(BATCH) {
            let mut verdicts = [Verdicts::default(); BATCH];
            verdicts[..batch.len()].copy_from_slice(lanes.judge(columns, batch));
            for (nth, judged) in batch.iter().enumerate() {
                outline.extend(parts.by_ref().take_while(|part| matches!(part, Part::Full { .. })));
                let Verdicts { full, empty, .. } = verdicts[nth];
                let mut todo = lanes_below(columns.boxes_in(level, judged.group)) & !u32::from(empty);
                while todo != 0 {
                    let lane = todo.trailing_zeros();
                    todo &= todo - 1;
                    let index = (judged.group * FAN) as u32 + lane;
                    outline.push(match (full >> lane & 1, level) {
                        (1, _) => Part::Full {
                            first: index * width,
                            end: tiles.min((index * width).saturating_add(width)),
                        },
                        // The boxes inside are judged by all rows, one after another.
                        (_, 1) => {
                            let code = lanes.code_inside(columns, batch, (nth, lane as usize));
                            Part::Open { group: index, code }
                        }
                        _ => Part::Open { group: index, code: CodeId::default() },
                    });
                }
            }
        }
        outline.extend(parts);
    }

    /// Judges the tiles of the open groups of the outline for every row: those of one group after another.
    fn judge_rows(&mut self, columns: &Columns, (top, bottom): (u32, u32)) {
        let mut rows = [(0, 0); ROWS];
        let height = (bottom - top) as usize;
        for (row, first) in rows.iter_mut().zip(top..bottom) {
            *row = (first, first + 1);
        }
        self.set_rows(0, &rows[..height]);
        self.groups.clear();
        for part in &self.outline {
            self.groups.extend((0..height).filter_map(|row| part.open_group(row, 0)));
        }
        self.verdicts.clear();
        for same_code in self.groups.chunk_by(|a, b| a.code == b.code) {
            for batch in same_code.chunks(BATCH) {
                self.verdicts.extend_from_slice(self.lanes.judge(columns, batch));
            }
        }
    }

    /// Appends the runs of one row, the `.0`-th of `.1` that were judged together.
    fn write_row(&mut self, row: u32, (nth, height): (u32, u32), rows: &mut Rows) -> Result<(), ModFault> {
        let (left, right) = self.region.tiles.kv;
        let mut verdicts = nth as usize;
        for part in 0..self.outline.len() {
            let group = match self.outline[part] {
                Part::Full { first, end } => {
                    rows.push(left + first, left + end, TileKind::Full);
                    continue;
                }
                Part::Open { group, .. } => left + group * FAN as u32,
            };
            let Verdicts { full, empty, mixed } = self.verdicts[verdicts];
            verdicts += height as usize;
            let mut todo = lanes_below(FAN.min((right - group) as usize)) & !u32::from(empty);
            while todo != 0 {
                let lane = todo.trailing_zeros();
                let first = group + lane;
                let (same, kind): (u32, _) = match (full >> lane & 1, mixed >> lane & 1) {
                    (1, _) => (full.into(), Some(TileKind::Full)),
                    (_, 1) => (mixed.into(), Some(TileKind::Partial)),
                    _ => (1 << lane, self.look_inside(row, first)?),
                };
                let len = (!(same >> lane)).trailing_zeros();
                if let Some(kind) = kind {
                    rows.push(first, first + len, kind);
                }
                todo &= !(lanes_below(len as usize) << lane);
            }
        }
        Ok(())
    }

    /// What a tile keeps that is not known as a whole.
    fn look_inside(&mut self, row: u32, column: u32) -> Result<Option<TileKind>, ModFault> {
        let tiles = Tiles { q: (row, row + 1), kv: (column, column + 1) };
        let tile = self.plan.index_box(self.strip, tiles);
        let mut seen = Seen::default();
        if self.trials.pay() {
            let known = self.search(&tile, &mut seen);
            self.trials.record(known);
            if known {
                return Ok(seen.kind());
            }
        }
        self.prover.evaluate(&tile, false, &mut seen)?;
        Ok(seen.kind())
    }

    /// Cuts a tile into 4 × 4 boxes, and those that stay open again, until some are known to keep something and some to
    /// skip something. Returns whether the tile is known: in this way or because all of its boxes are.
    fn search(&mut self, tile: &IndexBox, seen: &mut Seen) -> bool {
        let place = (self.strip.b, self.strip.h);
        self.open.clear();
        self.open.push((tile.q, tile.kv));
        let mut next = 0;
        while next < self.open.len() && next < CUTS {
            let boxes = Cut::new(self.open[next]);
            next += 1;
            let Verdicts { full, empty, mixed } = self.lanes.judge_boxes(place, boxes.clone());
            seen.kept |= full | mixed != 0;
            seen.skipped |= empty | mixed != 0;
            if boxes.height == 1 && boxes.width == 1 {
                self.prover.count(boxes.len());
            }
            if seen.both() {
                return true;
            }
            let still_open = boxes.enumerate().filter(|(i, _)| (full | empty) >> i & 1 == 0);
            self.open.extend(still_open.map(|(_, part)| part));
        }
        next == self.open.len()
    }
}

/// How often a tile and the boxes in it are cut.
const CUTS: usize = 4;

/// A box cut into up to 4 × 4 about equal ones.
#[derive(Clone)]
struct Cut {
    q: Span,
    kv: Span,
    height: i32,
    width: i32,
    columns: usize,
    next: usize,
    count: usize,
}

impl Cut {
    fn new((q, kv): (Span, Span)) -> Self {
        let step = |span: Span| (span.last - span.first) / 4 + 1;
        let parts = |span: Span| ((span.last - span.first) / step(span) + 1) as usize;
        let (height, width, columns) = (step(q), step(kv), parts(kv));
        Self { q, kv, height, width, columns, next: 0, count: parts(q) * columns }
    }
}

impl Iterator for Cut {
    type Item = (Span, Span);

    #[inline]
    fn next(&mut self) -> Option<(Span, Span)> {
        if self.next == self.count {
            return None;
        }
        let (row, column) = ((self.next / self.columns) as i32, (self.next % self.columns) as i32);
        self.next += 1;
        let part = |span: Span, step: i32, index: i32| {
            let first = span.first + index * step;
            Span { first, last: span.last.min(first.saturating_add(step - 1)) }
        };
        Some((part(self.q, self.height, row), part(self.kv, self.width, column)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count - self.next, Some(self.count - self.next))
    }
}

impl ExactSizeIterator for Cut {}

/// The bits of so many lanes.
fn lanes_below(count: usize) -> u32 {
    (1 << count) - 1
}

/// The runs of one row after another.
struct Rows {
    runs: Vec<Run>,
    /// Where the last row begins.
    start: usize,
}

impl Rows {
    /// Appends tiles to the row, joined with the last run where they are one.
    fn push(&mut self, first: u32, end: u32, kind: TileKind) {
        if let Some(last) = self.runs[self.start..].last_mut()
            && last.end() == first
            && last.kind() == kind
        {
            *last = Run::new(last.first(), end - last.first(), kind);
        } else {
            self.runs.push(Run::new(first, end - first, kind));
        }
    }
}
