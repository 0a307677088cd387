//! From an expression to instructions, sorted by how often they must run.

use super::instr::{Instr, Op, Operand};
use super::scalar;
use crate::capture::CaptureValue;
use crate::ir::{BinaryOp, CaptureId, Indices, Input, Node, NodeId, Scalar, Type, UnaryOp};
use crate::mods::BoundExpr;

/// The scalar registers of b and h.
pub(super) const BATCH: u32 = 0;
pub(super) const HEAD: u32 = 1;
/// The row register of q.
pub(super) const QUERY: u32 = 0;
/// The lane registers of kv and the score.
pub(super) const KEY: u32 = 0;
pub(super) const SCORE: u32 = 1;

/// How often an instruction runs, by what its value depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// b and h: once a head.
    Head,
    /// q too: once a row.
    Row,
    /// kv, b and h: once a tile, for every key.
    Column,
    /// Everything: once an element.
    Element,
}

/// The instructions of one expression.
#[derive(Clone, Debug, Default)]
pub(super) struct Code {
    pub(super) head: Vec<Instr>,
    pub(super) row: Vec<Instr>,
    pub(super) column: Vec<Instr>,
    pub(super) element: Vec<Instr>,
    /// The number of scalar registers.
    pub(super) scalars: usize,
    /// The number of row registers.
    pub(super) rows: usize,
    /// The number of lane registers.
    pub(super) lanes: usize,
    pub(super) result: Option<Operand>,
    /// The element instruction whose result is that of the expression, and nothing else's operand.
    pub(super) last: Option<usize>,
    /// Whether evaluating the expression faults; `None` if it cannot.
    pub(super) fault: Option<Operand>,
    /// What every node became.
    pub(super) values: Vec<Operand>,
}

/// Lowers a bound expression, with or without telling faults.
pub(super) fn compile(bound: &BoundExpr, tell_faults: bool) -> Code {
    let mut lowering = Lowering::new(bound);
    // An array that the lanes cannot address is loaded by the interpreter, to which only a fault leads.
    lowering.tell_faults = tell_faults
        || bound.captures().iter().any(|c| c.array().is_some_and(|array| array.len() > u32::MAX as usize));
    for (i, node) in bound.expr().nodes().iter().enumerate() {
        lowering.node(NodeId(i as u32), node);
    }
    let root = bound.expr().root().index();
    let mut code = lowering.code;
    code.result = Some(lowering.values[root]);
    code.fault = lowering.faults[root].filter(|fault| *fault != Operand::Const(0));
    code.scalars = lowering.scalars as usize;
    code.rows = lowering.rows as usize;
    code.lanes = lowering.lane_stage.len();
    code.values = lowering.values;
    code
}

impl Code {
    /// Replaces pairs of element instructions by one that does both, where nothing else needs the first one's result.
    pub(super) fn fuse(&mut self) {
        let i32_to_f32 = Op::Cast(Type::I32, Type::F32);
        let subtract = Op::Binary(BinaryOp::Sub, Type::I32);
        let (multiply, add) = (Op::Binary(BinaryOp::Mul, Type::F32), Op::Binary(BinaryOp::Add, Type::F32));
        let uses = self.element_uses();
        let mut i = 0;
        while i < self.element.len() {
            let instr = self.element[i];
            let found = match instr.op {
                op if op == i32_to_f32 => self.only_maker(&uses, instr.a, subtract).map(|at| {
                    let first = self.element[at];
                    (at, Instr { op: Op::Difference, a: first.a, b: first.b, ..instr })
                }),
                op if op == add => {
                    let product = self.only_maker(&uses, instr.a, multiply).map(|at| (at, instr.b));
                    let product =
                        product.or(self.only_maker(&uses, instr.b, multiply).map(|at| (at, instr.a)));
                    product.map(|(at, other)| {
                        let first = self.element[at];
                        (at, Instr { op: Op::MulAdd, a: first.a, b: first.b, c: other, ..instr })
                    })
                }
                _ => None,
            };
            match found {
                Some((at, fused)) => {
                    self.element[i] = fused;
                    self.element.remove(at);
                }
                None => i += 1,
            }
        }
    }

    /// Replaces `tanh(score / cap) * cap` by one instruction, where nothing else needs the parts.
    pub(super) fn fuse_soft_caps(&mut self) {
        let [divide, multiply] = [BinaryOp::Div, BinaryOp::Mul].map(|op| Op::Binary(op, Type::F32));
        let tanh = Op::Unary(UnaryOp::Tanh, Type::F32);
        let uses = self.element_uses();
        let mut i = 0;
        while i < self.element.len() {
            let instr = self.element[i];
            let found = [(instr.a, instr.b), (instr.b, instr.a)].into_iter().find_map(|(capped, cap)| {
                let tanh = self.only_maker(&uses, capped, tanh).filter(|_| instr.op == multiply)?;
                let quotient = self.only_maker(&uses, self.element[tanh].a, divide)?;
                let divisor = self.element[quotient].b;
                (!cap.is_lanes() && !divisor.is_lanes()).then_some((tanh, quotient, cap))
            });
            match found {
                Some((tanh, quotient, cap)) => {
                    let Instr { a, b, .. } = self.element[quotient];
                    self.element[i] = Instr { op: Op::SoftCap, a, b, c: cap, ..instr };
                    // The quotient comes before its tangent, and that before their product.
                    self.element.remove(tanh);
                    self.element.remove(quotient);
                    i -= 1;
                }
                None => i += 1,
            }
        }
    }

    /// The element instruction that makes the operand, if it is the given operation and nothing else uses its result.
    fn only_maker(&self, uses: &[u32], operand: Operand, op: Op) -> Option<usize> {
        match operand {
            Operand::Element(r) if uses[r as usize] == 1 => {
                self.element.iter().position(|instr| instr.dst == r && instr.op == op)
            }
            _ => None,
        }
    }

    /// Drops the instructions that the result, the fault and some more values do not need.
    pub(super) fn drop_unused(&mut self, also: impl Iterator<Item = Operand>) {
        let mut needed = Needed {
            scalars: vec![false; self.scalars],
            rows: vec![false; self.rows],
            lanes: vec![false; self.lanes],
        };
        for operand in [self.result, self.fault].into_iter().flatten().chain(also) {
            needed.add(operand);
        }
        let value: [fn(u32) -> Operand; 4] =
            [Operand::Element, Operand::Column, Operand::Row, Operand::Scalar];
        let lists = [&mut self.element, &mut self.column, &mut self.row, &mut self.head];
        for (list, value) in lists.into_iter().zip(value) {
            let mut kept: Vec<Instr> = Vec::with_capacity(list.len());
            for instr in list.drain(..).rev() {
                if needed.contains(value(instr.dst)) {
                    [instr.a, instr.b, instr.c].into_iter().for_each(|operand| needed.add(operand));
                    kept.push(instr);
                }
            }
            kept.reverse();
            *list = kept;
        }
    }

    /// How many element instructions (and the result and the fault) each lane register is an operand of.
    fn element_uses(&self) -> Vec<u32> {
        let mut uses = vec![0; self.lanes];
        let operands = self.element.iter().flat_map(|instr| [instr.a, instr.b, instr.c]);
        for operand in operands.chain([self.result, self.fault].into_iter().flatten()) {
            if let Operand::Element(r) = operand {
                uses[r as usize] += 1;
            }
        }
        uses
    }

    /// Finds the instruction that may write its result where the caller wants it.
    pub(super) fn find_last(&mut self) {
        let uses = self.element_uses();
        self.last = match self.result {
            Some(Operand::Element(r)) if uses[r as usize] == 1 => {
                self.element.iter().position(|instr| instr.dst == r)
            }
            _ => None,
        };
    }
}

/// The registers that something reads.
struct Needed {
    scalars: Vec<bool>,
    rows: Vec<bool>,
    lanes: Vec<bool>,
}

impl Needed {
    fn add(&mut self, operand: Operand) {
        match operand {
            Operand::Const(_) => {}
            Operand::Scalar(r) => self.scalars[r as usize] = true,
            Operand::Row(r) => self.rows[r as usize] = true,
            Operand::Column(r) | Operand::Element(r) => self.lanes[r as usize] = true,
        }
    }

    fn contains(&self, operand: Operand) -> bool {
        match operand {
            Operand::Const(_) => true,
            Operand::Scalar(r) => self.scalars[r as usize],
            Operand::Row(r) => self.rows[r as usize],
            Operand::Column(r) | Operand::Element(r) => self.lanes[r as usize],
        }
    }
}

struct Lowering<'a> {
    bound: &'a BoundExpr,
    code: Code,
    values: Vec<Operand>,
    /// Whether a node's evaluation faults, a bool; `None` if it cannot.
    faults: Vec<Option<Operand>>,
    scalars: u32,
    rows: u32,
    lane_stage: Vec<Stage>,
    tell_faults: bool,
}

impl<'a> Lowering<'a> {
    fn new(bound: &'a BoundExpr) -> Self {
        Self {
            bound,
            code: Code::default(),
            values: Vec::new(),
            faults: Vec::new(),
            scalars: 2,
            rows: 1,
            lane_stage: vec![Stage::Column, Stage::Element],
            tell_faults: true,
        }
    }

    fn node(&mut self, id: NodeId, node: &Node) {
        let ty = |x: NodeId| self.bound.expr().ty(x);
        let value = |x: NodeId| self.values[x.index()];
        let fault = |x: NodeId| self.faults[x.index()];
        let (value, fault) = match *node {
            Node::Const(c) => (Operand::Const(c.bits()), None),
            Node::Input(Input::Batch) => (Operand::Scalar(BATCH), None),
            Node::Input(Input::Head) => (Operand::Scalar(HEAD), None),
            Node::Input(Input::Query) => (Operand::Row(QUERY), None),
            Node::Input(Input::Key) => (Operand::Column(KEY), None),
            Node::Input(Input::Score) => (Operand::Element(SCORE), None),
            Node::Capture(capture) => {
                let bits = match &self.bound.captures()[capture.index()].value {
                    CaptureValue::Scalar(value) => value.bits(),
                    CaptureValue::Array(_) => 0,
                };
                (Operand::Const(bits), None)
            }
            Node::Extent(capture, axis) => {
                let array = self.bound.captures()[capture.index()].array();
                let len = array.map_or(0, |a| a.shape()[usize::from(axis)] as i32);
                (Operand::Const(Scalar::I32(len).bits()), None)
            }
            Node::Load(capture, indices) => self.load(capture, indices),
            Node::Unary(op, x) => {
                let (x_fault, op) = (fault(x), Op::Unary(op, ty(x)));
                (self.emit(op, [value(x)]), x_fault)
            }
            Node::Cast(to, x) => {
                let (x_fault, op) = (fault(x), Op::Cast(ty(x), to));
                (self.emit(op, [value(x)]), x_fault)
            }
            Node::Binary(op, a, b) => {
                let (ty, inputs) = (ty(a), [value(a), value(b)]);
                let mut fault = self.either(fault(a), fault(b));
                if op.is_division() && ty.is_integer() {
                    let zero = self.emit(Op::IsZero, [inputs[1]]);
                    fault = self.either(fault, Some(zero));
                }
                (self.emit(Op::Binary(op, ty), inputs), fault)
            }
            Node::Select { condition, accept, reject } => {
                let inputs = [value(condition), value(accept), value(reject)];
                let [of_condition, of_accept, of_reject] = [condition, accept, reject].map(fault);
                let branch = match (of_accept, of_reject) {
                    (None, None) => None,
                    (accept, reject) => {
                        let none = Operand::Const(0);
                        let branches = [accept.unwrap_or(none), reject.unwrap_or(none)];
                        Some(self.emit(Op::Select, [inputs[0], branches[0], branches[1]]))
                    }
                };
                (self.emit(Op::Select, inputs), self.either(of_condition, branch))
            }
            Node::After { first, then } => {
                let (first, then_fault, then) = (fault(first), fault(then), value(then));
                (then, self.either(first, then_fault))
            }
        };
        debug_assert_eq!(id.index(), self.values.len());
        self.values.push(value);
        self.faults.push(fault.filter(|f| self.tell_faults && *f != Operand::Const(0)));
    }

    fn load(&mut self, capture: CaptureId, indices: Indices) -> (Operand, Option<Operand>) {
        let mut fault = None;
        for &index in indices.as_slice() {
            fault = self.either(fault, self.faults[index.index()]);
        }
        let bound = self.bound;
        let Some(array) = bound.captures()[capture.index()].array() else {
            return (Operand::Const(0), fault);
        };
        for (&index, &len) in indices.as_slice().iter().zip(array.shape()) {
            // A negative i32 is at least 2³¹ as a u32.
            let reach = if bound.expr().ty(index) == Type::I32 { 1 << 31 } else { u64::from(u32::MAX) + 1 };
            let len = (len as u64).min(reach);
            if len <= u64::from(u32::MAX) {
                let outside = self.emit(Op::Outside(len as u32), [self.values[index.index()]]);
                fault = self.either(fault, Some(outside));
            }
        }
        if array.is_empty() || array.len() > u32::MAX as usize {
            // Nothing can be loaded; an array of over 2³² elements is left to the interpreter, as if it faulted.
            return (Operand::Const(0), Some(Operand::Const(1)));
        }
        let mut offset = Operand::Const(0);
        for (&index, &len) in indices.as_slice().iter().zip(array.shape()) {
            offset = self.emit(Op::Offset { len: len as u32 }, [offset, self.values[index.index()]]);
        }
        (self.emit(Op::Load(capture), [offset]), fault)
    }

    fn either(&mut self, a: Option<Operand>, b: Option<Operand>) -> Option<Operand> {
        match (a, b) {
            (Some(a), Some(b)) => Some(self.emit(Op::Binary(BinaryOp::Or, Type::Bool), [a, b])),
            (one, None) | (None, one) => one,
        }
    }

    fn stage(&self, operand: Operand) -> Option<Stage> {
        match operand {
            Operand::Const(_) => None,
            Operand::Scalar(_) => Some(Stage::Head),
            Operand::Row(_) => Some(Stage::Row),
            Operand::Column(r) | Operand::Element(r) => Some(self.lane_stage[r as usize]),
        }
    }

    fn emit<const N: usize>(&mut self, op: Op, inputs: [Operand; N]) -> Operand {
        let mut operands = [Operand::Const(0); 3];
        operands[..N].copy_from_slice(&inputs);
        if let Some(same) = shortcut(op, operands) {
            return same;
        }
        let [a, b, c] = operands;
        let stages = operands.map(|o| self.stage(o));
        let has = |stage| stages.contains(&Some(stage));
        let stage = match () {
            () if stages == [None; 3] => {
                let value = |o| if let Operand::Const(bits) = o { bits } else { 0 };
                return Operand::Const(scalar::evaluate(op, operands.map(value), self.bound.captures()));
            }
            () if has(Stage::Element) || has(Stage::Column) && has(Stage::Row) => Stage::Element,
            () if has(Stage::Column) => Stage::Column,
            () if has(Stage::Row) => Stage::Row,
            () => Stage::Head,
        };
        let next = |count: &mut u32| std::mem::replace(count, *count + 1);
        let dst = match stage {
            Stage::Head => next(&mut self.scalars),
            Stage::Row => next(&mut self.rows),
            Stage::Column | Stage::Element => {
                self.lane_stage.push(stage);
                self.lane_stage.len() as u32 - 1
            }
        };
        let (list, value) = match stage {
            Stage::Head => (&mut self.code.head, Operand::Scalar(dst)),
            Stage::Row => (&mut self.code.row, Operand::Row(dst)),
            Stage::Column => (&mut self.code.column, Operand::Column(dst)),
            Stage::Element => (&mut self.code.element, Operand::Element(dst)),
        };
        list.push(Instr { op, dst, a, b, c });
        value
    }
}

/// Operations that need no instruction because an operand already is the result.
fn shortcut(op: Op, [a, b, c]: [Operand; 3]) -> Option<Operand> {
    let (yes, no) = (Operand::Const(1), Operand::Const(0));
    match op {
        Op::Select => match a {
            Operand::Const(0) => Some(c),
            Operand::Const(_) => Some(b),
            _ if b == c => Some(b),
            _ if (b, c) == (yes, no) => Some(a),
            _ => None,
        },
        Op::Binary(BinaryOp::Or, Type::Bool) => match (a, b) {
            _ if a == b => Some(a),
            _ if a == yes || b == yes => Some(yes),
            _ if a == no => Some(b),
            _ if b == no => Some(a),
            _ => None,
        },
        Op::Binary(BinaryOp::And, Type::Bool) => match (a, b) {
            _ if a == b => Some(a),
            _ if a == no || b == no => Some(no),
            _ if a == yes => Some(b),
            _ if b == yes => Some(a),
            _ => None,
        },
        Op::Unary(UnaryOp::Not, _) | Op::Unary(..) => None,
        // The offset of the only (or a zero) axis so far is the clamped index itself; an axis of length 1 has one.
        Op::Offset { len: 1 } => Some(a),
        _ => None,
    }
}
