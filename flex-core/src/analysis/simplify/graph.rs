//! The expression being made: an arena with what the rules ask about its nodes.

use super::{branches, floats, fold, integers, logic, order, sequence, sums};
use crate::analysis::affine::{Affine, AffineForms};
use crate::analysis::faults::Faults;
use crate::ir::{BinaryOp, Builder, CaptureDecl, Expr, Node, NodeId, Scalar, Type, UnaryOp};

pub(super) struct Graph {
    builder: Builder,
    faults: Faults,
    forms: AffineForms,
    len: usize,
}

impl Graph {
    pub(super) fn new(captures: &[CaptureDecl]) -> Self {
        let builder = Builder::with_captures(captures);
        Self { builder, faults: Faults::new(), forms: AffineForms::new(), len: 0 }
    }

    pub(super) fn finish(self, root: NodeId, outputs: &[NodeId]) -> (Expr, Vec<NodeId>) {
        self.builder.finish_with(root, outputs).expect("rules keep expressions well-formed")
    }

    pub(super) fn node(&self, id: NodeId) -> Node {
        *self.builder.node(id).expect("the id is of this graph")
    }

    pub(super) fn ty(&self, id: NodeId) -> Type {
        self.builder.ty(id)
    }

    pub(super) fn as_const(&self, id: NodeId) -> Option<Scalar> {
        self.builder.as_const(id)
    }

    /// Whether evaluating the node can fault.
    pub(super) fn can_fault(&self, id: NodeId) -> bool {
        self.faults.any(id)
    }

    /// Whether the operation of the node itself can fault.
    pub(super) fn own_fault(&self, id: NodeId) -> bool {
        self.faults.own(id)
    }

    /// Whether two values can be evaluated in either order.
    pub(super) fn can_swap(&self, a: NodeId, b: NodeId) -> bool {
        !(self.can_fault(a) && self.can_fault(b))
    }

    /// The linear form of an integer.
    pub(super) fn form(&self, id: NodeId) -> Option<&Affine> {
        self.forms.get(id)
    }

    /// The id that the next new node gets.
    pub(super) fn next_id(&self) -> NodeId {
        NodeId(self.len as u32)
    }

    pub(super) fn constant(&mut self, value: impl Into<Scalar>) -> NodeId {
        self.keep(Node::Const(value.into()))
    }

    /// The node as it is.
    pub(super) fn keep(&mut self, node: Node) -> NodeId {
        let id = self.builder.add(node);
        if id.index() == self.len {
            self.len += 1;
            let builder = &self.builder;
            let node_of = |x: NodeId| *builder.node(x).expect("the id is of this graph");
            self.faults.push(&node, node_of, |x| builder.ty(x).is_integer());
            self.forms.push(id, &node, builder.ty(id));
        }
        id
    }

    /// The node after every rule that applies to it. The operands are of this graph, so rules have been applied to
    /// them.
    pub(super) fn make(&mut self, node: Node) -> NodeId {
        const RULES: [fn(&mut Graph, Node) -> Option<NodeId>; 9] = [
            sequence::sequence,
            sequence::hoist,
            fold::fold,
            order::order,
            branches::select,
            logic::logic,
            integers::integer,
            floats::float,
            sums::sum,
        ];
        RULES.iter().find_map(|rule| rule(self, node)).unwrap_or_else(|| self.keep(node))
    }

    pub(super) fn unary(&mut self, op: UnaryOp, x: NodeId) -> NodeId {
        self.make(Node::Unary(op, x))
    }

    pub(super) fn binary(&mut self, op: BinaryOp, a: NodeId, b: NodeId) -> NodeId {
        self.make(Node::Binary(op, a, b))
    }

    pub(super) fn not(&mut self, x: NodeId) -> NodeId {
        self.unary(UnaryOp::Not, x)
    }

    /// A constant in place of something that evaluates `x`.
    pub(super) fn constant_after(&mut self, x: NodeId, value: impl Into<Scalar>) -> NodeId {
        let then = self.constant(value);
        self.make(Node::After { first: x, then })
    }
}
