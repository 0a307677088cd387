//! Identities of i32 and u32, and cheaper operations for divisions by powers of two.

use super::graph::Graph;
use crate::ir::{BinaryOp, Node, NodeId, Scalar, Type, UnaryOp};

pub(super) fn integer(g: &mut Graph, node: Node) -> Option<NodeId> {
    match node {
        Node::Unary(UnaryOp::Abs, x) if g.ty(x) == Type::I32 => match g.node(x) {
            Node::Unary(UnaryOp::Neg, y) => Some(g.unary(UnaryOp::Abs, y)),
            Node::Unary(UnaryOp::Abs, _) => Some(x),
            _ => None,
        },
        Node::Binary(op, a, b) if g.ty(a).is_integer() && !op.is_comparison() => {
            let constant = g.as_const(b).map(Scalar::bits);
            match constant {
                Some(bits) if op.is_division() => division(g, op, a, bits),
                Some(bits) => with_constant(g, op, a, b, bits),
                None => with_itself(g, op, a, b),
            }
        }
        _ => None,
    }
}

fn typed(ty: Type, bits: u32) -> Scalar {
    if ty == Type::I32 { Scalar::I32(bits as i32) } else { Scalar::U32(bits) }
}

/// `x op x`.
fn with_itself(g: &mut Graph, op: BinaryOp, a: NodeId, b: NodeId) -> Option<NodeId> {
    use BinaryOp::*;
    if a != b {
        return None;
    }
    match op {
        And | Or | Min | Max => Some(a),
        Xor | Sub => {
            let zero = typed(g.ty(a), 0);
            Some(g.constant_after(a, zero))
        }
        _ => None,
    }
}

/// `x op constant`; commutative operations have their constant there by now.
fn with_constant(g: &mut Graph, op: BinaryOp, a: NodeId, b: NodeId, bits: u32) -> Option<NodeId> {
    use BinaryOp::*;
    let ty = g.ty(a);
    let (lowest, highest) = if ty == Type::I32 { (i32::MIN as u32, i32::MAX as u32) } else { (0, u32::MAX) };
    match (op, bits) {
        (Add | Sub | Or | Xor, 0) | (Mul, 1) | (And, u32::MAX) => Some(a),
        (Shl | Shr, amount) if amount % 32 == 0 => Some(a),
        (Mul | And, 0) => Some(g.constant_after(a, typed(ty, 0))),
        (Or, u32::MAX) => Some(g.constant_after(a, typed(ty, u32::MAX))),
        (Xor, u32::MAX) => Some(g.not(a)),
        (Min, limit) if limit == highest => Some(a),
        (Max, limit) if limit == lowest => Some(a),
        (Min, limit) if limit == lowest => Some(g.constant_after(a, typed(ty, limit))),
        (Max, limit) if limit == highest => Some(g.constant_after(a, typed(ty, limit))),
        (Min | Max | And | Or | Xor, _) => match g.node(a) {
            // (x op c) op d → x op (c op d)
            Node::Binary(inner, x, c) if inner == op && g.as_const(c).is_some() => {
                let both = g.binary(op, c, b);
                Some(g.binary(op, x, both))
            }
            _ => None,
        },
        _ => None,
    }
}

/// A division by a constant.
fn division(g: &mut Graph, op: BinaryOp, a: NodeId, divisor: u32) -> Option<NodeId> {
    use BinaryOp::*;
    let ty = g.ty(a);
    let signed = ty == Type::I32;
    let remainder = matches!(op, Rem | RemEuclid);
    if divisor == 1 || signed && divisor == u32::MAX {
        return Some(match (remainder, divisor) {
            (true, _) => g.constant_after(a, typed(ty, 0)),
            (false, 1) => a,
            (false, _) => g.unary(UnaryOp::Neg, a),
        });
    }
    let magnitude = if signed { (divisor as i32).unsigned_abs() } else { divisor };
    // Division towards zero of a negative i32 is no shift.
    if !magnitude.is_power_of_two() || signed && matches!(op, Div | Rem) {
        return None;
    }
    if remainder {
        let mask = g.constant(typed(ty, magnitude - 1));
        return Some(g.binary(And, a, mask));
    }
    let amount = g.constant(magnitude.trailing_zeros());
    let quotient = g.binary(Shr, a, amount);
    let negative = signed && (divisor as i32) < 0;
    Some(if negative { g.unary(UnaryOp::Neg, quotient) } else { quotient })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::simplify::simplify;
    use crate::ir::semantics::{self, Value};
    use crate::ir::{Builder, Input};
    use crate::mods::BoundExpr;
    use crate::testing::{Outcome, outcome};

    #[test]
    fn divisions_by_every_power_of_two_are_exact() {
        let values = [
            i32::MIN,
            i32::MIN + 1,
            -1025,
            -1024,
            -9,
            -8,
            -7,
            -1,
            0,
            1,
            7,
            8,
            9,
            1024,
            i32::MAX - 1,
            i32::MAX,
        ];
        for op in [BinaryOp::Div, BinaryOp::Rem, BinaryOp::DivEuclid, BinaryOp::RemEuclid] {
            for bit in 0..32 {
                for divisor in [1i32 << bit, (1i32 << bit).wrapping_neg()] {
                    for unsigned in [false, true] {
                        let mut b = Builder::new();
                        let q = b.input(Input::Query);
                        let (x, d) = if unsigned {
                            (b.cast(Type::U32, q), b.constant(divisor as u32))
                        } else {
                            (q, b.constant(divisor))
                        };
                        let root = b.binary(op, x, d);
                        let expr = simplify(&b.finish(root).unwrap());
                        let euclid = matches!(op, BinaryOp::DivEuclid | BinaryOp::RemEuclid);
                        let still_divides =
                            expr.nodes().iter().any(|n| matches!(n, Node::Binary(o, ..) if *o == op));
                        assert!(
                            !still_divides || (!euclid && !unsigned) || (unsigned && divisor < 0),
                            "{expr}"
                        );
                        let bound = BoundExpr::new("division", expr, Vec::new()).unwrap();
                        for value in values {
                            let (x, d): (Value<f32>, _) = if unsigned {
                                (Value::U32(value as u32), Value::U32(divisor as u32))
                            } else {
                                (Value::I32(value), Value::I32(divisor))
                            };
                            let expected = Scalar::from(semantics::binary(op, x, d).unwrap());
                            let at = crate::analysis::interpret::Point { b: 0, h: 0, q: value, kv: 0 };
                            assert_eq!(
                                outcome(&bound, at, 0.0),
                                Outcome::Value(expected),
                                "{value} {op:?} {divisor}"
                            );
                        }
                    }
                }
            }
        }
    }
}
