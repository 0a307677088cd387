//! The search of a strip by descent: boxes of tiles are judged one by one and split until they are decided.

use super::tile::TileProver;
use super::{Judgement, Plan, Strip, StripRuns, Tiles, survey};
use crate::analysis::interval::{FloatRange, IndexBox, IntervalAnalysis};
use crate::ir::NodeId;
use crate::mask::{Run, TileKind};
use crate::mods::ModFault;

/// Boxes of up to so many tiles a side may be left open as a whole.
const SMALL_BOX: u32 = 8;
/// After so many single tiles of which three in four were left open, a strip leaves small boxes open.
const TRIAL_LEAVES: u32 = 64;

/// What the analysis says of a box of tiles.
enum Verdict {
    Empty,
    Kept(TileKind),
    Undecided,
}

/// Builds strips one after another, keeping its working memory.
pub(super) struct Descent<'p> {
    plan: &'p Plan<'p>,
    analysis: IntervalAnalysis<'p>,
    prover: TileProver<'p>,
    strip: Strip,
    /// For every depth of the descent the nodes that are still to be evaluated there.
    unsettled: Vec<Vec<NodeId>>,
    /// The runs of every row of the strip so far. The descent visits the tiles of a row from left to right.
    rows: Vec<Vec<Run>>,
    /// The single tiles that the descent came to, and how many of them it left open.
    leaves: u32,
    leaves_open: u32,
}

impl<'p> Descent<'p> {
    pub(super) fn new(plan: &'p Plan<'p>) -> Self {
        let none = Tiles { q: (0, 0), kv: (0, 0) };
        let analysis = IntervalAnalysis::new(&plan.program);
        Self {
            plan,
            unsettled: vec![analysis.nodes().to_vec()],
            analysis,
            prover: TileProver::new(plan.mask.bound(), &plan.tile_programs),
            strip: Strip { b: 0, h: 0, tiles: none },
            rows: Vec::new(),
            leaves: 0,
            leaves_open: 0,
        }
    }

    pub(super) fn build(&mut self, strip: Strip) -> Result<StripRuns, ModFault> {
        let height = (strip.tiles.q.1 - strip.tiles.q.0) as usize;
        self.strip = strip;
        self.rows.resize_with(height.max(self.rows.len()), Vec::new);
        self.rows.iter_mut().for_each(Vec::clear);
        self.prover.start_strip();
        (self.leaves, self.leaves_open) = (0, 0);
        self.descend(strip.tiles, 0)?;
        let rows = &self.rows[..height];
        let mut runs = Vec::with_capacity(rows.iter().map(Vec::len).sum());
        rows.iter().for_each(|row| runs.extend_from_slice(row));
        let lens = rows.iter().map(|row| row.len() as u32).collect();
        Ok(StripRuns { runs, lens, elements_evaluated: self.prover.elements_evaluated() })
    }

    /// Judges a box of tiles and what is inside it. `depth` is the number of boxes around it.
    fn descend(&mut self, tiles: Tiles, depth: usize) -> Result<(), ModFault> {
        let index_box = self.plan.index_box(self.strip, tiles);
        match self.judge(&index_box, depth) {
            Verdict::Empty => return Ok(()),
            Verdict::Kept(kind) => {
                self.emit(tiles, kind);
                return Ok(());
            }
            Verdict::Undecided => {}
        }
        let (height, width) = (tiles.q.1 - tiles.q.0, tiles.kv.1 - tiles.kv.0);
        if self.plan.judgement == Judgement::Survey {
            let single = height == 1 && width == 1;
            if single || height.max(width) <= SMALL_BOX && !self.leaves_pay() {
                self.leave_open(tiles, single);
                return Ok(());
            }
        } else if height == 1 && width == 1 {
            if let Some(kind) = self.leaf(&index_box, depth)? {
                self.emit(tiles, kind);
            }
            return Ok(());
        }
        self.settle(depth);
        // Halves are powers of two, so that boxes deep in the descent are aligned. A box that is about square is split
        // both ways at once: an edge that crosses it crosses both halves.
        let half = |(first, last): (u32, u32)| first + (last - first).next_power_of_two() / 2;
        let (q_cut, kv_cut) = (half(tiles.q), half(tiles.kv));
        let upper = Tiles { q: (tiles.q.0, q_cut), ..tiles };
        let lower = Tiles { q: (q_cut, tiles.q.1), ..tiles };
        let left = |t: Tiles| Tiles { kv: (tiles.kv.0, kv_cut), ..t };
        let right = |t: Tiles| Tiles { kv: (kv_cut, tiles.kv.1), ..t };
        let inside = depth + 1;
        if height >= 2 * width {
            self.descend(upper, inside)?;
            self.descend(lower, inside)
        } else if width >= 2 * height {
            self.descend(left(tiles), inside)?;
            self.descend(right(tiles), inside)
        } else {
            self.descend(left(upper), inside)?;
            self.descend(right(upper), inside)?;
            self.descend(left(lower), inside)?;
            self.descend(right(lower), inside)
        }
    }

    /// Finds what is left to evaluate inside the box just judged.
    fn settle(&mut self, depth: usize) {
        if self.unsettled.len() == depth + 1 {
            self.unsettled.push(Vec::new());
        }
        let (around, inside) = self.unsettled.split_at_mut(depth + 1);
        self.analysis.unsettled(&around[depth], &mut inside[0]);
    }

    fn judge(&mut self, index_box: &IndexBox, depth: usize) -> Verdict {
        self.analysis.evaluate_nodes(&self.unsettled[depth], index_box, FloatRange::ANY);
        if self.analysis.root_may_fault() {
            return Verdict::Undecided;
        }
        let truth = self.analysis.root().truth();
        match self.plan.judgement {
            Judgement::FaultsOnly => Verdict::Kept(TileKind::Partial),
            _ if truth.is_always(true) => Verdict::Kept(TileKind::Full),
            _ if truth.is_always(false) => Verdict::Empty,
            _ => Verdict::Undecided,
        }
    }

    /// What a single tile keeps that [`judge`](Self::judge), called just before, did not decide; `None` for nothing.
    fn leaf(&mut self, tile: &IndexBox, depth: usize) -> Result<Option<TileKind>, ModFault> {
        let kind = self.prover.classify(&mut self.analysis, &self.unsettled[depth], tile)?;
        Ok(match self.plan.judgement {
            Judgement::FaultsOnly => Some(TileKind::Partial),
            _ => kind,
        })
    }

    /// Whether looking at single tiles decides enough of them, compared with leaving boxes open.
    fn leaves_pay(&self) -> bool {
        self.leaves < TRIAL_LEAVES || self.leaves_open * 4 < self.leaves * 3
    }

    /// Leaves the tiles of a box open that [`judge`](Self::judge), called just before, did not decide; a single one is
    /// partial where the analysis saw both values.
    fn leave_open(&mut self, tiles: Tiles, single: bool) {
        let (truth, may_fault) = (self.analysis.root().truth(), self.analysis.root_may_fault());
        self.leaves += u32::from(single);
        if single && !may_fault && truth.is_somewhere(true) && truth.is_somewhere(false) {
            self.emit(tiles, TileKind::Partial);
            return;
        }
        self.leaves_open += u32::from(single);
        let top = self.strip.tiles.q.0;
        for row in &mut self.rows[(tiles.q.0 - top) as usize..(tiles.q.1 - top) as usize] {
            row.extend((tiles.kv.0..tiles.kv.1).map(|kv| survey::open_tile(kv, may_fault)));
        }
    }

    /// Appends a box of tiles to the runs of its rows.
    fn emit(&mut self, tiles: Tiles, kind: TileKind) {
        let (first, end) = tiles.kv;
        let top = self.strip.tiles.q.0;
        for row in &mut self.rows[(tiles.q.0 - top) as usize..(tiles.q.1 - top) as usize] {
            match row.last_mut() {
                Some(last) if last.end() == first && last.kind() == kind => {
                    *last = Run::new(last.first(), end - last.first(), kind);
                }
                _ => row.push(Run::new(first, end - first, kind)),
            }
        }
    }
}
