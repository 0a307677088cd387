//! One order for the operands of commutative operations and comparisons, so that equal values become equal nodes:
//! constants on the right, then by id. Operands that may both fault keep their order.

use super::graph::Graph;
use crate::ir::{BinaryOp, Node, NodeId, Type};

pub(super) fn order(g: &mut Graph, node: Node) -> Option<NodeId> {
    let Node::Binary(op, a, b) = node else { return None };
    let mirrored = mirror(op, g.ty(a))?;
    let late = |x| (g.as_const(x).is_some(), x);
    (late(a) > late(b) && g.can_swap(a, b)).then(|| g.binary(mirrored, b, a))
}

/// The operation with `a op b == b mirrored a`, to the bit. Rust leaves open which zero `min` and `max` of 0.0 and −0.0
/// give, so those have none on f32.
fn mirror(op: BinaryOp, ty: Type) -> Option<BinaryOp> {
    match op {
        BinaryOp::Lt => Some(BinaryOp::Gt),
        BinaryOp::Gt => Some(BinaryOp::Lt),
        BinaryOp::Le => Some(BinaryOp::Ge),
        BinaryOp::Ge => Some(BinaryOp::Le),
        BinaryOp::Min | BinaryOp::Max if ty == Type::F32 => None,
        op => op.is_commutative().then_some(op),
    }
}
