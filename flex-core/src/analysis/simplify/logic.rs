//! Bools: connectives, negation and comparisons.

use super::graph::Graph;
use super::sums;
use crate::ir::{BinaryOp, Node, NodeId, Scalar, Type, UnaryOp};

pub(super) fn logic(g: &mut Graph, node: Node) -> Option<NodeId> {
    match node {
        Node::Unary(UnaryOp::Not, x) if g.ty(x) == Type::Bool => negation(g, x),
        Node::Unary(UnaryOp::IsNan, x) => match g.node(x) {
            Node::Cast(..) => Some(g.constant_after(x, false)),
            _ => None,
        },
        Node::Binary(op, a, b) if op.is_comparison() => match g.ty(a) {
            Type::Bool => equivalence(g, op, a, b),
            Type::F32 => None,
            Type::I32 | Type::U32 => comparison(g, op, a, b),
        },
        Node::Binary(op, a, b) if g.ty(a) == Type::Bool => connective(g, op, a, b),
        _ => None,
    }
}

/// The comparison that holds where `op` does not. Ordered comparisons of floats have none because of NaN.
fn inverse(op: BinaryOp, ty: Type) -> Option<BinaryOp> {
    use BinaryOp::*;
    match op {
        Eq => Some(Ne),
        Ne => Some(Eq),
        _ if ty == Type::F32 => None,
        Lt => Some(Ge),
        Ge => Some(Lt),
        Gt => Some(Le),
        Le => Some(Gt),
        _ => None,
    }
}

fn negation(g: &mut Graph, x: NodeId) -> Option<NodeId> {
    match g.node(x) {
        Node::Unary(UnaryOp::Not, y) => Some(y),
        Node::Binary(op, a, b) => {
            let inverse = inverse(op, g.ty(a))?;
            Some(g.binary(inverse, a, b))
        }
        _ => None,
    }
}

fn are_complements(g: &Graph, a: NodeId, b: NodeId) -> bool {
    match (g.node(a), g.node(b)) {
        (Node::Unary(UnaryOp::Not, x), _) if x == b => true,
        (_, Node::Unary(UnaryOp::Not, x)) if x == a => true,
        (Node::Binary(op, x, y), Node::Binary(other, z, w)) => {
            (x, y) == (z, w) && inverse(op, g.ty(x)) == Some(other)
        }
        _ => false,
    }
}

/// `&`, `|`, `^`. A constant is on the right by now.
fn connective(g: &mut Graph, op: BinaryOp, a: NodeId, b: NodeId) -> Option<NodeId> {
    let constant = g.as_const(b).and_then(Scalar::as_bool);
    if op == BinaryOp::Xor {
        return match constant {
            Some(true) => Some(g.not(a)),
            Some(false) => Some(a),
            None if a == b => Some(g.constant_after(a, false)),
            None if are_complements(g, a, b) => Some(g.constant_after(a, true)),
            None => None,
        };
    }
    let absorbing = op == BinaryOp::Or;
    if let Some(value) = constant {
        return Some(if value == absorbing { g.constant_after(a, value) } else { a });
    }
    if a == b {
        return Some(a);
    }
    if are_complements(g, a, b) {
        return Some(g.constant_after(a, absorbing));
    }
    match (g.node(a), g.node(b)) {
        (Node::Binary(inner, x, y), _) if inner == op && (x == b || y == b) => Some(a),
        (_, Node::Binary(inner, x, y)) if inner == op && (x == a || y == a && g.can_swap(x, y)) => Some(b),
        _ => None,
    }
}

/// Comparisons of bools. A constant is on the right by now.
fn equivalence(g: &mut Graph, op: BinaryOp, a: NodeId, b: NodeId) -> Option<NodeId> {
    use BinaryOp::*;
    if a == b {
        return Some(g.constant_after(a, matches!(op, Eq | Le | Ge)));
    }
    let b = g.as_const(b)?.as_bool()?;
    Some(match (op, b) {
        (Eq, true) | (Ne, false) | (Gt, false) | (Ge, true) => a,
        (Eq, false) | (Ne, true) | (Lt, true) | (Le, false) => g.not(a),
        (Le, true) | (Ge, false) => g.constant_after(a, true),
        _ => g.constant_after(a, false),
    })
}

/// Comparisons of integers. A constant is on the right by now.
fn comparison(g: &mut Graph, op: BinaryOp, a: NodeId, b: NodeId) -> Option<NodeId> {
    use BinaryOp::*;
    if a == b {
        return Some(g.constant_after(a, matches!(op, Eq | Le | Ge)));
    }
    if let Some(limit) = g.as_const(b) {
        let (lowest, highest) = match limit {
            Scalar::I32(v) => (v == i32::MIN, v == i32::MAX),
            _ => (limit.bits() == 0, limit.bits() == u32::MAX),
        };
        match op {
            Lt if lowest => return Some(g.constant_after(a, false)),
            Gt if highest => return Some(g.constant_after(a, false)),
            Ge if lowest => return Some(g.constant_after(a, true)),
            Le if highest => return Some(g.constant_after(a, true)),
            _ => {}
        }
        if let (Eq | Ne, Node::Cast(_, x)) = (op, g.node(a))
            && g.ty(x) == Type::Bool
        {
            return Some(match limit.bits() {
                0 | 1 if (limit.bits() == 1) == (op == Eq) => x,
                0 | 1 => g.not(x),
                _ => g.constant_after(x, op == Ne),
            });
        }
    }
    if matches!(op, Eq | Ne) { sums::equality(g, op, a, b) } else { None }
}
