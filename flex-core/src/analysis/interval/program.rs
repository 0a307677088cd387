//! An expression prepared for the analysis of many boxes.

use std::sync::Arc;

use super::evaluate::NodeState;
use super::linear::{Linear, LinearForms, Shape};
use super::{IntervalAnalysis, ValueRange};
use crate::capture::{Array, CaptureValue};
use crate::ir::{BinaryOp, Indices, Input, Node, NodeId, Type, UnaryOp};
use crate::mods::BoundExpr;

/// One node, with everything looked up that does not depend on the box.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Known once and for all.
    Known(ValueRange),
    Input(Input),
    Load(Arc<Array>, Indices),
    Unary(UnaryOp, NodeId),
    Arithmetic {
        op: BinaryOp,
        operands: [NodeId; 2],
        /// The node's own linear form, where that is sharper than the ranges of the operands.
        relation: Option<Linear>,
    },
    Comparison {
        op: BinaryOp,
        operands: [NodeId; 2],
        /// The difference of the operands, where that is sharper than their ranges.
        relation: Option<Linear>,
        /// The shape of the difference, to remember a fact by.
        shape: Option<Shape>,
    },
    Select {
        condition: NodeId,
        accept: NodeId,
        reject: NodeId,
    },
    Cast(NodeId),
    After {
        first: NodeId,
        then: NodeId,
    },
}

/// An expression prepared for [`IntervalAnalysis`]. Captured scalars are constants in it.
#[derive(Clone, Debug)]
pub struct IntervalProgram {
    pub(super) steps: Vec<Step>,
    pub(super) types: Vec<Type>,
    /// Which inputs a node depends on, a bit each.
    pub(super) inputs: Vec<u8>,
    /// The shape of an integer node's linear form, to look facts up by.
    pub(super) shapes: Vec<Option<Shape>>,
    /// Whether the node's linear form says more than that the node is itself.
    pub(super) linear: Vec<bool>,
    pub(super) forms: LinearForms,
    /// The nodes that depend on the box, operands first.
    pub(super) order: Vec<NodeId>,
    /// What every node starts from; final for those that do not depend on the box.
    pub(super) initial: Vec<NodeState>,
    pub(super) root: NodeId,
}

impl IntervalProgram {
    /// Prepares an expression with its captures.
    pub fn new(bound: &BoundExpr) -> Self {
        let expr = bound.expr();
        let mut forms = LinearForms::new(bound);
        let mut program = Self {
            steps: Vec::with_capacity(expr.nodes().len()),
            types: expr.ids().map(|id| expr.ty(id)).collect(),
            inputs: Vec::new(),
            shapes: Vec::new(),
            linear: Vec::new(),
            forms: LinearForms::default(),
            order: Vec::new(),
            initial: expr.ids().map(|id| NodeState::unknown(expr.ty(id))).collect(),
            root: expr.root(),
        };
        for id in expr.ids() {
            let node = *expr.node(id);
            let mut inputs = if let Node::Input(input) = node { 1 << input as u8 } else { 0 };
            node.for_each_operand(|x| inputs |= program.inputs[x.index()]);
            program.inputs.push(inputs);
            if inputs != 0 {
                program.order.push(id);
            }
            let form = forms.get(id).cloned();
            program
                .linear
                .push(form.as_ref().is_some_and(|form| form.terms != [(id, 1)] || form.constant != 0));
            let shape = form.and_then(|form| forms.shape(&form));
            program.shapes.push(shape);
            program.steps.push(step(bound, &mut forms, id, node));
        }
        program.forms = forms;
        program.settle_constants();
        program
    }

    /// The type of a node's values.
    pub fn ty(&self, node: NodeId) -> Type {
        self.types[node.index()]
    }

    /// The difference a − b of two integer nodes as a constant and factors of nodes, which are inputs or not linear
    /// themselves; `None` where it has too many terms or too large numbers. Holds where both nodes are
    /// [linear](IntervalAnalysis::is_linear).
    pub fn difference(&self, a: NodeId, b: NodeId) -> Option<(i64, Vec<(NodeId, i64)>)> {
        self.forms.difference(a, b).map(|form| (form.constant, form.terms))
    }

    /// Whether a node's value depends on an input.
    pub fn depends_on(&self, node: NodeId, input: Input) -> bool {
        self.inputs[node.index()] & 1 << input as u8 != 0
    }

    /// Calls `need` for every node that the evaluation of `node` looks at.
    pub(super) fn for_each_operand(&self, node: NodeId, mut need: impl FnMut(NodeId)) {
        match &self.steps[node.index()] {
            Step::Known(_) | Step::Input(_) => {}
            Step::Load(_, indices) => indices.as_slice().iter().copied().for_each(need),
            Step::Unary(_, x) | Step::Cast(x) => need(*x),
            Step::Arithmetic { operands, relation, .. } | Step::Comparison { operands, relation, .. } => {
                operands.iter().copied().for_each(&mut need);
                relation.iter().flat_map(|form| &form.terms).for_each(|&(term, _)| need(term));
            }
            Step::Select { condition, accept, reject } => {
                [*condition, *accept, *reject].into_iter().for_each(need);
            }
            Step::After { first, then } => [*first, *then].into_iter().for_each(need),
        }
    }

    /// Evaluates the nodes that do not depend on the box.
    fn settle_constants(&mut self) {
        let fixed: Vec<NodeId> =
            (0..self.steps.len()).filter(|&i| self.inputs[i] == 0).map(|i| NodeId(i as u32)).collect();
        let mut analysis = IntervalAnalysis::new(self);
        for id in fixed {
            analysis.settle(id);
        }
        self.initial = analysis.into_states();
    }
}

fn step(bound: &BoundExpr, forms: &mut LinearForms, id: NodeId, node: Node) -> Step {
    let array = |capture: crate::ir::CaptureId| bound.captures()[capture.index()].array();
    let ty = |x| bound.expr().ty(x);
    // A relation pays only where the operands have something in common.
    let related = |forms: &LinearForms, a, b| {
        forms.get(a).zip(forms.get(b)).is_some_and(|(a, b)| a.shares_a_term_with(b))
    };
    match node {
        Node::Const(value) => Step::Known(ValueRange::single(value)),
        Node::Input(input) => Step::Input(input),
        Node::Capture(capture) => match &bound.captures()[capture.index()].value {
            CaptureValue::Scalar(value) => Step::Known(ValueRange::single(*value)),
            CaptureValue::Array(_) => Step::Known(ValueRange::any(ty(id))),
        },
        Node::Extent(capture, axis) => {
            let len = array(capture).map_or(0, |array| array.shape()[usize::from(axis)] as i32);
            Step::Known(ValueRange::single(len.into()))
        }
        Node::Load(capture, indices) => match array(capture) {
            Some(array) => Step::Load(array.clone(), indices),
            None => Step::Known(ValueRange::any(ty(id))),
        },
        Node::Unary(op, x) => Step::Unary(op, x),
        Node::Binary(op, a, b) if op.is_comparison() => {
            let difference = forms.difference(a, b);
            let shape = difference.as_ref().and_then(|difference| forms.shape(difference));
            let relation = difference.filter(|_| related(forms, a, b));
            Step::Comparison { op, operands: [a, b], relation, shape }
        }
        Node::Binary(op, a, b) => {
            let relation = forms.get(id).filter(|_| related(forms, a, b)).cloned();
            let relation = relation.filter(|form| form.terms != [(id, 1)]);
            Step::Arithmetic { op, operands: [a, b], relation }
        }
        Node::Select { condition, accept, reject } => Step::Select { condition, accept, reject },
        Node::Cast(_, x) => Step::Cast(x),
        Node::After { first, then } => Step::After { first, then },
    }
}
