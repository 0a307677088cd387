//! `After`: dropped where it adds no fault, and moved towards the root, so that values are not hidden behind it.

use super::graph::Graph;
use crate::ir::{Node, NodeId};

/// How much of an operand is looked at to find the order of its faults.
const MAX_VISITS: usize = 48;

/// Rules for `After { first, then }`. In the result `then` is no `After`.
pub(super) fn sequence(g: &mut Graph, node: Node) -> Option<NodeId> {
    let Node::After { mut first, mut then } = node else { return None };
    loop {
        first = faults_of(g, first);
        if !g.can_fault(first) || begins_with_faults_of(g, then, first) {
            return Some(then);
        }
        match g.node(then) {
            Node::After { first: second, then: value } => {
                first = g.keep(Node::After { first, then: second });
                then = value;
            }
            _ => return Some(g.keep(Node::After { first, then })),
        }
    }
}

/// `op(After { f, x }, y)` → `After { f, op(x, y) }`, for the first operand that is an `After` and has nothing that
/// faults before it. Branches of a select keep theirs.
pub(super) fn hoist(g: &mut Graph, node: Node) -> Option<NodeId> {
    let mut operands = Vec::with_capacity(4);
    match node {
        Node::Select { condition, .. } => operands.push(condition),
        Node::After { .. } => return None,
        _ => node.for_each_operand(|x| operands.push(x)),
    }
    for (position, &x) in operands.iter().enumerate() {
        if let Node::After { first, then } = g.node(x) {
            let mut at = 0;
            let inner = node.map_operands(|operand| {
                at += 1;
                if at == position + 1 { then } else { operand }
            });
            let then = g.make(inner);
            return Some(g.make(Node::After { first, then }));
        }
        if g.can_fault(x) {
            return None;
        }
    }
    None
}

/// A part of `x` that has all its faults in the same order.
fn faults_of(g: &Graph, mut x: NodeId) -> NodeId {
    for _ in 0..MAX_VISITS {
        if g.own_fault(x) {
            break;
        }
        x = match g.node(x) {
            Node::Select { condition, accept, reject } if !g.can_fault(accept) && !g.can_fault(reject) => {
                condition
            }
            Node::Select { .. } => break,
            node => {
                let (mut faulting, mut several) = (None, false);
                node.for_each_operand(|operand| {
                    if g.can_fault(operand) {
                        several |= faulting.is_some_and(|other| other != operand);
                        faulting = Some(operand);
                    }
                });
                match faulting {
                    Some(only) if !several => only,
                    _ => break,
                }
            }
        };
    }
    x
}

/// Whether evaluating `whole` begins with everything in `part` that can fault, in the same order.
fn begins_with_faults_of(g: &Graph, whole: NodeId, part: NodeId) -> bool {
    let (part, complete) = fault_order(g, part);
    complete && fault_order(g, whole).0.starts_with(&part)
}

/// The nodes that can fault in the order in which they surely do so first, and whether these are all. A select with
/// faults in its branches counts as one of them.
fn fault_order(g: &Graph, root: NodeId) -> (Vec<NodeId>, bool) {
    enum Step {
        Visit(NodeId),
        Emit(NodeId),
    }
    let (mut order, mut seen, mut steps) = (Vec::new(), Vec::new(), vec![Step::Visit(root)]);
    while let Some(step) = steps.pop() {
        match step {
            Step::Emit(x) => order.push(x),
            Step::Visit(x) => {
                if !g.can_fault(x) || seen.contains(&x) {
                    continue;
                }
                if seen.len() == MAX_VISITS {
                    return (order, false);
                }
                seen.push(x);
                match g.node(x) {
                    Node::Select { condition, accept, reject } => {
                        if g.can_fault(accept) || g.can_fault(reject) {
                            steps.push(Step::Emit(x));
                        }
                        steps.push(Step::Visit(condition));
                    }
                    node => {
                        if g.own_fault(x) {
                            steps.push(Step::Emit(x));
                        }
                        let begin = steps.len();
                        node.for_each_operand(|operand| steps.push(Step::Visit(operand)));
                        steps[begin..].reverse();
                    }
                }
            }
        }
    }
    (order, true)
}
