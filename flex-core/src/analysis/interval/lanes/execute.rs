//! Running code on lanes, compiled once for each instruction set.

use super::super::{IntRange, Span, integer, loads};
use super::compile::{Instr, LaneProgram, OPERANDS, Op, Source};
use super::{ATTAINED, Columns, DENSE, FAN, Lanes, parts, rules};
use crate::ir::Input;
use crate::isa::{Available, InstructionSet};

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
}

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
        run(self.isa, self.program, &self.program.rows, &batch, &mut self.registers, &mut []);
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
        run(self.isa, self.program, &self.program.columns, &batch, &mut self.registers, &mut []);
        let results = &self.program.column_exports;
        exports.extend(results.iter().map(|&export| self.registers[usize::from(export) * BATCH]));
    }

    /// Judges up to [`BATCH`] groups.
    pub(crate) fn judge(&mut self, columns: &Columns, groups: &[Group]) -> &[Verdicts] {
        let groups = &groups[..groups.len().min(BATCH)];
        let (row_exports, column_exports) =
            (self.program.row_exports.len(), self.program.column_exports.len());
        let mut batch = Batch { len: groups.len(), ..Batch::EMPTY };
        for (i, &Group { row, level, group }) in groups.iter().enumerate() {
            batch.rows[i] = &self.rows[row * row_exports..][..row_exports];
            batch.columns[i] = columns.group(column_exports, level, group);
        }
        run(self.isa, self.program, &self.program.meeting, &batch, &mut self.registers, &mut self.verdicts);
        for (verdicts, group) in self.verdicts.iter_mut().zip(groups) {
            verdicts.keep(columns.boxes_in(group.level, group.group));
        }
        &self.verdicts[..groups.len()]
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
            run(*isa, program, code, &Batch::alone(inputs), registers, &mut []);
            found.clear();
            found.extend(exports.iter().map(|&export| registers[usize::from(export) * BATCH]));
        };
        let queries = Inputs::new(place, boxes.clone().map(|(q, _)| q));
        exports(&program.rows, &program.row_exports, queries, box_rows);
        let keys = Inputs::new(place, boxes.map(|(_, kv)| kv));
        exports(&program.columns, &program.column_exports, keys, box_columns);
        let mut batch = Batch { len: 1, ..Batch::EMPTY };
        (batch.rows[0], batch.columns[0]) = (&*box_rows, &*box_columns);
        run(*isa, program, &program.meeting, &batch, registers, &mut self.verdicts);
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
        let bits = [ATTAINED | DENSE; FAN];
        match input {
            Input::Batch => Lanes { lo: [self.batch; FAN], hi: [self.batch; FAN], bits },
            Input::Head => Lanes { lo: [self.head; FAN], hi: [self.head; FAN], bits },
            _ => Lanes { lo: self.first, hi: self.last, bits },
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

/// Runs code, and tells what its groups are judged to be as far as `verdicts` has room for it.
fn run(
    isa: Available,
    program: &LaneProgram,
    code: &[Instr],
    batch: &Batch,
    registers: &mut [Lanes],
    verdicts: &mut [Verdicts],
) {
    match isa.set() {
        InstructionSet::Portable => execute(program, code, batch, registers, verdicts),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Available` set has been found on this CPU.
        InstructionSet::Avx2 => unsafe { x86::run_avx2(program, code, batch, registers, verdicts) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        InstructionSet::Avx512 | InstructionSet::Avx512Bf16 | InstructionSet::Amx => unsafe {
            x86::run_avx512(program, code, batch, registers, verdicts)
        },
        #[cfg(not(target_arch = "x86_64"))]
        _ => execute(program, code, batch, registers, verdicts),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;

    #[target_feature(enable = "avx2")]
    pub(super) fn run_avx2(
        program: &LaneProgram,
        code: &[Instr],
        batch: &Batch,
        registers: &mut [Lanes],
        verdicts: &mut [Verdicts],
    ) {
        execute(program, code, batch, registers, verdicts);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2")]
    pub(super) fn run_avx512(
        program: &LaneProgram,
        code: &[Instr],
        batch: &Batch,
        registers: &mut [Lanes],
        verdicts: &mut [Verdicts],
    ) {
        execute(program, code, batch, registers, verdicts);
    }
}

#[inline(always)]
fn execute(
    program: &LaneProgram,
    code: &[Instr],
    batch: &Batch,
    registers: &mut [Lanes],
    verdicts: &mut [Verdicts],
) {
    for (index, Instr { op, operands }) in code.iter().enumerate() {
        // Operands have smaller numbers than the result.
        let (before, rest) = registers.split_at_mut(index * BATCH);
        let mut step = Step { program, batch, before, dst: &mut rest[..batch.len], operands };
        match op {
            Op::Input(input) => {
                if let Some(inputs) = &batch.inputs {
                    rest[0] = inputs.lanes(*input);
                }
            }
            Op::Add { independent } => step.binary(|a, b| rules::add(a, b, *independent)),
            Op::Sub { independent } => step.binary(|a, b| rules::sub(a, b, *independent)),
            Op::Min { independent } => step.binary(|a, b| rules::min(a, b, *independent)),
            Op::Max { independent } => step.binary(|a, b| rules::max(a, b, *independent)),
            Op::Neg => step.unary(rules::negate),
            Op::Abs => step.unary(rules::abs),
            Op::Div { divisor } => step.unary(|a| rules::div(a, *divisor)),
            Op::Rem { divisor } => step.unary(|a| rules::rem(a, *divisor)),
            Op::FromBool => step.unary(rules::from_bool),
            Op::SelectInt => step.ternary(rules::select_int),
            Op::Ge { independent } => step.binary(|a, b| rules::at_least(a, b, *independent)),
            Op::Gt { independent } => step.binary(|a, b| rules::above(a, b, *independent)),
            Op::Eq { independent } => step.binary(|a, b| rules::equal(a, b, *independent)),
            Op::Not => step.unary(rules::not),
            Op::And { independent } => step.binary(|a, b| rules::and(a, b, *independent)),
            Op::Or { independent } => step.binary(|a, b| rules::or(a, b, *independent)),
            Op::Select { independent } => step.ternary(|c, a, r| rules::select(c, a, r, *independent)),
            Op::Linear { constant, factors, independent } => {
                step.any(|operands| rules::linear(*constant, factors, operands, *independent));
            }
            Op::Unary { op, ty, within } => {
                step.unary(|a| rules::by_lane(*within, |i| integer::unary(*op, *ty, a.range(i)).0));
            }
            Op::Binary { op, ty, amount, within, independent } => step.binary(|a, b| {
                rules::by_lane(*within, |i| {
                    integer::binary(*op, *ty, a.range(i), b.range(i), *amount, *independent).0.0
                })
            }),
            Op::Load { array, independent } => step.any(|indices| {
                let mut result = Lanes::ZERO;
                for i in 0..FAN {
                    let mut ranges = [IntRange::single(0); OPERANDS];
                    let axes = array.shape().len();
                    for (range, index) in ranges.iter_mut().zip(indices).take(axes) {
                        *range = index.range(i);
                    }
                    let (value, _) = loads::load(array, &ranges[..axes], *independent);
                    (result.lo[i], result.hi[i], result.bits[i]) = parts(value);
                }
                result
            }),
        }
    }
    for (i, verdicts) in verdicts.iter_mut().enumerate().take(batch.len) {
        *verdicts = rules::verdicts(find(program.root, program, batch, registers, i));
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

/// One instruction for all groups of a batch.
struct Step<'a> {
    program: &'a LaneProgram,
    batch: &'a Batch<'a>,
    before: &'a [Lanes],
    dst: &'a mut [Lanes],
    operands: &'a [Source; OPERANDS],
}

impl Step<'_> {
    #[inline(always)]
    fn operand(&self, operand: usize, i: usize) -> &Lanes {
        find(self.operands[operand], self.program, self.batch, self.before, i)
    }

    #[inline(always)]
    fn unary(&mut self, f: impl Fn(&Lanes) -> Lanes) {
        for i in 0..self.dst.len() {
            self.dst[i] = f(self.operand(0, i));
        }
    }

    #[inline(always)]
    fn binary(&mut self, f: impl Fn(&Lanes, &Lanes) -> Lanes) {
        for i in 0..self.dst.len() {
            self.dst[i] = f(self.operand(0, i), self.operand(1, i));
        }
    }

    #[inline(always)]
    fn ternary(&mut self, f: impl Fn(&Lanes, &Lanes, &Lanes) -> Lanes) {
        for i in 0..self.dst.len() {
            self.dst[i] = f(self.operand(0, i), self.operand(1, i), self.operand(2, i));
        }
    }

    /// An operation that has at least one operand; what it has not is the first one.
    #[inline(always)]
    fn any(&mut self, f: impl Fn([&Lanes; OPERANDS]) -> Lanes) {
        for i in 0..self.dst.len() {
            self.dst[i] = f(std::array::from_fn(|operand| self.operand(operand, i)));
        }
    }
}
