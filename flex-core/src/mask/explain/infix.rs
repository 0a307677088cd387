//! Expressions as a person would write them.

use crate::capture::{Capture, CaptureValue};
use crate::ir::{BinaryOp, Node, NodeId, Scalar, Type, UnaryOp};
use crate::mods::BoundExpr;

/// Longer texts are cut: they explain nothing.
const MAX_DEPTH: usize = 12;

/// A node in Rust's notation, with captured scalars by value.
pub(super) fn infix(bound: &BoundExpr, id: NodeId) -> String {
    write(bound, id, MAX_DEPTH)
}

fn write(bound: &BoundExpr, id: NodeId, depth: usize) -> String {
    if depth == 0 {
        return "…".into();
    }
    let expr = bound.expr();
    let text = |x: NodeId| write(bound, x, depth - 1);
    // An operand that is itself an operation gets parentheses, but for the tightest ones.
    let operand = |x: NodeId| match expr.node(x) {
        Node::Binary(op, ..) if infix_symbol(*op).is_some() => format!("({})", text(x)),
        Node::Select { .. } => format!("({})", text(x)),
        _ => text(x),
    };
    let name = |capture: crate::ir::CaptureId| bound.captures()[capture.index()].name.as_str();
    let is_bool = |x: NodeId, value| *expr.node(x) == Node::Const(Scalar::Bool(value));
    match *expr.node(id) {
        Node::Const(value) => number(value),
        Node::Input(input) => input.name().into(),
        Node::Capture(capture) => match &bound.captures()[capture.index()] {
            Capture { name, value: CaptureValue::Scalar(value) } => format!("{name} (= {})", number(*value)),
            Capture { name, .. } => name.clone(),
        },
        Node::Extent(capture, 0) => format!("{}.len()", name(capture)),
        Node::Extent(capture, axis) => format!("{}.dim({axis})", name(capture)),
        Node::Load(capture, indices) => {
            let indices: Vec<String> = indices.as_slice().iter().map(|&i| text(i)).collect();
            format!("{}[{}]", name(capture), indices.join(", "))
        }
        Node::Unary(UnaryOp::Neg, x) => format!("-{}", operand(x)),
        Node::Unary(UnaryOp::Not, x) => format!("!{}", operand(x)),
        Node::Unary(op, x) => format!("{}.{}()", operand(x), op.name()),
        Node::Binary(op, a, b) => match infix_symbol(op) {
            Some(symbol) => format!("{} {symbol} {}", operand(a), operand(b)),
            None => format!("{}.{}({})", operand(a), op.name(), text(b)),
        },
        Node::Select { condition, accept, reject } if is_bool(reject, false) => {
            format!("{} && {}", operand(condition), operand(accept))
        }
        Node::Select { condition, accept, reject } if is_bool(accept, true) => {
            format!("{} || {}", operand(condition), operand(reject))
        }
        Node::Select { condition, accept, reject } => {
            format!("if {} {{ {} }} else {{ {} }}", text(condition), text(accept), text(reject))
        }
        Node::Cast(ty, x) => format!("{} as {}", operand(x), Type::name(ty)),
        Node::After { then, .. } => text(then),
    }
}

fn number(value: Scalar) -> String {
    match value {
        Scalar::Bool(v) => v.to_string(),
        Scalar::I32(v) => v.to_string(),
        Scalar::U32(v) => v.to_string(),
        Scalar::F32(v) => format!("{v:?}"),
    }
}

fn infix_symbol(op: BinaryOp) -> Option<&'static str> {
    use BinaryOp::*;
    Some(match op {
        Add => "+",
        Sub => "-",
        Mul => "*",
        Div => "/",
        Rem => "%",
        And => "&",
        Or => "|",
        Xor => "^",
        Shl => "<<",
        Shr => ">>",
        Eq => "==",
        Ne => "!=",
        Lt => "<",
        Le => "<=",
        Gt => ">",
        Ge => ">=",
        DivEuclid | RemEuclid | Min | Max | Pow => return None,
    })
}
