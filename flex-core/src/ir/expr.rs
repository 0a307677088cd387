//! An expression: an arena of nodes with a root, and the captures it needs.

use serde::{Deserialize, Serialize};

use super::{Builder, CaptureId, Input, Node, NodeId, Type};

/// What an expression needs to know of a capture: its name in the user's code, its type and rank.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CaptureDecl {
    /// The name in the user's code; need not be unique in a combination of mods.
    pub name: String,
    /// The type of the scalar, or of the view's elements.
    pub ty: Type,
    /// 0 for a scalar, 1 to 4 for a view.
    pub rank: u8,
}

/// A typed expression. Made by a [`Builder`](super::Builder), which keeps nodes unique and in the order of evaluation.
/// Deserialising [verifies](super::verify()) it. `Display` and `FromStr` are its [textual form](super::text).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "super::verify::Unverified")]
pub struct Expr {
    pub(crate) nodes: Vec<Node>,
    pub(crate) types: Vec<Type>,
    pub(crate) captures: Vec<CaptureDecl>,
    pub(crate) root: NodeId,
}

impl Expr {
    /// The nodes; every operand comes before its users.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node behind an id of this expression.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The type of a node.
    pub fn ty(&self, id: NodeId) -> Type {
        self.types[id.index()]
    }

    /// The captures, in the order of their ids.
    pub fn captures(&self) -> &[CaptureDecl] {
        &self.captures
    }

    /// The declaration of one capture.
    pub fn capture(&self, id: CaptureId) -> &CaptureDecl {
        &self.captures[id.index()]
    }

    /// The node whose value is the expression's.
    pub fn root(&self) -> NodeId {
        self.root
    }

    /// The type of the expression's value.
    pub fn result_type(&self) -> Type {
        self.ty(self.root)
    }

    /// The expression of another node of this arena: what that node needs, with the same captures.
    pub fn rooted_at(&self, root: NodeId) -> Self {
        let mut builder = Builder::with_captures(&self.captures);
        for &node in &self.nodes[..=root.index()] {
            builder.add(node);
        }
        builder.finish(root).expect("nodes of an expression are well-formed")
    }

    /// The ids of all nodes, operands first.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + ExactSizeIterator {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// Whether some node is the given input.
    pub fn uses(&self, input: Input) -> bool {
        self.nodes.contains(&Node::Input(input))
    }
}
