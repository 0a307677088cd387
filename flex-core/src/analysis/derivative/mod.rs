//! Symbolic derivatives: of a score mod by the score, and by its f32 captures.
//!
//! Tangents are carried forward through the expression, so the derivative of a branch stays in the branch: what would
//! happen in the one not taken, a fault or 0·∞, does not. Where a function has no derivative, PyTorch's convention holds:
//!
//! | | |
//! |---|---|
//! | comparisons, integers, `floor` `ceil` `round` `trunc` `signum` | 0 |
//! | `abs` at 0 | 0 |
//! | `min` and `max` of equal values | half of each side's, as `torch.minimum` and `torch.maximum` |
//! | `min` and `max` with a NaN | the other side's, which is the value |
//! | `x % y` | 1 by x, −trunc(x / y) by y |
//! | `pow(x, 0)` by x; `pow(0, y)` by y, y ≥ 0 | 0 |

mod tangent;

use crate::ir::{Builder, CaptureId, Expr, Input, Node, NodeId, Type};

use super::demand::{Demand, Guard};
use super::simplify::{simplify, simplify_outputs};
use tangent::Tangents;

/// The derivative by the score, an expression of the same inputs and captures. It has the value's faults: where the
/// value faults it does too, and nowhere else. For an expression that is no f32 it is 0.
pub fn by_score(expr: &Expr) -> Expr {
    let mut builder = copy(expr);
    let seed = expr.nodes().iter().position(|node| *node == Node::Input(Input::Score));
    let derivative = seed.and_then(|seed| Tangents::new(&mut builder, expr).of_root(NodeId(seed as u32)));
    let derivative = derivative.unwrap_or_else(|| builder.constant(0.0f32));
    let root = builder.after(expr.root(), derivative);
    simplify(&builder.finish(root).expect("derivatives of well-formed expressions are well-formed"))
}

/// The derivatives by all that a backward pass may ask for, in one arena with the value.
///
/// What is not listed has derivative 0. The derivatives fault at most where the value does.
#[derive(Clone, Debug)]
pub struct Gradients {
    arena: Expr,
    score: Option<NodeId>,
    scalars: Vec<ScalarGradient>,
    loads: Vec<LoadGradient>,
}

/// The derivative by a captured f32 scalar: to be summed over all scores, times the incoming gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScalarGradient {
    /// The scalar.
    pub capture: CaptureId,
    /// The derivative, a node of the arena.
    pub derivative: NodeId,
}

/// The derivative by one loaded element of a captured f32 view: to be added, times the incoming gradient, to the
/// element's gradient. One view may have several loads, and they may meet in one element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadGradient {
    /// The view.
    pub capture: CaptureId,
    /// The element, one node of the arena an axis. Inside the view wherever `guard` holds and the value has no fault.
    pub indices: Vec<NodeId>,
    /// Where the element is loaded at all; elsewhere nothing is to be added, and indices and derivative mean nothing.
    pub guard: Guard,
    /// The derivative, a node of the arena.
    pub derivative: NodeId,
}

impl Gradients {
    /// Differentiates an expression. The cost is that of the expression for each captured scalar and each load.
    pub fn of(expr: &Expr) -> Self {
        let demand = Demand::of(expr);
        let arena = demand.arena();
        let mut builder = copy(arena);
        let mut tangents = Tangents::new(&mut builder, expr);
        let mut found = Vec::new();
        for (id, node) in expr.ids().zip(expr.nodes()) {
            let differentiable = match node {
                Node::Input(Input::Score) => true,
                Node::Capture(_) | Node::Load(..) => expr.ty(id) == Type::F32,
                _ => false,
            };
            if differentiable && let Some(derivative) = tangents.of_root(id) {
                found.push((*node, demand.guard(id), derivative));
            }
        }
        let mut outputs = Vec::new();
        for (node, guard, derivative) in &found {
            outputs.push(*derivative);
            if let Node::Load(_, indices) = node {
                outputs.extend(indices.as_slice());
            }
            if let Some(Guard::When(condition)) = guard {
                outputs.push(*condition);
            }
        }
        let (all, outputs) = builder
            .finish_with(expr.root(), &outputs)
            .expect("derivatives of well-formed expressions are well-formed");
        let (arena, outputs) = simplify_outputs(&all, &outputs);

        let mut gradients = Self { arena, score: None, scalars: Vec::new(), loads: Vec::new() };
        let mut outputs = outputs.into_iter();
        let mut next = || outputs.next().expect("every output is returned");
        for (node, guard, _) in found {
            let derivative = next();
            match node {
                Node::Capture(capture) => gradients.scalars.push(ScalarGradient { capture, derivative }),
                Node::Load(capture, indices) => {
                    let indices = indices.as_slice().iter().map(|_| next()).collect();
                    let guard = match guard {
                        Some(Guard::When(_)) => Guard::When(next()),
                        _ => Guard::Always,
                    };
                    gradients.loads.push(LoadGradient { capture, indices, guard, derivative });
                }
                _ => gradients.score = Some(derivative),
            }
        }
        gradients
    }

    /// The value (the root), the derivatives and what they need. Nodes that only derivatives need are not needed by
    /// the root.
    pub fn arena(&self) -> &Expr {
        &self.arena
    }

    /// The derivative by the score; `None` if it is 0 everywhere.
    pub fn score(&self) -> Option<NodeId> {
        self.score
    }

    /// The derivatives by captured f32 scalars.
    pub fn scalars(&self) -> &[ScalarGradient] {
        &self.scalars
    }

    /// The derivatives by loaded elements of captured f32 views.
    pub fn loads(&self) -> &[LoadGradient] {
        &self.loads
    }
}

fn copy(expr: &Expr) -> Builder {
    let mut builder = Builder::with_captures(expr.captures());
    for &node in expr.nodes() {
        builder.add(node);
    }
    builder
}

#[cfg(test)]
mod tests;
