//! Integer divisions of values that are proved not to be negative, done unsigned: by constants they are then shifts and
//! masks, or one multiplication.

use super::interval::{FloatRange, IndexBox, IntervalAnalysis, IntervalProgram};
use super::simplify::simplify;
use crate::ir::{BinaryOp, Builder, Expr, Node, NodeId, Type};
use crate::mods::BoundExpr;

/// The expression with every i32 division and remainder whose operands cannot be negative inside `index_box` done in
/// u32. It has the same values and faults there; elsewhere it may differ.
pub fn unsigned_divisions(bound: &BoundExpr, index_box: &IndexBox) -> Expr {
    let expr = bound.expr();
    if !expr
        .nodes()
        .iter()
        .any(|node| matches!(node, Node::Binary(op, a, _) if op.is_division() && expr.ty(*a) == Type::I32))
    {
        return (**expr).clone();
    }
    let program = IntervalProgram::new(bound);
    let mut analysis = IntervalAnalysis::new(&program);
    analysis.evaluate(index_box, FloatRange::ANY);
    let not_negative = |id: NodeId| analysis.range(id).int().lo >= 0;

    let mut builder = Builder::with_captures(expr.captures());
    let mut moved: Vec<NodeId> = Vec::with_capacity(expr.nodes().len());
    for &node in expr.nodes() {
        let id = match node {
            Node::Binary(op, a, b) if op.is_division() && expr.ty(a) == Type::I32 => {
                let (x, y) = (moved[a.index()], moved[b.index()]);
                if not_negative(a) && not_negative(b) {
                    let op = match op {
                        BinaryOp::Div | BinaryOp::DivEuclid => BinaryOp::Div,
                        _ => BinaryOp::Rem,
                    };
                    let (x, y) = (builder.cast(Type::U32, x), builder.cast(Type::U32, y));
                    let result = builder.binary(op, x, y);
                    builder.cast(Type::I32, result)
                } else {
                    builder.binary(op, x, y)
                }
            }
            other => builder.add(other.map_operands(|operand| moved[operand.index()])),
        };
        moved.push(id);
    }
    let rewritten = builder.finish(moved[expr.root().index()]);
    simplify(&rewritten.expect("a well-typed expression stays well-typed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::interpret::{Interpreter, Point};
    use crate::analysis::interval::Span;

    fn bound(text: &str) -> BoundExpr {
        BoundExpr::new("test", text.parse().unwrap(), Vec::new()).unwrap()
    }

    fn here() -> IndexBox {
        let span = Span::new(0, 999);
        IndexBox { b: Span::new(0, 0), h: Span::new(0, 0), q: span, kv: span }
    }

    #[test]
    fn divisions_of_positions_become_shifts_and_keep_their_values() {
        let text = "v0 = q\nv1 = kv\nv2 = 16i32\nv3 = div v0, v2\nv4 = rem v1, v2\nv5 = ge v3, v4\nreturn v5";
        let original = bound(text);
        let rewritten = unsigned_divisions(&original, &here());
        assert!(
            !rewritten.nodes().iter().any(|n| matches!(n, Node::Binary(op, ..) if op.is_division())),
            "{rewritten}"
        );
        let rewritten = BoundExpr::new("test", rewritten, Vec::new()).unwrap();
        let (mut one, mut other) = (Interpreter::<f32>::new(&original), Interpreter::<f32>::new(&rewritten));
        for q in 0..1000 {
            let at = Point { b: 0, h: 0, q, kv: (q * 7) % 1000 };
            assert_eq!(one.evaluate(at, 0.0), other.evaluate(at, 0.0));
        }
    }

    #[test]
    fn what_may_be_negative_stays_signed() {
        let text = "v0 = q\nv1 = kv\nv2 = sub v0, v1\nv3 = 16i32\nv4 = div v2, v3\nv5 = ge v4, v0\nreturn v5";
        let rewritten = unsigned_divisions(&bound(text), &here());
        assert!(
            rewritten.nodes().iter().any(|n| matches!(n, Node::Binary(BinaryOp::Div, ..))),
            "{rewritten}"
        );
    }
}
