//! Block masks whose last tiles are judged elsewhere: what the analysis proves, and a list of the tiles that are open.

use bytemuck::{Pod, Zeroable};

use super::descent::Descent;
use super::{BlockMaskOptions, Built, Judgement, Plan};
use crate::mask::{BlockMask, Extent, MaskError, Run, RunTable, TileKind};
use crate::mods::MaskMod;

/// A tile whose elements have to be looked at. Sixteen bytes, the form in which kernels read it
/// (`templates/mask_tiles.cuh`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct OpenTile {
    /// The index in the batch.
    pub batch: u32,
    /// The query head.
    pub head: u32,
    /// Which tile along the queries.
    pub q_tile: u32,
    kv_tile_and_may_fault: u32,
}

impl OpenTile {
    /// Which tile along the keys.
    pub fn kv_tile(self) -> u32 {
        self.kv_tile_and_may_fault & !MAY_FAULT
    }

    /// Whether the mask may fault at one of its elements, so that all have to be looked at.
    pub fn may_fault(self) -> bool {
        self.kv_tile_and_may_fault & MAY_FAULT != 0
    }
}

const MAY_FAULT: u32 = 1 << 31;

/// What was seen at the elements of an open tile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct TileVerdict(u8);

impl TileVerdict {
    /// Some element is kept.
    pub const KEEPS: Self = Self(1);
    /// Some element is not kept.
    pub const SKIPS: Self = Self(2);
    /// The mask faults at some element.
    pub const FAULTS: Self = Self(4);

    /// Both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn kind(self) -> Option<TileKind> {
        match (self.has(Self::KEEPS), self.has(Self::SKIPS)) {
            (true, true) => Some(TileKind::Partial),
            (true, false) => Some(TileKind::Full),
            _ => None,
        }
    }
}

/// In the runs of a survey an open tile is a run without length; where the mask may fault it counts as full.
pub(super) fn open_tile(kv_tile: u32, may_fault: bool) -> Run {
    Run::new(kv_tile, 0, if may_fault { TileKind::Full } else { TileKind::Partial })
}

/// A block mask but for the tiles that have to be evaluated. Made by [`BlockMaskBuilder::survey`].
///
/// [`BlockMaskBuilder::survey`]: super::BlockMaskBuilder::survey
#[derive(Clone, Debug)]
pub struct MaskSurvey {
    mask: MaskMod,
    extent: Extent,
    options: BlockMaskOptions,
    table: RunTable,
    open: usize,
}

impl MaskSurvey {
    pub(super) fn new(mask: &MaskMod, extent: Extent, options: BlockMaskOptions) -> Result<Self, MaskError> {
        let plan = Plan::new(mask, extent, options.block_size, Judgement::Survey)?;
        let Built { table, .. } = plan.run(plan.all_tiles(), options.threads)?;
        let open = table.runs.iter().filter(|run| run.len() == 0).count();
        Ok(Self { mask: mask.clone(), extent, options, table, open })
    }

    /// The mask.
    pub fn mask_mod(&self) -> &MaskMod {
        &self.mask
    }

    /// The size the mask is built for.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// How it is built.
    pub fn options(&self) -> BlockMaskOptions {
        self.options
    }

    /// How many tiles are open.
    pub fn open_count(&self) -> usize {
        self.open
    }

    /// The open tiles, row after row. A dimension that the mask does not depend on has its index 0.
    pub fn open_tiles(&self) -> impl Iterator<Item = OpenTile> {
        let q_blocks = self.extent.q_len.div_ceil(self.options.block_size.q);
        let heads = match self.mask.bound().expr().uses(crate::ir::Input::Head) {
            true => self.extent.heads,
            false => 1,
        };
        (0..self.table.rows()).flat_map(move |row| {
            let (group, q_tile) = (row / q_blocks, (row % q_blocks) as u32);
            let (batch, head) = ((group / heads) as u32, (group % heads) as u32);
            self.table.row(row).iter().filter(|run| run.len() == 0).map(move |run| {
                let may_fault = if run.kind() == TileKind::Full { MAY_FAULT } else { 0 };
                OpenTile { batch, head, q_tile, kv_tile_and_may_fault: run.first() | may_fault }
            })
        })
    }

    /// The block mask, with what was seen at each of the [open tiles](Self::open_tiles), in their order: the same as
    /// [`build`](super::BlockMaskBuilder::build) gives.
    ///
    /// # Errors
    /// The fault that `build` reports, if one was seen. If there are not as many verdicts as open tiles.
    pub fn finish(self, verdicts: &[TileVerdict]) -> Result<BlockMask, MaskError> {
        if verdicts.len() != self.open {
            return Err(MaskError::ListLength { list: "verdicts", expected: self.open, got: verdicts.len() });
        }
        if let Some(tile) = verdicts.iter().position(|verdict| verdict.has(TileVerdict::FAULTS)) {
            self.find_fault(tile)?;
        }
        let mut verdicts = verdicts.iter();
        let mut table = RunTable::with_capacity(self.table.rows());
        let mut elements_evaluated = 0u64;
        let block = self.options.block_size;
        for row in 0..self.table.rows() {
            for run in self.table.row(row) {
                let (kind, len) = match run.len() {
                    0 => {
                        elements_evaluated = elements_evaluated.saturating_add((block.q * block.kv) as u64);
                        (verdicts.next().and_then(|verdict| verdict.kind()), 1)
                    }
                    len => (Some(run.kind()), len),
                };
                if let Some(kind) = kind {
                    table.push(Run::new(run.first(), len, kind));
                }
            }
            table.end_row()?;
        }
        let plan = Plan::new(&self.mask, self.extent, block, Judgement::Survey)?;
        Ok(BlockMask::with_table(&plan, table, elements_evaluated))
    }

    /// The error of the first strip that faults, which has open tile number `tile`: earlier ones have no fault.
    fn find_fault(&self, tile: usize) -> Result<(), MaskError> {
        let plan = Plan::new(&self.mask, self.extent, self.options.block_size, Judgement::Exact)?;
        let mut open_before = 0;
        let mut row = 0;
        for strip in plan.strips(plan.all_tiles()) {
            let rows = row..row + (strip.tiles.q.1 - strip.tiles.q.0) as usize;
            row = rows.end;
            let is_open = |row: usize| self.table.row(row).iter().filter(|run| run.len() == 0).count();
            open_before += rows.map(is_open).sum::<usize>();
            if tile < open_before {
                Descent::new(&plan).build(strip)?;
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::interpret::{Interpreter, Point};
    use crate::testing::{self, ExprConfig};

    /// Judges open tiles with the interpreter.
    fn judge(survey: &MaskSurvey) -> Vec<TileVerdict> {
        let mut mask = Interpreter::<f32>::new(survey.mask_mod().bound());
        let (extent, block) = (survey.extent(), survey.options().block_size);
        let mut judge = |tile: OpenTile| {
            let mut verdict = TileVerdict::default();
            let (q_tile, kv_tile) = (tile.q_tile as usize, tile.kv_tile() as usize);
            for q in q_tile * block.q..((q_tile + 1) * block.q).min(extent.q_len) {
                for kv in kv_tile * block.kv..((kv_tile + 1) * block.kv).min(extent.kv_len) {
                    let at = Point { b: tile.batch as i32, h: tile.head as i32, q: q as i32, kv: kv as i32 };
                    verdict = verdict.and(match mask.evaluate(at, 0.0) {
                        Ok(kept) if kept.truth() => TileVerdict::KEEPS,
                        Ok(_) => TileVerdict::SKIPS,
                        Err(_) => {
                            assert!(tile.may_fault(), "{tile:?} was thought not to fault");
                            TileVerdict::FAULTS
                        }
                    });
                }
            }
            verdict
        };
        survey.open_tiles().map(&mut judge).collect()
    }

    fn finished_is_built(mask: &MaskMod, extent: Extent, block: usize) -> Result<usize, TestCaseError> {
        let builder = || BlockMask::builder(mask).block_size(block);
        let survey = builder().survey(extent).unwrap();
        let verdicts = judge(&survey);
        prop_assert_eq!(verdicts.len(), survey.open_count());
        prop_assert_eq!(survey.finish(&verdicts), builder().build(extent));
        Ok(verdicts.len())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(testing::cases(600)))]
        #[test]
        fn a_finished_survey_is_the_built_mask(mask in testing::masks(ExprConfig::mask()), block in 1usize..9) {
            let extent = Extent { batch: 2, heads: 3, q_len: 29, kv_len: 43 };
            finished_is_built(&mask, extent, block)?;
        }
    }

    /// Of many faults, in tiles of every strip, the one that is built into the error is the same.
    #[test]
    fn the_fault_of_a_survey_is_that_of_the_builder() {
        let text = "v0 = q\nv1 = kv\nv2 = mul v0, v1\nv3 = 7i32\nv4 = add v2, v3\nv5 = 1000i32\nv6 = rem v2, v5\n\
                    v7 = 333i32\nv8 = sub v6, v7\nv9 = div v4, v8\nv10 = 0i32\nv11 = gt v9, v10\nreturn v11";
        let mask = MaskMod::new("faulty", text.parse().unwrap(), Vec::new()).unwrap();
        let extent = Extent { batch: 1, heads: 1, q_len: 700, kv_len: 500 };
        let survey = BlockMask::builder(&mask).block_size(16).survey(extent).unwrap();
        let verdicts = judge(&survey);
        let faults = verdicts.iter().filter(|verdict| verdict.has(TileVerdict::FAULTS)).count();
        assert!(faults > 10, "{faults} faults");
        let error = survey.finish(&verdicts).unwrap_err();
        for threads in [1, 2, 4] {
            let built = BlockMask::builder(&mask).block_size(16).threads(threads).build(extent);
            assert_eq!(built.unwrap_err(), error);
        }
    }

    #[test]
    fn what_is_proved_is_not_left_open_and_boxes_are() {
        let extent = Extent { batch: 1, heads: 1, q_len: 640, kv_len: 640 };
        let causal = "v0 = q\nv1 = kv\nv2 = ge v0, v1\nreturn v2";
        let causal = MaskMod::new("causal", causal.parse().unwrap(), Vec::new()).unwrap();
        assert_eq!(finished_is_built(&causal, extent, 8).unwrap(), 0);
        // A hash of the position tells the analysis nothing.
        let hash = "v0 = q\nv1 = kv\nv2 = 2654435i32\nv3 = mul v0, v2\nv4 = mul v1, v3\nv5 = 4096i32\nv6 = and v4, v5\n\
                    v7 = 0i32\nv8 = eq v6, v7\nreturn v8";
        let hash = MaskMod::new("hash", hash.parse().unwrap(), Vec::new()).unwrap();
        assert!(finished_is_built(&hash, extent, 8).unwrap() > 6000);
    }

    #[test]
    fn a_wrong_number_of_verdicts_is_refused() {
        let extent = Extent { batch: 1, heads: 1, q_len: 64, kv_len: 64 };
        let survey = BlockMask::builder(&MaskMod::all()).survey(extent).unwrap();
        let error = survey.finish(&[TileVerdict::KEEPS]).unwrap_err();
        assert!(matches!(error, MaskError::ListLength { expected: 0, got: 1, .. }), "{error:?}");
    }
}
