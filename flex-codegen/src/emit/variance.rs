//! Where a value is computed: once a launch, a row, a column or an element.

use flex_core::analysis::variance::{Inputs, Rate};
use flex_core::ir::{Expr, Node, NodeId};

/// How often a value is computed. Rows include what depends on the batch and the head alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Launch,
    Row,
    Column,
    Element,
}

impl Level {
    pub(super) fn of(inputs: Inputs) -> Self {
        match Rate::of(inputs) {
            Rate::Launch => Self::Launch,
            Rate::Head | Rate::Row => Self::Row,
            Rate::Column => Self::Column,
            Rate::Element => Self::Element,
        }
    }
}

/// The level of every node. What is loaded once a launch counts as a row's: compilers hoist arithmetic out of the loop
/// over tiles, but not loads.
pub(super) fn levels_of(expr: &Expr) -> Vec<Level> {
    let mut inputs: Vec<Inputs> = Vec::with_capacity(expr.nodes().len());
    let mut levels: Vec<Level> = Vec::with_capacity(expr.nodes().len());
    for node in expr.nodes() {
        inputs.push(inputs_of_node(node, |id| inputs[id.index()]));
        let mut loads = matches!(node, Node::Load(..));
        node.for_each_operand(|id| loads |= levels[id.index()] == Level::Row);
        let level = Level::of(*inputs.last().expect("just pushed"));
        levels.push(if loads && level == Level::Launch { Level::Row } else { level });
    }
    levels
}

/// The inputs of a node from those of its operands.
pub(super) fn inputs_of_node(node: &Node, operand: impl Fn(NodeId) -> Inputs) -> Inputs {
    let mut inputs = match node {
        Node::Input(input) => Inputs::of(&[*input]),
        _ => Inputs::NONE,
    };
    node.for_each_operand(|id| inputs = inputs.union(operand(id)));
    inputs
}
