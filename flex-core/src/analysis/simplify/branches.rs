//! `Select`: branches that are known, equal, or better computed without a branch.

use super::graph::Graph;
use crate::ir::{BinaryOp, Node, NodeId, Scalar, UnaryOp};

pub(super) fn select(g: &mut Graph, node: Node) -> Option<NodeId> {
    let Node::Select { condition: c, accept: a, reject: b } = node else { return None };
    if let Some(Scalar::Bool(known)) = g.as_const(c) {
        return Some(if known { a } else { b });
    }
    if a == b {
        return Some(g.make(Node::After { first: c, then: a }));
    }
    if let Node::Unary(UnaryOp::Not, x) = g.node(c) {
        return Some(g.make(Node::Select { condition: x, accept: b, reject: a }));
    }
    let (under, otherwise) = (given(g, a, c, true), given(g, b, c, false));
    if (under, otherwise) != (a, b) {
        return Some(g.make(Node::Select { condition: c, accept: under, reject: otherwise }));
    }
    as_logic(g, c, a, b).or_else(|| merged(g, c, a, b))
}

/// What `x` is where the condition `c` is known.
fn given(g: &mut Graph, x: NodeId, c: NodeId, holds: bool) -> NodeId {
    if x == c {
        return g.constant(holds);
    }
    match g.node(x) {
        Node::Unary(UnaryOp::Not, y) if y == c => g.constant(!holds),
        Node::Select { condition, accept, reject } if condition == c => {
            if holds {
                accept
            } else {
                reject
            }
        }
        _ => x,
    }
}

/// `&&` and `||` whose right side may as well be evaluated always.
fn as_logic(g: &mut Graph, c: NodeId, a: NodeId, b: NodeId) -> Option<NodeId> {
    let known = |x| g.as_const(x).and_then(Scalar::as_bool);
    match (known(a), known(b)) {
        (Some(true), Some(false)) => Some(c),
        (Some(false), Some(true)) => Some(g.not(c)),
        (Some(true), None) if !g.can_fault(b) => Some(g.binary(BinaryOp::Or, c, b)),
        (None, Some(false)) if !g.can_fault(a) => Some(g.binary(BinaryOp::And, c, a)),
        (Some(false), None) if !g.can_fault(b) => {
            let otherwise = g.not(c);
            Some(g.binary(BinaryOp::And, otherwise, b))
        }
        (None, Some(true)) if !g.can_fault(a) => {
            let otherwise = g.not(c);
            Some(g.binary(BinaryOp::Or, otherwise, a))
        }
        _ => None,
    }
}

/// `if c { if d { x } else { z } } else { z }` → `if c & d { x } else { z }`, and its mirror image with `|`.
fn merged(g: &mut Graph, c: NodeId, a: NodeId, b: NodeId) -> Option<NodeId> {
    if let Node::Select { condition: d, accept, reject } = g.node(a)
        && reject == b
        && !g.can_fault(d)
    {
        let condition = g.binary(BinaryOp::And, c, d);
        return Some(g.make(Node::Select { condition, accept, reject }));
    }
    if let Node::Select { condition: d, accept, reject } = g.node(b)
        && accept == a
        && !g.can_fault(d)
    {
        let condition = g.binary(BinaryOp::Or, c, d);
        return Some(g.make(Node::Select { condition, accept, reject }));
    }
    None
}
