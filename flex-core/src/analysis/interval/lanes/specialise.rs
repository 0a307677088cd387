//! The code for places where some conditions are known already.
//!
//! Many conditions of a mask hold, or fail, over all of sixteen rows and sixteen columns of tiles: that the query is behind
//! a prefix, that the key is in the second half. What is left of the mask there is often one comparison of ten. The rows
//! then run that code instead of the whole; the verdicts are the same.

use super::program::{Instr, LaneProgram, Op, Source};

/// The conditions of a program that may be known, and at most so many: they have a bit each.
const MOST_WATCHED: usize = 64;

/// Which of the watched conditions are known to hold, and which to fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) holds: u64,
    pub(super) fails: u64,
}

/// What is left of the code in which rows and columns meet.
#[derive(Clone, Debug)]
pub(super) struct Specialised {
    pub(super) known: Known,
    pub(super) code: Vec<Instr>,
    pub(super) root: Source,
}

/// The bools on which the code can turn: operands of `&&`, `||` and conditions of selections.
pub(super) fn watched(meeting: &[Instr]) -> Vec<Source> {
    let mut found = Vec::new();
    for Instr { op, operands } in meeting {
        let turns_on = match op {
            Op::And { .. } | Op::Or { .. } => &operands[..2],
            Op::Select { .. } | Op::SelectInt => &operands[..1],
            _ => &[],
        };
        for source in turns_on {
            if found.len() < MOST_WATCHED && !found.contains(source) {
                found.push(*source);
            }
        }
    }
    found
}

impl Specialised {
    /// The whole code, for places where nothing is known.
    pub(super) fn nothing_known(program: &LaneProgram) -> Self {
        Self { known: Known::default(), code: program.meeting.clone(), root: program.root }
    }

    pub(super) fn new(program: &LaneProgram, known: Known) -> Self {
        let truth = |source: Source| {
            let bit = 1 << program.watched.iter().position(|watched| *watched == source)?;
            match () {
                () if known.holds & bit != 0 => Some(true),
                () if known.fails & bit != 0 => Some(false),
                () => None,
            }
        };
        // What a result is where it is another one, or a constant.
        let stands_for = |source: Source| -> Option<Source> {
            if let Some(value) = truth(source) {
                return Some(program.truths[usize::from(value)]);
            }
            let Source::Own(index) = source else { return None };
            let Instr { op, operands: [a, b, c, ..] } = &program.meeting[usize::from(index)];
            match op {
                Op::And { .. } | Op::Or { .. } => {
                    let passes = matches!(op, Op::And { .. });
                    let passed = |x: Source, other: Source| (truth(x) == Some(passes)).then_some(other);
                    passed(*a, *b).or_else(|| passed(*b, *a))
                }
                Op::Select { .. } | Op::SelectInt => truth(*a).map(|taken| if taken { *b } else { *c }),
                _ => None,
            }
        };
        // Operands have smaller numbers than results: whether one is needed is known before it is looked at.
        let mut needed = vec![false; program.meeting.len()];
        let mut pending = vec![program.root];
        let mut replaced = vec![None; needed.len()];
        for index in (0..=needed.len()).rev() {
            for source in pending.drain(..) {
                if let Source::Own(operand) = source {
                    needed[usize::from(operand)] = true;
                }
            }
            let Some(index) = index.checked_sub(1).filter(|&index| needed[index]) else { continue };
            replaced[index] = stands_for(Source::Own(index as u16));
            match replaced[index] {
                Some(other) => pending.push(other),
                None => pending.extend_from_slice(&program.meeting[index].operands),
            }
        }
        let mut code = Vec::new();
        let mut moved = vec![Source::Constant(0); needed.len()];
        let place = |moved: &[Source], source: Source| match (truth(source), source) {
            (Some(value), _) => program.truths[usize::from(value)],
            (None, Source::Own(index)) => moved[usize::from(index)],
            (None, source) => source,
        };
        for (index, Instr { op, operands }) in program.meeting.iter().enumerate() {
            if !needed[index] {
                continue;
            }
            moved[index] = match replaced[index] {
                Some(other) => place(&moved, other),
                None => {
                    let operands = operands.map(|operand| place(&moved, operand));
                    code.push(Instr { op: op.clone(), operands });
                    Source::Own(code.len() as u16 - 1)
                }
            };
        }
        let root = place(&moved, program.root);
        Self { known, code, root }
    }
}
