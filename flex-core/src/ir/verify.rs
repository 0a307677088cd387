//! Checks expressions that no builder of this process made: deserialised or parsed ones.

use serde::Deserialize;

use super::{BuildError, Builder, CaptureDecl, Expr, Node, NodeId, Type};

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A node uses itself, a later node or one that does not exist.
    #[error("{node} uses {operand}, expected an operand that comes before it")]
    OperandOrder {
        /// The node.
        node: NodeId,
        /// What it uses.
        operand: NodeId,
    },
    /// A node that no builder would make: a type, a rank or a capture is wrong.
    #[error("{node} is not well-formed: {source}")]
    Node {
        /// The node.
        node: NodeId,
        /// What is wrong with it.
        source: BuildError,
    },
    /// A capture that cannot be declared.
    #[error("{0}")]
    Capture(BuildError),
    /// A node occurs twice, or is a cast to the type its operand has.
    #[error("{node} repeats {earlier}, expected every value once: use {earlier} instead")]
    Repeated {
        /// The node.
        node: NodeId,
        /// The node with the same value.
        earlier: NodeId,
    },
    /// The recorded type of a node is not its type.
    #[error("{node} is recorded as {got}, expected {expected}")]
    WrongType {
        /// The node.
        node: NodeId,
        /// Its type.
        expected: Type,
        /// The recorded type.
        got: Type,
    },
    /// There are not as many types as nodes.
    #[error("the expression has {got} types, expected one for each of its {expected} nodes")]
    TypeCount {
        /// The number of nodes.
        expected: usize,
        /// The number of types.
        got: usize,
    },
    /// The root does not exist.
    #[error("the root {root} does not exist, expected one of the {nodes} nodes")]
    Root {
        /// The root.
        root: NodeId,
        /// The number of nodes.
        nodes: usize,
    },
    /// A node that the root does not need.
    #[error("{0} is not needed by the root, expected only needed nodes: remove it")]
    Unused(NodeId),
}

/// Checks that a builder could have made the expression: operands before users, types and ranks right, captures
/// declared, every node unique and needed.
///
/// # Errors
/// The first thing that is wrong, in the order of the nodes.
pub fn verify(expr: &Expr) -> Result<(), VerifyError> {
    let count = expr.nodes.len();
    if expr.types.len() != count {
        return Err(VerifyError::TypeCount { expected: count, got: expr.types.len() });
    }
    let types = infer(&expr.nodes, &expr.captures)?;
    for (node, (&expected, &got)) in expr.ids().zip(types.iter().zip(&expr.types)) {
        if expected != got {
            return Err(VerifyError::WrongType { node, expected, got });
        }
    }
    all_needed(&expr.nodes, expr.root)
}

/// Nodes as they come from outside; types are optional there, because they can be inferred.
#[derive(Deserialize)]
pub(super) struct Unverified {
    pub(super) nodes: Vec<Node>,
    pub(super) types: Option<Vec<Type>>,
    pub(super) captures: Vec<CaptureDecl>,
    pub(super) root: NodeId,
}

impl TryFrom<Unverified> for Expr {
    type Error = VerifyError;
    fn try_from(raw: Unverified) -> Result<Self, VerifyError> {
        let Unverified { nodes, types, captures, root } = raw;
        let given = types.is_some();
        let types = types.map_or_else(|| infer(&nodes, &captures), Ok)?;
        let expr = Self { nodes, types, captures, root };
        if given {
            verify(&expr)?
        } else {
            all_needed(&expr.nodes, root)?
        }
        Ok(expr)
    }
}

/// The types of the nodes, by building them once more.
fn infer(nodes: &[Node], captures: &[CaptureDecl]) -> Result<Vec<Type>, VerifyError> {
    let mut builder = Builder::with_captures(captures);
    if let Some(error) = builder.error() {
        return Err(VerifyError::Capture(error.clone()));
    }
    let mut types = Vec::with_capacity(nodes.len());
    for (i, original) in nodes.iter().enumerate() {
        let node = NodeId(i as u32);
        let mut late = None;
        original.for_each_operand(|x| {
            if x >= node {
                late.get_or_insert(x);
            }
        });
        if let Some(operand) = late {
            return Err(VerifyError::OperandOrder { node, operand });
        }
        let id = builder.add(*original);
        if let Some(source) = builder.error() {
            return Err(VerifyError::Node { node, source: source.clone() });
        }
        if id != node {
            return Err(VerifyError::Repeated { node, earlier: id });
        }
        types.push(builder.ty(id));
    }
    Ok(types)
}

fn all_needed(nodes: &[Node], root: NodeId) -> Result<(), VerifyError> {
    if root.index() >= nodes.len() {
        return Err(VerifyError::Root { root, nodes: nodes.len() });
    }
    let mut needed = vec![false; nodes.len()];
    needed[root.index()] = true;
    for (i, node) in nodes.iter().enumerate().rev() {
        if needed[i] {
            node.for_each_operand(|x| needed[x.index()] = true);
        }
    }
    match needed.iter().position(|needed| !needed) {
        Some(unused) => Err(VerifyError::Unused(NodeId(unused as u32))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ir::{BinaryOp, CaptureId, Indices, Input, Scalar, UnaryOp};
    use crate::testing::{self, ExprConfig};

    /// `table[q] + kv`
    fn sample() -> Expr {
        let mut b = Builder::new();
        let table = b.declare("table", Type::I32, 1);
        let (q, kv) = (b.input(Input::Query), b.input(Input::Key));
        let load = b.load(table, &[q]);
        let sum = b.binary(BinaryOp::Add, load, kv);
        b.finish(sum).unwrap()
    }

    #[test]
    fn each_kind_of_damage_is_named() {
        let damaged = |damage: fn(&mut Expr)| {
            let mut expr = sample();
            damage(&mut expr);
            verify(&expr).unwrap_err().to_string()
        };
        let messages = [
            damaged(|e| e.nodes[2] = Node::Unary(UnaryOp::Neg, NodeId(2))),
            damaged(|e| e.nodes[3] = Node::Unary(UnaryOp::Neg, NodeId(7))),
            damaged(|e| e.nodes[2] = Node::Load(CaptureId(1), Indices::new(&[NodeId(0)]).unwrap())),
            damaged(|e| e.nodes[2] = Node::Load(CaptureId(0), Indices::new(&[NodeId(0); 2]).unwrap())),
            damaged(|e| e.nodes[2] = Node::Capture(CaptureId(0))),
            damaged(|e| e.nodes[2] = Node::Extent(CaptureId(0), 1)),
            damaged(|e| e.nodes[1] = Node::Input(Input::Score)),
            damaged(|e| e.nodes[1] = Node::Input(Input::Query)),
            damaged(|e| e.nodes[2] = Node::Cast(Type::I32, NodeId(0))),
            damaged(|e| e.nodes[2] = Node::Const(Scalar::I32(1))),
            damaged(|e| e.types[2] = Type::F32),
            damaged(|e| e.types.truncate(3)),
            damaged(|e| e.root = NodeId(4)),
            damaged(|e| e.root = NodeId(2)),
            damaged(|e| e.captures[0].rank = 5),
            damaged(|e| e.captures[0].ty = Type::F32),
        ];
        insta::assert_snapshot!(messages.join("\n"), @r#"
        v2 uses v2, expected an operand that comes before it
        v3 uses v7, expected an operand that comes before it
        v2 is not well-formed: node or capture 1 does not exist in this expression
        v2 is not well-formed: capture `table` has rank 1 but is indexed with 2 indices
        v2 is not well-formed: capture `table` is a view of rank 1, expected a scalar: index it
        v2 is not well-formed: capture `table` has rank 1 but is indexed with 2 indices
        v3 is not well-formed: `add` needs two values of one type, got i32 and f32
        v1 repeats v0, expected every value once: use v0 instead
        v2 repeats v0, expected every value once: use v0 instead
        v0 is not needed by the root, expected only needed nodes: remove it
        v2 is recorded as f32, expected i32
        the expression has 3 types, expected one for each of its 4 nodes
        the root v4 does not exist, expected one of the 4 nodes
        v1 is not needed by the root, expected only needed nodes: remove it
        capture `table` has rank 5; views have rank 1 to 4
        v3 is not well-formed: `add` needs two values of one type, got f32 and i32
        "#);
    }

    #[test]
    fn deserialising_verifies() {
        let json = serde_json::to_string(&sample()).unwrap();
        assert_eq!(serde_json::from_str::<Expr>(&json).unwrap(), sample());
        let five_indices = json.replace("[0,[0]]", "[0,[0,0,0,0,0]]");
        assert_ne!(json, five_indices);
        let error = serde_json::from_str::<Expr>(&five_indices).unwrap_err().to_string();
        assert!(error.contains("1 to 4 indices"), "{error}");
        let forward = json.replace("\"Add\",2,1", "\"Add\",2,9");
        assert_ne!(json, forward);
        assert!(serde_json::from_str::<Expr>(&forward).unwrap_err().to_string().contains("v3 uses v9"));
    }

    /// Changes one thing that always makes an expression wrong.
    fn damage(expr: &mut Expr, place: prop::sample::Index, how: u8) {
        let i = place.index(expr.nodes.len());
        let here = NodeId(i as u32);
        match how {
            0 => expr.nodes[i] = Node::Unary(UnaryOp::Neg, here),
            1 => expr.nodes[i] = Node::Capture(CaptureId(expr.captures.len() as u32)),
            2 => expr.types[i] = if expr.types[i] == Type::F32 { Type::U32 } else { Type::F32 },
            3 => {
                expr.nodes.insert(i, expr.nodes[i]);
                expr.types.insert(i, expr.types[i]);
            }
            4 => expr.nodes[i] = Node::Binary(BinaryOp::Add, here, NodeId(u32::MAX)),
            5 => {
                expr.nodes.push(Node::Unary(UnaryOp::Not, expr.root));
                expr.types.push(Type::Bool);
            }
            6 => expr.root = NodeId(expr.nodes.len() as u32 + i as u32),
            _ => expr.nodes.truncate(expr.nodes.len() - 1),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(testing::cases(10_000)))]

        #[test]
        fn built_expressions_are_accepted_and_damaged_ones_rejected(
            bound in testing::expressions(ExprConfig::mask()),
            place in any::<prop::sample::Index>(),
            how in 0..8u8,
        ) {
            let mut expr = (**bound.expr()).clone();
            prop_assert_eq!(verify(&expr), Ok(()));
            damage(&mut expr, place, how);
            prop_assert!(verify(&expr).is_err());
        }

        /// Nothing that deserialises can make the interpreter or a later stage panic.
        #[test]
        fn arbitrary_rewiring_never_panics(
            bound in testing::expressions(ExprConfig::score()),
            rewired in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>(), 0..40u32), 1..4),
        ) {
            let mut expr = (**bound.expr()).clone();
            for (place, offset, target) in rewired {
                let i = place.index(expr.nodes.len());
                expr.nodes[i] = expr.nodes[i].map_operands(|x| NodeId(if offset % 2 == 0 { target } else { x.0 }));
            }
            if verify(&expr).is_ok() {
                let bound = crate::mods::BoundExpr::new("rewired", expr, bound.captures().to_vec()).unwrap();
                testing::outcome(&bound, crate::analysis::interpret::Point { b: 0, h: 0, q: 1, kv: 2 }, 0.5);
            }
        }
    }
}
