//! Under which condition each node that can fault is executed, for code without branches.
//!
//! Branch-free code evaluates everything, with indices clamped and divisors patched, and reports a fault only where
//! Rust would have executed the faulting operation. That condition is computed here, as nodes.

use crate::ir::{BinaryOp, Builder, Expr, Node, NodeId, UnaryOp};

use super::faults::Faults;

/// When a node is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// At every point.
    Always,
    /// Where the node, a bool, holds.
    When(NodeId),
}

/// An expression together with the conditions under which its faulting nodes are executed.
///
/// The conditions read right in both ways: the interpreter meets no fault in them that the expression itself would not
/// run into, and code that evaluates everything gets the right value of a condition unless another fault has already
/// occurred.
#[derive(Clone, Debug)]
pub struct Demand {
    arena: Expr,
    guards: Vec<(NodeId, Guard)>,
}

impl Demand {
    /// Analyses an expression.
    pub fn of(expr: &Expr) -> Self {
        let faults = Faults::of(expr);
        let mut analysis = Analysis::new(expr, &faults);
        for id in expr.ids().rev() {
            if let Some(guard) = analysis.demanded[id.index()].filter(|_| faults.any(id)) {
                analysis.pass_on(expr.node(id), guard);
            }
        }
        let guarded = |id: &NodeId| faults.own(*id);
        let guards: Vec<_> =
            expr.ids().filter(guarded).filter_map(|id| Some((id, analysis.demanded[id.index()]?))).collect();
        let conditions: Vec<_> = guards
            .iter()
            .map(|&(_, guard)| if let Guard::When(id) = guard { id } else { expr.root() })
            .collect();
        let (arena, moved) = analysis
            .builder
            .finish_with(expr.root(), &conditions)
            .expect("conditions of a well-formed expression are well-formed");
        let guards = guards
            .into_iter()
            .zip(moved)
            .map(|((id, guard), moved)| (id, if guard == Guard::Always { guard } else { Guard::When(moved) }))
            .collect();
        Self { arena, guards }
    }

    /// The expression, followed by the nodes of the conditions. The expression's nodes keep their ids.
    pub fn arena(&self) -> &Expr {
        &self.arena
    }

    /// The nodes that can fault (loads, and divisions of integers), by ascending id, and when each is executed.
    pub fn guards(&self) -> &[(NodeId, Guard)] {
        &self.guards
    }

    /// When a node that can fault is executed; `None` for the others.
    pub fn guard(&self, id: NodeId) -> Option<Guard> {
        self.guards.binary_search_by_key(&id, |guard| guard.0).ok().map(|i| self.guards[i].1)
    }
}

struct Analysis {
    builder: Builder,
    /// By node; `None` until a user has asked for it.
    demanded: Vec<Option<Guard>>,
    /// By node, those of the conditions included.
    can_fault: Vec<bool>,
}

impl Analysis {
    fn new(expr: &Expr, faults: &Faults) -> Self {
        let mut builder = Builder::with_captures(expr.captures());
        for &node in expr.nodes() {
            builder.add(node);
        }
        let mut demanded = vec![None; expr.nodes().len()];
        demanded[expr.root().index()] = Some(Guard::Always);
        Self { builder, demanded, can_fault: expr.ids().map(|id| faults.any(id)).collect() }
    }

    /// Demands the operands of a node that is demanded itself under `guard`.
    fn pass_on(&mut self, node: &Node, guard: Guard) {
        let Node::Select { condition, accept, reject } = *node else {
            node.for_each_operand(|x| self.demand(x, guard));
            return;
        };
        self.demand(condition, guard);
        if accept == reject {
            return self.demand(accept, guard);
        }
        let not = self.builder.unary(UnaryOp::Not, condition);
        self.note(not, self.can_fault[condition.index()]);
        for (branch, taken) in [(accept, condition), (reject, not)] {
            let when = match guard {
                Guard::Always => taken,
                Guard::When(outer) => self.connect(BinaryOp::And, outer, taken),
            };
            self.demand(branch, Guard::When(when));
        }
    }

    fn demand(&mut self, x: NodeId, guard: Guard) {
        let known = self.demanded[x.index()];
        self.demanded[x.index()] = Some(match (known, guard) {
            (None, guard) => guard,
            (Some(Guard::Always), _) | (_, Guard::Always) => Guard::Always,
            (Some(Guard::When(a)), Guard::When(b)) if a == b => guard,
            (Some(Guard::When(a)), Guard::When(b)) => Guard::When(self.connect(BinaryOp::Or, a, b)),
        });
    }

    /// `a && b` or `a || b`, as `&` or `|` where evaluating b does no harm.
    fn connect(&mut self, op: BinaryOp, a: NodeId, b: NodeId) -> NodeId {
        let (a_faults, b_faults) = (self.can_fault[a.index()], self.can_fault[b.index()]);
        let id = match op {
            _ if !b_faults => self.builder.binary(op, a, b),
            BinaryOp::And => self.builder.and_then(a, b),
            _ => self.builder.or_else(a, b),
        };
        self.note(id, a_faults || b_faults);
        id
    }

    /// Takes down what a node that may be new can do; constants that came with it do nothing.
    fn note(&mut self, id: NodeId, can_fault: bool) {
        if id.index() >= self.can_fault.len() {
            self.can_fault.resize(id.index(), false);
            self.can_fault.push(can_fault);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::interpret::{Interpreter, Point};
    use crate::capture::CaptureValue;
    use crate::ir::semantics::{self, Value};
    use crate::ir::{Input, Scalar};
    use crate::mods::BoundExpr;
    use crate::testing::{self, ExprConfig, Outcome};

    /// Evaluates every node, with clamped loads and patched divisors: the values, and which nodes would have faulted.
    fn branch_free(bound: &BoundExpr, arena: &Expr, at: Point, score: f32) -> (Vec<Value<f32>>, Vec<bool>) {
        let (mut values, mut faulted): (Vec<Value<f32>>, Vec<bool>) = (Vec::new(), Vec::new());
        for (id, node) in arena.ids().zip(arena.nodes()) {
            let get = |x: NodeId| values[x.index()];
            let mut fault = false;
            let value = match *node {
                Node::Const(value) => value.into(),
                Node::Input(Input::Batch) => Value::I32(at.b),
                Node::Input(Input::Head) => Value::I32(at.h),
                Node::Input(Input::Query) => Value::I32(at.q),
                Node::Input(Input::Key) => Value::I32(at.kv),
                Node::Input(Input::Score) => Value::Real(score),
                Node::Capture(capture) => match &bound.captures()[capture.index()].value {
                    CaptureValue::Scalar(value) => (*value).into(),
                    CaptureValue::Array(_) => unreachable!(),
                },
                Node::Extent(capture, axis) => {
                    let shape = bound.captures()[capture.index()].array().unwrap().shape();
                    Value::I32(shape[usize::from(axis)] as i32)
                }
                Node::Load(capture, indices) => {
                    let array = bound.captures()[capture.index()].array().unwrap();
                    let mut offset = 0;
                    for (&index, &len) in indices.as_slice().iter().zip(array.shape()) {
                        let index = get(index).integer();
                        fault |= index < 0 || index >= len as i64;
                        offset = offset * len + index.clamp(0, (len as i64 - 1).max(0)) as usize;
                    }
                    array.get(offset).unwrap_or(Scalar::zero(arena.ty(id))).into()
                }
                Node::Unary(op, x) => semantics::unary(op, get(x)),
                Node::Binary(op, a, b) => semantics::binary(op, get(a), get(b)).unwrap_or_else(|_| {
                    fault = true;
                    get(a)
                }),
                Node::Select { condition, accept, reject } => {
                    if get(condition).truth() {
                        get(accept)
                    } else {
                        get(reject)
                    }
                }
                Node::Cast(ty, x) => semantics::cast(ty, get(x)),
                Node::After { then, .. } => get(then),
            };
            values.push(value);
            faulted.push(fault);
        }
        (values, faulted)
    }

    #[test]
    fn a_load_behind_a_condition_is_demanded_under_it() {
        let text = "capture @0 = t: View<bool, 1>\nv0 = q\nv1 = kv\nv2 = ge v0, v1\nv3 = load @0[v0]\nv4 = load @0[v1]\n\
                    v5 = select v2, v3, v4\nreturn v5";
        let expr: Expr = text.parse().unwrap();
        let demand = Demand::of(&expr);
        assert_eq!(demand.guard(NodeId(3)), Some(Guard::When(NodeId(2))));
        let Some(Guard::When(otherwise)) = demand.guard(NodeId(4)) else { panic!() };
        assert_eq!(demand.arena().node(otherwise).to_string(), "not v2");
        assert_eq!(demand.guard(NodeId(0)), None);
        assert_eq!(demand.arena().nodes()[..6], *expr.nodes());
    }

    #[test]
    fn what_is_used_outside_too_is_always_demanded() {
        let text = "capture @0 = t: View<bool, 1>\nv0 = q\nv1 = load @0[v0]\nv2 = kv\nv3 = ge v0, v2\nv4 = false\n\
                    v5 = select v3, v1, v4\nv6 = xor v5, v1\nreturn v6";
        let expr: Expr = text.parse().unwrap();
        assert_eq!(Demand::of(&expr).guards(), [(NodeId(1), Guard::Always)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(testing::cases(20_000)))]

        #[test]
        fn guarded_branch_free_code_faults_exactly_where_rust_does(
            bound in testing::expressions(ExprConfig::score()),
            at in testing::points(),
            score in testing::scores(),
        ) {
            let demand = Demand::of(bound.expr());
            let (values, faulted) = branch_free(&bound, demand.arena(), at, score);
            let faults = demand.guards().iter().any(|&(id, guard)| {
                faulted[id.index()] && match guard {
                    Guard::Always => true,
                    Guard::When(condition) => values[condition.index()].truth(),
                }
            });
            match testing::outcome(&bound, at, score) {
                Outcome::Fault(_) => prop_assert!(faults),
                value => {
                    prop_assert!(!faults);
                    let ours = Scalar::from(values[bound.expr().root().index()]);
                    prop_assert_eq!(Outcome::from(ours), value);
                    // Where the expression does not fault, its conditions do not either, and tell the same.
                    for &(_, guard) in demand.guards() {
                        if let Guard::When(condition) = guard {
                            let captures = bound.captures().to_vec();
                            let condition_alone =
                                BoundExpr::new("when", demand.arena().rooted_at(condition), captures).unwrap();
                            let lazy = Interpreter::<f32>::new(&condition_alone).evaluate(at, score);
                            prop_assert_eq!(lazy, Ok(values[condition.index()]));
                        }
                    }
                }
            }
        }
    }
}
