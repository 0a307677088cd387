//! From an expression to code on lanes.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::linear::Linear;
use super::super::program::{IntervalProgram, Step};
use super::super::{IntRange, IntervalAnalysis, Truth, ValueRange, integer};
use super::Lanes;
use super::program::{Instr, LaneProgram, OPERANDS, Op, Part, Source};
use super::specialise::watched;
use crate::capture::Array;
use crate::ir::{BinaryOp, Indices, Input, NodeId, Type, UnaryOp};

const QUERY: u8 = 1 << Input::Query as u8;
const KEY: u8 = 1 << Input::Key as u8;

impl LaneProgram {
    /// Code for the boxes inside the one that `analysis` has evaluated last, all of its nodes, each with a single batch
    /// and head. `None` where something in it may fault or wrap, or computes with floats.
    pub(crate) fn new(analysis: &IntervalAnalysis) -> Option<Self> {
        let program = analysis.program;
        if program.order.iter().any(|node| analysis.may_fault(*node)) {
            return None;
        }
        let mut unsettled = Vec::new();
        analysis.clone().unsettled(&program.order, &mut unsettled);
        let mut compiler = Compiler {
            program,
            analysis,
            code: [Vec::new(), Vec::new(), Vec::new()],
            constants: Vec::new(),
            places: HashMap::new(),
            exports: [Vec::new(), Vec::new()],
        };
        for &node in &unsettled {
            let part = part_of(program, node);
            let source = compiler.node(node, part)?;
            compiler.places.insert(node, (part, source));
        }
        let root = compiler.source(program.root, Part::Meeting)?;
        let truths = [compiler.truth(false)?, compiler.truth(true)?];
        let Compiler { code: [rows, columns, meeting], constants, exports, .. } = compiler;
        let depends =
            |input| columns.iter().any(|instr| matches!(instr.op, Op::Input(used) if used == input));
        let columns_depend_on = (depends(Input::Batch), depends(Input::Head));
        let [row_exports, column_exports] = exports;
        Some(Self {
            watched: watched(&meeting),
            constants,
            rows,
            columns,
            meeting,
            row_exports,
            column_exports,
            root,
            truths,
            columns_depend_on,
        })
    }
}

fn part_of(program: &IntervalProgram, node: NodeId) -> Part {
    match program.inputs[node.index()] & (QUERY | KEY) {
        KEY => Part::Columns,
        inputs if inputs == QUERY | KEY => Part::Meeting,
        _ => Part::Rows,
    }
}

struct Compiler<'a> {
    program: &'a IntervalProgram,
    analysis: &'a IntervalAnalysis<'a>,
    /// Of the parts in their order.
    code: [Vec<Instr>; 3],
    constants: Vec<Lanes>,
    /// Where the nodes are that have been compiled.
    places: HashMap<NodeId, (Part, Source)>,
    exports: [Vec<u16>; 2],
}

impl Compiler<'_> {
    /// Where code of a part finds the value of a node.
    fn source(&mut self, node: NodeId, part: Part) -> Option<Source> {
        let Some(&(home, source)) = self.places.get(&node) else {
            let state = &self.analysis.states[node.index()];
            if !state.is_settled() || !fits(state.value) {
                return None;
            }
            let source = self.any_constant(state.value)?;
            self.places.insert(node, (part, source));
            return Some(source);
        };
        match source {
            Source::Own(result) if home != part => self.exported(home, part, result),
            source => Some(source),
        }
    }

    /// Where code of `part` finds a result of another part. What depends on batch and head alone is among the rows, and
    /// compiled once more for the columns.
    fn exported(&mut self, home: Part, part: Part, result: u16) -> Option<Source> {
        if part != Part::Meeting {
            return if home == Part::Rows { self.again_for_columns(result) } else { None };
        }
        let exports = &mut self.exports[home as usize];
        let index = exports.iter().position(|&export| export == result).unwrap_or_else(|| {
            exports.push(result);
            exports.len() - 1
        });
        let index = u16::try_from(index).ok()?;
        Some(if home == Part::Rows { Source::Row(index) } else { Source::Column(index) })
    }

    fn again_for_columns(&mut self, result: u16) -> Option<Source> {
        let Instr { op, operands } = self.code[Part::Rows as usize][usize::from(result)].clone();
        let mut copied = [Source::Constant(0); OPERANDS];
        for (copy, operand) in copied.iter_mut().zip(operands) {
            *copy = match operand {
                Source::Own(operand) if operand < result => self.again_for_columns(operand)?,
                source => source,
            };
        }
        self.push(Part::Columns, op, &copied)
    }

    fn push(&mut self, part: Part, op: Op, operands: &[Source]) -> Option<Source> {
        let code = &mut self.code[part as usize];
        let index = u16::try_from(code.len()).ok()?;
        // Operands that an operation does not have are the first one. Inputs have none.
        let mut all = [operands.first().copied().unwrap_or(Source::Own(index)); OPERANDS];
        all[..operands.len()].copy_from_slice(operands);
        code.push(Instr { op, operands: all });
        Some(Source::Own(index))
    }

    /// Whether any values of two nodes occur together. All boxes have one batch and head.
    fn independent(&self, a: NodeId, b: NodeId) -> bool {
        self.program.inputs[a.index()] & self.program.inputs[b.index()] & (QUERY | KEY) == 0
    }

    fn all_independent(&self, nodes: impl Iterator<Item = NodeId>) -> bool {
        let mut seen = 0;
        nodes.into_iter().all(|node| {
            let inputs = self.program.inputs[node.index()] & (QUERY | KEY);
            let apart = seen & inputs == 0;
            seen |= inputs;
            apart
        })
    }

    fn node(&mut self, node: NodeId, part: Part) -> Option<Source> {
        let program = self.program;
        let ty = program.types[node.index()];
        if !fits(self.analysis.states[node.index()].value) {
            return None;
        }
        match &program.steps[node.index()] {
            Step::Known(_) => None,
            Step::Input(input) => self.push(part, Op::Input(*input), &[]),
            Step::Load(array, indices) => self.load(part, array, indices),
            &Step::Unary(op, x) => match (op, program.types[x.index()]) {
                (UnaryOp::Not, Type::Bool) => {
                    let x = self.source(x, part)?;
                    self.push(part, Op::Not, &[x])
                }
                (_, Type::I32 | Type::U32) => self.unary(part, op, ty, x),
                _ => None,
            },
            Step::Arithmetic { op, operands: [a, b], relation } => match ty {
                Type::Bool => self.logic(part, *op, *a, *b),
                Type::F32 => None,
                _ => match relation {
                    Some(form) if self.is_exact(*a) && self.is_exact(*b) => {
                        let range = self.analysis.linear(form)?;
                        if integer::wrap(ty, range).1 { self.linear(part, form) } else { None }
                    }
                    _ => self.arithmetic(part, *op, ty, *a, *b),
                },
            },
            Step::Comparison { op, operands: [a, b], relation, .. } => match relation {
                Some(form) if self.is_exact(*a) && self.is_exact(*b) => {
                    let difference = self.linear(part, form)?;
                    let zero = self.constant(IntRange::single(0))?;
                    self.compare(part, *op, difference, zero, true)
                }
                _ => {
                    let sides = [self.as_integer(*a, part)?, self.as_integer(*b, part)?];
                    self.compare(part, *op, sides[0], sides[1], self.independent(*a, *b))
                }
            },
            &Step::Select { condition, accept, reject } => self.select(part, ty, condition, accept, reject),
            &Step::Cast(x) => {
                let value = self.analysis.states[x.index()].value;
                match value {
                    ValueRange::Bool(_) if ty.is_integer() => {
                        let source = self.source(x, part)?;
                        self.push(part, Op::FromBool, &[source])
                    }
                    ValueRange::Int(range) if ty.is_integer() && integer::wrap(ty, range).1 => {
                        self.source(x, part)
                    }
                    _ => None,
                }
            }
            // Nothing faults, so that only the value counts.
            Step::After { then, .. } => self.source(*then, part),
        }
    }

    fn is_exact(&self, node: NodeId) -> bool {
        self.analysis.is_linear(node)
    }

    fn constant(&mut self, range: IntRange) -> Option<Source> {
        self.any_constant(ValueRange::Int(range))
    }

    fn truth(&mut self, value: bool) -> Option<Source> {
        self.any_constant(ValueRange::Bool(Truth::always(value)))
    }

    fn any_constant(&mut self, value: ValueRange) -> Option<Source> {
        self.constants.push(Lanes::splat(value));
        u16::try_from(self.constants.len() - 1).ok().map(Source::Constant)
    }

    fn load(&mut self, part: Part, array: &Arc<Array>, indices: &Indices) -> Option<Source> {
        if array.ty() == Type::F32 {
            return None;
        }
        let indices = indices.as_slice();
        let independent = self.all_independent(indices.iter().copied());
        let mut sources = Vec::with_capacity(indices.len());
        for &index in indices {
            sources.push(self.source(index, part)?);
        }
        self.push(part, Op::Load { array: array.clone(), independent }, &sources)
    }

    fn linear(&mut self, part: Part, form: &Linear) -> Option<Source> {
        let mut largest = form.constant.checked_abs()?;
        let mut factors = [0; OPERANDS];
        let mut sources = Vec::with_capacity(form.terms.len());
        for (&(term, factor), slot) in form.terms.iter().zip(&mut factors) {
            let IntRange { lo, hi, .. } = self.analysis.int(term);
            largest = largest.checked_add(lo.abs().max(hi.abs()).checked_mul(factor.abs())?)?;
            *slot = i32::try_from(factor).ok()?;
            sources.push(self.source(term, part)?);
        }
        let constant = i32::try_from(form.constant).ok()?;
        if largest > i32::MAX.into() {
            return None;
        }
        if sources.is_empty() {
            return self.constant(IntRange::single(form.constant));
        }
        let independent = self.all_independent(form.terms.iter().map(|term| term.0));
        self.push(part, Op::Linear { constant, factors, independent }, &sources)
    }

    fn unary(&mut self, part: Part, op: UnaryOp, ty: Type, x: NodeId) -> Option<Source> {
        let (within, no_wrap) = integer::unary(op, ty, self.analysis.int(x));
        let source = self.source(x, part)?;
        let op = match op {
            _ if !no_wrap => return None,
            UnaryOp::Neg => Op::Neg,
            UnaryOp::Abs => Op::Abs,
            op => Op::Unary { op, ty, within },
        };
        self.push(part, op, &[source])
    }

    fn arithmetic(&mut self, part: Part, op: BinaryOp, ty: Type, a: NodeId, b: NodeId) -> Option<Source> {
        let amount = self.program.types[b.index()];
        let independent = self.independent(a, b);
        let (x, y) = (self.analysis.int(a), self.analysis.int(b));
        let ((within, no_wrap), _) = integer::binary(op, ty, x, y, amount, independent);
        if !no_wrap {
            return None;
        }
        let divisor = y.as_single().and_then(|d| i32::try_from(d).ok()).filter(|d| *d > 0);
        let left = self.source(a, part)?;
        let op = match (op, divisor) {
            (BinaryOp::Div, Some(divisor)) => return self.push(part, Op::Div { divisor }, &[left]),
            (BinaryOp::DivEuclid, Some(divisor)) if x.lo >= 0 => {
                return self.push(part, Op::Div { divisor }, &[left]);
            }
            (BinaryOp::Rem | BinaryOp::RemEuclid, Some(divisor)) if x.lo >= 0 => {
                return self.push(part, Op::Rem { divisor }, &[left]);
            }
            (BinaryOp::Shr, Some(bits @ 1..=30)) if x.lo >= 0 => {
                return self.push(part, Op::Div { divisor: 1 << bits }, &[left]);
            }
            // Of the last bits a remainder is left.
            (BinaryOp::And, Some(ones)) if x.lo >= 0 && ones != i32::MAX && (ones + 1) & ones == 0 => {
                return self.push(part, Op::Rem { divisor: ones + 1 }, &[left]);
            }
            (BinaryOp::Add, _) => Op::Add { independent },
            (BinaryOp::Sub, _) => Op::Sub { independent },
            (BinaryOp::Min, _) => Op::Min { independent },
            (BinaryOp::Max, _) => Op::Max { independent },
            (op, _) => Op::Binary { op, ty, amount, within, independent },
        };
        let right = self.source(b, part)?;
        self.push(part, op, &[left, right])
    }

    fn compare(
        &mut self,
        part: Part,
        op: BinaryOp,
        x: Source,
        y: Source,
        independent: bool,
    ) -> Option<Source> {
        let (ge, gt, eq) = (Op::Ge { independent }, Op::Gt { independent }, Op::Eq { independent });
        match op {
            BinaryOp::Ge => self.push(part, ge, &[x, y]),
            BinaryOp::Gt => self.push(part, gt, &[x, y]),
            BinaryOp::Le => self.push(part, ge, &[y, x]),
            BinaryOp::Lt => self.push(part, gt, &[y, x]),
            BinaryOp::Eq => self.push(part, eq, &[x, y]),
            _ => {
                let equal = self.push(part, eq, &[x, y])?;
                self.push(part, Op::Not, &[equal])
            }
        }
    }

    /// An integer, or a bool as 0 or 1.
    fn as_integer(&mut self, node: NodeId, part: Part) -> Option<Source> {
        match self.program.types[node.index()] {
            Type::I32 | Type::U32 => self.source(node, part),
            Type::F32 => None,
            Type::Bool => {
                // In the part of the bool, so that it is done once for all boxes.
                let home = self.places.get(&node).map_or(part, |place| place.0);
                let source = self.source(node, home)?;
                match self.push(home, Op::FromBool, &[source])? {
                    Source::Own(result) if home != part => self.exported(home, part, result),
                    source => Some(source),
                }
            }
        }
    }

    fn logic(&mut self, part: Part, op: BinaryOp, a: NodeId, b: NodeId) -> Option<Source> {
        let independent = self.independent(a, b);
        let (x, y) = (self.source(a, part)?, self.source(b, part)?);
        match op {
            BinaryOp::And => self.push(part, Op::And { independent }, &[x, y]),
            BinaryOp::Or => self.push(part, Op::Or { independent }, &[x, y]),
            // a ^ b is `if a { !b } else { b }`.
            BinaryOp::Xor => {
                let inverse = self.push(part, Op::Not, &[y])?;
                self.push(part, Op::Select { independent: [independent; 2] }, &[x, inverse, y])
            }
            _ => None,
        }
    }

    fn select(
        &mut self,
        part: Part,
        ty: Type,
        condition: NodeId,
        accept: NodeId,
        reject: NodeId,
    ) -> Option<Source> {
        let truth = self.analysis.range(condition).truth();
        for (branch, value) in [(accept, true), (reject, false)] {
            if truth.is_always(value) {
                return self.source(branch, part);
            }
        }
        let independent = [self.independent(condition, accept), self.independent(condition, reject)];
        let always = |x: NodeId, value| {
            let state = &self.analysis.states[x.index()];
            state.is_settled() && state.value.truth().is_always(value)
        };
        let (and, or) = (always(reject, false), always(accept, true));
        let c = self.source(condition, part)?;
        match ty {
            Type::F32 => None,
            Type::Bool if and => {
                let accept = self.source(accept, part)?;
                self.push(part, Op::And { independent: independent[0] }, &[c, accept])
            }
            Type::Bool if or => {
                let reject = self.source(reject, part)?;
                self.push(part, Op::Or { independent: independent[1] }, &[c, reject])
            }
            _ => {
                let branches = [self.source(accept, part)?, self.source(reject, part)?];
                let op = if ty == Type::Bool { Op::Select { independent } } else { Op::SelectInt };
                self.push(part, op, &[c, branches[0], branches[1]])
            }
        }
    }
}

/// Whether lanes of i32 hold every value.
fn fits(value: ValueRange) -> bool {
    match value {
        ValueRange::Bool(_) => true,
        ValueRange::Int(range) => range.lo >= i32::MIN.into() && range.hi <= i32::MAX.into(),
        ValueRange::Float(_) => false,
    }
}
