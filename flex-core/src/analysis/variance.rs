//! What each node varies with: which loops it can be moved out of, and which axes of a mask it broadcasts over.

use std::fmt;

use crate::ir::{Expr, Input, Node, NodeId};

/// A set of inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Inputs(u8);

impl Inputs {
    /// No input.
    pub const NONE: Self = Self(0);
    /// Every input.
    pub const ALL: Self = Self(0b1_1111);
    /// What is fixed for a row of scores: b, h, q.
    pub const ROW: Self = Self::of(&[Input::Batch, Input::Head, Input::Query]);
    /// What is fixed for a column of scores: b, h, kv.
    pub const COLUMN: Self = Self::of(&[Input::Batch, Input::Head, Input::Key]);
    /// What is fixed for one head of one batch: b, h.
    pub const HEAD: Self = Self::of(&[Input::Batch, Input::Head]);

    /// The set of the given inputs.
    pub const fn of(inputs: &[Input]) -> Self {
        let (mut bits, mut i) = (0, 0);
        while i < inputs.len() {
            bits |= 1 << inputs[i] as u8;
            i += 1;
        }
        Self(bits)
    }

    /// Whether the input is in the set.
    pub const fn contains(self, input: Input) -> bool {
        self.0 & (1 << input as u8) != 0
    }

    /// Inputs of either set.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every input of this set is in the other.
    pub const fn is_subset(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether there is no input in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The inputs, in the order of [`Input::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Input> {
        Input::ALL.into_iter().filter(move |&input| self.contains(input))
    }
}

/// `{q, kv}`
impl fmt::Display for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Input::name).collect();
        write!(f, "{{{}}}", names.join(", "))
    }
}

/// How often a value has to be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rate {
    /// Once a launch: constants, captured scalars and what is computed of them.
    Launch,
    /// Once for each head of each batch.
    Head,
    /// Once a row of scores: of b, h and q.
    Row,
    /// Once a column of scores: of b, h and kv.
    Column,
    /// For every score.
    Element,
}

impl Rate {
    /// The lowest rate at which a value that varies with `inputs` can be computed.
    pub const fn of(inputs: Inputs) -> Self {
        if inputs.is_empty() {
            Self::Launch
        } else if inputs.is_subset(Inputs::HEAD) {
            Self::Head
        } else if inputs.is_subset(Inputs::ROW) {
            Self::Row
        } else if inputs.is_subset(Inputs::COLUMN) {
            Self::Column
        } else {
            Self::Element
        }
    }
}

/// The inputs that every node of an expression depends on.
///
/// A node that does not depend on an input has the same value, or the same fault, whatever that input is.
#[derive(Clone, Debug)]
pub struct Variance {
    inputs: Vec<Inputs>,
    root: NodeId,
}

impl Variance {
    /// Analyses an expression.
    pub fn of(expr: &Expr) -> Self {
        let mut inputs: Vec<Inputs> = Vec::with_capacity(expr.nodes().len());
        for node in expr.nodes() {
            let mut set = if let Node::Input(input) = node { Inputs::of(&[*input]) } else { Inputs::NONE };
            node.for_each_operand(|x| set = set.union(inputs[x.index()]));
            inputs.push(set);
        }
        Self { inputs, root: expr.root() }
    }

    /// What a node depends on.
    pub fn inputs(&self, id: NodeId) -> Inputs {
        self.inputs[id.index()]
    }

    /// What the expression depends on.
    pub fn root(&self) -> Inputs {
        self.inputs(self.root)
    }

    /// How often a node has to be computed.
    pub fn rate(&self, id: NodeId) -> Rate {
        Rate::of(self.inputs(id))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::interpret::Point;
    use crate::testing::{self, ExprConfig};

    #[test]
    fn rates_follow_the_inputs() {
        use Input::*;
        let rate = |inputs: &[Input]| Rate::of(Inputs::of(inputs));
        assert_eq!(rate(&[]), Rate::Launch);
        assert_eq!(rate(&[Head]), Rate::Head);
        assert_eq!(rate(&[Batch, Query]), Rate::Row);
        assert_eq!(rate(&[Head, Key]), Rate::Column);
        assert_eq!(rate(&[Query, Key]), Rate::Element);
        assert_eq!(rate(&[Score]), Rate::Element);
    }

    #[test]
    fn each_node_has_its_own_set() {
        let text = "capture @0 = table: View<i32, 2>\nv0 = h\nv1 = kv\nv2 = load @0[v0, v1]\nv3 = q\nv4 = sub v3, v1\n\
                    v5 = ge v4, v2\nreturn v5";
        let expr: Expr = text.parse().unwrap();
        let variance = Variance::of(&expr);
        let sets: Vec<_> = expr.ids().map(|id| variance.inputs(id).to_string()).collect();
        assert_eq!(sets, ["{h}", "{kv}", "{h, kv}", "{q}", "{q, kv}", "{h, q, kv}"]);
        assert_eq!(variance.rate(NodeId(2)), Rate::Column);
        assert_eq!(variance.root(), Inputs::of(&[Head, Query, Key]));
        use Input::*;
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(testing::cases(20_000)))]

        #[test]
        fn inputs_outside_the_set_change_nothing(
            bound in testing::expressions(ExprConfig::score()),
            (a, b) in (testing::points(), testing::points()),
            (score_a, score_b) in (testing::scores(), testing::scores()),
        ) {
            let on = Variance::of(bound.expr()).root();
            let pick = |input, x, y| if on.contains(input) { x } else { y };
            let mixed = Point {
                b: pick(Input::Batch, a.b, b.b),
                h: pick(Input::Head, a.h, b.h),
                q: pick(Input::Query, a.q, b.q),
                kv: pick(Input::Key, a.kv, b.kv),
            };
            let score = if on.contains(Input::Score) { score_a } else { score_b };
            prop_assert_eq!(testing::outcome(&bound, a, score_a), testing::outcome(&bound, mixed, score));
        }
    }
}
