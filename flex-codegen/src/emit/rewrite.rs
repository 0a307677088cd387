//! A score mod as the kernel evaluates it: from the raw dot product to the exponent of 2.
//!
//! The result is log₂e · score_mod(qk · scale). Its captures are those of the mod and, last, the scale of the launch. With
//! [`Precision::Fast`] the two factors are folded into the factors that are there, those that change least often first, so
//! that they cost nothing an element.

use std::collections::HashMap;

use flex_core::analysis::variance::Inputs;
use flex_core::ir::{BinaryOp, BuildError, Builder, CaptureId, Expr, Input, Node, NodeId, Type, UnaryOp};

use super::variance::{Level, inputs_of_node};
use crate::{Guards, Precision};

/// Rewrites a score mod.
pub(super) fn to_exponent(expr: &Expr, precision: Precision, guards: Guards) -> Result<Expr, BuildError> {
    let mut builder = Builder::new();
    for decl in expr.captures() {
        builder.declare(decl.name.clone(), decl.ty, decl.rank);
    }
    let scale = builder.declare("scale", Type::F32, 0);
    let mut rewrite = Rewrite { builder, precision, guards, inputs: Vec::new(), scaled: HashMap::new() };
    let score = {
        let (qk, scale) = (rewrite.builder.input(Input::Score), rewrite.builder.capture(scale));
        rewrite.product(scale, qk)
    };
    let mut moved: Vec<NodeId> = Vec::with_capacity(expr.nodes().len());
    for node in expr.nodes() {
        let id = match *node {
            Node::Input(Input::Score) => score,
            other => rewrite.node(other.map_operands(|id| moved[id.index()])),
        };
        moved.push(id);
    }
    let root = rewrite.times_log2_e(moved[expr.root().index()]);
    rewrite.builder.finish(root)
}

struct Rewrite {
    builder: Builder,
    precision: Precision,
    guards: Guards,
    /// Of the nodes asked for so far; nodes are only ever added.
    inputs: Vec<Inputs>,
    /// What [`Self::times_log2_e`] has made of which node.
    scaled: HashMap<NodeId, NodeId>,
}

impl Rewrite {
    fn fast(&self) -> bool {
        self.precision == Precision::Fast
    }

    fn get(&self, id: NodeId) -> Node {
        *self.builder.node(id).expect("ids come from this builder")
    }

    fn level(&mut self, id: NodeId) -> Level {
        for i in self.inputs.len()..=id.index() {
            let node = self.get(NodeId(i as u32));
            let inputs = inputs_of_node(&node, |operand| self.inputs[operand.index()]);
            self.inputs.push(inputs);
        }
        Level::of(self.inputs[id.index()])
    }

    /// Adds a node of the mod, in a cheaper form where there is one.
    fn node(&mut self, node: Node) -> NodeId {
        match node {
            Node::Binary(BinaryOp::Mul, a, b) if self.builder.ty(a) == Type::F32 => self.product(a, b),
            Node::Binary(BinaryOp::Div, a, b) if self.fast() && self.builder.ty(a) == Type::F32 => {
                self.quotient(a, b)
            }
            Node::Cast(Type::F32, x) if self.fast() && self.guards == Guards::Proved => self.distance(x),
            other => self.copy(other),
        }
    }

    fn copy(&mut self, node: Node) -> NodeId {
        let b = &mut self.builder;
        match node {
            Node::Const(value) => b.constant(value),
            Node::Input(input) => b.input(input),
            Node::Capture(id) => b.capture(id),
            Node::Extent(id, axis) => b.extent(id, axis),
            Node::Load(id, indices) => b.load(id, indices.as_slice()),
            Node::Unary(op, x) => b.unary(op, x),
            Node::Binary(op, x, y) => b.binary(op, x, y),
            Node::Select { condition, accept, reject } => b.select(condition, accept, reject),
            Node::Cast(ty, x) => b.cast(ty, x),
            Node::After { first, then } => b.after(first, then),
        }
    }

    /// `a · b`; when fast, with the factor that changes less often joined to another such factor.
    fn product(&mut self, a: NodeId, b: NodeId) -> NodeId {
        if !self.fast() {
            return self.builder.binary(BinaryOp::Mul, a, b);
        }
        if let (Some(x), Some(y)) = (self.constant(a), self.constant(b)) {
            return self.builder.constant(x * y);
        }
        let (rare, often) = if self.level(a) <= self.level(b) { (a, b) } else { (b, a) };
        if let Node::Binary(BinaryOp::Mul, x, y) = self.get(often) {
            let (inner, rest) = if self.level(x) <= self.level(y) { (x, y) } else { (y, x) };
            if self.level(inner) < self.level(rest) && self.level(rare) < self.level(rest) {
                let joined = self.product(rare, inner);
                return self.product(joined, rest);
            }
        }
        self.builder.binary(BinaryOp::Mul, rare, often)
    }

    /// `a / b`; by way of the reciprocal where that is computed less often.
    fn quotient(&mut self, a: NodeId, b: NodeId) -> NodeId {
        if self.level(b) >= self.level(a) {
            return self.builder.binary(BinaryOp::Div, a, b);
        }
        let reciprocal = match self.constant(b) {
            Some(b) if (1.0 / b).is_normal() => self.builder.constant(1.0 / b),
            Some(_) => return self.builder.binary(BinaryOp::Div, a, b),
            None => {
                let one = self.builder.constant(1.0f32);
                self.builder.binary(BinaryOp::Div, one, b)
            }
        };
        self.product(reciprocal, a)
    }

    /// `x as f32`; for the distance of two positions, which f32 holds exactly, from their conversions, which are not
    /// computed an element.
    fn distance(&mut self, x: NodeId) -> NodeId {
        match self.get(x) {
            Node::Unary(UnaryOp::Abs, inner) if self.is_distance(inner) => {
                let distance = self.distance(inner);
                self.builder.unary(UnaryOp::Abs, distance)
            }
            Node::Binary(BinaryOp::Sub, a, b) if self.is_distance(x) => {
                let (a, b) = (self.builder.cast(Type::F32, a), self.builder.cast(Type::F32, b));
                self.builder.binary(BinaryOp::Sub, a, b)
            }
            _ => self.builder.cast(Type::F32, x),
        }
    }

    fn is_distance(&self, x: NodeId) -> bool {
        let position = |id| matches!(self.get(id), Node::Input(Input::Query | Input::Key));
        matches!(self.get(x), Node::Binary(BinaryOp::Sub, a, b) if position(a) && position(b))
    }

    fn constant(&self, id: NodeId) -> Option<f32> {
        self.builder.as_const(id).and_then(|value| value.as_f32())
    }

    /// `x · log₂e`; when fast, with the factor moved to where it costs least.
    fn times_log2_e(&mut self, x: NodeId) -> NodeId {
        if let Some(&known) = self.scaled.get(&x) {
            return known;
        }
        let log2_e = self.builder.constant(std::f32::consts::LOG2_E);
        let scaled = if !self.fast() || self.level(x) < Level::Element {
            self.product(log2_e, x)
        } else {
            match self.get(x) {
                Node::Binary(op @ (BinaryOp::Add | BinaryOp::Sub), a, b) => {
                    let (a, b) = (self.times_log2_e(a), self.times_log2_e(b));
                    self.builder.binary(op, a, b)
                }
                Node::Unary(UnaryOp::Neg, a) => {
                    let a = self.times_log2_e(a);
                    self.builder.unary(UnaryOp::Neg, a)
                }
                Node::Select { condition, accept, reject } => {
                    let (accept, reject) = (self.times_log2_e(accept), self.times_log2_e(reject));
                    self.builder.select(condition, accept, reject)
                }
                Node::After { first, then } => {
                    let then = self.times_log2_e(then);
                    self.builder.after(first, then)
                }
                _ => self.product(log2_e, x),
            }
        };
        self.scaled.insert(x, scaled);
        scaled
    }
}

/// The capture that stands for the scale of the launch in an expression of [`to_exponent`].
pub(super) fn scale_of(expr: &Expr) -> CaptureId {
    CaptureId(expr.captures().len() as u32 - 1)
}
