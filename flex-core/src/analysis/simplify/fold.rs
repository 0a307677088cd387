//! Operations on constants. A division by a constant zero stays: it is a fault.

use super::graph::Graph;
use crate::ir::semantics::{self, Value};
use crate::ir::{Node, NodeId, Scalar};

pub(super) fn fold(g: &mut Graph, node: Node) -> Option<NodeId> {
    let value = |x| g.as_const(x).map(Value::<f32>::from);
    let folded = match node {
        Node::Unary(op, x) => semantics::unary(op, value(x)?),
        Node::Binary(op, a, b) => semantics::binary(op, value(a)?, value(b)?).ok()?,
        Node::Cast(ty, x) => semantics::cast(ty, value(x)?),
        _ => return None,
    };
    Some(g.constant(Scalar::from(folded)))
}
