//! Single tiles that the edge of a mask crosses.

use std::sync::OnceLock;

use crate::analysis::interval::{FloatRange, IndexBox, IntervalAnalysis, Span};
use crate::ir::NodeId;
use crate::mask::TileKind;
use crate::mods::{BoundExpr, ModFault};
use crate::rows::{RowEvaluator, RowProgram};

/// How many keys are evaluated at once.
const LANES: usize = 256;
/// How many boxes inside a tile the search for a kept and a skipped element looks at.
const SEARCH_BUDGET: usize = 12;
/// After so many searches of which fewer than one in eight succeeded, a strip stops searching.
const TRIAL_SEARCHES: u32 = 32;

/// Whether looking for proofs inside tiles has paid so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trials {
    searches: u32,
    successes: u32,
}

impl Trials {
    pub(super) fn pay(self) -> bool {
        self.searches < TRIAL_SEARCHES || self.successes * 8 >= self.searches
    }

    pub(super) fn record(&mut self, success: bool) {
        self.searches += 1;
        self.successes += u32::from(success);
    }
}

/// A mask compiled for evaluation, with and without checks for faults. Most masks need neither.
#[derive(Default)]
pub(super) struct TilePrograms {
    checked: OnceLock<RowProgram>,
    unchecked: OnceLock<RowProgram>,
}

/// Classifies tiles, by proof where it can and by evaluation otherwise.
pub(super) struct TileProver<'p> {
    bound: &'p BoundExpr,
    programs: &'p TilePrograms,
    checked: Option<RowEvaluator<'p>>,
    unchecked: Option<RowEvaluator<'p>>,
    elements_evaluated: u64,
    trials: Trials,
}

/// Which values a mask is known to have in a tile.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) kept: bool,
    pub(super) skipped: bool,
}

impl Seen {
    pub(super) fn both(self) -> bool {
        self.kept && self.skipped
    }

    pub(super) fn kind(self) -> Option<TileKind> {
        match (self.kept, self.skipped) {
            (true, true) => Some(TileKind::Partial),
            (true, false) => Some(TileKind::Full),
            _ => None,
        }
    }
}

impl<'p> TileProver<'p> {
    pub(super) fn new(bound: &'p BoundExpr, programs: &'p TilePrograms) -> Self {
        Self {
            bound,
            programs,
            checked: None,
            unchecked: None,
            elements_evaluated: 0,
            trials: Trials::default(),
        }
    }

    /// Forgets the counts, so that what a strip does depends on the strip alone.
    pub(super) fn start_strip(&mut self) {
        (self.elements_evaluated, self.trials) = (0, Trials::default());
    }

    pub(super) fn elements_evaluated(&self) -> u64 {
        self.elements_evaluated
    }

    /// Counts elements that were evaluated elsewhere.
    pub(super) fn count(&mut self, elements: usize) {
        self.elements_evaluated += elements as u64;
    }

    /// What a tile keeps: everything, something, or (`None`) nothing. `analysis` has just evaluated the tile, by its
    /// `unsettled` nodes.
    ///
    /// # Errors
    /// If the mask faults at some element.
    pub(super) fn classify(
        &mut self,
        analysis: &mut IntervalAnalysis,
        unsettled: &[NodeId],
        tile: &IndexBox,
    ) -> Result<Option<TileKind>, ModFault> {
        let may_fault = analysis.root_may_fault();
        let truth = analysis.root().truth();
        let mut seen = Seen::default();
        if !may_fault {
            seen = Seen { kept: truth.is_somewhere(true), skipped: truth.is_somewhere(false) };
            if !seen.both() && self.trials.pay() {
                self.search(analysis, unsettled, tile, &mut seen);
                self.trials.record(seen.both());
            }
        }
        if !seen.both() {
            self.evaluate(tile, may_fault, &mut seen)?;
        }
        Ok(seen.kind())
    }

    /// Looks for boxes inside the tile over which the mask is proved to hold, or not to hold, somewhere. The tile is
    /// proved not to fault.
    fn search(
        &mut self,
        analysis: &mut IntervalAnalysis,
        unsettled: &[NodeId],
        tile: &IndexBox,
        seen: &mut Seen,
    ) {
        let mut open = [*tile; SEARCH_BUDGET + 4];
        let (mut next, mut len) = (0, 1);
        let mut budget = SEARCH_BUDGET;
        while next < len && !seen.both() {
            let IndexBox { q, kv, .. } = open[next];
            next += 1;
            let (q_mid, kv_mid) = (q.first + (q.last - q.first) / 2, kv.first + (kv.last - kv.first) / 2);
            for (q_lower, kv_right) in [(true, false), (false, true), (false, false), (true, true)] {
                let half = |span: Span, mid: i32, upper: bool| match upper {
                    true => (mid < span.last).then(|| Span { first: mid + 1, ..span }),
                    false => Some(Span { last: mid, ..span }),
                };
                let (Some(q), Some(kv)) = (half(q, q_mid, q_lower), half(kv, kv_mid, kv_right)) else {
                    continue;
                };
                if budget == 0 || seen.both() {
                    return;
                }
                budget -= 1;
                let part = IndexBox { q, kv, ..*tile };
                let single = q.first == q.last && kv.first == kv.last;
                self.elements_evaluated += u64::from(single);
                analysis.evaluate_nodes(unsettled, &part, FloatRange::ANY);
                let truth = analysis.root().truth();
                seen.kept |= truth.is_somewhere(true);
                seen.skipped |= truth.is_somewhere(false);
                let decided = truth.is_always(true) || truth.is_always(false);
                if !decided && !single && len < open.len() {
                    open[len] = part;
                    len += 1;
                }
            }
        }
    }

    /// Evaluates the tile row by row until both values are seen; to its end if it may fault.
    ///
    /// # Errors
    /// If the mask faults at some element.
    pub(super) fn evaluate(
        &mut self,
        tile: &IndexBox,
        may_fault: bool,
        seen: &mut Seen,
    ) -> Result<(), ModFault> {
        let (bound, TilePrograms { checked, unchecked }) = (self.bound, self.programs);
        let rows = match may_fault {
            true => self.checked.get_or_insert_with(|| {
                RowEvaluator::new(checked.get_or_init(|| RowProgram::new(bound)), LANES)
            }),
            false => self.unchecked.get_or_insert_with(|| {
                RowEvaluator::new(unchecked.get_or_init(|| RowProgram::proved(bound)), LANES)
            }),
        };
        let end = tile.kv.last as usize + 1;
        for kv in (tile.kv.first as usize..end).step_by(LANES) {
            let len = LANES.min(end - kv);
            rows.tile(tile.b.first as usize, tile.h.first as usize, kv, len);
            let found = rows.mask_summary(tile.q.first as usize..tile.q.last as usize + 1)?;
            self.elements_evaluated += (found.queries * len) as u64;
            seen.kept |= found.keeps_some;
            seen.skipped |= found.skips_some;
            if seen.both() && !may_fault {
                return Ok(());
            }
        }
        Ok(())
    }
}
