//! Which nodes can fault: load outside a captured view, or divide an integer by zero.

use crate::ir::{BinaryOp, Expr, Node, NodeId, Scalar};

/// Which nodes of an expression can fault, judged by their form alone: every load can, a division can unless its
/// divisor is plainly not zero.
#[derive(Clone, Debug)]
pub struct Faults {
    own: Vec<bool>,
    any: Vec<bool>,
}

impl Faults {
    /// Analyses an expression.
    pub fn of(expr: &Expr) -> Self {
        let mut faults = Self { own: Vec::new(), any: Vec::new() };
        for node in expr.nodes() {
            faults.push(node, |x| *expr.node(x), |x| expr.ty(x).is_integer());
        }
        faults
    }

    /// Nothing analysed yet; [`push`](Self::push) adds nodes in the order of their ids.
    pub(crate) const fn new() -> Self {
        Self { own: Vec::new(), any: Vec::new() }
    }

    pub(crate) fn push(
        &mut self,
        node: &Node,
        node_of: impl Fn(NodeId) -> Node,
        is_integer: impl Fn(NodeId) -> bool,
    ) {
        let own = match *node {
            Node::Load(..) => true,
            Node::Binary(op, _, divisor) if op.is_division() && is_integer(divisor) => {
                !never_zero(divisor, &node_of)
            }
            _ => false,
        };
        let mut any = own;
        node.for_each_operand(|x| any |= self.any[x.index()]);
        self.own.push(own);
        self.any.push(any);
    }

    /// Whether the operation of the node itself can fault.
    pub fn own(&self, id: NodeId) -> bool {
        self.own[id.index()]
    }

    /// Whether evaluating the node can fault, in itself or in what it needs.
    pub fn any(&self, id: NodeId) -> bool {
        self.any[id.index()]
    }
}

/// Whether an integer is not zero because of its form: a constant, `x | 1`, `max(x, 1)`.
fn never_zero(id: NodeId, node_of: impl Fn(NodeId) -> Node) -> bool {
    let constant = |x| if let Node::Const(value) = node_of(x) { Some(value) } else { None };
    let either = |a, b| constant(a).or(constant(b));
    match node_of(id) {
        Node::Const(value) => value.bits() != 0,
        Node::Binary(BinaryOp::Or, a, b) => either(a, b).is_some_and(|value| value.bits() != 0),
        Node::Binary(BinaryOp::Max, a, b) => match either(a, b) {
            Some(Scalar::I32(v)) => v > 0,
            Some(Scalar::U32(v)) => v > 0,
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{self, ExprConfig, Outcome};

    #[test]
    fn divisors_that_cannot_be_zero_are_seen() {
        let root_faults = |divisor: &str| {
            let expr: Expr =
                format!("v0 = q\nv1 = 1i32\n{divisor}\nv3 = div v0, v2\nreturn v3").parse().unwrap();
            Faults::of(&expr).any(expr.root())
        };
        assert!(!root_faults("v2 = or v0, v1"));
        assert!(!root_faults("v2 = max v1, v0"));
        assert!(root_faults("v2 = min v0, v1"));
        assert!(root_faults("v2 = add v0, v1"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(testing::cases(10_000)))]

        #[test]
        fn what_cannot_fault_does_not(
            bound in testing::expressions(ExprConfig::score().steps(1..=8)),
            at in testing::points(),
        ) {
            let faulted = matches!(testing::outcome(&bound, at, 1.0), Outcome::Fault(_));
            prop_assert!(!faulted || Faults::of(bound.expr()).any(bound.expr().root()));
        }
    }
}
