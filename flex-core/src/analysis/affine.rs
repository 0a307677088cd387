//! Integers as linear forms c₀ + Σ cᵢ·xᵢ.
//!
//! The integers of the language wrap, so they are the ring ℤ/2³²: sums, differences, products with constants and casts
//! between i32 and u32 keep a linear form exactly, whatever overflows. The xᵢ (*atoms*) are the nodes that are
//! not sums themselves: inputs, captured scalars, loads, quotients ….

use crate::ir::{BinaryOp, Expr, Node, NodeId, Scalar, Type, UnaryOp};

/// Forms with more terms than this are not followed; such a sum is an atom of the sums it is part of.
const MAX_TERMS: usize = 8;

/// `constant + Σ coefficient · atom`, modulo 2³².
///
/// A form gives the value of its node wherever the node has one; that evaluating the node may fault is not in it, not
/// even for an atom that cancels out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Affine {
    constant: i32,
    terms: Vec<(NodeId, i32)>,
}

impl Affine {
    /// The form without atoms.
    pub const fn constant_form(constant: i32) -> Self {
        Self { constant, terms: Vec::new() }
    }

    /// The form `1 · atom`.
    pub fn atom(atom: NodeId) -> Self {
        Self { constant: 0, terms: vec![(atom, 1)] }
    }

    /// c₀.
    pub const fn constant(&self) -> i32 {
        self.constant
    }

    /// The atoms with their coefficients, none of them 0, by ascending id.
    pub fn terms(&self) -> &[(NodeId, i32)] {
        &self.terms
    }

    /// The coefficient of an atom, 0 where it does not occur.
    pub fn coefficient(&self, atom: NodeId) -> i32 {
        self.terms.binary_search_by_key(&atom, |term| term.0).map_or(0, |i| self.terms[i].1)
    }

    /// The constant, if there are no atoms.
    pub fn as_constant(&self) -> Option<i32> {
        self.terms.is_empty().then_some(self.constant)
    }

    /// `self + factor · other`.
    pub fn plus(&self, factor: i32, other: &Self) -> Self {
        let (mut a, mut b) = (self.terms.iter().peekable(), other.terms.iter().peekable());
        let mut terms = Vec::with_capacity(self.terms.len() + other.terms.len());
        loop {
            let term = match (a.peek(), b.peek()) {
                (Some(&&(x, c)), Some(&&(y, d))) if x == y => {
                    a.next();
                    b.next();
                    (x, c.wrapping_add(d.wrapping_mul(factor)))
                }
                (Some(&&(x, c)), other) if other.is_none_or(|&&(y, _)| x < y) => {
                    a.next();
                    (x, c)
                }
                (_, Some(&&(y, d))) => {
                    b.next();
                    (y, d.wrapping_mul(factor))
                }
                _ => break,
            };
            if term.1 != 0 {
                terms.push(term);
            }
        }
        Self { constant: self.constant.wrapping_add(other.constant.wrapping_mul(factor)), terms }
    }

    /// `factor · self`.
    pub fn times(&self, factor: i32) -> Self {
        Self::constant_form(0).plus(factor, self)
    }

    /// The value of the form where the atoms have the given values (a u32 by its bits).
    pub fn evaluate(&self, value_of: impl Fn(NodeId) -> i32) -> i32 {
        self.terms.iter().fold(self.constant, |sum, &(x, c)| sum.wrapping_add(c.wrapping_mul(value_of(x))))
    }

    /// The form of an integer node from those of its operands. `form_of` is asked for integers only.
    pub(crate) fn of_node<'a>(
        id: NodeId,
        node: &Node,
        form_of: impl Fn(NodeId) -> &'a Self,
        is_integer: impl Fn(NodeId) -> bool,
    ) -> Self {
        let constant = |x: NodeId| form_of(x).as_constant();
        let form = match Combination::of_node(node, constant, is_integer) {
            Some(Combination { terms, constant }) => {
                let terms = terms.into_iter().flatten();
                terms.fold(Self::constant_form(constant), |sum, (x, factor)| sum.plus(factor, form_of(x)))
            }
            None => Self::atom(id),
        };
        if form.terms.len() > MAX_TERMS { Self::atom(id) } else { form }
    }
}

/// A node as `constant + Σ factor · operand`, modulo 2³².
#[derive(Clone, Copy, Debug)]
pub(super) struct Combination {
    pub(super) terms: [Option<(NodeId, i32)>; 2],
    pub(super) constant: i32,
}

impl Combination {
    /// The combination of its operands that an integer node is, if it is one. `constant_of` knows which integers are constant,
    /// `is_integer` which nodes are integers.
    pub(super) fn of_node(
        node: &Node,
        constant_of: impl Fn(NodeId) -> Option<i32>,
        is_integer: impl Fn(NodeId) -> bool,
    ) -> Option<Self> {
        let one = |x, factor, constant| Self { terms: [Some((x, factor)), None], constant };
        let two = |a, b, factor| Self { terms: [Some((a, 1)), Some((b, factor))], constant: 0 };
        Some(match *node {
            Node::Const(Scalar::I32(v)) => Self { terms: [None; 2], constant: v },
            Node::Const(Scalar::U32(v)) => Self { terms: [None; 2], constant: v as i32 },
            Node::Unary(UnaryOp::Neg, x) => one(x, -1, 0),
            Node::Unary(UnaryOp::Not, x) => one(x, -1, -1),
            Node::Cast(Type::I32 | Type::U32, x) if is_integer(x) => one(x, 1, 0),
            Node::Binary(BinaryOp::Add, a, b) => two(a, b, 1),
            Node::Binary(BinaryOp::Sub, a, b) => two(a, b, -1),
            Node::Binary(BinaryOp::Mul, a, b) => match (constant_of(a), constant_of(b)) {
                (_, Some(factor)) => one(a, factor, 0),
                (Some(factor), _) => one(b, factor, 0),
                _ => return None,
            },
            Node::Binary(BinaryOp::Shl, a, b) => one(a, 1i32.wrapping_shl(constant_of(b)? as u32), 0),
            _ => return None,
        })
    }
}

/// The linear form of every integer node of an expression.
#[derive(Clone, Debug)]
pub struct AffineForms {
    forms: Vec<Option<Affine>>,
}

impl AffineForms {
    /// Analyses an expression.
    pub fn of(expr: &Expr) -> Self {
        let mut forms = Self::new();
        for (id, node) in expr.ids().zip(expr.nodes()) {
            forms.push(id, node, expr.ty(id));
        }
        forms
    }

    /// Nothing analysed yet; [`push`](Self::push) adds nodes in the order of their ids.
    pub(crate) const fn new() -> Self {
        Self { forms: Vec::new() }
    }

    pub(crate) fn push(&mut self, id: NodeId, node: &Node, ty: Type) {
        let form = ty.is_integer().then(|| {
            let form_of = |x: NodeId| self.forms[x.index()].as_ref().expect("operands of sums are integers");
            Affine::of_node(id, node, form_of, |x| self.forms[x.index()].is_some())
        });
        self.forms.push(form);
    }

    /// The form of a node; `None` for floats and bools.
    pub fn get(&self, id: NodeId) -> Option<&Affine> {
        self.forms[id.index()].as_ref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::interpret::Interpreter;
    use crate::ir::Input;
    use crate::ir::semantics::Value;
    use crate::mods::BoundExpr;
    use crate::testing::{self, ExprConfig};

    #[test]
    fn sums_are_collected_and_cancel() {
        let text = "v0 = q\nv1 = kv\nv2 = 3i32\nv3 = add v0, v2\nv4 = mul v3, v2\nv5 = sub v4, v1\nv6 = not v1\n\
                    v7 = sub v5, v6\nv8 = cast u32 v7\nv9 = 2u32\nv10 = shl v8, v9\nreturn v10";
        let expr: Expr = text.parse().unwrap();
        let forms = AffineForms::of(&expr);
        // ((q + 3)·3 − kv − !kv)·4 = (3q + 9 + 1)·4: kv cancels.
        assert_eq!(*forms.get(expr.root()).unwrap(), Affine { constant: 40, terms: vec![(NodeId(0), 12)] });
        assert_eq!(forms.get(NodeId(5)).unwrap().coefficient(NodeId(1)), -1);
        assert_eq!(expr.node(NodeId(1)), &Node::Input(Input::Key));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(testing::cases(10_000)))]

        #[test]
        fn a_form_has_the_value_of_its_node(
            bound in testing::expressions(ExprConfig { result: Type::I32, ..ExprConfig::mask() }.without_faults()),
            at in testing::points(),
        ) {
            let expr = bound.expr();
            let value = |id: NodeId| {
                let part = BoundExpr::new("part", expr.rooted_at(id), bound.captures().to_vec()).unwrap();
                match Interpreter::<f32>::new(&part).evaluate(at, 0.0).unwrap() {
                    Value::I32(v) => v,
                    Value::U32(v) => v as i32,
                    other => panic!("{other:?} is not an integer"),
                }
            };
            let forms = AffineForms::of(expr);
            prop_assert_eq!(forms.get(expr.root()).unwrap().evaluate(value), value(expr.root()));
        }
    }
}
