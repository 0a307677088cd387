//! Smaller expressions of exactly the same meaning.
//!
//! Every rule keeps the value to the bit (NaNs count as one), keeps every fault, and keeps which fault comes first. So
//! floats are never reassociated, `x + 0.0` stays (it turns −0.0 into 0.0), and an operand that may fault is dropped
//! only behind an [`After`](crate::ir::Node::After). Equal parts become one node because the arena is hash-consed.
//!
//! Nothing is assumed of the inputs: they are any i32, so that the result can be shifted, cropped and inlined.

mod branches;
mod floats;
mod fold;
mod graph;
mod integers;
mod logic;
mod order;
mod sequence;
mod sums;

use crate::ir::{Expr, NodeId};
use graph::Graph;

/// A rule can make another possible at a node that was already passed. More passes than this were never needed by
/// a real mod, and any number of them keeps the meaning.
const MAX_PASSES: usize = 6;

/// An expression with the same outcome at every point: the same value, or the same first fault.
pub fn simplify(expr: &Expr) -> Expr {
    simplify_outputs(expr, &[]).0
}

/// Simplifies an arena with several values of interest: the root and `outputs`, whose new ids are returned.
pub fn simplify_outputs(expr: &Expr, outputs: &[NodeId]) -> (Expr, Vec<NodeId>) {
    let (mut expr, mut outputs) = pass(expr, outputs);
    for _ in 1..MAX_PASSES {
        let (next, moved) = pass(&expr, &outputs);
        if next == expr {
            break;
        }
        (expr, outputs) = (next, moved);
    }
    (expr, outputs)
}

fn pass(expr: &Expr, outputs: &[NodeId]) -> (Expr, Vec<NodeId>) {
    let mut graph = Graph::new(expr.captures());
    let mut new: Vec<NodeId> = Vec::with_capacity(expr.nodes().len());
    for node in expr.nodes() {
        let id = graph.make(node.map_operands(|x| new[x.index()]));
        new.push(id);
    }
    let outputs: Vec<_> = outputs.iter().map(|x| new[x.index()]).collect();
    graph.finish(new[expr.root().index()], &outputs)
}

#[cfg(test)]
mod tests;
