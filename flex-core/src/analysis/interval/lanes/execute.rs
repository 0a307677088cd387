//! Running code on lanes, compiled once for each instruction set.

use super::super::{IntRange, Span, integer, loads};
use super::program::{Instr, LaneProgram, OPERANDS, Op, Source};
use super::specialise::{Known, Specialised};
use super::{ATTAINED, Columns, DENSE, FAN, Lanes, ONE_VALUE, RISES_WITH_KEY, RISES_WITH_QUERY, rules};
use crate::ir::{Input, Type};
use crate::isa::{Available, InstructionSet, compiled_for_each_set};

/// The most groups of boxes that go through an instruction together: what it costs to choose it is shared by them.
pub(crate) const BATCH: usize = 8;

/// What a mask does in the sixteen boxes of a group, a bit each. No bit in all three: it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdicts {
    /// It keeps everything.
    pub(crate) full: u16,
    /// It keeps nothing.
    pub(crate) empty: u16,
    /// It keeps something, and not everything.
    pub(crate) mixed: u16,
}

impl Verdicts {
    /// Keeps those of the first boxes.
    fn keep(&mut self, boxes: usize) {
        let there = (u32::MAX >> (32 - boxes)) as u16;
        self.full &= there;
        self.empty &= there;
        self.mixed &= there;
    }
}

/// A group of boxes to judge.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Group {
    /// The place of its row.
    pub(crate) row: usize,
    /// The level of its columns, and its number there.
    pub(crate) level: usize,
    pub(crate) group: usize,
    /// What it is judged by.
    pub(crate) code: CodeId,
}

/// The code in which rows and columns meet, as far as it is open in some part of the region; the default is the whole
/// code. Of one [`LaneAnalysis`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CodeId(u32);

/// So many codes are kept. Masks that have more of them gain little from another.
const MOST_CODES: usize = 32;

/// Judges boxes by a [`LaneProgram`].
#[derive(Clone, Debug)]
pub(crate) struct LaneAnalysis<'p> {
    program: &'p LaneProgram,
    isa: Available,
    /// Of every place the exports of a row, the same in all lanes.
    rows: Vec<Lanes>,
    /// Result `i` of group `j` of a batch is at `i * BATCH + j`.
    registers: Vec<Lanes>,
    verdicts: [Verdicts; BATCH],
    /// What [`CodeId`]s stand for.
    codes: Vec<Specialised>,
    /// The exports of the rows and columns of single boxes.
    box_rows: Vec<Lanes>,
    box_columns: Vec<Lanes>,
}

impl<'p> LaneAnalysis<'p> {
    /// Room for rows at so many places.
    pub(crate) fn new(program: &'p LaneProgram, places: usize) -> Self {
        let longest = [&program.rows, &program.columns, &program.meeting].map(|code| code.len());
        Self {
            program,
            isa: Available::new(InstructionSet::current()),
            rows: vec![Lanes::ZERO; places * program.row_exports.len()],
            registers: vec![Lanes::ZERO; longest.into_iter().max().unwrap_or(0) * BATCH],
            verdicts: [Verdicts::default(); BATCH],
            codes: vec![Specialised::nothing_known(program)],
            box_rows: Vec::new(),
            box_columns: Vec::new(),
        }
    }

    /// Looks at up to sixteen rows of boxes of a batch and head, with the given queries, and keeps what is found at the
    /// places from `first` on.
    pub(crate) fn set_rows(
        &mut self,
        first: usize,
        (b, h): (i32, i32),
        queries: impl ExactSizeIterator<Item = Span>,
    ) {
        let len = queries.len().min(FAN);
        let batch = Batch::alone(Inputs::new((b, h), queries));
        run(self.isa, self.program, (&self.program.rows, UNUSED), &batch, &mut self.registers, &mut []);
        let exports = &self.program.row_exports;
        for (place, rows) in self.rows.chunks_mut(exports.len().max(1)).skip(first).take(len).enumerate() {
            for (row, &export) in rows.iter_mut().zip(exports) {
                *row = self.registers[usize::from(export) * BATCH].splat_lane(place);
            }
        }
    }

    /// How many ranges a column has.
    pub(super) fn column_exports(&self) -> usize {
        self.program.column_exports.len()
    }

    /// Looks at up to sixteen columns with the given keys and appends their exports.
    pub(super) fn export_columns(
        &mut self,
        (b, h): (i32, i32),
        keys: impl ExactSizeIterator<Item = Span>,
        exports: &mut Vec<Lanes>,
    ) {
        let batch = Batch::alone(Inputs::new((b, h), keys));
        run(self.isa, self.program, (&self.program.columns, UNUSED), &batch, &mut self.registers, &mut []);
        let results = &self.program.column_exports;
        exports.extend(results.iter().map(|&export| self.registers[usize::from(export) * BATCH]));
    }

    /// Judges up to [`BATCH`] groups that have one code.
    pub(crate) fn judge(&mut self, columns: &Columns, groups: &[Group]) -> &[Verdicts] {
        let groups = &groups[..groups.len().min(BATCH)];
        let batch = Batch::of(self.program, &self.rows, columns, groups);
        let code = &self.codes[groups.first().map_or(0, |group| group.code.0 as usize)];
        let code = (&code.code[..], code.root);
        run(self.isa, self.program, code, &batch, &mut self.registers, &mut self.verdicts);
        for (verdicts, group) in self.verdicts.iter_mut().zip(groups) {
            verdicts.keep(columns.boxes_in(group.level, group.group));
        }
        &self.verdicts[..groups.len()]
    }

    /// The code that is enough inside one box of the groups that were just judged by the whole code.
    pub(crate) fn code_inside(
        &mut self,
        columns: &Columns,
        groups: &[Group],
        (group, lane): (usize, usize),
    ) -> CodeId {
        let program = self.program;
        let batch = Batch::of(program, &self.rows, columns, groups);
        let mut known = Known::default();
        for (bit, &watched) in program.watched.iter().enumerate() {
            let bits = find(watched, program, &batch, &self.registers, group).bits[lane];
            known.holds |= u64::from(bits & 3 == 1) << bit;
            known.fails |= u64::from(bits & 3 == 2) << bit;
        }
        // What is found was often found just before.
        let found = self.codes.iter().rposition(|code| code.known == known);
        let index = found.unwrap_or_else(|| match self.codes.len() {
            MOST_CODES => 0,
            len => {
                self.codes.push(Specialised::new(program, known));
                len
            }
        });
        CodeId(index as u32)
    }

    #[cfg(test)]
    pub(super) fn code_len(&self, code: CodeId) -> usize {
        self.codes[code.0 as usize].code.len()
    }

    /// Judges up to sixteen boxes of a batch and head that need have nothing in common.
    pub(crate) fn judge_boxes(
        &mut self,
        place: (i32, i32),
        boxes: impl ExactSizeIterator<Item = (Span, Span)> + Clone,
    ) -> Verdicts {
        let len = boxes.len();
        let Self { isa, program, registers, box_rows, box_columns, .. } = self;
        let mut exports = |code, exports: &[u16], inputs, found: &mut Vec<Lanes>| {
            run(*isa, program, (code, UNUSED), &Batch::alone(inputs), registers, &mut []);
            found.clear();
            found.extend(exports.iter().map(|&export| registers[usize::from(export) * BATCH]));
        };
        let queries = Inputs::new(place, boxes.clone().map(|(q, _)| q));
        exports(&program.rows, &program.row_exports, queries, box_rows);
        let keys = Inputs::new(place, boxes.map(|(_, kv)| kv));
        exports(&program.columns, &program.column_exports, keys, box_columns);
        let mut batch = Batch { len: 1, ..Batch::EMPTY };
        (batch.rows[0], batch.columns[0]) = (&*box_rows, &*box_columns);
        let code = (&program.meeting[..], program.root);
        run(*isa, program, code, &batch, registers, &mut self.verdicts);
        self.verdicts[0].keep(len);
        self.verdicts[0]
    }
}

/// What the boxes of sixteen rows or columns are.
struct Inputs {
    batch: i32,
    head: i32,
    /// The queries of the rows or the keys of the columns.
    first: [i32; FAN],
    last: [i32; FAN],
}

impl Inputs {
    /// Lanes without a span have the last one.
    fn new((batch, head): (i32, i32), mut spans: impl Iterator<Item = Span>) -> Self {
        let mut inputs = Self { batch, head, first: [0; FAN], last: [0; FAN] };
        let mut span = Span::single(0);
        for lane in 0..FAN {
            span = spans.next().unwrap_or(span);
            (inputs.first[lane], inputs.last[lane]) = (span.first, span.last);
        }
        inputs
    }

    fn lanes(&self, input: Input) -> Lanes {
        let bits = |corners: u32| [ATTAINED | DENSE | corners; FAN];
        match input {
            Input::Batch => Lanes { lo: [self.batch; FAN], hi: [self.batch; FAN], bits: bits(ONE_VALUE) },
            Input::Head => Lanes { lo: [self.head; FAN], hi: [self.head; FAN], bits: bits(ONE_VALUE) },
            Input::Query => Lanes { lo: self.first, hi: self.last, bits: bits(RISES_WITH_QUERY) },
            _ => Lanes { lo: self.first, hi: self.last, bits: bits(RISES_WITH_KEY) },
        }
    }
}

/// What the code of a part is run on.
struct Batch<'a> {
    /// Of rows and columns alone.
    inputs: Option<Inputs>,
    rows: [&'a [Lanes]; BATCH],
    columns: [&'a [Lanes]; BATCH],
    len: usize,
}

impl Batch<'_> {
    const EMPTY: Self = Self { inputs: None, rows: [&[]; BATCH], columns: [&[]; BATCH], len: 0 };

    fn alone(inputs: Inputs) -> Self {
        Self { inputs: Some(inputs), len: 1, ..Self::EMPTY }
    }
}

impl<'a> Batch<'a> {
    /// Groups with the exports of their rows, among those of all places, and of their columns.
    fn of(program: &LaneProgram, rows: &'a [Lanes], columns: &'a Columns, groups: &[Group]) -> Self {
        let (row_exports, column_exports) = (program.row_exports.len(), program.column_exports.len());
        let mut batch = Self { len: groups.len(), ..Self::EMPTY };
        for (i, &Group { row, level, group, .. }) in groups.iter().enumerate() {
            batch.rows[i] = &rows[row * row_exports..][..row_exports];
            batch.columns[i] = columns.group(column_exports, level, group);
        }
        batch
    }
}

/// The root of code whose verdicts are not asked for.
const UNUSED: Source = Source::Constant(0);

compiled_for_each_set! {
    /// Runs code with its root, and tells what its groups are judged to be as far as `verdicts` has room for it.
    fn run(
        program: &LaneProgram,
        code: (&[Instr], Source),
        batch: &Batch,
        registers: &mut [Lanes],
        verdicts: &mut [Verdicts],
    ) = execute;
}

#[inline(always)]
fn execute(
    program: &LaneProgram,
    code: (&[Instr], Source),
    batch: &Batch,
    registers: &mut [Lanes],
    verdicts: &mut [Verdicts],
) {
    let (code, root) = code;
    for (index, Instr { op, operands }) in code.iter().enumerate() {
        // Operands have smaller numbers than the result.
        let (before, rest) = registers.split_at_mut(index * BATCH);
        let before = &*before;
        let results = &mut rest[..batch.len];
        // Applies a rule to every group.
        macro_rules! each {
            ($rule:ident($($operand:literal),*) $(, $parameter:expr)*) => {
                for (i, to) in results.iter_mut().enumerate() {
                    rules::$rule(to, $(find(operands[$operand], program, batch, before, i),)* $($parameter),*);
                }
            };
        }
        match op {
            Op::Input(input) => {
                if let Some(inputs) = &batch.inputs {
                    results[0] = inputs.lanes(*input);
                }
            }
            Op::Add { independent } => each!(add(0, 1), *independent),
            Op::Sub { independent } => each!(sub(0, 1), *independent),
            Op::Min { independent } => each!(min(0, 1), *independent),
            Op::Max { independent } => each!(max(0, 1), *independent),
            Op::Neg => each!(negate(0)),
            Op::Abs => each!(abs(0)),
            Op::Div { divisor } => each!(div(0), *divisor),
            Op::Rem { divisor } => each!(rem(0), *divisor),
            Op::FromBool => each!(from_bool(0)),
            Op::SelectInt => each!(select_int(0, 1, 2)),
            Op::Ge { independent } => each!(at_least(0, 1), *independent),
            Op::Gt { independent } => each!(above(0, 1), *independent),
            Op::Eq { independent } => each!(equal(0, 1), *independent),
            Op::Not => each!(not(0)),
            Op::And { independent } => each!(and(0, 1), *independent),
            Op::Or { independent } => each!(or(0, 1), *independent),
            Op::Select { independent } => each!(select(0, 1, 2), *independent),
            _ => {
                for (i, to) in results.iter_mut().enumerate() {
                    let mut found = [find(operands[0], program, batch, before, i); OPERANDS];
                    for (found, operand) in found.iter_mut().zip(operands).skip(1) {
                        *found = find(*operand, program, batch, before, i);
                    }
                    match op {
                        Op::Linear { constant, factors, independent } => {
                            rules::linear(to, *constant, factors, found, *independent);
                        }
                        op => by_lane(op, to, found),
                    }
                }
            }
        }
    }
    for (i, verdicts) in verdicts.iter_mut().enumerate().take(batch.len) {
        *verdicts = rules::verdicts(find(root, program, batch, registers, i));
    }
}

#[inline(always)]
fn find<'a>(
    source: Source,
    program: &'a LaneProgram,
    batch: &Batch<'a>,
    registers: &'a [Lanes],
    i: usize,
) -> &'a Lanes {
    match source {
        Source::Constant(index) => &program.constants[usize::from(index)],
        Source::Own(index) => &registers[usize::from(index) * BATCH + i],
        Source::Row(index) => &batch.rows[i][usize::from(index)],
        Source::Column(index) => &batch.columns[i][usize::from(index)],
    }
}

/// Operations that take the scalar rules, one lane after another.
fn by_lane(op: &Op, to: &mut Lanes, operands: [&Lanes; OPERANDS]) {
    let [a, b, ..] = operands;
    match op {
        Op::Unary { op, ty, within } => {
            for i in 0..FAN {
                rules::set_lane(to, i, integer::unary(*op, *ty, a.range(i)).0, *within);
            }
        }
        Op::Binary { op, ty, amount, within, independent } => {
            for i in 0..FAN {
                let ((range, _), _) =
                    integer::binary(*op, *ty, a.range(i), b.range(i), *amount, *independent);
                rules::set_lane(to, i, range, *within);
            }
        }
        Op::Load { array, independent } => {
            let indices = &operands[..array.shape().len()];
            for i in 0..FAN {
                // Boxes that are cut from one have their queries or keys in common.
                if let Some(same) = [1, 4]
                    .into_iter()
                    .find(|&back| i >= back && indices.iter().all(|index| index.has_same_lanes(i - back, i)))
                {
                    (to.lo[i], to.hi[i], to.bits[i]) = (to.lo[i - same], to.hi[i - same], to.bits[i - same]);
                    continue;
                }
                let mut ranges = [IntRange::single(0); 4];
                for (range, index) in ranges.iter_mut().zip(indices) {
                    *range = index.range(i);
                }
                rules::set_value(to, i, loads::load(array, &ranges[..indices.len()], *independent).0);
                // A sorted array is lowest where its index is.
                if let ([index], [range, ..]) = (indices, ranges)
                    && array.ty() != Type::Bool
                    && array.is_sorted_on(range.lo as usize..range.hi as usize + 1)
                {
                    to.bits[i] |= index.bits[i] & ONE_VALUE;
                }
            }
        }
        _ => unreachable!("every other operation has a rule for all lanes"),
    }
}
