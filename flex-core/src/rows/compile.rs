//! From an expression to operations on lanes.

use std::sync::Arc;

use super::FaultChecks;
use super::lanes::{Operand, word};
use crate::capture::{Array, CaptureValue};
use crate::ir::{BinaryOp, Expr, Input, Node, NodeId, Scalar, Type, UnaryOp};
use crate::mods::BoundExpr;

/// How often a value is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Once for a batch and head.
    Fixed,
    /// Once a query.
    Row,
    /// Once a key, for all queries of a tile.
    Column,
    /// For every element.
    Element,
}

impl Class {
    fn of(inputs: u8) -> Self {
        let has = |input: Input| inputs & 1 << input as u8 != 0;
        match (has(Input::Query), has(Input::Key), has(Input::Score)) {
            (false, false, false) => Self::Fixed,
            (true, false, false) => Self::Row,
            (false, true, false) => Self::Column,
            _ => Self::Element,
        }
    }

    fn has_lanes(self) -> bool {
        matches!(self, Self::Column | Self::Element)
    }
}

/// What an operation does; the result goes to a register with a larger number than those it reads.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Input(Input),
    Unary(UnaryOp, Type, Operand),
    Binary(BinaryOp, Type, Operand, Operand),
    Select(Operand, Operand, Operand),
    /// To a type from a type.
    Cast(Type, Type, Operand),
    Load(Arc<Array>, Vec<Operand>),
    /// Whether some index is out of bounds; the flag of an axis says that it is a u32.
    OutOfBounds(Arc<Array>, Vec<(Operand, bool)>),
}

#[derive(Clone, Debug)]
pub(super) struct Op {
    pub(super) to: u32,
    pub(super) action: Action,
}

/// A mask or score mod compiled for [`RowEvaluator`](super::RowEvaluator).
#[derive(Clone, Debug)]
pub struct RowProgram {
    /// The operations of each class, in order.
    pub(super) ops: [Vec<Op>; 4],
    /// Registers that never change.
    pub(super) constants: Vec<(u32, u32)>,
    pub(super) registers: usize,
    pub(super) result: (Operand, Type),
    /// Whether the expression faults; none where it cannot or must not tell.
    pub(super) fault: Option<Operand>,
}

impl RowProgram {
    /// Compiles an expression with its captures.
    pub fn new(bound: &BoundExpr, checks: FaultChecks) -> Self {
        let expr = bound.expr();
        let mut compiler = Compiler::new(bound, checks);
        for id in expr.ids() {
            compiler.node(id);
        }
        let root = compiler.values[expr.root().index()];
        let fault = compiler.faults[expr.root().index()];
        RowProgram {
            result: (compiler.outside(root), expr.result_type()),
            fault: fault.map(|fault| compiler.outside(fault)),
            registers: compiler.classes.len(),
            ops: compiler.ops,
            constants: compiler.constants,
        }
    }
}

struct Compiler<'a> {
    bound: &'a BoundExpr,
    expr: &'a Expr,
    checks: FaultChecks,
    ops: [Vec<Op>; 4],
    constants: Vec<(u32, u32)>,
    /// The class of every register.
    classes: Vec<Class>,
    inputs: Vec<u8>,
    /// The register of every node.
    values: Vec<u32>,
    /// The register that tells whether a node faults; none where it cannot.
    faults: Vec<Option<u32>>,
}

impl<'a> Compiler<'a> {
    fn new(bound: &'a BoundExpr, checks: FaultChecks) -> Self {
        Self {
            bound,
            expr: bound.expr(),
            checks,
            ops: Default::default(),
            constants: Vec::new(),
            classes: Vec::new(),
            inputs: Vec::new(),
            values: Vec::new(),
            faults: Vec::new(),
        }
    }

    fn node(&mut self, id: NodeId) {
        let node = *self.expr.node(id);
        let ty = self.expr.ty(id);
        let mut inputs = if let Node::Input(input) = node { 1 << input as u8 } else { 0 };
        node.for_each_operand(|x| inputs |= self.inputs[x.index()]);
        self.inputs.push(inputs);
        let class = Class::of(inputs);
        let value = match node {
            Node::Const(value) => self.constant(value),
            Node::Input(input) => self.push(class, |_| Action::Input(input)),
            Node::Capture(capture) => match &self.bound.captures()[capture.index()].value {
                CaptureValue::Scalar(value) => self.constant(*value),
                CaptureValue::Array(_) => self.constant(Scalar::zero(ty)),
            },
            Node::Extent(capture, axis) => {
                let array = self.bound.captures()[capture.index()].array();
                self.constant(Scalar::I32(array.map_or(0, |a| a.shape()[usize::from(axis)] as i32)))
            }
            Node::Load(capture, indices) => match self.bound.captures()[capture.index()].array().cloned() {
                None => self.constant(Scalar::zero(ty)),
                Some(array) => {
                    let registers: Vec<u32> =
                        indices.as_slice().iter().map(|i| self.values[i.index()]).collect();
                    self.push(class, |operand| {
                        Action::Load(array, registers.iter().map(|&r| operand(r)).collect())
                    })
                }
            },
            Node::Unary(op, x) => {
                let (operand_ty, x) = (self.expr.ty(x), self.values[x.index()]);
                self.push(class, |operand| Action::Unary(op, operand_ty, operand(x)))
            }
            Node::Binary(op, a, b) => {
                let operand_ty = self.expr.ty(a);
                let (a, b) = (self.values[a.index()], self.values[b.index()]);
                self.push(class, |operand| Action::Binary(op, operand_ty, operand(a), operand(b)))
            }
            Node::Select { condition, accept, reject } => {
                let [c, a, r] = [condition, accept, reject].map(|x| self.values[x.index()]);
                self.push(class, |operand| Action::Select(operand(c), operand(a), operand(r)))
            }
            Node::Cast(to, x) => {
                let (from, x) = (self.expr.ty(x), self.values[x.index()]);
                self.push(class, |operand| Action::Cast(to, from, operand(x)))
            }
            Node::After { then, .. } => self.values[then.index()],
        };
        self.values.push(value);
        let fault = if self.checks == FaultChecks::Kept { self.fault(id, node) } else { None };
        self.faults.push(fault);
    }

    /// The register that tells whether a node faults.
    fn fault(&mut self, id: NodeId, node: Node) -> Option<u32> {
        let mut total = None;
        if let Node::Select { condition, accept, reject } = node {
            let (yes, no) = (self.faults[accept.index()], self.faults[reject.index()]);
            if yes.is_some() || no.is_some() {
                let none = self.constant(Scalar::Bool(false));
                let (c, yes, no) = (self.values[condition.index()], yes.unwrap_or(none), no.unwrap_or(none));
                let class = [c, yes, no].map(|r| self.classes[r as usize]);
                let class = class.into_iter().fold(Class::Fixed, join);
                total =
                    Some(self.push(class, |operand| Action::Select(operand(c), operand(yes), operand(no))));
            }
            return self.either(total, self.faults[condition.index()]);
        }
        node.for_each_operand(|x| total = self.either(total, self.faults[x.index()]));
        let own = match node {
            Node::Load(capture, indices) => {
                self.bound.captures()[capture.index()].array().cloned().map(|array| {
                    let indices: Vec<(u32, bool)> = indices
                        .as_slice()
                        .iter()
                        .map(|i| (self.values[i.index()], self.expr.ty(*i) == Type::U32))
                        .collect();
                    let class =
                        indices.iter().fold(Class::Fixed, |c, &(r, _)| join(c, self.classes[r as usize]));
                    self.push(class, |operand| {
                        Action::OutOfBounds(array, indices.iter().map(|&(r, u)| (operand(r), u)).collect())
                    })
                })
            }
            Node::Binary(op, _, divisor) if op.is_division() && self.expr.ty(divisor).is_integer() => {
                let divisor = self.values[divisor.index()];
                let known = self.constants.iter().find(|(register, _)| *register == divisor);
                if known.is_some_and(|(_, bits)| *bits != 0) {
                    None
                } else {
                    let zero = self.constant(Scalar::I32(0));
                    let class = self.classes[divisor as usize];
                    Some(self.push(class, |operand| {
                        Action::Binary(BinaryOp::Eq, Type::I32, operand(divisor), operand(zero))
                    }))
                }
            }
            _ => None,
        };
        debug_assert_eq!(self.values.len(), id.index() + 1);
        self.either(total, own)
    }

    fn either(&mut self, a: Option<u32>, b: Option<u32>) -> Option<u32> {
        match (a, b) {
            (Some(a), Some(b)) if a != b => {
                let class = join(self.classes[a as usize], self.classes[b as usize]);
                Some(
                    self.push(class, |operand| {
                        Action::Binary(BinaryOp::Or, Type::Bool, operand(a), operand(b))
                    }),
                )
            }
            (a, b) => a.or(b),
        }
    }

    fn register(&mut self, class: Class) -> u32 {
        self.classes.push(class);
        self.classes.len() as u32 - 1
    }

    fn constant(&mut self, value: Scalar) -> u32 {
        let bits = if let Scalar::Bool(v) = value { word(v) } else { value.bits() };
        let register = self.register(Class::Fixed);
        self.constants.push((register, bits));
        register
    }

    fn push(&mut self, class: Class, action: impl FnOnce(&dyn Fn(u32) -> Operand) -> Action) -> u32 {
        let action =
            action(&|register| match class.has_lanes() && !self.classes[register as usize].has_lanes() {
                true => Operand::Scalar(register),
                false => Operand::Lane(register),
            });
        let to = self.register(class);
        self.ops[class as usize].push(Op { to, action });
        to
    }

    /// A register as seen from outside of the program.
    fn outside(&self, register: u32) -> Operand {
        match self.classes[register as usize].has_lanes() {
            true => Operand::Lane(register),
            false => Operand::Scalar(register),
        }
    }
}

/// The class of what is computed from two values.
fn join(a: Class, b: Class) -> Class {
    match (a, b) {
        (Class::Row, Class::Column) | (Class::Column, Class::Row) => Class::Element,
        (a, b) => a.max(b),
    }
}
