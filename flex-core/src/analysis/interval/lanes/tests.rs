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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testing::cases(10_000)))]

    /// What is left of the code where conditions are known judges as the whole does.
    #[test]
    fn the_code_inside_a_box_says_the_same(
        mask in testing::masks(ExprConfig::mask()),
        place in (0..2i32, 0..3i32),
        (top, height, tall) in (0..30i32, 1..=FAN as i32, 1..4i32),
        width in 1..3usize,
    ) {
        let program = IntervalProgram::new(mask.bound());
        let Some(code) = compiled(&program) else { return Ok(()) };
        let mut analysis = LaneAnalysis::new(&code, FAN + 1);
        let columns = Columns::new(&mut analysis, place, (0, EXTENT.kv_len), width);
        let rows: Vec<Span> = (0..height)
            .map(|row| Span::new((top + row * tall).min(39), (top + (row + 1) * tall - 1).min(39)))
            .collect();
        let all = Span::new(rows[0].first, rows[rows.len() - 1].last);
        analysis.set_rows(0, place, [all].into_iter());
        analysis.set_rows(1, place, rows.iter().copied());
        let around = [Group { row: 0, level: 1, group: 0, code: CodeId::default() }];
        analysis.judge(&columns, &around);
        let codes: Vec<CodeId> = (0..columns.boxes_in(1, 0))
            .map(|lane| analysis.code_inside(&columns, &around, (0, lane)))
            .collect();
        for (group, &code) in codes.iter().enumerate() {
            for row in 1..=rows.len() {
                let judged = |analysis: &mut LaneAnalysis, code| {
                    analysis.judge(&columns, &[Group { row, level: 0, group, code }])[0]
                };
                let whole = judged(&mut analysis, CodeId::default());
                prop_assert_eq!(judged(&mut analysis, code), whole, "row {} group {}", row, group);
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

#[test]
fn one_comparison_is_left_of_a_mask_in_halves() {
    // Below 20 a query sees itself, from there on the keys of both halves up to its own place.
    let mask = "v0 = q\nv1 = kv\nv2 = 20i32\nv3 = ge v0, v2\nv4 = ge v1, v2\nv5 = eq v0, v1\nv6 = sub v0, v1\n\
                v7 = rem v6, v2\nv8 = 3i32\nv9 = lt v7, v8\nv10 = and v3, v9\nv11 = not v4\nv12 = and v5, v11\n\
                v13 = or v10, v12\nreturn v13";
    let mask = crate::mods::MaskMod::new("halves", mask.parse().unwrap(), Vec::new()).unwrap();
    let program = IntervalProgram::new(mask.bound());
    let code = compiled(&program).expect("lanes know comparisons");
    let mut analysis = LaneAnalysis::new(&code, 1);
    let columns = Columns::new(&mut analysis, (0, 0), (0, EXTENT.kv_len), 1);
    analysis.set_rows(0, (0, 0), [Span::new(4, 19)].into_iter());
    let around = [Group { row: 0, level: 1, group: 0, code: CodeId::default() }];
    analysis.judge(&columns, &around);
    let inside = analysis.code_inside(&columns, &around, (0, 0));
    assert_eq!(analysis.code_len(inside), 1, "q == kv");
    assert!(analysis.code_len(CodeId::default()) >= 5);
}
