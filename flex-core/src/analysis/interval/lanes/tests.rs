//! What lanes say of boxes holds at every point of them.

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::super::{FloatRange, IndexBox, IntervalAnalysis, IntervalProgram, Span};
use super::*;
use crate::analysis::interpret::{self, Point};
use crate::mask::Extent;
use crate::mods::BoundExpr;
use crate::testing::{self, ExprConfig};

const EXTENT: Extent = Extent { batch: 2, heads: 3, q_len: 40, kv_len: 40 };

/// Code for the whole extent, if lanes know the mask there.
fn compiled(program: &IntervalProgram) -> Option<LaneProgram> {
    let mut analysis = IntervalAnalysis::new(program);
    analysis.evaluate(&IndexBox::of(&EXTENT), FloatRange::ANY);
    LaneProgram::new(&analysis)
}

/// Which values a mask has in a box.
fn values(bound: &BoundExpr, (b, h): (i32, i32), q: Span, kv: Span) -> [bool; 2] {
    let mut found = [false; 2];
    for q in q.first..=q.last {
        for kv in kv.first..=kv.last {
            let keep = interpret::mask(bound, Point { b, h, q, kv }).expect("nothing faults in the region");
            found[usize::from(keep)] = true;
        }
    }
    found
}

fn check(verdicts: Verdicts, lane: usize, found: [bool; 2]) -> Result<bool, TestCaseError> {
    let Verdicts { full, empty, mixed } = verdicts;
    let says = |bits: u16| bits >> lane & 1 != 0;
    prop_assert!(!says(full) || found == [false, true], "not full: {found:?}");
    prop_assert!(!says(empty) || found == [true, false], "not empty: {found:?}");
    prop_assert!(!says(mixed) || found == [true, true], "not mixed: {found:?}");
    Ok(says(full | empty | mixed))
}

fn spans() -> impl Strategy<Value = Span> {
    (0..40i32, 0..8i32).prop_map(|(first, len)| Span::new(first, (first + len).min(39)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testing::cases(10_000)))]

    #[test]
    fn boxes_that_have_nothing_in_common(
        mask in testing::masks(ExprConfig::mask()),
        place in (0..2i32, 0..3i32),
        boxes in prop::collection::vec((spans(), spans()), 1..=FAN),
    ) {
        let program = IntervalProgram::new(mask.bound());
        let Some(code) = compiled(&program) else { return Ok(()) };
        let verdicts = LaneAnalysis::new(&code, 0).judge_boxes(place, boxes.iter().copied());
        for (lane, &(q, kv)) in boxes.iter().enumerate() {
            let known = check(verdicts, lane, values(mask.bound(), place, q, kv))?;
            prop_assert!(known || q.first < q.last || kv.first < kv.last, "single points are always known");
        }
    }

    #[test]
    fn groups_of_columns(
        mask in testing::masks(ExprConfig::mask()),
        place in (0..2i32, 0..3i32),
        rows in prop::collection::vec(spans(), 1..=FAN),
        width in 1..6usize,
        pick in prop::collection::vec(any::<prop::sample::Index>(), 1..=BATCH),
    ) {
        let program = IntervalProgram::new(mask.bound());
        let Some(code) = compiled(&program) else { return Ok(()) };
        let mut analysis = LaneAnalysis::new(&code, FAN + 1);
        let columns = Columns::new(&mut analysis, place, (0, EXTENT.kv_len), width);
        analysis.set_rows(1, place, rows.iter().copied());
        let groups: Vec<Group> = pick
            .iter()
            .map(|pick| {
                let row = pick.index(rows.len());
                let level = pick.index(columns.top() + 1);
                let wide = width * FAN.pow(level as u32 + 1);
                Group { row: row + 1, level, group: pick.index(EXTENT.kv_len.div_ceil(wide)), code: CodeId::default() }
            })
            .collect();
        let verdicts = analysis.judge(&columns, &groups).to_vec();
        for (group, verdicts) in groups.iter().zip(verdicts) {
            let wide = width * FAN.pow(group.level as u32);
            for lane in 0..columns.boxes_in(group.level, group.group) {
                let first = (group.group * FAN + lane) * wide;
                let kv = Span::new(first as i32, (EXTENT.kv_len.min(first + wide) - 1) as i32);
                check(verdicts, lane, values(mask.bound(), place, rows[group.row - 1], kv))?;
            }
        }
    }
}

/// Lanes know what masks are usually made of.
#[test]
fn most_masks_without_floats_are_known() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let masks = testing::masks(ExprConfig::mask().without_faults());
    let known = (0..1000).filter(|_| {
        let mask = masks.new_tree(&mut runner).expect("a mask").current();
        compiled(&IntervalProgram::new(mask.bound())).is_some()
    });
    let known = known.count();
    assert!(known > 250, "only {known} of 1000");
}
