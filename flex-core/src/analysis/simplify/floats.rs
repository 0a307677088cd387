//! Identities of f32 that hold to the bit, for zeros of both signs, infinities and NaN.

use super::graph::Graph;
use crate::ir::{BinaryOp, Node, NodeId, Scalar, Type, UnaryOp};

pub(super) fn float(g: &mut Graph, node: Node) -> Option<NodeId> {
    match node {
        Node::Unary(op, x) if g.ty(x) == Type::F32 => unary(g, op, x),
        Node::Binary(op, a, b) if g.ty(a) == Type::F32 => {
            let constant = g.as_const(b).and_then(Scalar::as_f32);
            constant.and_then(|value| with_constant(g, op, a, value)).or_else(|| signs(g, op, a, b))
        }
        _ => None,
    }
}

fn unary(g: &mut Graph, op: UnaryOp, x: NodeId) -> Option<NodeId> {
    use UnaryOp::*;
    match (op, g.node(x)) {
        (Neg, Node::Unary(Neg, y)) => Some(y),
        (Abs, Node::Unary(Neg, y)) => Some(g.unary(Abs, y)),
        (Abs, Node::Unary(Abs | Exp | Exp2, _)) => Some(x),
        (
            Floor | Ceil | Round | Trunc,
            Node::Unary(Floor | Ceil | Round | Trunc | Signum, _) | Node::Cast(..),
        ) => Some(x),
        _ => None,
    }
}

/// `x op constant`.
fn with_constant(g: &mut Graph, op: BinaryOp, a: NodeId, value: f32) -> Option<NodeId> {
    use BinaryOp::*;
    let is = |wanted: f32| value.to_bits() == wanted.to_bits();
    match op {
        Add if is(-0.0) => Some(a),
        Sub if is(0.0) => Some(a),
        Mul | Div if is(1.0) => Some(a),
        Mul | Div if is(-1.0) => Some(g.unary(UnaryOp::Neg, a)),
        Div if has_exact_reciprocal(value) => {
            let reciprocal = g.constant(1.0 / value);
            Some(g.binary(Mul, a, reciprocal))
        }
        Pow if value == 0.0 => Some(g.constant_after(a, 1.0f32)),
        _ => None,
    }
}

/// Moves signs into the operation.
fn signs(g: &mut Graph, op: BinaryOp, a: NodeId, b: NodeId) -> Option<NodeId> {
    use BinaryOp::*;
    let negated = |x| if let Node::Unary(UnaryOp::Neg, y) = g.node(x) { Some(y) } else { None };
    match (op, negated(a), negated(b)) {
        (Add, _, Some(y)) => Some(g.binary(Sub, a, y)),
        (Add, Some(x), None) if g.can_swap(a, b) => Some(g.binary(Sub, b, x)),
        (Sub, _, Some(y)) => Some(g.binary(Add, a, y)),
        (Mul | Div, Some(x), Some(y)) => Some(g.binary(op, x, y)),
        (Mul | Div, Some(x), None) => {
            let value = g.as_const(b)?.as_f32()?;
            let opposite = g.constant(-value);
            Some(g.binary(op, x, opposite))
        }
        (Min | Max, ..) if a == b => Some(a),
        _ => None,
    }
}

/// Whether multiplying with 1/value rounds as dividing by value does: powers of two, with a normal reciprocal.
fn has_exact_reciprocal(value: f32) -> bool {
    value.is_normal() && value.to_bits().trailing_zeros() >= 23 && (1.0 / value).is_normal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::interpret::Point;
    use crate::analysis::simplify::simplify;
    use crate::ir::{Builder, Input};
    use crate::mods::BoundExpr;
    use crate::testing::outcome;

    const VALUES: [f32; 18] = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.0,
        -0.5,
        3.0,
        0.1,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MAX,
        f32::MIN_POSITIVE,
        1e-40,
        -1e-45,
        1.7014118e38, // 2¹²⁷, whose reciprocal is subnormal
        1e10,
        -8.0,
    ];

    fn check(build: impl FnOnce(&mut Builder, NodeId) -> NodeId) {
        let mut b = Builder::new();
        let score = b.input(Input::Score);
        let root = build(&mut b, score);
        let expr = b.finish(root).unwrap();
        let simple = BoundExpr::new("simple", simplify(&expr), Vec::new()).unwrap();
        let bound = BoundExpr::new("original", expr, Vec::new()).unwrap();
        for score in VALUES {
            let at = Point { b: 0, h: 0, q: 0, kv: 0 };
            assert_eq!(
                outcome(&simple, at, score),
                outcome(&bound, at, score),
                "{} at {score:?}",
                bound.expr()
            );
        }
    }

    #[test]
    fn every_operation_with_every_odd_constant_keeps_its_bits() {
        use BinaryOp::*;
        for op in [Add, Sub, Mul, Div, Rem, Min, Max, Pow, Eq, Ne, Lt, Le, Gt, Ge] {
            for value in VALUES {
                check(|b, x| {
                    let constant = b.constant(value);
                    b.binary(op, x, constant)
                });
                check(|b, x| {
                    let constant = b.constant(value);
                    b.binary(op, constant, x)
                });
                check(|b, x| {
                    let (constant, negated) = (b.constant(value), b.unary(UnaryOp::Neg, x));
                    b.binary(op, negated, constant)
                });
                check(|b, x| {
                    let (constant, magnitude) = (b.constant(value), b.unary(UnaryOp::Sqrt, x));
                    let (left, right) = (b.binary(Mul, x, constant), b.unary(UnaryOp::Neg, magnitude));
                    b.binary(op, left, right)
                });
            }
            check(|b, x| b.binary(op, x, x));
        }
    }

    #[test]
    fn every_pair_of_functions_keeps_its_bits() {
        for &outer in UnaryOp::ALL {
            for &inner in UnaryOp::ALL {
                let int =
                    |op| matches!(op, UnaryOp::CountOnes | UnaryOp::LeadingZeros | UnaryOp::TrailingZeros);
                if int(outer)
                    || int(inner)
                    || inner == UnaryOp::IsNan
                    || [inner, outer].contains(&UnaryOp::Not)
                {
                    continue;
                }
                check(|b, x| {
                    let y = b.unary(inner, x);
                    b.unary(outer, y)
                });
            }
        }
    }
}
