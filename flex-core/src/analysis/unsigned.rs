//! Integer operations that are cheaper unsigned, where the ranges of their operands allow it: divisions of what cannot be
//! negative are by constants then shifts and masks, or one multiplication; tests of a distance are one comparison.

use super::interval::{FloatRange, IndexBox, IntervalAnalysis, IntervalProgram};
use super::simplify::simplify;
use crate::ir::{BinaryOp, Builder, Expr, Input, Node, NodeId, Type, UnaryOp};
use crate::mods::BoundExpr;

/// The expression with every i32 division and remainder whose operands cannot be negative inside `index_box` done in u32,
/// and every `|x − y| ≤ r` of numbers that are small there as one comparison of u32. It has the same values and faults
/// there; elsewhere it may differ.
pub fn unsigned_divisions(bound: &BoundExpr, index_box: &IndexBox) -> Expr {
    let expr = bound.expr();
    let is_candidate = |node: &Node| match *node {
        Node::Binary(op, a, _) if op.is_division() => expr.ty(a) == Type::I32,
        _ => distance_test(expr, node).is_some(),
    };
    if !expr.nodes().iter().any(is_candidate) {
        return (**expr).clone();
    }
    let program = IntervalProgram::new(bound);
    let mut analysis = IntervalAnalysis::new(&program);
    analysis.evaluate(index_box, FloatRange::ANY);
    let lies_in = |id: NodeId, lo: i64, hi: i64| {
        let range = analysis.range(id).int();
        lo <= range.lo && range.hi <= hi
    };
    let not_negative = |id: NodeId| lies_in(id, 0, i64::from(i32::MAX));

    let mut builder = Builder::with_captures(expr.captures());
    let mut moved: Vec<NodeId> = Vec::with_capacity(expr.nodes().len());
    for &node in expr.nodes() {
        let is_small = |test: &DistanceTest| {
            let least = if test.strict { 1 } else { 0 };
            [test.x, test.y].iter().all(|&id| lies_in(id, -SMALL, SMALL)) && lies_in(test.reach, least, SMALL)
        };
        let id = match node {
            Node::Binary(op, a, b)
                if op.is_division() && expr.ty(a) == Type::I32 && not_negative(a) && not_negative(b) =>
            {
                let op = match op {
                    BinaryOp::Div | BinaryOp::DivEuclid => BinaryOp::Div,
                    _ => BinaryOp::Rem,
                };
                let (x, y) = (moved[a.index()], moved[b.index()]);
                let (x, y) = (builder.cast(Type::U32, x), builder.cast(Type::U32, y));
                let result = builder.binary(op, x, y);
                builder.cast(Type::I32, result)
            }
            ref node => match distance_test(expr, node).filter(is_small) {
                Some(test) => {
                    let beside_x = !program.depends_on(test.x, Input::Key);
                    test.as_one_comparison(&mut builder, |id| moved[id.index()], beside_x)
                }
                None => builder.add(node.map_operands(|operand| moved[operand.index()])),
            },
        };
        moved.push(id);
    }
    let rewritten = builder.finish(moved[expr.root().index()]);
    simplify(&rewritten.expect("a well-typed expression stays well-typed"))
}

/// Sums of three such numbers do not wrap.
const SMALL: i64 = 1 << 29;

/// `|x − y| ≤ reach`, or `<`.
struct DistanceTest {
    x: NodeId,
    y: NodeId,
    reach: NodeId,
    strict: bool,
}

/// The node as a test of a distance of i32 numbers.
fn distance_test(expr: &Expr, node: &Node) -> Option<DistanceTest> {
    let (distance, reach, strict) = match *node {
        Node::Binary(BinaryOp::Le, distance, reach) | Node::Binary(BinaryOp::Ge, reach, distance) => {
            (distance, reach, false)
        }
        Node::Binary(BinaryOp::Lt, distance, reach) | Node::Binary(BinaryOp::Gt, reach, distance) => {
            (distance, reach, true)
        }
        _ => return None,
    };
    let Node::Unary(UnaryOp::Abs, difference) = *expr.node(distance) else { return None };
    match *expr.node(difference) {
        Node::Binary(BinaryOp::Sub, x, y) if expr.ty(x) == Type::I32 => {
            Some(DistanceTest { x, y, reach, strict })
        }
        _ => None,
    }
}

impl DistanceTest {
    /// `x − y + reach ≤ 2·reach`, in u32 so that what is below 0 is above; `reach` joins `x`, or `y`.
    fn as_one_comparison(
        &self,
        builder: &mut Builder,
        moved: impl Fn(NodeId) -> NodeId,
        beside_x: bool,
    ) -> NodeId {
        let [x, y, mut reach] = [self.x, self.y, self.reach].map(moved);
        if self.strict {
            let one = builder.constant(1i32);
            reach = builder.binary(BinaryOp::Sub, reach, one);
        }
        let from_start = if beside_x {
            let end = builder.binary(BinaryOp::Add, x, reach);
            builder.binary(BinaryOp::Sub, end, y)
        } else {
            let start = builder.binary(BinaryOp::Sub, y, reach);
            builder.binary(BinaryOp::Sub, x, start)
        };
        let width = builder.binary(BinaryOp::Add, reach, reach);
        let (from_start, width) = (builder.cast(Type::U32, from_start), builder.cast(Type::U32, width));
        builder.binary(BinaryOp::Le, from_start, width)
    }
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
    fn tests_of_distances_are_one_comparison_and_keep_their_values() {
        for test in ["le v5, v3", "lt v5, v3", "ge v3, v5", "gt v3, v5"] {
            for difference in ["sub v0, v2", "sub v2, v0"] {
                let text = format!(
                    "v0 = q\nv1 = kv\nv2 = add v1, v1\nv3 = 6i32\nv4 = {difference}\nv5 = abs v4\nv6 = {test}\nreturn v6"
                );
                let original = bound(&text);
                let rewritten = unsigned_divisions(&original, &here());
                let has_abs = rewritten.nodes().iter().any(|n| matches!(n, Node::Unary(UnaryOp::Abs, _)));
                assert!(!has_abs, "{rewritten}");
                let rewritten = BoundExpr::new("test", rewritten, Vec::new()).unwrap();
                let (mut one, mut other) =
                    (Interpreter::<f32>::new(&original), Interpreter::<f32>::new(&rewritten));
                for (q, kv) in (0..1000).flat_map(|q| [0, 3, 20, 25, 499].map(|kv| (q, kv))) {
                    let at = Point { b: 0, h: 0, q, kv };
                    assert_eq!(
                        one.evaluate(at, 0.0),
                        other.evaluate(at, 0.0),
                        "{test} of {difference} at {at:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_reach_that_may_be_negative_keeps_the_distance() {
        let text = "v0 = q\nv1 = kv\nv2 = sub v0, v1\nv3 = abs v2\nv4 = 5i32\nv5 = sub v1, v4\nv6 = le v3, v5\nreturn v6";
        let rewritten = unsigned_divisions(&bound(text), &here());
        assert!(rewritten.nodes().iter().any(|n| matches!(n, Node::Unary(UnaryOp::Abs, _))), "{rewritten}");
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
